//! Which engine has which parameter: so which one is meant where none is named, and which parameters it can't have.
//! Those of streams are checked where the stream is made.

use super::PushError;
use crate::cli::EngineName::{self, Command, Gnina, GromacsFep, GromacsMmgbsa, Http, Terachem, Vina};
use crate::cli::Push;
use crate::run_file::OptionsTable;

/// Where no engine is named, the first of these that has all given parameters is meant.
const MEANT: [EngineName; 7] = [Vina, Gnina, Command, GromacsMmgbsa, GromacsFep, Http, Terachem];

/// A parameter that somebody gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Given {
    name: &'static str,
    /// The engines that have it.
    engines: &'static [EngineName],
}

/// Every parameter that a flag or `run.toml` gives, in the order in which strangers are named.
#[rustfmt::skip] // a table
pub(super) fn given(flags: &Push, file: &OptionsTable) -> Vec<Given> {
    const DOCKING: &[EngineName] = &[Vina, Gnina];
    const RECEPTOR: &[EngineName] = &[Vina, Gnina, GromacsMmgbsa];
    const DYNAMICS: &[EngineName] = &[GromacsMmgbsa, GromacsFep];
    const DRIVER: &[EngineName] = &[Command, Vina, Gnina, GromacsMmgbsa, GromacsFep];
    let command = &flags.command;
    let table: [(&str, &[EngineName], bool); 41] = [
        ("receptor", RECEPTOR, flags.receptor.is_some() || file.receptor.is_some()),
        ("box_ligand", DOCKING, flags.box_ligand.is_some() || file.box_ligand.is_some()),
        ("box_center", DOCKING, flags.box_center.is_some() || file.box_center.is_some()),
        ("box_size", DOCKING, flags.box_size.is_some() || file.box_size.is_some()),
        ("box_padding", DOCKING, flags.box_padding.is_some() || file.box_padding.is_some()),
        ("exhaustiveness", DOCKING, flags.exhaustiveness.is_some() || file.exhaustiveness.is_some()),
        ("modes", DOCKING, flags.modes.is_some() || file.modes.is_some()),
        ("cnn_scoring", &[Gnina], flags.cnn_scoring.is_some() || file.cnn_scoring.is_some()),
        ("device", &[Gnina], flags.device.is_some() || file.device.is_some()),
        ("argv", &[Command], command.argv.is_some() || file.argv.is_some()),
        ("inputs", &[Command], !command.inputs.is_empty() || !file.inputs.is_empty()),
        ("versions", &[Command], file.versions.is_some()),
        ("rows", &[Command], command.rows.is_some() || file.rows.is_some()),
        ("expect", &[Command], !command.expect.is_empty() || file.expect.is_some()),
        ("keep", &[Command], !command.keep.is_empty() || file.keep.is_some()),
        ("columns", &[Command, Http], !command.columns.is_empty() || file.columns.is_some()),
        ("score", &[Command, Gnina, Http], command.score.is_some() || file.score.is_some()),
        ("charges", DYNAMICS, flags.charges.is_some() || file.charges.is_some()),
        ("equilibration_ps", DYNAMICS, flags.equilibration_ps.is_some() || file.equilibration_ps.is_some()),
        ("md_ps", &[GromacsMmgbsa], flags.md_ps.is_some() || file.md_ps.is_some()),
        ("frames", &[GromacsMmgbsa], flags.frames.is_some() || file.frames.is_some()),
        ("solvent", &[GromacsMmgbsa], flags.solvent.is_some() || file.solvent.is_some()),
        ("reference", &[GromacsMmgbsa], flags.reference.is_some() || file.reference.is_some()),
        ("windows", &[GromacsFep], flags.windows.is_some() || file.windows.is_some()),
        ("window_ps", &[GromacsFep], flags.window_ps.is_some() || file.window_ps.is_some()),
        ("discard_ps", &[GromacsFep], flags.discard_ps.is_some() || file.discard_ps.is_some()),
        ("box_nm", &[GromacsFep], flags.box_nm.is_some() || file.box_nm.is_some()),
        ("lambdas_coulomb", &[GromacsFep], file.lambdas_coulomb.is_some()),
        ("lambdas_vdw", &[GromacsFep], file.lambdas_vdw.is_some()),
        ("driver", DRIVER, command.driver.is_some() || file.driver.is_some()),
        ("path", &[Http], file.path.is_some()),
        ("health", &[Http], file.health.is_some()),
        ("request", &[Http], file.request.is_some()),
        ("molecules", &[Http], file.molecules.is_some()),
        ("fields", &[Http], file.fields.is_some()),
        ("answer", &[Http], file.answer.is_some()),
        ("method", &[Terachem], file.method.is_some()),
        ("basis", &[Terachem], file.basis.is_some()),
        ("charge", &[Terachem], file.charge.is_some()),
        ("multiplicity", &[Terachem], file.multiplicity.is_some()),
        ("settings", &[Terachem], file.settings.is_some()),
    ];
    table.into_iter().filter_map(|(name, engines, given)| given.then_some(Given { name, engines })).collect()
}

