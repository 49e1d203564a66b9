//! What an attempt knows of each molecule of its task: its verdict, from a former attempt or this one, or why it has none yet; and what
//! follows from that: which molecules to work on next, which one is to blame for a breakdown, and when the task has its result.
//!
//! Pure: no files, no store, no engine.

use common::task::{Molecule, Row, Verdict};

use crate::engine::{EngineFailure, Judged};
use crate::failure::ALL_BAD;

/// A batch of this many molecules that are all bad for one reason is tried once more: suspect the machine first.
const SUSPICIOUS_BATCH: usize = 10;
/// After so many breakdowns without a score, an attempt gives up: then it is the engine or the machine, and each may last a time limit.
const BREAKDOWNS_IN_VAIN_MAX: usize = 3;
/// A molecule over which servers were lost in so many attempts is charged with it.
const LOST_SERVERS_MAX: usize = 3;
/// The engine column that takes the evidence of a bad molecule, where an engine has one.
const DETAIL: &str = "detail";

/// One molecule.
#[derive(Debug, Clone, Default)]
struct Known {
    row: Option<Row>,
    /// Whether the row is a former attempt's.
    is_carried: bool,
    /// In how many former attempts the engine broke down over it.
    former_breakdowns: usize,
    /// Why this attempt has no verdict on it.
    failure: Option<EngineFailure>,
    /// Whether this attempt came to it.
    is_tried: bool,
}

/// All molecules of a task, in manifest order.
#[derive(Debug, Clone)]
pub(crate) struct Verdicts {
    known: Vec<Known>,
    /// Whether a former attempt failed since all its molecules were bad for one reason.
    was_all_bad: bool,
}

impl Verdicts {
    /// Of a task with so many molecules, none of which has a verdict.
    pub(crate) fn new(molecules: usize) -> Self {
        Self { known: vec![Known::default(); molecules], was_all_bad: false }
    }

    /// Takes over a former attempt's row, the first one for each molecule; says whether it was that.
    pub(crate) fn carry(&mut self, position: usize, row: Row) -> bool {
        let known = &mut self.known[position];
        let is_first = known.row.is_none();
        if is_first {
            (known.row, known.is_carried) = (Some(row), true);
        }
        is_first
    }

    /// Remembers that the engine broke down over this molecule in a former attempt.
    pub(crate) fn suspect(&mut self, position: usize) {
        self.known[position].former_breakdowns += 1;
    }

    /// Remembers that a former attempt's machine was suspected, and takes no row from then or before.
    pub(crate) fn distrust(&mut self) {
        self.was_all_bad = true;
        for known in &mut self.known {
            (known.row, known.is_carried) = (None, false);
        }
    }

    /// The molecules to work on next: all that are beyond suspicion, then each suspect alone, the least suspected first; those suspected
    /// alike together if the engine keeps them apart. `None` when this attempt has come to all of them, breaks down in vain, or lacks
    /// something that others would lack, too.
    pub(crate) fn next_round(&self, keeps_apart: bool) -> Option<Vec<usize>> {
        if !self.has_score() && self.suspects().count() >= BREAKDOWNS_IN_VAIN_MAX {
            return None;
        }
        let failures = self.known.iter().filter_map(|known| known.failure.as_ref());
        if failures.clone().any(EngineFailure::is_nobodys) {
            return None;
        }
        let open = || (0..self.known.len()).filter(|&position| self.is_open(position));
        let breakdowns = |position: &usize| self.known[*position].former_breakdowns;
        let least = open().map(|position| breakdowns(&position)).min()?;
        let mut alike = open().filter(|position| breakdowns(position) == least);
        if least == 0 || keeps_apart { Some(alike.collect()) } else { alike.next().map(|alone| vec![alone]) }
    }

    /// Whether these molecules are under suspicion; those of a round are all or none.
    pub(crate) fn is_suspect(&self, round: &[usize]) -> bool {
        round.iter().any(|&position| self.known[position].former_breakdowns > 0)
    }

    fn is_open(&self, position: usize) -> bool {
        let known = &self.known[position];
        known.row.is_none() && !known.is_tried
    }

