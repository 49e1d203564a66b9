//! What a consolidation came to, as text. Pure.

use std::collections::BTreeMap;

use super::{Best, Comparison, Enumeration, Verdicts};
use crate::output::{Table, thousands};

/// How many molecules came to what, as text.
pub(crate) fn counted(molecules: u64, verdicts: &Verdicts, bad_reasons: &BTreeMap<String, u64>) -> String {
    let reasons: Vec<_> =
        bad_reasons.iter().map(|(reason, count)| format!("{} {reason}", thousands(*count))).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    format!(
        "{} of {} molecules are ok, {} bad{reasons}, {} dead, {} cancelled",
        thousands(verdicts.ok),
        thousands(molecules),
        thousands(verdicts.bad),
        thousands(verdicts.dead),
        thousands(verdicts.cancelled),
    )
}

/// Structures of formulae, as text: each that was split, as far as they fit on a screen.
pub(crate) fn enumerated(enumeration: &Enumeration) -> String {
    const SHOWN: usize = 10;
    let mut table = Table::new(&["formula", ">structures"]);
    for (formula, structures) in enumeration.split.iter().take(SHOWN) {
        table.row([formula.clone(), structures.to_string()]);
    }
    let more = enumeration.split.len().saturating_sub(SHOWN);
    let table = if table.is_empty() { String::new() } else { table.to_string() };
    let more = if more > 0 { format!("and {more} more in the receipt\n") } else { String::new() };
    let (structures, complete) = (enumeration.structures, thousands(enumeration.complete));
    let incomplete = thousands(enumeration.incomplete.len() as u64);
    format!(
        "{table}{more}{structures} structures of {complete} formulae; {incomplete} formulae have no total\n"
    )
}

/// The lowest scores, as text.
pub(crate) fn best(best: &[Best]) -> String {
    let mut table = Table::new(&["lowest scores", ">score"]);
    for molecule in best {
        table.row([molecule.molecule_id.clone(), molecule.shown.clone()]);
    }
    if table.is_empty() { "No molecule has a score.\n".into() } else { table.to_string() }
}

/// Scores beside measured values, as text.
pub(crate) fn compared(comparison: &Comparison) -> String {
    let mut table = Table::new(&["molecule", "verdict", ">score", ">measured", ">difference"]);
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    for row in &comparison.rows {
        let cells = [row.score, row.measured, row.difference].map(shown);
        table.row([row.molecule_id.clone(), row.verdict.to_owned()].into_iter().chain(cells));
    }
    let n = comparison.n;
    match comparison.r {
        Some(r) => format!("{table}\nPearson r = {r:.3} over the n = {n} molecules that have both values\n"),
        None => {
            format!("{table}\nNo correlation: n = {n} molecules have both values (expected 3 that differ)\n")
        }
    }
}
