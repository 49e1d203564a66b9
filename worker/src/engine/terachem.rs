//! The engine `terachem`: SMILES or 3D SDF records → RDKit → single-point energies by a TeraChem server (Seritan et al. 2021,
//! doi:10.1002/wcms.1494).
//!
//! This file plans and judges, with the rules of `command_rows` and `command_verdict`. What talks to the servers is in `server`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::task::{CommandOptions, RunSpec, TerachemOptions};

use super::docking::{self, PREPARE_ROLE, PREPARED_FILE, ligand_sdf};
use super::prepared::{self, Prepared, PreparedError};
use super::reason::failure;
use super::{
    Engine, EngineFailure, Judged, Plan, Preparation, StepOutcome, Workload, command_verdict, ending,
    left_file, served, task_file,
};
use crate::process::Ended;
use crate::server::{JOB, Protocol, Service, call_step};

/// The step that asks servers, which its logs are named after.
const STEP: &str = "terachem";

/// Energies from a TeraChem server.
#[derive(Debug, Clone)]
pub struct Terachem {
    options: TerachemOptions,
    rows: CommandOptions,
}

impl Terachem {
    /// With a run's parameters.
    pub fn new(options: TerachemOptions) -> Self {
        Self { rows: options.rows(), options }
    }
}

impl Engine for Terachem {
    fn versions(&self) -> Vec<(&str, Vec<String>)> {
        vec![("rdkit", docking::rdkit_version())]
    }

    fn server(&self) -> Option<Service<'_>> {
        Some(Service { protocol: Protocol::Terachem, health: "" })
    }

    fn preparations(&self, _: &RunSpec, _: &BTreeMap<String, PathBuf>) -> Vec<Preparation> {
        Vec::new()
    }

    /// One step prepares all molecules, as for docking, the other asks about them. Without a driver there is nothing to run, and the
    /// judge says why.
    fn plan(&self, workload: &Workload<'_>) -> Plan {
        let Ok(driver) = docking::driver(workload) else { return Plan::default() };
        let job = serde_json::json!({ "options": self.options, "molecules": task_file::molecules(workload) });
        let mut call = call_step(STEP, Protocol::Terachem);
        call.needs.push(PathBuf::from(PREPARED_FILE));
        Plan {
            files: vec![docking::task_file(workload), (PathBuf::from(JOB), job.to_string().into_bytes())],
            steps: vec![docking::prepare(driver), call],
            ..Plan::default()
        }
    }

    fn judge(&self, workload: &Workload<'_>, outcomes: &[StepOutcome]) -> Result<Vec<Judged>, EngineFailure> {
        docking::driver(workload)?;
        let ended = |step: &str| {
            let outcome = outcomes.iter().find(|outcome| outcome.step.name == step);
            outcome.and_then(|outcome| outcome.ended.as_ref())
        };
        let prepare = ended(PREPARE_ROLE).ok_or_else(|| EngineFailure {
            reason: failure::PREPARE_FAILED,
            detail: "no molecule was prepared".to_owned(),
        })?;
        let is_prepared = ending::breakdown(prepare).is_none();
        if is_prepared {
            check_account(workload, prepare)?;
        }
        let call = ended(STEP).unwrap_or(prepare);
        // A server that is away leaves more molecules without a row than a preparation that broke off.
        let last = if is_prepared || ending::breakdown(call).is_some() { call } else { prepare };
        let judged = command_verdict::judge(&self.rows, workload, last)?;
        Ok(served::of_servers(workload, judged))
    }

    fn keeps(&self, workload: &Workload<'_>) -> Vec<PathBuf> {
        let geometries = workload.molecules.iter().map(|input| ligand_sdf(input.index));
        [PREPARED_FILE, self.rows.rows.as_str()].into_iter().map(PathBuf::from).chain(geometries).collect()
    }

    fn score_unit(&self) -> &str {
        self.rows.score_unit()
    }

    fn columns(&self) -> Vec<&str> {
        self.rows.columns.iter().map(|column| column.name.as_str()).chain(["detail"]).collect()
    }
}

/// A preparation that ended well has a word on every molecule; otherwise those that it left out would be blamed for having no row.
fn check_account(workload: &Workload<'_>, ended: &Ended) -> Result<(), EngineFailure> {
    let positions: Vec<usize> = workload.molecules.iter().map(|input| input.index).collect();
    let read = left_file::read(workload.scratch, PREPARED_FILE.as_ref());
    let checked = read.and_then(|bytes| {
        prepared::parse(&String::from_utf8_lossy(&bytes), &positions).map_err(|error| error.to_string())
    });
    checked.map(drop).map_err(|detail| EngineFailure {
        reason: failure::PREPARE_FAILED,
        detail: format!("{PREPARED_FILE}: {detail}; {}", ending::evidence(ended)),
    })
}

/// What the preparation says of the molecules that it came to.
pub(crate) fn begun_account(scratch: &Path, positions: &[usize]) -> Result<Vec<Prepared>, PreparedError> {
    prepared::parse_begun(&docking::begun_account(scratch), positions)
}