    /// Takes in what became of the molecules of a round.
    pub(crate) fn judged(&mut self, round: &[usize], judged: Vec<Judged>) {
        let untried = |judged: &Judged| judged.as_ref().is_err_and(EngineFailure::is_untried);
        // An engine that came to none will come to none the next time either.
        let in_vain = judged.iter().all(untried);
        for (&position, judged) in round.iter().zip(judged) {
            let known = &mut self.known[position];
            known.is_tried = in_vain || !untried(&judged);
            let attempts = known.former_breakdowns + 1;
            let judged = judged.map_err(|failure| {
                if failure.is_of_a_lost_server() && attempts >= LOST_SERVERS_MAX {
                    return failure.of_lost_servers(attempts);
                }
                failure
            });
            match judged {
                Ok(row) => (known.row, known.failure) = (Some(row), None),
                Err(failure) => known.failure = Some(failure),
            }
        }
    }

    /// Whether a molecule has a verdict.
    pub(crate) fn has(&self, position: usize) -> bool {
        self.known[position].row.is_some()
    }

    /// Whether this attempt found out anything that the next one should know.
    pub(crate) fn has_news(&self) -> bool {
        self.own_rows().next().is_some() || self.suspects().next().is_some()
    }

    /// This attempt's own rows.
    pub(crate) fn own_rows(&self) -> impl Iterator<Item = &Row> {
        self.known.iter().filter(|known| !known.is_carried).filter_map(|known| known.row.as_ref())
    }

    /// The positions of the molecules over which the engine broke down in this attempt.
    pub(crate) fn suspects(&self) -> impl Iterator<Item = usize> {
        let breakdown = |known: &Known| known.failure.as_ref().is_some_and(EngineFailure::is_breakdown);
        self.known.iter().enumerate().filter(move |(_, known)| breakdown(known)).map(|(position, _)| position)
    }

    /// Whether the engine is known to work on this task's inputs.
    fn has_score(&self) -> bool {
        self.known.iter().filter_map(|known| known.row.as_ref()).any(|row| row.verdict == Verdict::Ok)
    }

    /// Blames each molecule over which the engine broke down in this attempt and in a former one, beside others that it scored.
    /// Without a score it may as well be the engine or the receptor, and nobody is blamed.
    pub(crate) fn blame(&mut self, molecules: &[Molecule], columns: &[&str]) {
        if !self.has_score() {
            return;
        }
        for (known, molecule) in self.known.iter_mut().zip(molecules) {
            let again = |failure: &&EngineFailure| {
                failure.is_breakdown() && !failure.is_nobodys() && known.former_breakdowns > 0
            };
            if let Some(failure) = known.failure.as_ref().filter(again) {
                known.row = Some(blamed(molecule, failure.reason, columns));
            }
        }
    }

    /// The rows of all molecules, once each has a verdict; otherwise why the attempt failed.
    pub(crate) fn conclude(&self) -> Result<Vec<Row>, EngineFailure> {
        let rows: Vec<Row> = self.known.iter().filter_map(|known| known.row.clone()).collect();
        if rows.len() < self.known.len() {
            return Err(self.failure(rows.len()));
        }
        if let Some(reason) = one_reason_for_all(&rows)
            && !self.was_all_bad
        {
            let detail = format!(
                "all {} molecules are bad for one reason, {reason}: suspecting this machine first",
                rows.len()
            );
            return Err(EngineFailure { reason: ALL_BAD, detail });
        }
        Ok(rows)
    }

    /// The failure that says most: a breakdown, then one of a molecule that was tried.
    fn failure(&self, verdicts: usize) -> EngineFailure {
        let open = self.known.iter().filter(|known| known.row.is_none());
        let failures = open.filter_map(|known| known.failure.as_ref());
        let mut failure = failures
            .min_by_key(|failure| (!failure.is_breakdown(), failure.is_untried()))
            .expect("rounds end only when each molecule without a verdict was tried, or one says why not")
            .clone();
        if verdicts > 0 {
            let (said, all) = (failure.detail, self.known.len());
            failure.detail = format!("{said}; {verdicts} of {all} molecules have their verdict");
        }
        failure
    }
}

