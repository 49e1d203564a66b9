//! Poses as the text of a file: SDF records with the scores as data items, or the engine's models with the scores as remarks.

use std::path::Path;

use common::sdf::records;
use common::task::{GninaScore, RunId};

use super::mol_block::MolBlock;
use super::pdbqt::{self, Model};
use super::{Kept, PosesError};
use crate::new_file::is_stdout;
use crate::ranking::Ranked;

/// How poses are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoseFormat {
    /// With bonds and charges.
    Sdf,
    /// As the engine wrote them.
    Pdbqt,
}

impl PoseFormat {
    /// The format that a file's name tells. Standard output gets an SDF.
    pub(crate) fn of(path: &Path) -> Result<Self, PosesError> {
        if is_stdout(path) {
            return Ok(Self::Sdf);
        }
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("sdf") => Ok(Self::Sdf),
            Some("pdbqt") => Ok(Self::Pdbqt),
            _ => Err(PosesError::Format { path: path.to_owned() }),
        }
    }
}

/// The text of up to `modes` poses of a molecule, and how many there are. `written` poses stand in the file already.
pub(crate) fn pose_text(
    run: &RunId,
    molecule: &Ranked,
    kept: &Kept,
    (modes, written): (usize, u64),
) -> Result<(String, u64), PosesError> {
    let (object, text) = &kept.poses;
    let content = |object: &str| {
        let object = object.to_owned();
        move |detail| PosesError::Content { object, detail }
    };
    if let Some(score_tag) = kept.score_tag {
        return sdf_text(run, molecule, kept, (modes, score_tag));
    }
    let models = pdbqt::models(text).map_err(content(object))?;
    check_best(models.first().map_or("", |model| model.score), molecule).map_err(content(object))?;
    let ligand = match &kept.ligand {
        Some((sdf, (name, pdbqt))) => {
            let block = MolBlock::parse(sdf).map_err(content(name))?;
            let atoms = pdbqt::atoms(pdbqt.lines()).map_err(content(name))?;
            let matched = block.matched(&atoms).map_err(content(name))?;
            Some((block, matched))
        }
        None => None,
    };
    let mut text = String::new();
    for (mode, model) in models.iter().take(modes).enumerate() {
        let tags = tags(run, molecule, kept, (mode + 1, model.score));
        match &ligand {
            Some((block, matched)) => {
                let pose = pdbqt::atoms(model.lines.iter().copied()).map_err(content(object))?;
                let title = molecule.molecule_id.as_str();
                text += &block.posed(title, matched, &pose).map_err(content(object))?;
                text += &tagged(&tags);
            }
            None => text += &model_text(model, written + mode as u64 + 1, &tags),
        }
    }
    Ok((text, models.len().min(modes) as u64))
}

/// The poses of an engine that writes SDF records, with its own numbers behind what is said of every pose.
fn sdf_text(
    run: &RunId,
    molecule: &Ranked,
    kept: &Kept,
    (modes, score_tag): (usize, &str),
) -> Result<(String, u64), PosesError> {
    let (object, text) = &kept.poses;
    let content = |detail| PosesError::Content { object: object.clone(), detail };
    let records = records(text).map_err(|error| content(error.to_string()))?;
    check_best(records.first().map_or("", |record| record.item(score_tag)), molecule).map_err(content)?;
    let mut text = String::new();
    for (record, mode) in records.iter().take(modes).zip(1..) {
        let mut tags = tags(run, molecule, kept, (mode, record.item(score_tag)));
        let own = GninaScore::ALL.map(|number| (number.tag(), record.item(number.tag()).to_owned()));
        tags.extend(own.into_iter().filter(|(_, value)| !value.is_empty()));
        text += &record.titled(&molecule.molecule_id);
        text += &tagged(&tags);
    }
    Ok((text, records.len().min(modes) as u64))
}

/// The poses are those of the table only if the best one has the score that stands there.
fn check_best(found: &str, molecule: &Ranked) -> Result<(), String> {
    if found == molecule.score {
        return Ok(());
    }
    Err(format!("its best pose has the score `{found}` (expected `{}`)", molecule.score))
}

/// Data items, and the end of the record.
fn tagged(tags: &[(&str, String)]) -> String {
    let items: Vec<_> = tags.iter().map(|(name, value)| format!(">  <{name}>\n{value}\n\n")).collect();
    items.concat() + "$$$$\n"
}

/// What is said of a pose: name and value, without what is empty.
fn tags(
    run: &RunId,
    molecule: &Ranked,
    kept: &Kept,
    (mode, score): (usize, &str),
) -> Vec<(&'static str, String)> {
    let all = [
        ("molecule_id", molecule.molecule_id.clone()),
        ("smiles", molecule.smiles.clone()),
        ("score", score.to_owned()),
        ("score_unit", molecule.score_unit.clone()),
        ("rank", molecule.rank.to_string()),
        ("run", run.to_string()),
        ("task", molecule.task.to_string()),
        ("lease", kept.lease.to_string()),
        ("mode", mode.to_string()),
    ];
    all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// A model of a PDBQT file with its number in that file.
fn model_text(model: &Model<'_>, number: u64, tags: &[(&str, String)]) -> String {
    let mut lines = vec![format!("MODEL {number}")];
    lines.extend(tags.iter().map(|(name, value)| format!("REMARK  {name} = {value}")));
    lines.extend(model.lines.iter().map(|line| (*line).to_owned()));
    lines.push("ENDMDL\n".to_owned());
    lines.join("\n")
}
