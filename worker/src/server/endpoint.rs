//! Where a server is: a URL without secrets, checked once.

use std::fmt;
use std::str::FromStr;

use common::excerpt::excerpt;
use url::Url;

use super::Protocol;

/// Where TeraChem listens by convention.
const TERACHEM_PORT: u16 = 11111;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: Url,
    protocol: Protocol,
}

/// Says why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No URL with a host.
    #[error("`{}` is no URL of a server (expected such as http://10.0.0.7:8000)", excerpt(found))]
    Url {
        /// What was there.
        found: String,
    },
    /// Nothing that this program speaks.
    #[error("`{}` has an unknown scheme (known: http, https, terachem)", excerpt(scheme))]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// Whoever lists the processes of a machine reads its flags.
    #[error(
        "the URL of a server has a user or a password (expected none: --endpoint-token-file takes a token)"
    )]
    Secret,
    /// Paths of requests go behind it.
    #[error(
        "`{}` has a query, a fragment, or a path that its protocol does not know (expected none)",
        excerpt(found)
    )]
    Query {
        /// What was there.
        found: String,
    },
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || EndpointError::Url { found: text.to_owned() };
        let url = Url::parse(text).map_err(|_| wrong())?;
        let protocol = match url.scheme() {
            "http" | "https" => Protocol::Http,
            "terachem" => Protocol::Terachem,
            scheme => return Err(EndpointError::Scheme { scheme: scheme.to_owned() }),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::Secret);
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(wrong());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(EndpointError::Query { found: text.to_owned() });
        }
        if protocol == Protocol::Terachem && !matches!(url.path(), "" | "/") {
            return Err(EndpointError::Query { found: text.to_owned() });
        }
        Ok(Self { url, protocol })
    }
}

impl Endpoint {
    /// What is spoken there.
    pub(crate) const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Its host and port, for a protocol over TCP.
    pub(crate) fn address(&self) -> String {
        let port = self.url.port_or_known_default().unwrap_or(TERACHEM_PORT);
        format!("{}:{port}", self.url.host_str().unwrap_or_default())
    }

    /// The URL of a path below it.
    pub(crate) fn below(&self, path: &str) -> String {
        format!("{}{path}", self.url.as_str().trim_end_matches('/'))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_that_paths_go_behind() {
        let below = |text: &str| text.parse::<Endpoint>().unwrap().below("/v1/score?fast=1");
        assert_eq!(below("http://10.0.0.7:8000"), "http://10.0.0.7:8000/v1/score?fast=1");
        assert_eq!(below("https://models.example/a/b/"), "https://models.example/a/b/v1/score?fast=1");
        assert_eq!("terachem://qm".parse::<Endpoint>().unwrap().address(), "qm:11111");
        assert_eq!("terachem://[::1]:7".parse::<Endpoint>().unwrap().address(), "[::1]:7");
        assert_eq!(below("http://[::1]:8000"), "http://[::1]:8000/v1/score?fast=1");
    }

    #[test]
    fn what_is_none_is_refused_without_showing_a_secret() {
        let check = |text: &str, expect: &str| {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.starts_with(expect) && !error.contains("hush"), "{error}");
        };
        check("10.0.0.7:8000", "`10.0.0.7:8000` is no URL of a server");
        check("ftp://host", "`ftp` has an unknown scheme");
        check("http://me:hush@host:1", "the URL of a server has a user or a password");
        check("http://hush@host:1", "the URL of a server has a user");
        check("http://host/?a=b", "`http://host/?a=b` has a query");
        check("terachem://host/path", "`terachem://host/path` has a query");
        check("http://", "`http://` is no URL");
    }
}
