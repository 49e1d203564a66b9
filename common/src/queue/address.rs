//! A Redis URL, read: one server, the sentinels of a service, or nodes of a cluster; plain or over TLS. Connects to nothing.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo};
use url::Url;

/// Where sentinels listen unless told otherwise.
const SENTINEL_PORT: u16 = 26379;
/// Where servers listen unless told otherwise.
const SERVER_PORT: u16 = 6379;

/// Why a URL can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The redis crate can't read it.
    #[error(transparent)]
    Url(#[from] redis::RedisError),
    /// One of several hosts can't be read.
    #[error("`{0}` is no host and port")]
    Host(String),
    /// There is nothing behind the hosts.
    #[error("it names no service of the sentinels (expected {scheme}://HOST:PORT,…/SERVICE)")]
    NoService {
        /// Of the URL.
        scheme: String,
    },
    /// A cluster has one database.
    #[error("a cluster has no databases or services, and this names `{0}`")]
    ClusterPath(String),
    /// A part behind `?` that is not known, or whose value is not.
    #[error("`{name}={value}` is not known (known: db=NUMBER, sentinel_auth=yes)")]
    Parameter {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
}

/// Who is to be asked where Redis is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// This server.
    Single(ConnectionAddr),
    /// Whom these name.
    Sentinel(Sentinels),
    /// Some nodes of a cluster, which know the others.
    Cluster(Vec<ConnectionAddr>),
}

/// Sentinels, which know the primary of a service.
#[derive(Debug, Clone)]
pub(super) struct Sentinels {
    pub(super) addresses: Vec<ConnectionAddr>,
    pub(super) service: String,
    /// Whether they want user and password, too.
    pub(super) want_login: bool,
}

/// A URL's content. Its password is in `login` and is not to be shown.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) place: Place,
    /// User, password and database.
    pub(super) login: RedisConnectionInfo,
    pub(super) is_tls: bool,
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, AddressError> {
        for (kind, is_sentinel) in [("+sentinel://", true), ("+cluster://", false)] {
            if let Some((scheme @ ("redis" | "rediss"), rest)) = text.split_once(kind) {
                return Several::split(scheme, rest).address(is_sentinel);
            }
        }
        let info = text.into_connection_info()?;
        let place = Place::Single(info.addr().clone());
        let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        Ok(Self { place, login: info.redis_settings().clone(), is_tls })
    }
}

/// The parts of a URL with several hosts, which no URL crate reads.
struct Several<'a> {
    scheme: &'a str,
    user_info: &'a str,
    hosts: &'a str,
    path: &'a str,
    query: &'a str,
}

impl<'a> Several<'a> {
    fn split(scheme: &'a str, rest: &'a str) -> Self {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user_info, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        Self { scheme, user_info, hosts, path, query }
    }

    fn address(&self, is_sentinel: bool) -> Result<Address, AddressError> {
        let port = if is_sentinel { SENTINEL_PORT } else { SERVER_PORT };
        let nodes = self.hosts.split(',').map(|host| self.node(host, port)).collect::<Result<Vec<_>, _>>()?;
        let mut login = match nodes.first() {
            Some(first) => first.redis_settings().clone(),
            None => return Err(AddressError::Host(String::new())),
        };
        let mut want_login = false;
        for (name, value) in url::form_urlencoded::parse(self.query.as_bytes()) {
            match (&*name, value.parse::<u16>()) {
                ("db", Ok(db)) if is_sentinel => login = login.set_db(db.into()),
                ("sentinel_auth", _) if is_sentinel && value == "yes" => want_login = true,
                _ => {
                    return Err(AddressError::Parameter { name: name.into(), value: value.into() });
                }
            }
        }
        let nodes = nodes.iter().map(|node| node.addr().clone()).collect();
        let place = match (is_sentinel, self.path) {
            (true, "") => {
                return Err(AddressError::NoService { scheme: format!("{}+sentinel", self.scheme) });
            }
            (true, service) => {
                Place::Sentinel(Sentinels { addresses: nodes, service: service.into(), want_login })
            }
            (false, "") => Place::Cluster(nodes),
            (false, path) => return Err(AddressError::ClusterPath(path.into())),
        };
        Ok(Address { place, login, is_tls: self.scheme == "rediss" })
    }

