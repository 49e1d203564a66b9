//! Makes connections: to one server, to the primary that sentinels name, or to a cluster; with TLS, login and the subscription of a
//! worker. Each connection is made from scratch, so that a fail-over, a changed password or a renewed certificate is found out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::cluster::ClusterClientBuilder;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion,
    PushInfo, RedisConnectionInfo, RedisError, TlsCertificates, TlsMode,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::QueueError;
use super::access::Access;
use super::address::{Address, Place, Sentinels};
use super::link::Link;
use crate::backoff::Backoff;

/// How long to wait for a connection, TLS and login included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for each node of a cluster. The first ones are asked side by side, and those that they name after them: one that says nothing
/// is waited for twice.
const NODE_TIMEOUT: Duration = Duration::from_millis(2_500);
/// How long to wait for an answer. Far above the slowest script; redis-rs would give up after 0.5 s.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// The pauses after connections that could not be made: callers that come earlier get the last error. Each caller has its own, longer
/// pauses; these keep the many calls of one process from knocking all at once.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(1) };
/// How often a cluster's node is asked again, elsewhere or later, before the caller hears of it.
const CLUSTER_RETRIES: u32 = 3;

/// What a connection listens to.
#[derive(Clone)]
pub(super) struct Listening {
    pub(super) channel: String,
    pub(super) sender: UnboundedSender<PushInfo>,
}

/// Makes the connections of a [`super::Queue`].
pub(super) struct Connector {
    access: Access,
    address: Address,
    url: String,
    listening: Option<Listening>,
    failed: Mutex<Option<Failed>>,
}

/// The last connection that could not be made.
struct Failed {
    error: RedisError,
    tries: u32,
    again_at: Instant,
}

/// A fault on the way, before it is known which Redis it concerns.
enum Fault {
    Redis(RedisError),
    Ours(QueueError),
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl From<QueueError> for Fault {
    fn from(error: QueueError) -> Self {
        Self::Ours(error)
    }
}

impl Connector {
    /// Checks the URL and that the files can be read. Sends nothing.
    pub(super) fn new(access: Access, listening: Option<Listening>) -> Result<Self, QueueError> {
        let mut address = access.address()?;
        if listening.is_some() {
            address.login = address.login.set_protocol(ProtocolVersion::RESP3);
        }
        // What tells Redis the name of this library would need a right of its own.
        address.login = address.login.set_skip_set_lib_name();
        access.password()?;
        if address.is_tls {
            choose_crypto();
            access.certificates()?;
        }
        let url = access.shown();
        Ok(Self { access, address, url, listening, failed: Mutex::default() })
    }

    /// The URL, without its password.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whether it leads to the nodes of a cluster.
    pub(super) const fn is_of_cluster(&self) -> bool {
        matches!(self.address.place, Place::Cluster(_))
    }

    /// Makes a connection, or tells why the last one failed if that was just now.
    pub(super) async fn connect(&self) -> Result<Link, QueueError> {
        if let Some(error) = self.too_early() {
            return Err(QueueError::from_redis(&self.url, error));
        }
        match self.dial().await {
            Ok(link) => {
                *self.failed.lock().expect("no holder panics") = None;
                Ok(link)
            }
            Err(Fault::Redis(error)) => {
                self.note(error.clone());
                Err(QueueError::from_redis(&self.url, error))
            }
            Err(Fault::Ours(error)) => Err(error),
        }
    }

    fn too_early(&self) -> Option<RedisError> {
        let failed = self.failed.lock().expect("no holder panics");
        failed.as_ref().filter(|failed| Instant::now() < failed.again_at).map(|failed| failed.error.clone())
    }

    fn note(&self, error: RedisError) {
        let mut failed = self.failed.lock().expect("no holder panics");
        let tries = failed.as_ref().map_or(1, |failed| failed.tries.saturating_add(1));
        let again_at = Instant::now() + PAUSES.pause(tries, &mut rand::rng());
        *failed = Some(Failed { error, tries, again_at });
    }

