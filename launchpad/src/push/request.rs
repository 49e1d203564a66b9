//! What a push was asked to do: flags over `run.toml` over the run that it follows, if any, over defaults; checked, with the search
//! box resolved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::queue::RunInfo;
use common::task::{
    CommandOptions, EngineOptions, FepOptions, HttpOptions, Limits, MMGBSA_BATCH_MAX, MmgbsaOptions, RunId,
    TerachemOptions,
};

use super::{
    Layout, PushError, command_options, docking_options, fep_options, http_options, mmgbsa_options,
    parameters, stream_options, terachem_options,
};
use crate::cli::{self, EngineName};
use crate::drivers::{DriverScript, DriverSource};
use crate::error::LaunchpadError;
use crate::input::{Columns, Format};
use crate::location::as_url;
use crate::run_file::{LimitsTable, RunFile};

/// The role of the receptor among the inputs of docking and MM-GBSA.
pub(super) const RECEPTOR_ROLE: &str = "receptor";
const SEED_DEFAULT: u64 = 42;

/// A push, completely described.
#[derive(Debug)]
pub(crate) struct PushRequest {
    /// The run.
    pub(crate) run: RunId,
    /// Files of molecules; `-` is standard input. None if another run has the molecules.
    pub(crate) ligands: Vec<PathBuf>,
    /// Their format, where it was named.
    pub(crate) format: Option<Format>,
    /// Their columns, where they were named.
    pub(crate) columns: Columns,
    /// The engine's parameters, validated.
    pub(crate) engine: EngineOptions,
    /// Files that every task gets, by role; another run has the rest.
    pub(crate) inputs: BTreeMap<String, PathBuf>,
    /// The structure round which the search box was laid, where one was named.
    pub(crate) box_ligand: Option<PathBuf>,
    /// The driver, where another than the engine's own or the other run's was named.
    pub(crate) driver: Option<DriverSource>,
    /// The run's seed.
    pub(crate) seed: u64,
    /// Molecules per task, from 1.
    pub(crate) batch_size: u64,
    /// Tasks that each formula is split into, from 1; 1 for engines that enumerate nothing.
    pub(crate) split: u64,
    /// Threads of an engine, from 1.
    pub(crate) threads_per_task: u32,
    /// Whether each task computes on a GPU.
    pub(crate) needs_gpu: bool,
    /// How the run is driven; validated.
    pub(crate) limits: Limits,
    /// Campaign and labels, as fields of the run's hash.
    pub(crate) labels: Vec<(String, String)>,
    /// The store that `run.toml` names, or that of the other run.
    pub(crate) store: Option<String>,
}

impl PushRequest {
    /// Resolves a command line. A push that takes its molecules from another run takes from it what nobody says otherwise.
    pub(crate) fn resolve(flags: &cli::Push, from: Option<&RunInfo>) -> Result<Self, LaunchpadError> {
        let file = flags.config.as_deref().map(RunFile::read).transpose()?.unwrap_or_default();
        let folder = flags.config.as_deref().and_then(Path::parent).unwrap_or_else(|| Path::new(""));
        let beside = |path: &PathBuf| folder.join(path);
        let run = flags.run.clone().or_else(|| file.run.clone());
        let run = run.ok_or(nothing("run id", "name the run with --run or `run` in run.toml"))?;
        if from.is_some_and(|from| from.spec.run == run) {
            return Err(PushError::OwnFollowUp { run }.into());
        }
        let ligands = if from.is_some() {
            Vec::new()
        } else if flags.ligands.is_empty() {
            file.input.0.iter().map(beside).collect()
        } else {
            flags.ligands.clone()
        };
        if ligands.is_empty() && from.is_none() {
            let how = "name one, or `-` for standard input, or `input` in run.toml";
            return Err(nothing("file of molecules", how).into());
        }
        let driver = match (&flags.command.driver, &file.options.driver) {
            (Some(driver), _) => Some(DriverSource::parse(driver, Path::new(""))?),
            (None, Some(driver)) => Some(DriverSource::parse(driver, folder)?),
            (None, None) => None,
        };
        let limits = limits(flags, &file.limits, from);
        limits.validate()?;
        let said = Said { flags, file: &file, folder, from };
        let (engine, inputs) = said.engine(driver.as_ref())?;
        let known = engine.step_kinds();
        if let Some(found) = limits.step_seconds.keys().find(|kind| !known.contains(&kind.as_str())) {
            let (found, engine) = (found.clone(), engine.name());
            return Err(PushError::StepKind { found, engine, known: known.join(", ") }.into());
        }
        let split = stream_options::split(flags, &file.options, &engine, from)?;
        let store = file.store.as_deref().map(|store| as_url(folder, store)).transpose()?;
        Ok(Self {
            run,
            ligands,
            format: flags.format,
            columns: Columns { smiles: flags.smiles_column.clone(), id: flags.id_column.clone() },
            engine,
            inputs,
            box_ligand: docking_options::box_ligand(flags, &file, folder),
            driver,
            seed: flags.seed.or(file.seed).or(from.map(|from| from.spec.seed)).unwrap_or(SEED_DEFAULT),
            batch_size: positive("batch_size", flags.batch_size.or(file.batch_size), 1)?,
            split,
            threads_per_task: positive(
                "threads_per_task",
                flags.threads_per_task.or(file.threads_per_task),
                from.map_or(1, |from| from.spec.threads_per_task),
            )?,
            needs_gpu: flags
                .needs_gpu
                .or(file.needs.gpu)
                .unwrap_or_else(|| from.is_some_and(|from| from.spec.needs_gpu)),
            limits,
            labels: labels(flags, &file, from),
            store: store.or_else(|| from.map(|from| from.store.clone())),
        })
    }

