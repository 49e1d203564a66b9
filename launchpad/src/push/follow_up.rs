//! The molecules that a new run takes from one that has ended: chosen by their verified results, kept in manifest order, with the SDF
//! objects that hold them. It writes temporary files only.

use std::collections::BTreeSet;
use std::fs::File;

use common::digest::sha256_hex;
use common::queue::{Queue, RunInfo};
use common::storage::RunStore;
use common::task::{ManifestReader, ManifestRow, MoleculeSource, ObjectRef, RowKind, State, Verdict};

use super::manifest::{Layout, Staging, temporary};
use super::{LigandFile, PushError, StagedManifest};
use crate::cli::Order;
use crate::consolidation::{Checked, ManifestCopy, Outcome, Walk, read_manifest};
use crate::error::LaunchpadError;
use crate::ranking::Best;

/// Tasks without a result that are named one by one.
const NAMED: u64 = 20;

/// Which molecules are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Those that have no score.
    Failed {
        /// Whether bad ones are among them.
        bad: bool,
        /// Whether those of dead tasks are among them.
        dead: bool,
    },
    /// Some of the best that are ok, drawn by the run's seed.
    Sample {
        /// How many are drawn.
        molecules: usize,
        /// From how many.
        of_top: usize,
        /// `score`, or a column of the engine; lower is better.
        by: String,
    },
}

/// A run that others follow.
#[derive(Debug)]
pub(crate) struct FollowUp<'a> {
    pub(crate) queue: &'a Queue,
    pub(crate) store: &'a RunStore,
    pub(crate) info: &'a RunInfo,
    pub(crate) wanted: Wanted,
}

impl FollowUp<'_> {
    /// Stages the manifest of the molecules, and copies the SDF objects that hold them. `None` if there is none. Every task of the run
    /// must have ended with a result that can be trusted; those without are told.
    pub(crate) async fn stage(
        &self,
        layout: Layout,
        seed: u64,
        progress: &mut impl FnMut(u64),
        tell: &mut impl FnMut(&str),
    ) -> Result<Option<(StagedManifest, Vec<LigandFile>)>, LaunchpadError> {
        self.store.confirm(&self.info.digest).await?;
        let manifest = read_manifest(self.store, &self.info.spec).await?;
        let chosen = self.choose(&manifest, progress, tell).await?.finish(seed);
        if chosen.is_empty() {
            return Ok(None);
        }
        let mut staging = Staging::new(layout)?;
        let mut objects = BTreeSet::new();
        let is_result = |row: &Result<ManifestRow, _>| {
            row.as_ref().map_or(true, |row: &ManifestRow| row.kind != RowKind::Window)
        };
        for (row, ordinal) in ManifestReader::rows(manifest.open()?).filter(is_result).zip(0..) {
            let row = row?;
            if chosen.binary_search(&ordinal).is_err() {
                continue;
            }
            let molecule = row.molecule().expect("the walk has read all molecules of this manifest");
            staging.write(&molecule, row.source_line)?;
            if let MoleculeSource::Sdf { object, .. } = molecule.source {
                objects.insert(object);
            }
        }
        let mut ligands = Vec::new();
        for object in objects {
            ligands.push(self.copy(object).await?);
        }
        Ok(Some((staging.finish()?, ligands)))
    }

    async fn choose(
        &self,
        manifest: &ManifestCopy,
        progress: &mut impl FnMut(u64),
        tell: &mut impl FnMut(&str),
    ) -> Result<Choice<'_>, LaunchpadError> {
        let mut choice = Choice::new(&self.wanted);
        let mut untrusted = 0;
        let mut take = |checked: Checked| {
            if let Outcome::Missing(fault) = &checked.outcome {
                untrusted += 1;
                if untrusted <= NAMED {
                    tell(&format!("task {}: {}: {}", checked.task, fault.reason, fault.detail));
                }
            }
            progress(checked.task.0 + 1);
            choice.look_at(&checked)
        };
        let spec = &self.info.spec;
        Walk { queue: self.queue, store: self.store, spec }.run(manifest, &mut take).await?;
        match untrusted {
            0 => Ok(choice),
            tasks => Err(PushError::Unfinished { run: spec.run.clone(), tasks }.into()),
        }
    }

    /// Copies an SDF object to a file without a name.
    async fn copy(&self, object: String) -> Result<LigandFile, LaunchpadError> {
        // `inputs/<sha256>/<name>`; a name that tells no digest is refused with the bytes.
        let sha256 = object.split('/').nth(1).unwrap_or_default().to_owned();
        let pinned = ObjectRef { object, sha256, bytes: 0 };
        let copy = tempfile::NamedTempFile::new().map_err(temporary)?;
        self.store.download(&pinned, copy.path()).await?;
        LigandFile::stored(&pinned, File::open(copy.path()).map_err(temporary)?)
    }
}

/// The molecules that were chosen so far, by their place in the manifest.
struct Choice<'a> {
    wanted: &'a Wanted,
    next: u64,
    chosen: Vec<u64>,
    /// Place and id of those that a sample is drawn from.
    best: Option<Best<(u64, String)>>,
}

impl<'a> Choice<'a> {
    fn new(wanted: &'a Wanted) -> Self {
        let best = match wanted {
            Wanted::Sample { of_top, by, .. } => {
                Some(Best::new(Order { by: by.clone(), highest: false }, *of_top))
            }
            Wanted::Failed { .. } => None,
        };
        Self { wanted, next: 0, chosen: Vec::new(), best }
    }

