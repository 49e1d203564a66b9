//! The objects that all tasks of a run share, inputs and drivers by role: from the user's files, or those of another run.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use common::digest::sha256_hex;
use common::storage::{RunStore, StorageError, key};
use common::task::{DRIVER_ROLE, EngineOptions, ObjectRef, RunSpec};

use super::docking_site::DockingSite;
use super::mmgbsa_options::REFERENCE_ROLE;
use super::request::RECEPTOR_ROLE;
use super::{PushError, PushRequest};
use crate::drivers::{DriverScript, GROMACS_FEP, GROMACS_MMGBSA, Shipped, VINA_PREPARE, file_name};
use crate::error::LaunchpadError;
use crate::input::{HeavyAtoms, check_pdbqt};

type Pinned = (ObjectRef, Bytes);

/// Inputs and drivers with their bytes.
#[derive(Debug)]
pub(crate) struct SharedObjects {
    inputs: BTreeMap<String, Pinned>,
    drivers: BTreeMap<String, Pinned>,
    site: Option<DockingSite>,
}

impl SharedObjects {
    /// Those of the user's files; without a named driver the engine has its own, or none.
    pub(crate) fn of_files(
        request: &PushRequest,
        driver: Option<DriverScript>,
    ) -> Result<Self, LaunchpadError> {
        let driver = driver.or_else(|| shipped_driver(&request.engine));
        Self { inputs: BTreeMap::new(), drivers: BTreeMap::new(), site: None }.replaced(request, driver)
    }

    /// Those of another run, but for what files replace. The drivers are that run's, too, whatever this version ships.
    pub(crate) async fn of_run(
        store: &RunStore,
        spec: &RunSpec,
        request: &PushRequest,
        driver: Option<DriverScript>,
    ) -> Result<Self, LaunchpadError> {
        let inputs = read_all(store, &spec.inputs).await?;
        Self { inputs, drivers: read_all(store, &spec.drivers).await?, site: None }.replaced(request, driver)
    }

    fn replaced(
        mut self,
        request: &PushRequest,
        driver: Option<DriverScript>,
    ) -> Result<Self, LaunchpadError> {
        for (role, path) in &request.inputs {
            self.inputs.insert(role.clone(), read_input(role, path, &request.engine)?);
        }
        if let Some(DriverScript { name, bytes }) = driver {
            let script = pinned(bytes, |sha256| key::driver(sha256, &name));
            self.drivers.insert(driver_role(&request.engine).to_owned(), script);
        }
        if let Some((object, bytes)) = self.inputs.get(RECEPTOR_ROLE) {
            let receptor = (object.file_name(), bytes.as_ref());
            self.site = DockingSite::find(&request.engine, receptor, request.box_ligand.as_deref())?;
        }
        Ok(self)
    }

    /// How the receptor lies to the search box, if the engine docks.
    pub(super) const fn site(&self) -> Option<&DockingSite> {
        self.site.as_ref()
    }

    /// The inputs, as the spec names them.
    pub(super) fn input_refs(&self) -> BTreeMap<String, ObjectRef> {
        refs(&self.inputs)
    }

    /// The drivers, as the spec names them.
    pub(super) fn driver_refs(&self) -> BTreeMap<String, ObjectRef> {
        refs(&self.drivers)
    }

    /// All of them, in the order of writing.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Pinned> {
        self.inputs.values().chain(self.drivers.values())
    }
}

fn refs(objects: &BTreeMap<String, Pinned>) -> BTreeMap<String, ObjectRef> {
    objects.iter().map(|(role, (object, _))| (role.clone(), object.clone())).collect()
}

async fn read_all(
    store: &RunStore,
    objects: &BTreeMap<String, ObjectRef>,
) -> Result<BTreeMap<String, Pinned>, LaunchpadError> {
    let mut read = BTreeMap::new();
    for (role, object) in objects {
        let bytes = store.read(&object.object).await?;
        let theirs = sha256_hex(&bytes);
        if theirs != object.sha256 {
            let (object, ours) = (object.object.clone(), object.sha256.clone());
            return Err(StorageError::Digest { object, url: store.url().to_owned(), theirs, ours }.into());
        }
        read.insert(role.clone(), (object.clone(), bytes));
    }
    Ok(read)
}

fn pinned(bytes: Bytes, name: impl Fn(&str) -> String) -> Pinned {
    let sha256 = sha256_hex(&bytes);
    (ObjectRef { object: name(&sha256), sha256, bytes: bytes.len() as u64 }, bytes)
}

/// The role of an engine's driver.
const fn driver_role(engine: &EngineOptions) -> &'static str {
    match engine {
        EngineOptions::Vina(_) | EngineOptions::Gnina(_) | EngineOptions::Terachem(_) => "prepare",
        EngineOptions::Command(_)
        | EngineOptions::GromacsMmgbsa(_)
        | EngineOptions::GromacsFep(_)
        | EngineOptions::Http(_)
        | EngineOptions::Surge(_) => DRIVER_ROLE,
    }
}

/// The driver that an engine has by itself.
fn shipped_driver(engine: &EngineOptions) -> Option<DriverScript> {
    let Shipped { name, text, .. } = match engine {
        EngineOptions::Vina(_) | EngineOptions::Gnina(_) | EngineOptions::Terachem(_) => VINA_PREPARE,
        EngineOptions::GromacsMmgbsa(_) => GROMACS_MMGBSA,
        EngineOptions::GromacsFep(_) => GROMACS_FEP,
        EngineOptions::Command(_) | EngineOptions::Http(_) | EngineOptions::Surge(_) => return None,
    };
    Some(DriverScript { name: name.to_owned(), bytes: Bytes::from_static(text.as_bytes()) })
}

/// Reads an input. Where the engine's programs take a role in some formats only, it has to be in one of them, with a heavy atom.
fn read_input(role: &str, path: &Path, engine: &EngineOptions) -> Result<Pinned, LaunchpadError> {
    if let Some((role, known)) = formats(role, engine) {
        let extension =
            path.extension().map(|text| text.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        if !known.contains(&extension.as_str()) {
            let (path, known) = (path.to_owned(), known.join(", "));
            return Err(PushError::InputFormat { role, path, known }.into());
        }
        HeavyAtoms::read(path)?;
    }
    let failed = |source| LaunchpadError::File { action: "read", path: path.to_owned(), source };
    let bytes = Bytes::from(std::fs::read(path).map_err(failed)?);
    if role == RECEPTOR_ROLE && is_pdbqt(path) {
        check_pdbqt(&path.display().to_string(), &bytes)?;
    }
    Ok(pinned(bytes, |sha256| key::input(sha256, &file_name(path))))
}

fn is_pdbqt(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("pdbqt"))
}

/// The extensions of the formats that an engine takes an input in; `None` if it takes any file.
fn formats(role: &str, engine: &EngineOptions) -> Option<(&'static str, &'static [&'static str])> {
    match (engine, role) {
        (EngineOptions::Vina(_) | EngineOptions::Gnina(_), RECEPTOR_ROLE) => {
            Some((RECEPTOR_ROLE, &["pdb", "ent", "pdbqt"]))
        }
        (EngineOptions::GromacsMmgbsa(_), RECEPTOR_ROLE) => Some((RECEPTOR_ROLE, &["pdb", "ent"])),
        (EngineOptions::GromacsMmgbsa(_), REFERENCE_ROLE) => Some((REFERENCE_ROLE, &["sdf"])),
        _ => None,
    }
}
