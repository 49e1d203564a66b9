//! Driver scripts: those that ship inside this program, and how a named one is found, in a file or published in the store. A script is
//! read and digested here, never run.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use common::digest::sha256_hex;
use common::exit_code;
use common::storage::{Store, key};
use common::task::RunId;

use crate::error::LaunchpadError;

/// The default driver of the docking engines.
pub(crate) const VINA_PREPARE: Shipped = Shipped {
    name: "vina_prepare.py",
    purpose: "engines vina and gnina: SMILES or SDF records to 3D structures",
    text: include_str!("../../drivers/vina_prepare.py"),
};

/// The default driver of the engine `gromacs-mmgbsa`.
pub(crate) const GROMACS_MMGBSA: Shipped = Shipped {
    name: "gromacs_mmgbsa.py",
    purpose: "engine gromacs-mmgbsa: its steps, from a pose to energies",
    text: include_str!("../../drivers/gromacs_mmgbsa.py"),
};

/// The default driver of the engine `gromacs-fep`.
pub(crate) const GROMACS_FEP: Shipped = Shipped {
    name: "gromacs_fep.py",
    purpose: "engine gromacs-fep: set-up, windows and reduction of a hydration free energy",
    text: include_str!("../../drivers/gromacs_fep.py"),
};

/// All scripts that ship.
pub(crate) static SHIPPED: [Shipped; 4] = [
    VINA_PREPARE,
    GROMACS_MMGBSA,
    GROMACS_FEP,
    Shipped {
        name: "descriptors.py",
        purpose: "engine command: RDKit descriptors, an example to copy",
        text: include_str!("../../examples/descriptors/descriptors.py"),
    },
];

/// What published drivers begin with on the command line.
const PUBLISHED: &str = "sha256:";

/// A script inside this program.
#[derive(Debug)]
pub(crate) struct Shipped {
    /// Its file name.
    pub(crate) name: &'static str,
    /// What it is for.
    pub(crate) purpose: &'static str,
    /// The script.
    pub(crate) text: &'static str,
}

/// Where a driver is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DriverSource {
    /// On this machine.
    File(PathBuf),
    /// In the store, since somebody published it.
    Published {
        /// Of its bytes, 64 hexadecimal digits.
        sha256: String,
        /// Its file name.
        name: String,
    },
}

/// A driver's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DriverScript {
    /// Its file name, whose ending tells what runs it.
    pub(crate) name: String,
    /// The script.
    pub(crate) bytes: Bytes,
}

/// What can be wrong with a driver.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriverError {
    /// Not the name of a published driver.
    #[error("`{found}` is no published driver (expected sha256:DIGEST/NAME, with 64 digits of 0-9 a-f)")]
    Reference {
        /// What was given.
        found: String,
    },
    /// None that ships has this name.
    #[error("no driver `{name}` ships with launchpad (known: {})", shipped_names())]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The run runs a program as it is.
    #[error("run `{run}` has no driver")]
    None {
        /// The run.
        run: RunId,
    },
    /// The file is not what the run is pinned to.
    #[error("`{}` differs from the driver of run `{run}` (theirs: {theirs}, ours: {ours})", file.display())]
    Differs {
        /// The file.
        file: PathBuf,
        /// The run.
        run: RunId,
        /// The digest that the run is pinned to.
        theirs: String,
        /// The digest of the file.
        ours: String,
    },
}

impl DriverError {
    /// The exit code, one of [`common::exit_code`].
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Reference { .. } | Self::Unknown { .. } => exit_code::USAGE,
            Self::None { .. } | Self::Differs { .. } => exit_code::DATA,
        }
    }

    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Reference { .. } => Some("`launchpad driver publish FILE` prints it".into()),
            Self::Differs { .. } => {
                Some("a run keeps its driver; push the changed one under another run id".into())
            }
            Self::Unknown { .. } | Self::None { .. } => None,
        }
    }
}

fn shipped_names() -> String {
    SHIPPED.iter().map(|shipped| shipped.name).collect::<Vec<_>>().join(", ")
}

/// The script of this name that ships.
pub(crate) fn shipped(name: &str) -> Result<&'static Shipped, DriverError> {
    let found = SHIPPED.iter().find(|shipped| shipped.name == name);
    found.ok_or_else(|| DriverError::Unknown { name: name.to_owned() })
}

impl DriverSource {
    /// Understands `--driver`; a file is relative to `folder`.
    pub(crate) fn parse(text: &str, folder: &Path) -> Result<Self, DriverError> {
        let Some(reference) = text.strip_prefix(PUBLISHED) else {
            return Ok(Self::File(folder.join(text)));
        };
        let is_digest =
            |part: &str| part.len() == 64 && part.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
        match reference.split_once('/') {
            Some((sha256, name)) if is_digest(sha256) && !name.is_empty() && !name.contains('/') => {
                Ok(Self::Published { sha256: sha256.to_owned(), name: name.to_owned() })
            }
            _ => Err(DriverError::Reference { found: text.to_owned() }),
        }
    }

    /// Its file name.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => file_name(path),
            Self::Published { name, .. } => name.clone(),
        }
    }

    /// Reads the script; one from the store has to have the digest that it was named by.
    pub(crate) async fn load(&self, store_url: &str) -> Result<DriverScript, LaunchpadError> {
        let bytes = match self {
            Self::File(path) => read(path)?,
            Self::Published { sha256, name } => {
                let store = Store::open(store_url)?.drivers();
                let object = key::published_driver(sha256, name);
                let bytes = store.read(&object).await?;
                let theirs = sha256_hex(&bytes);
                if theirs != *sha256 {
                    let (url, ours) = (store_url.to_owned(), sha256.clone());
                    return Err(common::storage::StorageError::Digest { object, url, theirs, ours }.into());
                }
                bytes
            }
        };
        Ok(DriverScript { name: self.name(), bytes })
    }
}

/// How a published driver is named on the command line.
pub(crate) fn reference(sha256: &str, name: &str) -> String {
    format!("{PUBLISHED}{sha256}/{name}")
}

/// Reads a script of this machine.
pub(crate) fn read(path: &Path) -> Result<Bytes, LaunchpadError> {
    let read = std::fs::read(path);
    Ok(read.map_err(|source| LaunchpadError::File { action: "read", path: path.to_owned(), source })?.into())
}

/// The last part of a path.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_a_file_or_a_digest() {
        let parse = |text: &str| DriverSource::parse(text, Path::new("/home/me"));
        assert_eq!(parse("mine.py").unwrap(), DriverSource::File("/home/me/mine.py".into()));
        let sha256 = "a".repeat(64);
        let published = parse(&reference(&sha256, "mine.py")).unwrap();
        assert_eq!(published, DriverSource::Published { sha256, name: "mine.py".into() });
        for wrong in ["sha256:", "sha256:abc/mine.py", "sha256:mine.py"] {
            assert!(parse(wrong).unwrap_err().to_string().starts_with(&format!("`{wrong}` is no published")));
        }
    }

    #[test]
    fn a_driver_that_does_not_ship_is_named_with_those_that_do() {
        assert!(shipped("vina_prepare.py").unwrap().text.contains("def main()"));
        let error = shipped("vina.py").unwrap_err().to_string();
        assert_eq!(
            error,
            "no driver `vina.py` ships with launchpad (known: vina_prepare.py, gromacs_mmgbsa.py, gromacs_fep.py, descriptors.py)"
        );
    }
}