    fn look_at(&mut self, checked: &Checked) -> Result<(), LaunchpadError> {
        let first = self.next;
        self.next += checked.molecules.len() as u64;
        match (self.wanted, &checked.outcome) {
            (Wanted::Failed { bad: true, .. }, Outcome::Scored { shard, .. }) => {
                let bad = shard.rows.iter().zip(first..).filter(|(row, _)| row.verdict == Verdict::Bad);
                self.chosen.extend(bad.map(|(_, ordinal)| ordinal));
            }
            (Wanted::Failed { dead: true, .. }, Outcome::Ended { .. }) if checked.state == State::Dead => {
                self.chosen.extend(first..self.next);
            }
            (Wanted::Sample { .. }, Outcome::Scored { shard, .. }) => {
                let best = self.best.as_mut().expect("it is made with the choice of a sample");
                best.add(shard, |position, row, _| (first + position as u64, row.molecule_id.clone()))?;
            }
            (Wanted::Failed { .. }, _)
            | (Wanted::Sample { .. }, Outcome::Ended { .. } | Outcome::Missing(_)) => {}
        }
        Ok(())
    }

    /// The places of the chosen molecules, ascending. A sample is a function of the seed and the ids.
    fn finish(mut self, seed: u64) -> Vec<u64> {
        if let (Wanted::Sample { molecules, .. }, Some(best)) = (self.wanted, self.best) {
            let mut best: Vec<_> = best.in_order().collect();
            best.sort_by_cached_key(|(_, id)| sha256_hex(format!("{seed}\0{id}").as_bytes()));
            self.chosen = best.iter().take(*molecules).map(|(place, _)| *place).collect();
            self.chosen.sort_unstable();
        }
        self.chosen
    }
}

#[cfg(test)]
mod tests {
    use common::task::{Molecule, Row, Shard, TaskId};

    use super::*;

    /// A task of molecules with these scores; an empty score makes a molecule bad.
    fn scored(task: u64, scores: &[&str]) -> Checked {
        let id = |n: usize| format!("m{task}.{n}");
        let row = |(n, score): (usize, &&str)| Row {
            molecule_id: id(n),
            smiles: "C".into(),
            verdict: if score.is_empty() { Verdict::Bad } else { Verdict::Ok },
            reason: String::new(),
            score: (*score).to_owned(),
            columns: vec![n.to_string()],
        };
        let rows: Vec<Row> = scores.iter().enumerate().map(row).collect();
        let smiles = || MoleculeSource::Smiles { smiles: "C".into() };
        let molecules = (0..scores.len()).map(|n| Molecule { id: id(n), source: smiles() }).collect();
        let shard = Shard { score_unit: "kcal/mol".into(), columns: vec!["column".into()], rows };
        let outcome = Outcome::Scored { shard, sha256: String::new() };
        Checked { task: TaskId(task), molecules, state: State::Succeeded, outcome }
    }

    fn ended(task: u64, state: State) -> Checked {
        Checked { state, outcome: Outcome::Ended { reason: String::new() }, ..scored(task, &["", ""]) }
    }

    fn chosen(wanted: &Wanted, tasks: &[Checked], seed: u64) -> Vec<u64> {
        let mut choice = Choice::new(wanted);
        for task in tasks {
            choice.look_at(task).unwrap();
        }
        choice.finish(seed)
    }

    #[test]
    fn bad_and_dead_molecules_are_told_apart_and_cancelled_ones_stay() {
        let tasks = [
            scored(0, &["-1", ""]),
            ended(1, State::Dead),
            ended(2, State::Cancelled),
            scored(3, &["", "-2"]),
        ];
        let check = |bad: bool, dead: bool, expect: &[u64]| {
            assert_eq!(chosen(&Wanted::Failed { bad, dead }, &tasks, 1), expect);
        };
        check(true, false, &[1, 6]);
        check(false, true, &[2, 3]);
        check(true, true, &[1, 2, 3, 6]);
    }

    #[test]
    fn a_sample_is_drawn_from_the_best_by_the_seed() {
        let tasks = [scored(0, &["-1", "-9", "-3"]), scored(1, &["-7.5", "", "-10"]), ended(2, State::Dead)];
        let sample = |molecules, of_top, by: &str, seed| {
            chosen(&Wanted::Sample { molecules, of_top, by: by.into() }, &tasks, seed)
        };
        assert_eq!(sample(9, 3, "score", 1), [1, 3, 5], "the three lowest, also if more are asked for");
        assert_eq!(sample(9, 2, "column", 1), [0, 3], "of equal values the first");
        let drawn: BTreeSet<Vec<u64>> = (0..40).map(|seed| sample(1, 3, "score", seed)).collect();
        assert_eq!(drawn, BTreeSet::from([vec![1], vec![3], vec![5]]), "each of the three for some seed");
        assert_eq!(sample(2, 3, "score", 7), sample(2, 3, "score", 7));
    }

    #[test]
    fn a_column_that_no_shard_has_is_named() {
        let wanted = Wanted::Sample { molecules: 1, of_top: 1, by: "scroe".into() };
        let mut choice = Choice::new(&wanted);
        let error = choice.look_at(&scored(0, &["-1"])).unwrap_err();
        assert_eq!(error.to_string(), "the shards have no column `scroe` (known: score, column)");
    }
}
