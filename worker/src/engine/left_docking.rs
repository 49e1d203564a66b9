//! What an attempt of a docking engine left, for the tests of the judges: toluene went well, and the second molecule was refused by the
//! preparation. A test damages it and looks at what becomes of the verdicts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::task::{
    EngineOptions, ManifestDigest, Molecule, MoleculeSource, Row, RunSpec, SPEC_SCHEMA, TaskId,
};
use tempfile::TempDir;

use super::pdbqt::heavy_atoms;
use super::receptor::Receptor;
use super::{EngineFailure, Judged, MoleculeInput, Step, StepOutcome, Workload};
use crate::process::{Ended, How};

/// The pocket round toluene, of the reference set.
pub(super) const CAVITY: &str = include_str!("../../../tests/golden/openbabel-3.1.1-t4l-l99a-cavity.pdbqt");
/// The box that toluene was docked into, Å.
pub(super) const CENTER: [f64; 3] = [42.32, 45.43, 18.17];
pub(super) const SIZE: [f64; 3] = [14.0; 3];

/// The judge of an engine.
type Judge<O> = fn(&O, &Workload<'_>, &Receptor, &[StepOutcome]) -> Result<Vec<Judged>, EngineFailure>;

/// An attempt's files and how its steps went, with an engine's parameters and its judge.
pub(super) struct Left<O> {
    pub(super) options: O,
    engine: fn(O) -> EngineOptions,
    judge: Judge<O>,
    scratch: TempDir,
    outcomes: Vec<StepOutcome>,
}

impl<O: Clone> Left<O> {
    /// With these folders and nothing in them.
    pub(super) fn new(options: O, engine: fn(O) -> EngineOptions, judge: Judge<O>, folders: &[&str]) -> Self {
        let scratch = TempDir::new().unwrap();
        for folder in folders {
            std::fs::create_dir(scratch.path().join(folder)).unwrap();
        }
        Self { options, engine, judge, scratch, outcomes: Vec::new() }
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        std::fs::write(self.scratch.path().join(path), text).unwrap();
    }

    pub(super) fn remove(&self, path: &str) {
        std::fs::remove_file(self.scratch.path().join(path)).unwrap();
    }

    /// Says how a step went and the last that it printed; `None` if it was not run.
    pub(super) fn step(&mut self, name: &str, how: impl Into<Option<How>>, stdout: &str, stderr: &str) {
        let ended = how.into().map(|how| Ended {
            how,
            elapsed_ms: 12,
            stdout_tail: stdout.into(),
            stderr_tail: stderr.into(),
        });
        let outcome = StepOutcome { step: Step { name: name.into(), argv: vec![], needs: vec![] }, ended };
        match self.outcomes.iter_mut().find(|former| former.step.name == name) {
            Some(former) => *former = outcome,
            None => self.outcomes.push(outcome),
        }
    }

    /// A step that the attempt never came to.
    pub(super) fn forget_step(&mut self, name: &str) {
        self.outcomes.retain(|outcome| outcome.step.name != name);
    }

    /// The rows, or the first failure.
    pub(super) fn judged(&self) -> Result<Vec<Row>, EngineFailure> {
        self.judged_each()?.into_iter().collect()
    }

    pub(super) fn judged_each(&self) -> Result<Vec<Judged>, EngineFailure> {
        let spec = RunSpec {
            schema: SPEC_SCHEMA,
            run: "verdict".parse().unwrap(),
            engine: (self.engine)(self.options.clone()),
            seed: 1,
            threads_per_task: 1,
            needs_gpu: false,
            inputs: BTreeMap::new(),
            drivers: BTreeMap::new(),
            manifest: ManifestDigest { sha256: String::new(), tasks: 1, molecules: 2 },
        };
        let molecule = |(index, id): (usize, &str)| MoleculeInput {
            index,
            molecule: Molecule { id: id.into(), source: MoleculeSource::Smiles { smiles: "C".into() } },
            structure: None,
            seed: 7,
        };
        let molecules: Vec<_> = ["toluene", "cage"].into_iter().enumerate().map(molecule).collect();
        let receptor = Receptor { path: PathBuf::new(), heavy_atoms: heavy_atoms(CAVITY).unwrap() };
        let (scratch, shared): (&Path, _) = (self.scratch.path(), BTreeMap::new());
        let workload = Workload {
            spec: &spec,
            task: TaskId(0),
            molecules: &molecules,
            scratch,
            shared: &shared,
            has_gpu: false,
            is_suspect: false,
        };
        (self.judge)(&self.options, &workload, &receptor, &self.outcomes)
    }

    /// Checks that nobody gets a verdict, and why.
    pub(super) fn fails(mut self, reason: &str, evidence: &str, damage: impl Fn(&mut Self)) {
        damage(&mut self);
        let failure = self.judged().unwrap_err();
        assert_eq!(failure.reason, reason, "{}", failure.detail);
        assert!(failure.detail.contains(evidence), "{}", failure.detail);
    }
}