    /// How its molecules become tasks.
    pub(crate) fn layout(&self) -> Layout {
        Layout::of(&self.engine, self.batch_size, self.split)
    }

    /// Whether there is a ligand in whose place molecules without coordinates are put.
    pub(crate) fn has_reference(&self) -> bool {
        self.inputs.contains_key(mmgbsa_options::REFERENCE_ROLE)
    }

    /// Reads the driver, where one was named.
    pub(crate) async fn script(&self, store_url: &str) -> Result<Option<DriverScript>, LaunchpadError> {
        match &self.driver {
            Some(source) => source.load(store_url).await.map(Some),
            None => Ok(None),
        }
    }
}

/// All that was said about a push.
#[derive(Clone, Copy)]
struct Said<'a> {
    flags: &'a cli::Push,
    file: &'a RunFile,
    /// The folder of `run.toml`.
    folder: &'a Path,
    /// The run that the push follows.
    from: Option<&'a RunInfo>,
}

impl Said<'_> {
    /// The engine's parameters and the files that every task gets.
    fn engine(
        self,
        driver: Option<&DriverSource>,
    ) -> Result<(EngineOptions, BTreeMap<String, PathBuf>), LaunchpadError> {
        let Self { flags, file, folder, from } = self;
        Ok(match self.engine_name()? {
            EngineName::Vina => {
                let inputs = self.receptor()?;
                (EngineOptions::Vina(docking_options::vina(flags, file, folder, from)?), inputs)
            }
            EngineName::Gnina => {
                let inputs = self.receptor()?;
                (EngineOptions::Gnina(docking_options::gnina(flags, file, folder, from)?), inputs)
            }
            EngineName::Command => {
                let inputs = command_options::inputs(&flags.command, &file.options, folder)?;
                (EngineOptions::Command(self.command(driver)?), inputs)
            }
            EngineName::GromacsMmgbsa => {
                let mut inputs = self.receptor()?;
                inputs.extend(mmgbsa_options::reference(flags, &file.options, folder));
                (EngineOptions::GromacsMmgbsa(self.mmgbsa()?), inputs)
            }
            EngineName::GromacsFep => (EngineOptions::GromacsFep(self.fep()?), BTreeMap::new()),
            EngineName::Surge => {
                (EngineOptions::Surge(stream_options::surge(flags, &file.options, from)?), BTreeMap::new())
            }
            EngineName::Http => (EngineOptions::Http(self.http()?), BTreeMap::new()),
            EngineName::Terachem => (EngineOptions::Terachem(self.terachem()?), BTreeMap::new()),
        })
    }

    /// The engine that was named, or that of the other run, or that which the parameters mean; it has to have them all.
    fn engine_name(self) -> Result<EngineName, PushError> {
        let Self { flags, file, from, .. } = self;
        let theirs = from.map(|from| name_of(&from.spec.engine));
        let named = flags.engine.or(file.engine);
        if named.zip(theirs).is_some_and(|(named, theirs)| named != theirs) {
            return Err(PushError::Contradiction { one: "engine", other: "from" });
        }
        let given = parameters::given(flags, &file.options);
        let engine = named.or(theirs).unwrap_or_else(|| parameters::meant(&given));
        parameters::refuse_strangers(&given, engine)?;
        Ok(engine)
    }

    fn http(self) -> Result<HttpOptions, PushError> {
        let base = self.from.and_then(|from| match &from.spec.engine {
            EngineOptions::Http(http) => Some(http),
            _ => None,
        });
        Ok(http_options::resolve(&self.flags.command, &self.file.options, base)?)
    }

    fn terachem(self) -> Result<TerachemOptions, PushError> {
        let base = self.from.and_then(|from| match &from.spec.engine {
            EngineOptions::Terachem(terachem) => Some(terachem),
            _ => None,
        });
        Ok(terachem_options::resolve(&self.file.options, base)?)
    }

    fn receptor(self) -> Result<BTreeMap<String, PathBuf>, PushError> {
        let beside = self.file.options.receptor.as_ref().map(|path| self.folder.join(path));
        let receptor = self.flags.receptor.clone().or(beside);
        if receptor.is_none() && self.from.is_none() {
            return Err(nothing("receptor", "name one with --receptor or `receptor` in run.toml"));
        }
        Ok(receptor.map(|path| (RECEPTOR_ROLE.to_owned(), path)).into_iter().collect())
    }

    fn command(self, driver: Option<&DriverSource>) -> Result<CommandOptions, PushError> {
        let base = self.from.and_then(|from| match &from.spec.engine {
            EngineOptions::Command(command) => Some(command),
            _ => None,
        });
        let has_driver = driver.is_some() || self.from.is_some_and(|from| !from.spec.drivers.is_empty());
        let name = driver.map(DriverSource::name);
        let stream = stream_options::resolve(self.flags, &self.file.options, self.from, None);
        let options = command_options::resolve(
            &self.flags.command,
            &self.file.options,
            name.as_deref(),
            (base, stream),
        )?;
        options.validate(has_driver)?;
        Ok(options)
    }

    fn mmgbsa(self) -> Result<MmgbsaOptions, PushError> {
        let (most, engine) = (MMGBSA_BATCH_MAX, EngineName::GromacsMmgbsa.name());
        if let Some(found) = self.flags.batch_size.or(self.file.batch_size).filter(|size| *size > most) {
            return Err(PushError::Batch { found, most, engine });
        }
        mmgbsa_options::resolve(self.flags, &self.file.options, self.from)
    }

    fn fep(self) -> Result<FepOptions, PushError> {
        if self.flags.batch_size.or(self.file.batch_size).is_some_and(|size| size > 1) {
            return Err(PushError::Contradiction { one: "batch_size", other: "engine gromacs-fep" });
        }
        fep_options::resolve(self.flags, &self.file.options, self.from)
    }
}