    /// One of the hosts, as the redis crate would read it alone.
    fn node(&self, host: &str, port: u16) -> Result<ConnectionInfo, AddressError> {
        let wrong = || AddressError::Host(host.to_owned());
        let user_info =
            if self.user_info.is_empty() { String::new() } else { format!("{}@", self.user_info) };
        let mut url = Url::parse(&format!("{}://{user_info}{host}", self.scheme)).map_err(|_| wrong())?;
        if host.is_empty() || url.path().len() > 1 || url.fragment().is_some() {
            return Err(wrong());
        }
        if url.port().is_none() {
            url.set_port(Some(port)).map_err(|()| wrong())?;
        }
        Ok(url.into_connection_info()?)
    }
}

/// A URL that can be shown, also one that nobody can read: whatever may be a password is not in it.
pub(super) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // What has no scheme may be anything, even a password in the wrong place.
        return if url.contains('@') { "***".to_owned() } else { url.to_owned() };
    };
    // An unescaped `/` or `?` in a password is a mistake that must not print it: all up to the last `@` is user and password.
    match rest.rsplit_once('@') {
        Some((login, hosts)) => match login.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:***@{hosts}"),
            None => url.to_owned(),
        },
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Address {
        Address::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn one_server_plain_or_over_tls() {
        let plain = parse("redis://chemist:s%40cret@h:7000/3");
        assert_eq!((plain.login.username(), plain.login.password()), (Some("chemist"), Some("s@cret")));
        assert_eq!((plain.login.db(), plain.is_tls), (3, false));
        assert!(matches!(plain.place, Place::Single(ConnectionAddr::Tcp(host, 7000)) if host == "h"));
        assert!(parse("rediss://h").is_tls);
    }

    #[test]
    fn sentinels_know_a_service() {
        let address =
            parse("rediss+sentinel://chemist:a%2Fb@one:26380,two,[::1]:5/fleet?db=2&sentinel_auth=yes");
        assert_eq!((address.login.password(), address.login.db(), address.is_tls), (Some("a/b"), 2, true));
        let Place::Sentinel(Sentinels { addresses, service, want_login }) = address.place else { panic!() };
        let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        assert_eq!(
            (shown.join(" ").as_str(), service.as_str(), want_login),
            ("one:26380 two:26379 ::1:5", "fleet", true)
        );
    }

    #[test]
    fn a_cluster_has_nodes_and_nothing_else() {
        let Place::Cluster(nodes) = parse("redis+cluster://:x@a:1,b").place else { panic!() };
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[1].to_string(), "b:6379");
    }

    #[test]
    fn mistakes_are_named() {
        let check = |url: &str, expect: &str| {
            assert!(Address::parse(url).err().unwrap().to_string().contains(expect), "{url}");
        };
        check("redis+sentinel://a:1", "names no service");
        check("redis+sentinel://a:1,/s", "`` is no host and port");
        check("redis+sentinel://a:x/s", "`a:x` is no host and port");
        check("redis+sentinel://a/s?dB=1", "`dB=1` is not known");
        check("redis+sentinel://a/s?db=x", "`db=x` is not known");
        check("redis+cluster://a/0", "names `0`");
        check("redis+cluster://a?db=1", "`db=1` is not known");
        check("http+cluster://a", "URL did not parse");
    }

    #[test]
    fn no_url_shows_its_password() {
        let check = |url: &str, expect: &str| assert_eq!(without_password(url), expect);
        check("redis://h:1/0", "redis://h:1/0");
        check("redis://chemist@h", "redis://chemist@h");
        check("redis://chemist:secret@h:1/0", "redis://chemist:***@h:1/0");
        check("redis+sentinel://:secret@a:1,b:2/s?db=1", "redis+sentinel://:***@a:1,b:2/s?db=1");
        check("redis://:se/c?r#e@t@h:x", "redis://:***@h:x");
        check("secret@h", "***");
        check("localhost", "localhost");
    }
}
