//! How a program gets into a Redis: its URL, and the secrets that stand in files or in the environment. Connects to nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use redis::{ClientTlsConfig, TlsCertificates};

use super::QueueError;
use super::address::{Address, without_password};

/// Where a password is, other than in the URL.
#[derive(Clone)]
pub enum Password {
    /// Its own text.
    Text(String),
    /// The content of a file, without the line feed at its end. It is read at each connection, so that it can be changed.
    File(PathBuf),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(***)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// A way into a Redis.
#[derive(Clone, Default)]
pub struct Access {
    /// `redis://`, `rediss://`, `redis+sentinel://`, `redis+cluster://` and the last two with `rediss`. May hold a password.
    pub url: String,
    /// The password; wins over the one in the URL.
    pub password: Option<Password>,
    /// Certificates of the authorities that are trusted with TLS, PEM; `None` trusts those of the system.
    pub ca: Option<PathBuf>,
    /// Our certificate with its chain, PEM, for servers that ask for one.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, password, ca, certificate, key } = self;
        f.debug_struct("Access")
            .field("url", &without_password(url))
            .field("password", password)
            .field("ca", ca)
            .field("certificate", certificate)
            .field("key", key)
            .finish()
    }
}

impl<T: AsRef<str> + ?Sized> From<&T> for Access {
    fn from(url: &T) -> Self {
        Self { url: url.as_ref().to_owned(), ..Self::default() }
    }
}

impl Access {
    /// The URL, without its password.
    pub fn shown(&self) -> String {
        without_password(&self.url)
    }

    /// Reads the URL and checks that what was given with it fits.
    pub(super) fn address(&self) -> Result<Address, QueueError> {
        let url = self.shown();
        let address =
            Address::parse(&self.url).map_err(|source| QueueError::Url { url: url.clone(), source })?;
        let tls_files = [&self.ca, &self.certificate, &self.key];
        if !address.is_tls && tls_files.iter().any(|file| file.is_some()) {
            return Err(QueueError::NotTls { url });
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err(QueueError::HalfCertificate);
        }
        Ok(address)
    }

    /// The password, if it is not in the URL.
    pub(super) fn password(&self) -> Result<Option<String>, QueueError> {
        let text = match &self.password {
            None => return Ok(None),
            Some(Password::Text(text)) => text.clone(),
            Some(Password::File(path)) => {
                let bytes = read("the password of Redis", path)?;
                let text = String::from_utf8(bytes).map_err(|_| {
                    unreadable("the password of Redis", path, std::io::ErrorKind::InvalidData.into())
                })?;
                text.strip_suffix('\n')
                    .map_or(text.clone(), |text| text.strip_suffix('\r').unwrap_or(text).to_owned())
            }
        };
        Ok(Some(text))
    }

    /// What TLS needs, read from its files.
    pub(super) fn certificates(&self) -> Result<TlsCertificates, QueueError> {
        let root_cert =
            self.ca.as_ref().map(|path| read("the CA certificates for Redis", path)).transpose()?;
        let client_tls = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some(ClientTlsConfig {
                client_cert: read("the client certificate for Redis", certificate)?,
                client_key: read("the client key for Redis", key)?,
            }),
            _ => None,
        };
        Ok(TlsCertificates { client_tls, root_cert })
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, QueueError> {
    std::fs::read(path).map_err(|source| unreadable(what, path, source))
}

fn unreadable(what: &'static str, path: &Path, source: std::io::Error) -> QueueError {
    QueueError::File { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_file_may_end_with_a_line_feed_and_may_change() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let access =
            Access { password: Some(Password::File(file.path().to_owned())), ..Access::from("redis://h") };
        let check = |content: &str, expect: &str| {
            std::fs::write(file.path(), content).unwrap();
            assert_eq!(access.password().unwrap().unwrap(), expect);
        };
        check("secret\n", "secret");
        check("se cret\r\n", "se cret");
        check("secret \n\n", "secret \n");
    }

    #[test]
    fn secrets_are_not_in_debug_output() {
        let access =
            Access { password: Some(Password::Text("hidden".into())), ..Access::from("redis://u:secret@h") };
        let shown = format!("{access:?}");
        assert!(
            !shown.contains("hidden") && !shown.contains("secret") && shown.contains("redis://u:***@h"),
            "{shown}"
        );
    }

    #[test]
    fn files_that_do_not_fit_are_refused() {
        let ca = Some(PathBuf::from("ca.pem"));
        let plain = Access { ca: ca.clone(), ..Access::from("redis://h") };
        assert!(matches!(plain.address(), Err(QueueError::NotTls { .. })));
        let half = Access { key: Some("key.pem".into()), ..Access::from("rediss://h") };
        assert!(matches!(half.address(), Err(QueueError::HalfCertificate)));
        let absent = Access { ca, ..Access::from("rediss://h") };
        let error = absent.address().and_then(|_| absent.certificates()).err().unwrap();
        assert_eq!(error.to_string(), "the CA certificates for Redis can't be read from `ca.pem`");
    }
}