/// The name of a run's engine.
const fn name_of(engine: &EngineOptions) -> EngineName {
    match engine {
        EngineOptions::Vina(_) => EngineName::Vina,
        EngineOptions::Gnina(_) => EngineName::Gnina,
        EngineOptions::Command(_) => EngineName::Command,
        EngineOptions::GromacsMmgbsa(_) => EngineName::GromacsMmgbsa,
        EngineOptions::GromacsFep(_) => EngineName::GromacsFep,
        EngineOptions::Surge(_) => EngineName::Surge,
        EngineOptions::Http(_) => EngineName::Http,
        EngineOptions::Terachem(_) => EngineName::Terachem,
    }
}

pub(super) const fn nothing(what: &'static str, how: &'static str) -> PushError {
    PushError::Nothing { what, how }
}

pub(super) fn positive<T: Default + PartialEq>(
    name: &'static str,
    value: Option<T>,
    default: T,
) -> Result<T, PushError> {
    match value {
        Some(value) if value == T::default() => Err(PushError::Zero { name }),
        value => Ok(value.unwrap_or(default)),
    }
}

fn limits(flags: &cli::Push, file: &LimitsTable, from: Option<&RunInfo>) -> Limits {
    let default = from.map(|from| from.limits.clone()).unwrap_or_default();
    Limits {
        parallelism: flags.parallelism.or(file.parallelism).unwrap_or(default.parallelism),
        failures_max: flags.failures_max.or(file.failures_max).unwrap_or(default.failures_max),
        lapses_max: file.lapses_max.unwrap_or(default.lapses_max),
        lease_ms: flags.lease_ms.or(file.lease_ms).unwrap_or(default.lease_ms),
        heartbeat_ms: flags.heartbeat_ms.or(file.heartbeat_ms).unwrap_or(default.heartbeat_ms),
        backoff_ms: flags.backoff_ms.or(file.backoff_ms).unwrap_or(default.backoff_ms),
        backoff_max_ms: file.backoff_max_ms.unwrap_or(default.backoff_max_ms),
        step_seconds_max: flags
            .step_seconds_max
            .or(file.step_seconds_max)
            .unwrap_or(default.step_seconds_max),
        step_seconds: file.step_seconds.clone().unwrap_or(default.step_seconds),
        checkpoint_seconds: file.checkpoint_seconds.unwrap_or(default.checkpoint_seconds),
        checkpoint_jitter_seconds: file
            .checkpoint_jitter_seconds
            .unwrap_or(default.checkpoint_jitter_seconds),
    }
}