/// The row of a molecule that two attempts broke down over. Its words are the same whichever attempts and machines those were.
fn blamed(molecule: &Molecule, reason: &str, columns: &[&str]) -> Row {
    let detail =
        "the engine broke down over it in two attempts and scored others; their records have the evidence";
    let cell = |column: &&str| if *column == DETAIL { detail.to_owned() } else { String::new() };
    Row {
        molecule_id: molecule.id.clone(),
        smiles: molecule.smiles().to_owned(),
        verdict: Verdict::Bad,
        reason: reason.to_owned(),
        score: String::new(),
        columns: columns.iter().map(cell).collect(),
    }
}

/// The reason why every molecule of a large batch is bad, if it is the same one for all.
fn one_reason_for_all(rows: &[Row]) -> Option<&str> {
    let first = rows.first().filter(|_| rows.len() >= SUSPICIOUS_BATCH)?;
    let same = rows.iter().all(|row| row.verdict == Verdict::Bad && row.reason == first.reason);
    same.then_some(first.reason.as_str())
}

#[cfg(test)]
mod tests {
    use common::task::MoleculeSource;

    use super::*;

    const COLUMNS: &[&str] = &["modes", "detail"];

    fn molecules(count: usize) -> Vec<Molecule> {
        let molecule = |n| Molecule {
            id: format!("m{n}"),
            source: MoleculeSource::Smiles { smiles: "C".repeat(n + 1) },
        };
        (0..count).map(molecule).collect()
    }

    /// `ok`, the reason of a failure, or the reason of a bad molecule.
    fn judged(position: usize, word: &'static str) -> Judged {
        let failures = ["engine_crashed", "time_limit", "not_tried", "output_lost"];
        let of_servers = ["server_away", "server_crashed", "server_lost"];
        if failures.contains(&word) || of_servers.contains(&word) {
            return Err(EngineFailure { reason: word, detail: format!("m{position} {word}") });
        }
        let is_ok = word == "ok";
        Ok(Row {
            molecule_id: format!("m{position}"),
            smiles: "C".repeat(position + 1),
            verdict: if is_ok { Verdict::Ok } else { Verdict::Bad },
            reason: if is_ok { String::new() } else { word.to_owned() },
            score: if is_ok { "-1.0".to_owned() } else { String::new() },
            columns: vec![String::new(); COLUMNS.len()],
        })
    }

    /// An engine that works on one molecule after the other in one process, so that a breakdown leaves those behind it untried.
    fn attempt(verdicts: &mut Verdicts, fate: &dyn Fn(usize) -> &'static str) -> Vec<Vec<usize>> {
        let mut rounds = Vec::new();
        while let Some(round) = verdicts.next_round(false) {
            let mut is_down = false;
            let go = round.iter().map(|&position| {
                let word = if is_down { "not_tried" } else { fate(position) };
                is_down |= word == "engine_crashed" || word == "time_limit";
                judged(position, word)
            });
            let go = go.collect();
            verdicts.judged(&round, go);
            rounds.push(round);
        }
        verdicts.blame(&molecules(verdicts.known.len()), COLUMNS);
        rounds
    }

    /// What the next attempt knows, by way of the rows and the names that this one leaves.
    fn next(verdicts: &Verdicts) -> Verdicts {
        let mut next = Verdicts::new(verdicts.known.len());
        for (position, known) in verdicts.known.iter().enumerate() {
            if let Some(row) = &known.row {
                assert!(next.carry(position, row.clone()));
            }
            (0..known.former_breakdowns).for_each(|_| next.suspect(position));
        }
        verdicts.suspects().for_each(|position| next.suspect(position));
        next
    }

    fn reasons(rows: &[Row]) -> Vec<&str> {
        rows.iter().map(|row| row.reason.as_str()).collect()
    }

