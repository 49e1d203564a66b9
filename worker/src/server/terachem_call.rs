//! A call of the engine `terachem`: one job for each molecule that the preparation made a geometry of, in their order, and a row as soon
//! as there is one.

use std::fs;

use common::task::TerachemOptions;
use serde::Deserialize;
use serde_json::json;

use super::call::{Call, CallError, Findings, JobMolecule, local};
use super::geometry::Geometry;
use super::pool::{CRASHES_MAX, Health, Pool, Trouble};
use super::terachem_proto::mol::UnitType;
use super::terachem_proto::{JobInput, Mol};
use super::{Endpoint, Protocol, terachem};
use crate::engine::{Prepared, RowReason, begun_account, ligand_sdf};

/// One hartree in kcal/mol (CODATA 2018; 1 cal = 4.184 J).
const KCAL_MOL_PER_HARTREE: f64 = 627.509_474_063;

/// What an engine writes for a call of `terachem`.
#[derive(Deserialize)]
struct Job {
    options: TerachemOptions,
    molecules: Vec<JobMolecule>,
}

/// A call of `terachem`.
#[derive(Debug)]
pub(super) struct TerachemCall {
    options: TerachemOptions,
    molecules: Vec<JobMolecule>,
    pool: Pool,
    findings: Findings,
}

struct TerachemServers;

impl Health for TerachemServers {
    async fn check(&self, endpoint: &Endpoint) -> Result<(), Trouble> {
        terachem::check(endpoint).await
    }
}

impl TerachemCall {
    /// Reads the job and starts the file of rows.
    pub(super) fn begin(call: &Call) -> Result<Self, CallError> {
        let Job { options, molecules } = call.job()?;
        let findings = Findings::create(&options.rows().rows)?;
        Ok(Self { options, molecules, pool: call.pool(Protocol::Terachem), findings })
    }

    /// Has each molecule computed that was prepared; why others were not is for the judge to find out.
    pub(super) async fn run(&mut self) -> Result<(), CallError> {
        let positions: Vec<usize> = self.molecules.iter().map(|molecule| molecule.index).collect();
        let account =
            begun_account(".".as_ref(), &positions).map_err(|error| local("prepared.jsonl", &error))?;
        let mut last = None;
        for (molecule, prepared) in std::mem::take(&mut self.molecules).iter().zip(account) {
            if !prepared.ok {
                self.findings.refuse(&molecule.id, &prepared.reason, &prepared.detail)?;
                continue;
            }
            match self.compute(molecule, &prepared).await {
                Ok(()) => {}
                Err(error) => {
                    if let Some(why) = error.why() {
                        self.findings.note(why, &error, [molecule])?;
                    }
                    if !error.is_about_what_was_asked() {
                        return Err(error);
                    }
                    tracing::error!(molecule = molecule.id, "{error}");
                    last = Some(error);
                }
            }
        }
        last.map_or(Ok(()), Err)
    }

    async fn compute(&mut self, molecule: &JobMolecule, prepared: &Prepared) -> Result<(), CallError> {
        let path = ligand_sdf(molecule.index);
        let sdf = fs::read_to_string(&path).map_err(|error| local("a geometry can't be read", &error))?;
        let geometry = match Geometry::of_sdf(&sdf) {
            Ok(geometry) => geometry,
            Err(why) => {
                return self.findings.refuse(&molecule.id, RowReason::GeometryUnreadable.name(), &why);
            }
        };
        let charge = self.options.charge.unwrap_or(geometry.formal_charge);
        let multiplicity = self.options.multiplicity;
        if !geometry.allows(charge, multiplicity) {
            let why = format!("no multiplicity {multiplicity} with these atoms and charge {charge}");
            return self.findings.refuse(&molecule.id, RowReason::MultiplicityImpossible.name(), &why);
        }
        let job = job(&self.options, &geometry, charge);
        tracing::info!(
            molecule = molecule.id,
            atoms = geometry.elements.len(),
            charge,
            multiplicity,
            "asking"
        );
        let ask = async |endpoint: &Endpoint| terachem::compute(endpoint, &job).await;
        let output = self.pool.ask(&TerachemServers, CRASHES_MAX, ask).await?;
        let energy = output.energy[0];
        let row = json!({
            "molecule_id": molecule.id,
            "computed_smiles": prepared.docked_smiles,
            "flags": prepared.flags.join(";"),
            // As texts: JSON has no word for what is not finite, and the judge has.
            "energy_hartree": energy.to_string(),
            "energy_kcal_mol": (energy * KCAL_MOL_PER_HARTREE).to_string(),
            "charge": charge,
            "multiplicity": multiplicity,
            "atoms": geometry.elements.len(),
            "seed": molecule.seed,
        });
        self.findings.write(&format!("{row}\n"))
    }
}

/// The job of a molecule.
fn job(options: &TerachemOptions, geometry: &Geometry, charge: i32) -> JobInput {
    let is_closed = options.multiplicity == 1;
    let mol = Mol {
        atoms: geometry.elements.clone(),
        xyz: geometry.xyz_bohr.clone(),
        units: UnitType::Bohr.into(),
        charge,
        multiplicity: i32::try_from(options.multiplicity).unwrap_or(i32::MAX),
        closed: is_closed,
        restricted: is_closed,
    };
    JobInput {
        mol: Some(mol),
        method: options.method_number().unwrap_or_default(),
        basis: options.basis.clone(),
        user_options: options.settings.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect(),
        ..JobInput::default()
    }
}
