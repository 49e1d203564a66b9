//! The parameters of the docking engines: flags over `run.toml` over the run that the push follows, if any, over defaults.

use std::path::{Path, PathBuf};

use common::queue::RunInfo;
use common::task::{CnnScoring, EngineOptions, GninaOptions, GninaScore, VinaOptions};

use super::PushError;
use super::request::{nothing, positive};
use crate::cli::{self, Center, Edges};
use crate::error::LaunchpadError;
use crate::input::HeavyAtoms;
use crate::run_file::RunFile;
use crate::search_box::SearchBox;

/// Vina's own defaults, and Gnina's.
const EXHAUSTIVENESS_DEFAULT: u32 = 8;
const MODES_DEFAULT: u32 = 9;

/// What all docking engines have.
#[derive(Debug, Clone, Copy)]
struct Docking {
    center: [f64; 3],
    size: [f64; 3],
    exhaustiveness: u32,
    modes: u32,
}

/// The parameters of `vina`.
pub(super) fn vina(
    flags: &cli::Push,
    file: &RunFile,
    folder: &Path,
    from: Option<&RunInfo>,
) -> Result<VinaOptions, LaunchpadError> {
    let Docking { center, size, exhaustiveness, modes } = docking(flags, file, folder, from)?;
    Ok(VinaOptions { center, size, exhaustiveness, modes })
}

/// The parameters of `gnina`.
pub(super) fn gnina(
    flags: &cli::Push,
    file: &RunFile,
    folder: &Path,
    from: Option<&RunInfo>,
) -> Result<GninaOptions, LaunchpadError> {
    let base = from.and_then(|from| match &from.spec.engine {
        EngineOptions::Gnina(gnina) => Some(gnina),
        _ => None,
    });
    let Docking { center, size, exhaustiveness, modes } = docking(flags, file, folder, from)?;
    let options = &file.options;
    let cnn_scoring = flags.cnn_scoring.or(options.cnn_scoring).or(base.map(|base| base.cnn_scoring));
    let cnn_scoring = cnn_scoring.unwrap_or(CnnScoring::Rescore);
    let score = match flags.command.score.as_deref().or(options.score.as_deref()) {
        Some(score) => score.parse().map_err(PushError::Score)?,
        None => base.map_or(GninaScore::MinimizedAffinity, |base| base.score),
    };
    if cnn_scoring == CnnScoring::None && score.is_of_cnn() {
        return Err(PushError::ScoreWithoutCnn { score: score.tag() }.into());
    }
    let device = flags.device.or(options.device).or(base.map(|base| base.device)).unwrap_or(0);
    Ok(GninaOptions { center, size, exhaustiveness, modes, cnn_scoring, score, device })
}

fn docking(
    flags: &cli::Push,
    file: &RunFile,
    folder: &Path,
    from: Option<&RunInfo>,
) -> Result<Docking, LaunchpadError> {
    let base = from.and_then(|from| of_run(&from.spec.engine));
    let search_box = search_box(flags, file, folder, base)?;
    let options = &file.options;
    Ok(Docking {
        center: search_box.center(),
        size: search_box.size(),
        exhaustiveness: positive(
            "exhaustiveness",
            flags.exhaustiveness.or(options.exhaustiveness),
            base.map_or(EXHAUSTIVENESS_DEFAULT, |base| base.exhaustiveness),
        )?,
        modes: positive(
            "modes",
            flags.modes.or(options.modes),
            base.map_or(MODES_DEFAULT, |base| base.modes),
        )?,
    })
}

const fn of_run(engine: &EngineOptions) -> Option<Docking> {
    match engine {
        EngineOptions::Vina(VinaOptions { center, size, exhaustiveness, modes })
        | EngineOptions::Gnina(GninaOptions { center, size, exhaustiveness, modes, .. }) => {
            Some(Docking { center: *center, size: *size, exhaustiveness: *exhaustiveness, modes: *modes })
        }
        _ => None,
    }
}

/// The structure round which the box is laid, if one was named.
pub(super) fn box_ligand(flags: &cli::Push, file: &RunFile, folder: &Path) -> Option<PathBuf> {
    if places_box(flags) {
        return flags.box_ligand.clone();
    }
    file.options.box_ligand.as_ref().map(|path| folder.join(path))
}

/// Whether the flags say where the box is.
const fn places_box(flags: &cli::Push) -> bool {
    flags.box_ligand.is_some() || flags.box_center.is_some()
}

/// The box. A flag that says where it is replaces both places of the file; one that says how large it is, both sizes. The box of
/// another run fills in for what neither says.
fn search_box(
    flags: &cli::Push,
    file: &RunFile,
    folder: &Path,
    base: Option<Docking>,
) -> Result<SearchBox, LaunchpadError> {
    let options = &file.options;
    let ligand = box_ligand(flags, file, folder);
    let center = if places_box(flags) { flags.box_center } else { options.box_center.map(Center::from) };
    let (size, padding) = if flags.box_size.is_some() || flags.box_padding.is_some() {
        (flags.box_size, flags.box_padding)
    } else {
        (options.box_size.map(Edges::from), options.box_padding)
    };
    let (center, size) = match base {
        Some(base) if ligand.is_none() => (
            center.or(Some(Center(base.center))),
            if padding.is_some() { size } else { size.or(Some(Edges(base.size))) },
        ),
        _ => (center, size),
    };
    let contradiction = |one, other| Err(PushError::Contradiction { one, other }.into());
    match (ligand, center, size, padding) {
        (Some(_), Some(_), ..) => contradiction("box_ligand", "box_center"),
        (_, _, Some(_), Some(_)) => contradiction("box_size", "box_padding"),
        (_, Some(_), _, Some(_)) => contradiction("box_center", "box_padding"),
        (None, None, ..) => {
            let how = "--box-ligand puts it round a ligand's pose; or give --box-center and --box-size";
            Err(nothing("search box", how).into())
        }
        (None, Some(_), None, None) => Err(nothing("size of the search box", "give --box-size, in Å").into()),
        (None, Some(center), Some(size), None) => Ok(SearchBox::new(center.0, size.0)?),
        (Some(ligand), None, Some(size), None) => {
            Ok(SearchBox::centered_on(&HeavyAtoms::read(&ligand)?, size.0)?)
        }
        (Some(ligand), None, None, padding) => {
            Ok(SearchBox::around(&HeavyAtoms::read(&ligand)?, padding.unwrap_or(SearchBox::PADDING_DEFAULT))?)
        }
    }
}
