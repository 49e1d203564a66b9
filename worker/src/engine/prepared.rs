//! Reads `prepared.jsonl`, in which the preparation's driver says what became of each molecule.
//!
//! Pure. Decides nothing: a driver that contradicts itself or broke off is an error here, never a verdict.

use serde::Deserialize;

/// The driver's word on one molecule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Prepared {
    /// Its position in the task, from 0.
    pub(crate) index: usize,
    /// Whether it can be docked.
    pub(crate) ok: bool,
    /// A stable short word when it can't.
    #[serde(default)]
    pub(crate) reason: String,
    /// One sentence with the evidence when it can't.
    #[serde(default)]
    pub(crate) detail: String,
    /// Canonical SMILES of what is docked: salts stripped, stereo as in the 3D structure.
    #[serde(default)]
    pub(crate) docked_smiles: String,
    /// What the user should know of the preparation.
    #[serde(default)]
    pub(crate) flags: Vec<String>,
    /// Heavy atoms of what is docked.
    #[serde(default)]
    pub(crate) heavy_atoms: usize,
}

/// Says why the driver's account can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PreparedError {
    /// A line is not the JSON object that it should be.
    #[error("line {line} is not readable ({source})")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A line is about another molecule.
    #[error("line {line} is about molecule {found} (expected molecule {expected})")]
    Order {
        /// Counted from 1.
        line: usize,
        /// The index that was there.
        found: usize,
        /// The index that belongs there.
        expected: usize,
    },
    /// A refused molecule without a word that can stand in a table.
    #[error(
        "line {line} refuses a molecule with the reason `{reason}` (expected lower-case letters, digits and `_`)"
    )]
    Reason {
        /// Counted from 1.
        line: usize,
        /// The word that was there.
        reason: String,
    },
    /// There are more lines than molecules.
    #[error("it has more lines than the task has molecules ({molecules})")]
    TooLong {
        /// Molecules of the task.
        molecules: usize,
    },
    /// Some molecules have no line.
    #[error("it ends after {found} of {expected} molecules")]
    CutShort {
        /// Lines that were there.
        found: usize,
        /// Molecules of the task.
        expected: usize,
    },
}

/// Reads the account of the molecules at these positions of their task.
pub(crate) fn parse(text: &str, positions: &[usize]) -> Result<Vec<Prepared>, PreparedError> {
    let all = parse_begun(text, positions)?;
    if all.len() < positions.len() {
        return Err(PreparedError::CutShort { found: all.len(), expected: positions.len() });
    }
    Ok(all)
}

/// Reads an account that the driver may not have come to the end of.
pub(crate) fn parse_begun(text: &str, positions: &[usize]) -> Result<Vec<Prepared>, PreparedError> {
    let mut all: Vec<Prepared> = Vec::with_capacity(positions.len());
    for (text, line) in text.lines().zip(1..) {
        let prepared: Prepared =
            serde_json::from_str(text).map_err(|source| PreparedError::Line { line, source })?;
        let Some(&expected) = positions.get(all.len()) else {
            return Err(PreparedError::TooLong { molecules: positions.len() });
        };
        if prepared.index != expected {
            return Err(PreparedError::Order { line, found: prepared.index, expected });
        }
        if !prepared.ok && !is_word(&prepared.reason) {
            return Err(PreparedError::Reason { line, reason: prepared.reason });
        }
        all.push(prepared);
    }
    Ok(all)
}

fn is_word(reason: &str) -> bool {
    !reason.is_empty() && reason.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"{"index": 0, "ok": true, "reason": "", "detail": "", "docked_smiles": "C", "heavy_atoms": 1, "rotatable_bonds": 0, "flags": ["salt_stripped"]}
{"index": 1, "ok": false, "reason": "embed_failed", "detail": "no 3D geometry", "flags": []}
"#;

    #[test]
    fn each_molecule_has_its_line() {
        let all = parse(TWO, &[0, 1]).unwrap();
        assert_eq!((all[0].docked_smiles.as_str(), all[0].heavy_atoms), ("C", 1));
        assert_eq!(all[0].flags, ["salt_stripped"]);
        assert_eq!((all[1].ok, all[1].reason.as_str()), (false, "embed_failed"));
    }

    #[test]
    fn contradictions_are_named() {
        let check = |text: &str, positions: &[usize], expect: &str| {
            let message = parse(text, positions).unwrap_err().to_string();
            assert!(message.starts_with(expect), "{message}");
        };
        check("", &[0], "it ends after 0 of 1 molecules");
        check(TWO, &[0, 1, 2], "it ends after 2 of 3 molecules");
        check(TWO, &[0, 6], "line 2 is about molecule 1 (expected molecule 6)");
        check(TWO, &[0], "it has more lines than the task has molecules (1)");
        check(&TWO[..TWO.len() - 9], &[0, 1], "line 2 is not readable");
        check(
            &TWO.replace("\"index\": 1", "\"index\": 7"),
            &[0, 1],
            "line 2 is about molecule 7 (expected molecule 1)",
        );
        check(
            &TWO.replace("embed_failed", "it broke"),
            &[0, 1],
            "line 2 refuses a molecule with the reason `it broke`",
        );
        check(&TWO.replace("embed_failed", ""), &[0, 1], "line 2 refuses a molecule with the reason ``");
    }
}