    #[test]
    fn a_breakdown_keeps_the_rows_before_it_and_those_behind_it_are_tried_without_it() {
        let fate = |position| if position == 2 { "engine_crashed" } else { "ok" };
        let mut first = Verdicts::new(5);
        assert_eq!(attempt(&mut first, &fate), [vec![0, 1, 2, 3, 4], vec![3, 4]]);
        let failure = first.conclude().unwrap_err();
        assert_eq!(
            (failure.reason, failure.detail.as_str()),
            ("engine_crashed", "m2 engine_crashed; 4 of 5 molecules have their verdict")
        );
        let mut second = next(&first);
        assert_eq!(attempt(&mut second, &fate), [vec![2]]);
        let rows = second.conclude().unwrap();
        assert_eq!(reasons(&rows), ["", "", "engine_crashed", "", ""]);
        let blamed = &rows[2];
        assert_eq!((blamed.molecule_id.as_str(), blamed.smiles.as_str()), ("m2", "CCC"));
        assert!(blamed.columns[0].is_empty() && blamed.columns[1].contains("two attempts"));
        assert_eq!(second.own_rows().count(), 1, "the others are carried");
    }

    #[test]
    fn one_breakdown_blames_nobody() {
        let mut first = Verdicts::new(3);
        attempt(&mut first, &|position| if position == 1 { "time_limit" } else { "ok" });
        assert_eq!(first.suspects().collect::<Vec<_>>(), [1]);
        let mut second = next(&first);
        attempt(&mut second, &|_| "ok");
        assert_eq!(reasons(&second.conclude().unwrap()), ["", "", ""]);
    }

    #[test]
    fn several_that_break_down_are_each_named_in_two_attempts() {
        let fate = |position| match position {
            1 | 4 => "engine_crashed",
            7 => "time_limit",
            3 => "no_contact",
            _ => "ok",
        };
        let mut first = Verdicts::new(9);
        attempt(&mut first, &fate);
        let mut second = next(&first);
        assert_eq!(attempt(&mut second, &fate), [[1], [4], [7]], "each suspect has a round of its own");
        let rows = second.conclude().unwrap();
        let expect = ["", "engine_crashed", "", "no_contact", "engine_crashed", "", "", "time_limit", ""];
        assert_eq!(reasons(&rows), expect);
    }

    #[test]
    fn a_first_molecule_that_breaks_down_does_not_hide_the_others() {
        let fate = |position| if position < 2 { "engine_crashed" } else { "ok" };
        let mut first = Verdicts::new(4);
        assert_eq!(attempt(&mut first, &fate), [vec![0, 1, 2, 3], vec![1, 2, 3], vec![2, 3]]);
        let mut second = next(&first);
        attempt(&mut second, &fate);
        assert_eq!(reasons(&second.conclude().unwrap()), ["engine_crashed", "engine_crashed", "", ""]);
    }

    #[test]
    fn an_engine_that_only_breaks_down_blames_nobody_and_gives_up_soon() {
        let fate = |_| "engine_crashed";
        let mut verdicts = Verdicts::new(10);
        for rounds in [
            vec![(0..10).collect(), (1..10).collect(), (2..10).collect::<Vec<_>>()],
            vec![(3..10).collect(), (4..10).collect(), (5..10).collect()],
        ] {
            assert_eq!(attempt(&mut verdicts, &fate), rounds);
            assert_eq!(verdicts.conclude().unwrap_err().reason, "engine_crashed");
            verdicts = next(&verdicts);
        }
        let mut alone = next(&{
            let mut first = Verdicts::new(1);
            attempt(&mut first, &fate);
            first
        });
        attempt(&mut alone, &fate);
        assert_eq!(alone.conclude().unwrap_err().reason, "engine_crashed");
    }

    #[test]
    fn a_molecule_over_which_servers_are_lost_is_charged_the_third_time_and_its_neighbours_never() {
        let first = |position| if position == 2 { "server_lost" } else { "server_away" };
        let mut verdicts = Verdicts::new(4);
        attempt(&mut verdicts, &|position| if position < 2 { "ok" } else { first(position) });
        for _ in 1..LOST_SERVERS_MAX {
            let failure = verdicts.conclude().unwrap_err();
            assert_eq!((failure.reason, failure.is_nobodys()), ("server_lost", true));
            verdicts = next(&verdicts);
            let rounds = attempt(&mut verdicts, &|position| if position == 2 { "server_lost" } else { "ok" });
            assert_eq!(rounds.last(), Some(&vec![2]), "alone");
        }
        let rows = verdicts.conclude().unwrap();
        assert_eq!(reasons(&rows), ["", "", "server_crashed", ""]);

        let mut alone = Verdicts::new(1);
        for expect in ["server_lost", "server_lost", "server_crashed", "server_crashed"] {
            attempt(&mut alone, &|_| "server_lost");
            let failure = alone.conclude().unwrap_err();
            assert_eq!((failure.reason, failure.is_nobodys()), (expect, expect == "server_lost"));
            alone = next(&alone);
        }
    }