fn labels(flags: &cli::Push, file: &RunFile, from: Option<&RunInfo>) -> Vec<(String, String)> {
    let mut fields = from.map(|from| from.labels.clone()).unwrap_or_default();
    let said = flags.labels.iter().map(|label| (&label.name, &label.value));
    let said = file.labels.iter().chain(said);
    fields.extend(said.map(|(name, value)| (format!("label:{name}"), value.clone())));
    let campaign = flags.campaign.as_ref().or(file.campaign.as_ref());
    fields.extend(campaign.map(|campaign| ("campaign".to_owned(), campaign.clone())));
    fields.extend(from.map(|from| ("label:from".to_owned(), from.spec.run.to_string())));
    fields.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use common::task::{ChargeModel, CnnScoring, GninaOptions, GninaScore, Solvent, VinaOptions};

    use super::*;
    use crate::cli::{Cli, Command};

    const POSE: &str = "ATOM      1  C1  TMP     1      41.000  44.000  18.000\n";

    fn resolve(toml: &str, flags: &str) -> Result<PushRequest, LaunchpadError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("run.toml"), toml).unwrap();
        std::fs::write(folder.path().join("pose.pdb"), POSE).unwrap();
        let config = folder.path().join("run.toml");
        let arguments = ["launchpad", "push", "--config", config.to_str().unwrap()];
        let cli = Cli::try_parse_from(arguments.into_iter().chain(flags.split_whitespace())).unwrap();
        let Command::Push(push) = cli.command else { panic!("not push") };
        PushRequest::resolve(&push, None)
    }

    fn vina_of(request: &PushRequest) -> &VinaOptions {
        match &request.engine {
            EngineOptions::Vina(vina) => vina,
            other => panic!("not vina: {other:?}"),
        }
    }

    fn command_of(request: &PushRequest) -> &CommandOptions {
        match &request.engine {
            EngineOptions::Command(command) => command,
            other => panic!("not command: {other:?}"),
        }
    }

    #[test]
    fn servers_are_meant_by_their_names_or_their_parameters() {
        let http = resolve("run = 'r'\ninput = 'x'\n[options]\npath = '/p'\n", "--column mw").unwrap().engine;
        let EngineOptions::Http(http) = http else { panic!("not http: {http:?}") };
        assert_eq!(
            (http.path.as_str(), http.health.as_str(), http.molecules.as_str()),
            ("/p", "/health", "molecules")
        );
        assert_eq!(http.fields, HttpOptions::fields_default());
        let toml = "run = 'r'\ninput = 'x'\n[options]\nmethod = 'pbe0'\nbasis = 'sto-3g'\n";
        let terachem = resolve(toml, "").unwrap().engine;
        let EngineOptions::Terachem(terachem) = terachem else { panic!("not terachem: {terachem:?}") };
        assert_eq!((terachem.method.as_str(), terachem.charge, terachem.multiplicity), ("PBE0", None, 1));
        // Columns alone are those of a program.
        let command = resolve("run = 'r'\ninput = 'x'\n[options]\nargv = ['p']\n", "--column mw").unwrap();
        assert!(matches!(command.engine, EngineOptions::Command(_)));

        let check = |toml: &str, flags: &str, expect: &str| {
            let error = resolve(&format!("run = 'r'\ninput = 'x'\n[options]\n{toml}"), flags).unwrap_err();
            assert!(error.to_string().starts_with(expect), "{error}");
        };
        check(
            "path = '/p'",
            "--column mw --engine command",
            "`path` is no parameter of the engine `command`",
        );
        check("path = '/p'", "--column mw --modes 3", "`modes` is no parameter of the engine `http`");
        check("path = '/p'\nargv = ['p']", "--column mw", "`path` is no parameter of the engine `command`");
        check("method = 'hf'\nanswer = '/a'", "", "`method` is no parameter of the engine `http`");
        check(
            "method = 'hf'\nbasis = 'b'",
            "--column mw",
            "`columns` is no parameter of the engine `terachem`",
        );
        check(
            "charge = 1",
            "--engine gromacs-mmgbsa",
            "`charge` is no parameter of the engine `gromacs-mmgbsa`",
        );
        check(
            "charges = 'gasteiger'",
            "--engine terachem",
            "`charges` is no parameter of the engine `terachem`",
        );
    }

    #[test]
    fn fep_is_meant_by_its_name_or_its_parameters() {
        let fep = |toml: &str, flags: &str| match resolve(toml, flags).unwrap().engine {
            EngineOptions::GromacsFep(fep) => fep,
            other => panic!("not gromacs-fep: {other:?}"),
        };
        let toml = "run = 'a'\ninput = 'x.smi'\n";
        let options = fep(toml, "--engine gromacs-fep");
        assert_eq!((options.windows(), options.window_ps, options.discard_ps), (13, 100.0, 10.0));
        let options = fep(
            &format!("{toml}[options]\ncharges = 'gasteiger'\nbox_nm = 3\n"),
            "--windows 20 --window-ps 50",
        );
        assert_eq!((options.windows(), options.discard_ps, options.box_nm), (20, 5.0, 3.0));
        let two = format!("{toml}[options]\nlambdas_coulomb = [0, 1, 1]\nlambdas_vdw = [0, 0, 1]\n");
        assert_eq!(fep(&two, "").lambdas_vdw, [0.0, 0.0, 1.0]);
        let check = |toml: &str, flags: &str, expect: &str| {
            assert_eq!(resolve(toml, flags).unwrap_err().to_string(), expect);
        };
        check(&two, "--windows 4", "windows and lambdas_coulomb and lambdas_vdw contradict each other");
        check(toml, "--windows 4 --batch-size 2", "batch_size and engine gromacs-fep contradict each other");
        check(toml, "--windows 4 --md-ps 3", "`windows` is no parameter of the engine `gromacs-mmgbsa`");
        check(toml, "--engine vina --windows 4", "`windows` is no parameter of the engine `vina`");
        check(&format!("{toml}[options]\nlambdas_vdw = [0, 1]\n"), "", "no lambdas_coulomb was given");
    }

    #[test]
    fn mm_gbsa_is_meant_by_its_name_or_its_parameters() {
        let mmgbsa = |toml: &str, flags: &str| match resolve(toml, flags).unwrap().engine {
            EngineOptions::GromacsMmgbsa(mmgbsa) => mmgbsa,
            other => panic!("not gromacs-mmgbsa: {other:?}"),
        };
        let named = mmgbsa("", "x.sdf --run a --receptor r.pdb --engine gromacs-mmgbsa");
        let expect = MmgbsaOptions {
            charges: ChargeModel::Am1Bcc,
            md_ps: 10.0,
            frames: 10,
            solvent: Solvent::Vacuum,
            equilibration_ps: 0.0,
        };
        assert_eq!(named, expect);
        let file = "run = 'a'\ninput = 'x.sdf'\n[options]\nreceptor = 'r.pdb'\ncharges = 'gasteiger'\nmd_ps = 2\nframes = 4\n";
        let expect = MmgbsaOptions { charges: ChargeModel::Gasteiger, md_ps: 2.0, frames: 5, ..expect };
        assert_eq!(mmgbsa(file, "--frames 5"), expect);
        let check = |flags: &str, expect: &str| {
            assert_eq!(resolve(file, flags).unwrap_err().to_string(), expect);
        };
        check("--modes 3", "`modes` is no parameter of the engine `gromacs-mmgbsa`");
        let water = "[options]\nsolvent = 'tip3p'\n";
        let default = mmgbsa(water, "x.sdf --run a --receptor r.pdb");
        assert_eq!((default.solvent, default.equilibration_ps), (Solvent::Tip3p, 50.0));
        let told = mmgbsa(water, "x.sdf --run a --receptor r.pdb --equilibration-ps 20");
        assert_eq!(told, MmgbsaOptions { equilibration_ps: 20.0, ..default });
        check("--equilibration-ps 20", "equilibration_ps is 20 (expected 0 for solvent vacuum)");
        let limits = "engine = 'gromacs-mmgbsa'\n[limits]\nstep_seconds = {dock = 5}\n";
        let refused = resolve(limits, "x.sdf --run a --receptor r.pdb").unwrap_err().to_string();
        assert!(
            refused.starts_with("the engine `gromacs-mmgbsa` has no step `dock` (known: receptor, pose,"),
            "{refused}"
        );
        check("--engine vina", "`charges` is no parameter of the engine `vina`");
        check("--md-ps 0.001", "md_ps is 0.001 (expected a multiple of 0.002 above 0, 1000000 at most)");
        check(
            "--frames 7",
            "frames is 7 (expected a divisor of the 1000 steps of 0.002 ps that md_ps 2 has)",
        );
    }

    const COMMAND: &str = "run = 'a'\ninput = 'x.smi'\nengine = 'command'\n[options]\ndriver = 'mw.py'\nscore = 'mw'\n\
                           [options.inputs]\nsite = 's.pdb'\n[[options.columns]]\nname = 'mw'\nunit = 'g/mol'\nmin = 1\n";

    #[test]
    fn a_driver_is_run_by_what_its_ending_says() {
        let request = resolve(COMMAND, "--input extra=e.json").unwrap();
        assert!(matches!(&request.driver, Some(DriverSource::File(path)) if path.is_absolute()));
        assert!(request.inputs["site"].is_absolute());
        assert_eq!(request.inputs["extra"], PathBuf::from("e.json"));
        let command = command_of(&request);
        assert_eq!(command.argv, ["python3", "{driver}"]);
        assert_eq!(command.versions["python3"], ["python3", "--version"]);
        assert_eq!((command.rows.as_str(), command.score_unit()), ("rows.csv", "g/mol"));
        let request = resolve(COMMAND, "--driver d.sh --column n --score n --rows r.jsonl").unwrap();
        let command = command_of(&request);
        assert_eq!(
            (command.argv[0].as_str(), command.columns.len(), command.rows.as_str()),
            ("bash", 1, "r.jsonl")
        );
    }

    #[test]
    fn parameters_of_another_engine_are_refused() {
        let check = |toml: &str, flags: &str, expect: &str| {
            assert_eq!(resolve(toml, flags).unwrap_err().to_string(), expect);
        };
        check(COMMAND, "--receptor r.pdb", "`receptor` is no parameter of the engine `command`");
        check(
            &format!("engine = 'vina'\n{FILE}"),
            "--column mw",
            "`columns` is no parameter of the engine `vina`",
        );
        check(
            COMMAND,
            "--driver mw.jl",
            "the command has no program (expected argv, or a driver that ends in .py or .sh)",
        );
        check(
            COMMAND,
            "--input driver=x",
            "the input role `driver` can't be used (expected a small letter, then at most 31 of a-z 0-9 _, and not `driver`)",
        );
        check(COMMAND, "--score logp", "the score `logp` is no column of numbers (those are: mw)");
    }

    const FILE: &str = "run = 'a'\ninput = 'x.smi'\nseed = 7\n[options]\nreceptor = 'r.pdb'\nbox_ligand = 'pose.pdb'\n\
                        box_size = 20\n[limits]\nparallelism = 5\nbackoff_ms = 1\n[labels]\nb = 'file'\na = 'file'\n";

    fn gnina_of(request: &PushRequest) -> &GninaOptions {
        match &request.engine {
            EngineOptions::Gnina(gnina) => gnina,
            other => panic!("not gnina: {other:?}"),
        }
    }

    #[test]
    fn gnina_has_the_parameters_of_a_docking_and_its_own() {
        let file = FILE.replace("box_size = 20", "box_size = 20\ncnn_scoring = 'refinement'\ndevice = 2");
        let request = resolve(&file, "").unwrap();
        let gnina = gnina_of(&request);
        assert_eq!(
            (gnina.center, gnina.size, gnina.exhaustiveness, gnina.modes),
            ([41.0, 44.0, 18.0], [20.0; 3], 8, 9)
        );
        assert_eq!((gnina.cnn_scoring, gnina.device), (CnnScoring::Refinement, 2));
        assert_eq!(gnina.score, GninaScore::MinimizedAffinity);
        let request = resolve(FILE, "--engine gnina --score CNN_VS --modes 3 --device 1").unwrap();
        let gnina = gnina_of(&request);
        assert_eq!((gnina.score, gnina.modes, gnina.device), (GninaScore::CnnVs, 3, 1));
        assert_eq!(gnina.cnn_scoring, CnnScoring::Rescore);
    }

    #[test]
    fn gninas_parameters_are_checked() {
        let check = |flags: &str, expect: &str| {
            assert_eq!(resolve(FILE, flags).unwrap_err().to_string(), expect);
        };
        check(
            "--engine gnina --score vinardo",
            "the score `vinardo` is not one of: minimizedAffinity, CNNscore, CNNaffinity, CNN_VS",
        );
        check(
            "--cnn-scoring none --score CNNscore",
            "the score `CNNscore` needs the neural networks, and cnn_scoring is none",
        );
        check("--engine vina --device 0", "`device` is no parameter of the engine `vina`");
        check("--engine vina --score CNN_VS", "`score` is no parameter of the engine `vina`");
        check("--engine gnina --column mw", "`columns` is no parameter of the engine `gnina`");
        check("--engine command --cnn-scoring all", "`receptor` is no parameter of the engine `command`");
    }

    #[test]
    fn the_file_says_what_no_flag_says_with_paths_beside_it() {
        let request = resolve(FILE, "").unwrap();
        assert!(request.ligands[0].is_absolute() && request.ligands[0].ends_with("x.smi"));
        assert!(request.inputs[RECEPTOR_ROLE].is_absolute());
        let vina = vina_of(&request);
        assert_eq!((vina.center, vina.size), ([41.0, 44.0, 18.0], [20.0; 3]));
        assert_eq!((request.seed, request.batch_size, vina.exhaustiveness), (7, 1, 8));
        assert_eq!((request.limits.parallelism, request.limits.backoff_ms), (5, 1));
    }

    #[test]
    fn flags_win() {
        let request = resolve(
            FILE,
            "y.sdf --run b --seed 8 --parallelism 6 --box-center 1,2,3 --label a=flag --campaign c --exhaustiveness 4",
        )
        .unwrap();
        assert_eq!(request.run.as_str(), "b");
        assert_eq!(request.ligands, [PathBuf::from("y.sdf")]);
        let vina = vina_of(&request);
        assert_eq!((vina.center, vina.size), ([1.0, 2.0, 3.0], [20.0; 3]));
        assert_eq!((request.seed, request.limits.parallelism, vina.exhaustiveness), (8, 6, 4));
        let labels = [("campaign", "c"), ("label:a", "flag"), ("label:b", "file")];
        assert_eq!(request.labels, labels.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let padded = resolve(FILE, "--box-padding 3").unwrap();
        let padded = vina_of(&padded);
        assert_eq!((padded.center, padded.size), ([41.0, 44.0, 18.0], [6.0; 3]));
    }

    #[test]
    fn what_is_missing_or_contradicts_is_named() {
        let check = |toml: &str, flags: &str, expect: &str| {
            assert_eq!(resolve(toml, flags).unwrap_err().to_string(), expect);
        };
        check("", "", "no run id was given");
        check("run = 'a'", "", "no file of molecules was given");
        check("run = 'a'", "x.smi", "no receptor was given");
        check("run = 'a'", "x.smi --receptor r.pdb", "no search box was given");
        check(
            "run = 'a'",
            "x.smi --receptor r.pdb --box-center 1,2,3",
            "no size of the search box was given",
        );
        check(
            &FILE.replace("box_size = 20", "box_size = 20\nbox_padding = 3"),
            "",
            "box_size and box_padding contradict each other",
        );
        check(&FILE.replace("seed = 7", "batch_size = 0"), "", "batch_size is 0 (expected 1 or more)");
        check(
            FILE,
            "--lease-ms 100",
            "heartbeat_ms 15000 is too long for lease_ms 100 (expected: heartbeat_ms * 3 < lease_ms)",
        );
    }
}