    async fn dial(&self) -> Result<Link, Fault> {
        let mut login = self.address.login.clone();
        if let Some(password) = self.access.password()? {
            login = login.set_password(password);
        }
        let certificates = if self.address.is_tls { Some(self.access.certificates()?) } else { None };
        let mut link = match &self.address.place {
            Place::Single(server) => self.single(server, login, certificates).await?,
            Place::Sentinel(sentinels) => self.primary(sentinels, login, certificates).await?,
            Place::Cluster(nodes) => self.cluster(nodes, &login, certificates).await?,
        };
        if let Some(listening) = &self.listening {
            link.subscribe(&listening.channel).await?;
        }
        Ok(link)
    }

    fn config(&self) -> AsyncConnectionConfig {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        match &self.listening {
            Some(listening) => config.set_push_sender(listening.sender.clone()),
            None => config,
        }
    }

    async fn single(
        &self,
        server: &ConnectionAddr,
        login: RedisConnectionInfo,
        certificates: Option<TlsCertificates>,
    ) -> Result<Link, Fault> {
        let info = server.clone().into_connection_info()?.set_redis_settings(login);
        let client = match certificates {
            Some(certificates) => Client::build_with_tls(info, certificates)?,
            None => Client::open(info)?,
        };
        Ok(Link::single(client.get_multiplexed_async_connection_with_config(&self.config()).await?))
    }

    /// Asks the sentinels for the primary; one that does not call itself one is not taken.
    async fn primary(
        &self,
        sentinels: &Sentinels,
        login: RedisConnectionInfo,
        certificates: Option<TlsCertificates>,
    ) -> Result<Link, Fault> {
        let Sentinels { addresses, service, want_login } = sentinels;
        let mut client =
            SentinelClientBuilder::new(addresses.iter().cloned(), service, SentinelServerType::Master)?
                .set_client_to_redis_db(login.db())
                .set_client_to_redis_protocol(login.protocol());
        if let Some(user) = login.username() {
            client = client.set_client_to_redis_username(user);
            client = if *want_login { client.set_client_to_sentinel_username(user) } else { client };
        }
        if let Some(password) = login.password() {
            client = client.set_client_to_redis_password(password);
            client = if *want_login { client.set_client_to_sentinel_password(password) } else { client };
        }
        if let Some(certificates) = certificates {
            client = client
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates);
        }
        let mut client = client.build()?;
        let config = self.config();
        Ok(Link::single(in_time(client.get_async_connection_with_config(&config)).await?))
    }

    async fn cluster(
        &self,
        nodes: &[ConnectionAddr],
        login: &RedisConnectionInfo,
        certificates: Option<TlsCertificates>,
    ) -> Result<Link, Fault> {
        let nodes = nodes
            .iter()
            .map(|node| Ok(node.clone().into_connection_info()?.set_redis_settings(login.clone())));
        let nodes = nodes.collect::<Result<Vec<ConnectionInfo>, RedisError>>()?;
        let mut builder = ClusterClientBuilder::new(nodes)
            .retries(CLUSTER_RETRIES)
            .connection_timeout(NODE_TIMEOUT)
            .response_timeout(RESPONSE_TIMEOUT);
        if let Some(certificates) = certificates {
            builder = builder.tls(TlsMode::Secure).certs(certificates);
        }
        if let Some(listening) = &self.listening {
            builder = builder.push_sender(listening.sender.clone());
        }
        let client = builder.build()?;
        Ok(Link::cluster(in_time(client.get_async_connection()).await?))
    }
}

/// Bounds what asks several servers in turn.
async fn in_time<T>(connecting: impl Future<Output = Result<T, RedisError>>) -> Result<T, RedisError> {
    match tokio::time::timeout(2 * CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// Names the one cryptography for TLS: with two of them compiled in, and other crates may bring the second, rustls would panic.
fn choose_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody may have been quicker: any will do.
        _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

/// Makes connections for the pool, which keeps one and replaces it when it is of no more use.
#[derive(Clone)]
pub(super) struct Manager(pub(super) Arc<Connector>);

impl deadpool::managed::Manager for Manager {
    type Type = Link;
    type Error = QueueError;

    async fn create(&self) -> Result<Link, QueueError> {
        self.0.connect().await
    }

    async fn recycle(
        &self,
        link: &mut Link,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<QueueError> {
        // No PING: it would double the round trips, and a link that is cut says so at its next call.
        if link.is_broken() {
            Err(deadpool::managed::RecycleError::message("a call on it failed"))
        } else {
            Ok(())
        }
    }
}