#[cfg(test)]
mod tests {
    use common::task::{EngineOptions, ManifestDigest, Molecule, MoleculeSource, SPEC_SCHEMA, Verdict};

    use super::super::{MoleculeInput, Remedy, Step};
    use super::*;
    use crate::process::How;

    const PREPARED: &str = "{\"index\": 0, \"ok\": true}\n{\"index\": 1, \"ok\": true}\n";
    const ROW: &str = "{\"molecule_id\": \"a\", \"energy_hartree\": \"-40.5\", \"energy_kcal_mol\": \"-25414\", \
                       \"charge\": 0, \"multiplicity\": 1, \"atoms\": 5, \"seed\": 7}\n";

    fn options() -> TerachemOptions {
        TerachemOptions {
            method: "HF".into(),
            basis: "sto-3g".into(),
            charge: None,
            multiplicity: 1,
            settings: BTreeMap::new(),
        }
    }

    /// The verdicts on the molecules `a` and `b` after both steps ended so and left these files.
    fn judged(prepared: &str, rows: &str, prepare: How, call: How) -> Result<Vec<Judged>, EngineFailure> {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join(PREPARED_FILE), prepared).unwrap();
        std::fs::write(scratch.path().join(options().rows().rows), rows).unwrap();
        let molecules = [(0, "a"), (1, "b")].map(|(index, id)| MoleculeInput {
            index,
            molecule: Molecule { id: id.into(), source: MoleculeSource::Smiles { smiles: "C".into() } },
            structure: None,
            seed: 7,
        });
        let spec = RunSpec {
            schema: SPEC_SCHEMA,
            run: "qm".parse().unwrap(),
            engine: EngineOptions::Terachem(options()),
            seed: 1,
            threads_per_task: 1,
            needs_gpu: false,
            inputs: BTreeMap::new(),
            drivers: BTreeMap::new(),
            manifest: ManifestDigest { sha256: String::new(), tasks: 1, molecules: 2 },
        };
        let shared = BTreeMap::from([(PREPARE_ROLE.to_owned(), PathBuf::from("prepare.py"))]);
        let workload = Workload {
            spec: &spec,
            task: common::task::TaskId(0),
            molecules: &molecules,
            scratch: scratch.path(),
            shared: &shared,
            has_gpu: false,
            is_suspect: false,
        };
        let engine = Terachem::new(options());
        let ends = [prepare, call].into_iter().zip(engine.plan(&workload).steps);
        let outcome = |(how, step): (How, Step)| {
            let ended =
                Ended { how, elapsed_ms: 1, stdout_tail: String::new(), stderr_tail: "last words".into() };
            StepOutcome { step, ended: Some(ended) }
        };
        engine.judge(&workload, &ends.map(outcome).collect::<Vec<_>>())
    }

    fn reasons(judged: &[Judged]) -> Vec<&str> {
        judged
            .iter()
            .map(|one| one.as_ref().map_or_else(|failure| failure.reason, |row| &row.reason))
            .collect()
    }

    #[test]
    fn rows_stand_and_a_server_that_is_away_hands_the_rest_back() {
        let judged = judged(PREPARED, ROW, How::Exited(0), How::Exited(75)).unwrap();
        assert_eq!(reasons(&judged), ["", failure::SERVER_AWAY]);
        assert_eq!(judged[0].as_ref().unwrap().verdict, Verdict::Ok);
        assert_eq!(judged[1].as_ref().unwrap_err().remedy(), Remedy::AwaitServer);
    }

    #[test]
    fn the_step_that_broke_down_says_why_others_have_no_row() {
        let check = |prepared: &str, prepare, call, expect: [&str; 2]| {
            let judged = judged(prepared, ROW, prepare, call).unwrap();
            assert_eq!(reasons(&judged), expect);
        };
        let begun = &PREPARED[..PREPARED.len() / 2];
        check(begun, How::Signalled(11), How::Exited(0), ["", failure::ENGINE_CRASHED]);
        check(begun, How::Signalled(11), How::Exited(75), ["", failure::SERVER_AWAY]);
        check(PREPARED, How::Exited(0), How::Exited(70), ["", failure::ENGINE_FAILED]);
        check(PREPARED, How::Exited(0), How::TimeLimit, ["", failure::TIME_LIMIT]);
    }

    #[test]
    fn a_preparation_that_forgets_a_molecule_condemns_none() {
        let begun = &PREPARED[..PREPARED.len() / 2];
        let failed = judged(begun, ROW, How::Exited(0), How::Exited(0)).unwrap_err();
        assert_eq!(failed.reason, failure::PREPARE_FAILED);
        assert!(failed.detail.contains("it ends after 1 of 2 molecules"), "{failed}");
    }

    #[test]
    fn an_energy_has_to_be_one() {
        let check = |energy: &str, expect: &str| {
            let rows = ROW.replace("-40.5", energy);
            let judged = judged(PREPARED, &rows, How::Exited(0), How::Exited(75)).unwrap();
            assert_eq!(reasons(&judged)[0], expect);
        };
        check("NaN", "value_not_finite");
        check("inf", "value_not_finite");
        check("0", "out_of_range");
        check("-2000000", "out_of_range");
        check("", "value_missing");
    }
}