/// The engine that is meant by these parameters. If none has all of them, one that alone has one of them.
pub(super) fn meant(given: &[Given]) -> EngineName {
    let has_all = |engine: &EngineName| given.iter().all(|given| given.engines.contains(engine));
    let alone_has_one = |engine: &EngineName| given.iter().any(|given| given.engines == [*engine]);
    let engine = MEANT.into_iter().find(has_all).or_else(|| MEANT.into_iter().find(alone_has_one));
    engine.unwrap_or(Vina)
}

/// Refuses the first parameter that the engine does not have.
pub(super) fn refuse_strangers(given: &[Given], engine: EngineName) -> Result<(), PushError> {
    match given.iter().find(|given| !given.engines.contains(&engine)) {
        Some(Given { name, engines }) => {
            Err(PushError::OtherEngine { parameter: name, engine: engine.name(), owner: engines[0].name() })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser as _;

    use super::*;
    use crate::cli::{self, Cli};
    use crate::run_file::RunFile;

    fn flags(flags: &str) -> Push {
        let words = format!("launchpad push {flags}");
        let cli::Command::Push(push) = Cli::parse_from(words.split_whitespace()).command else {
            panic!("not push")
        };
        *push
    }

    fn given_by(flags: &Push, options: &str) -> Vec<Given> {
        let file = RunFile::parse(&format!("[options]\n{options}"), Path::new("run.toml")).unwrap();
        given(flags, &file.options)
    }

    fn names(given: &[Given]) -> Vec<&'static str> {
        given.iter().map(|given| given.name).collect()
    }

    #[test]
    fn the_table_has_every_parameter_of_the_file() {
        let refused = RunFile::parse("[options]\nno_such = 1\n", Path::new("run.toml")).unwrap_err();
        let refused = refused.to_string();
        let (_, known) = refused.split_once("(known: ").unwrap();
        let known: Vec<_> = known.trim_end_matches(')').split(", ").collect();
        assert!(known.len() > 40, "{refused}");
        let values = ["'none'", "1", "'gasteiger'", "'vacuum'", "[]", "[1, 2, 3]", "{}", "{a = 'id'}"];
        for key in known.into_iter().filter(|key| !["stream", "split"].contains(key)) {
            let texts = values.map(|value| format!("{key} = {value}\n"));
            let is_value =
                |text: &&String| RunFile::parse(&format!("[options]\n{text}"), Path::new("run.toml")).is_ok();
            let text = texts.iter().rfind(is_value).unwrap_or_else(|| panic!("no value for {key}"));
            assert_eq!(names(&given_by(&flags(""), text)), [key]);
        }
    }

    #[test]
    fn a_parameter_is_given_by_a_flag_or_the_file() {
        let by_flags = flags("--md-ps 1 --box-nm 2 --column mw --score mw");
        assert_eq!(names(&given_by(&by_flags, "")), ["columns", "score", "md_ps", "box_nm"]);
        let both = given_by(&flags("--md-ps 1"), "md_ps = 2\nmodes = 3\n");
        assert_eq!(names(&both), ["modes", "md_ps"]);
    }

    #[test]
    fn the_engine_that_has_all_parameters_is_meant() {
        let check = |said: &str, expect: EngineName| {
            let given = given_by(&flags(said), "");
            assert_eq!(meant(&given), expect, "{said}");
            refuse_strangers(&given, expect).unwrap();
        };
        check("", Vina);
        check("--receptor r.pdb --box-size 5", Vina);
        check("--receptor r.pdb --score CNN_VS", Gnina);
        check("--column mw --score mw", Command);
        check("--receptor r.pdb --charges gasteiger", GromacsMmgbsa);
        check("--charges gasteiger --window-ps 5", GromacsFep);
        assert_eq!(meant(&given_by(&flags("--column mw"), "path = '/p'\n")), Http);
    }

    #[test]
    fn a_stranger_is_named_with_an_engine_that_has_it() {
        let given = given_by(&flags("--receptor r.pdb --windows 5"), "");
        assert_eq!(meant(&given), GromacsFep);
        let error = refuse_strangers(&given, GromacsFep).unwrap_err();
        assert_eq!(error.to_string(), "`receptor` is no parameter of the engine `gromacs-fep`");
        assert_eq!(error.hint(), "it belongs to `--engine vina`");
        let error = refuse_strangers(&given_by(&flags("--driver d.py"), ""), Terachem).unwrap_err();
        assert_eq!(error.to_string(), "`driver` is no parameter of the engine `terachem`");
    }
}