    #[test]
    fn an_engine_that_keeps_suspects_apart_gets_all_that_are_suspected_alike_at_once() {
        let mut verdicts = Verdicts::new(4);
        (1..4).for_each(|position| verdicts.suspect(position));
        verdicts.suspect(2);
        let mut rounds = Vec::new();
        while let Some(round) = verdicts.next_round(true) {
            rounds.push((round.clone(), verdicts.is_suspect(&round)));
            verdicts.judged(&round, round.iter().map(|&position| judged(position, "ok")).collect());
        }
        assert_eq!(rounds, [(vec![0], false), (vec![1, 3], true), (vec![2], true)]);
    }

    #[test]
    fn without_a_server_no_suspect_is_tried() {
        let mut first = Verdicts::new(3);
        attempt(&mut first, &|position| if position == 0 { "server_crashed" } else { "ok" });
        let mut second = next(&first);
        second.known[2].row = None;
        assert_eq!(attempt(&mut second, &|_| "server_away"), [[2]]);
        assert!(second.conclude().unwrap_err().is_nobodys());
    }

    #[test]
    fn an_engine_that_tries_nothing_is_asked_once() {
        let mut verdicts = Verdicts::new(2);
        assert_eq!(attempt(&mut verdicts, &|_| "not_tried"), [[0, 1]]);
        assert_eq!(verdicts.conclude().unwrap_err().reason, "not_tried");
        assert!(!verdicts.has_news());
    }

    #[test]
    fn other_failures_are_tried_again_and_never_blamed() {
        let fate = |position| if position == 0 { "output_lost" } else { "ok" };
        let mut first = Verdicts::new(2);
        attempt(&mut first, &fate);
        let mut second = next(&first);
        assert_eq!(attempt(&mut second, &fate), [[0]]);
        let failure = second.conclude().unwrap_err();
        assert_eq!(failure.reason, "output_lost");
    }

    #[test]
    fn a_batch_that_is_bad_for_one_reason_is_suspicious_once_whoever_found_its_rows() {
        let breaks = |position| if position == 9 { "engine_crashed" } else { "no_contact" };
        let mut first = Verdicts::new(10);
        attempt(&mut first, &breaks);
        assert_eq!(first.conclude().unwrap_err().reason, "engine_crashed");
        let mut second = next(&first);
        assert_eq!(attempt(&mut second, &|_| "no_contact"), [[9]]);
        assert_eq!(second.conclude().unwrap_err().reason, ALL_BAD);
        let mut third = next(&second);
        third.distrust();
        assert_eq!(attempt(&mut third, &|_| "no_contact").concat().len(), 10, "no row is trusted");
        assert_eq!(reasons(&third.conclude().unwrap()), ["no_contact"; 10]);
    }

    #[test]
    fn only_a_large_batch_with_one_reason_is_suspicious() {
        let rows = |words: &[&'static str]| -> Vec<Row> {
            words.iter().map(|word| judged(0, word).unwrap()).collect()
        };
        assert_eq!(one_reason_for_all(&rows(&["no_contact"; 10])), Some("no_contact"));
        assert_eq!(one_reason_for_all(&rows(&["no_contact"; 9])), None);
        let mut mixed = ["no_contact"; 12];
        mixed[7] = "smiles_invalid";
        assert_eq!(one_reason_for_all(&rows(&mixed)), None);
        mixed[7] = "ok";
        assert_eq!(one_reason_for_all(&rows(&mixed)), None);
    }

    #[test]
    fn the_first_row_of_a_molecule_stays() {
        let mut verdicts = Verdicts::new(1);
        assert!(verdicts.carry(0, judged(0, "no_contact").unwrap()));
        assert!(!verdicts.carry(0, judged(0, "ok").unwrap()));
        assert_eq!(reasons(&verdicts.conclude().unwrap()), ["no_contact"]);
        assert!(!verdicts.has_news(), "a carried row is no news");
    }
}
