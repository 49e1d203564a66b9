//! The files of one molecule's docking, fetched by the names in the index of its shard, each as it was uploaded.

use common::digest::sha256_hex;
use common::storage::{RunStore, key};
use common::task::{AttemptFile, AttemptRecord, EngineOptions, LeaseName};

use super::{PoseFormat, PosesError};
use crate::error::LaunchpadError;
use crate::ranking::Ranked;

/// What an attempt kept of one molecule.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(super) lease: LeaseName,
    /// Name and text of the docked poses.
    pub(super) poses: (String, String),
    /// The tag that has the score of a pose, where the poses are SDF records already.
    pub(super) score_tag: Option<&'static str>,
    /// The ligand as it was docked: as SDF, and name and text of the PDBQT that was made of it. Only what an SDF needs.
    pub(super) ligand: Option<(String, (String, String))>,
}

/// Fetches what a format needs of a molecule. `index_sha256` is what Redis recorded of the index.
pub(crate) async fn fetch(
    store: &RunStore,
    engine: &EngineOptions,
    molecule: &Ranked,
    index_sha256: &str,
    format: PoseFormat,
) -> Result<Kept, LaunchpadError> {
    let object = key::index(molecule.task, &molecule.shard_sha256);
    let index = checked(store, &object, index_sha256).await?;
    let record: AttemptRecord = serde_json::from_slice(&index)
        .map_err(|error| PosesError::Content { object, detail: error.to_string() })?;
    let position = molecule.position;
    let file = async |path: String| file(store, molecule, &record, path).await;
    let lease = record.maker(&molecule.molecule_id).clone();
    if let EngineOptions::Gnina(gnina) = engine {
        if format != PoseFormat::Sdf {
            return Err(PosesError::OnlySdf { engine: engine.name() }.into());
        }
        let poses = file(format!("poses/{position:05}.sdf")).await?;
        return Ok(Kept { poses, score_tag: Some(gnina.score.tag()), ligand: None, lease });
    }
    let ligand = match format {
        PoseFormat::Pdbqt => None,
        PoseFormat::Sdf => {
            let (_, sdf) = file(format!("ligands/{position:05}.sdf")).await?;
            Some((sdf, file(format!("ligands/{position:05}.pdbqt")).await?))
        }
    };
    let poses = file(format!("poses/{position:05}.pdbqt")).await?;
    Ok(Kept { poses, score_tag: None, ligand, lease })
}

/// Name and text of a file of the molecule that the record names. It lies where the attempt that made the row had it: below the
/// attempt's folder, or in the folder of a later round of its engine.
async fn file(
    store: &RunStore,
    molecule: &Ranked,
    record: &AttemptRecord,
    path: String,
) -> Result<(String, String), LaunchpadError> {
    let task = molecule.task;
    let folder = key::attempt_file(task, record.maker(&molecule.molecule_id), "");
    let name = format!("/{path}");
    let is_it = |file: &&AttemptFile| file.object.starts_with(&folder) && file.object.ends_with(&name);
    let Some(file) = record.files.iter().find(is_it) else {
        return Err(PosesError::NotKept { task, file: path }.into());
    };
    let bytes = checked(store, &file.object, &file.sha256).await?;
    // A molecule's name may be anything, the rest is ASCII.
    Ok((file.object.clone(), String::from_utf8_lossy(&bytes).into_owned()))
}

async fn checked(store: &RunStore, object: &str, sha256: &str) -> Result<Vec<u8>, LaunchpadError> {
    let bytes = store.read(object).await?;
    let theirs = sha256_hex(&bytes);
    if theirs == sha256 {
        return Ok(bytes.into());
    }
    Err(PosesError::Altered { object: object.to_owned(), theirs, ours: sha256.to_owned() }.into())
}
