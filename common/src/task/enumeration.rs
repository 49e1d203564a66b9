//! What a run that enumerates computes: programs that write one structure per line without an end in sight, so that their output is
//! never collected. Formulae, residues, and how a stream is cut. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::excerpt::excerpt;

/// Lines of a part where a run does not say how many.
pub const LINES_PER_PART_DEFAULT: u64 = 10_000_000;
/// Lines that a filter gets at once where a run does not say how many.
pub const BATCH_LINES_DEFAULT: u64 = 100_000;
/// The most lines that a filter may get at once: a worker holds them in memory.
pub const BATCH_LINES_MAX: u64 = 1_000_000;
/// Stands in `argv` for the formula, or whatever text the input has for it.
pub const FORMULA_PLACEHOLDER: &str = "{formula}";
/// Stands in `argv` for the residue of a split formula, from 0; 0 for a whole one.
pub const RESIDUE_PLACEHOLDER: &str = "{residue}";
/// Stands in `argv` for the number of tasks of a split formula; 1 for a whole one.
pub const MODULUS_PLACEHOLDER: &str = "{modulus}";
/// Stands in a stream's `total` for the number.
pub const TOTAL_PLACEHOLDER: &str = "{total}";
/// The most tasks that a formula is split into.
pub const SPLIT_MAX: u64 = 100_000;

/// How a stream of lines is cut, counted and filtered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// How the program tells on standard error how many lines it wrote, [`TOTAL_PLACEHOLDER`] for the number.
    pub total: String,
    /// Lines of a part, from 1; the last one has what is left.
    #[serde(default = "lines_per_part_default")]
    pub lines_per_part: u64,
    /// What each line has to pass, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<FilterOptions>,
}

/// A program that reads lines on standard input and writes those to keep, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterOptions {
    /// The program and its arguments, no shell.
    pub argv: Vec<String>,
    /// Lines that it gets at once, 1 to [`BATCH_LINES_MAX`].
    #[serde(default = "batch_lines_default")]
    pub batch_lines: u64,
}

/// Parameters of the engine `surge`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurgeOptions {
    /// How its output is cut and filtered.
    pub stream: StreamOptions,
}

/// How Surge tells its total.
pub const SURGE_TOTAL: &str = "-> {total} in ";

const fn lines_per_part_default() -> u64 {
    LINES_PER_PART_DEFAULT
}

const fn batch_lines_default() -> u64 {
    BATCH_LINES_DEFAULT
}

/// Says why a stream can't be had like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A program that does not tell its total could be cut short unseen.
    #[error(
        "the stream's total is `{}` (expected text with one `{TOTAL_PLACEHOLDER}` and something on either side of it)",
        excerpt(found)
    )]
    Total {
        /// What was given.
        found: String,
    },
    /// A count that is out of range.
    #[error("{name} is {found} (expected 1 to {max})")]
    Count {
        /// The parameter.
        name: &'static str,
        /// Its value.
        found: u64,
        /// The most that it may be.
        max: u64,
    },
    /// A filter without a program, or with a NUL in it.
    #[error("the stream's filter has no program, or an argument with a NUL character")]
    Filter,
    /// The stream is the result; there is no row of a program's own.
    #[error("`{name}` is given beside a stream (expected neither: a stream has columns of its own)")]
    Beside {
        /// The parameter.
        name: &'static str,
    },
    /// Tasks of one formula that all do the same.
    #[error("argv has no `{FORMULA_PLACEHOLDER}`, so that every task of the stream would do the same")]
    NoFormula,
}

impl StreamOptions {
    /// Checks each parameter.
    pub fn validate(&self) -> Result<(), StreamError> {
        let sides = self.total.split_once(TOTAL_PLACEHOLDER);
        let sound = |(before, after): &(&str, &str)| {
            let is_side = |side: &str| !side.is_empty() && !side.chars().any(char::is_control);
            // A digit beside the number would be taken for a part of it.
            let digit = |c: char| c.is_ascii_digit();
            is_side(before) && is_side(after) && !before.ends_with(digit) && !after.starts_with(digit)
        };
        if !sides.as_ref().is_some_and(sound) || self.total.len() > 200 {
            return Err(StreamError::Total { found: self.total.clone() });
        }
        in_range("lines_per_part", self.lines_per_part, u64::MAX)?;
        let Some(filter) = &self.filter else { return Ok(()) };
        in_range("batch_lines", filter.batch_lines, BATCH_LINES_MAX)?;
        let is_sound = filter.argv.first().is_some_and(|program| !program.is_empty());
        let is_sound = is_sound && !filter.argv.iter().any(|word| word.contains('\0'));
        if is_sound { Ok(()) } else { Err(StreamError::Filter) }
    }

    /// The total that a program told in these last words of its standard error; the last one if there are several.
    pub fn total_in(&self, words: &str) -> Option<u64> {
        let (before, after) = self.total.split_once(TOTAL_PLACEHOLDER)?;
        let mut told = None;
        for (at, _) in words.match_indices(before) {
            let rest = &words[at + before.len()..];
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            if rest[digits..].starts_with(after) {
                told = rest[..digits].parse().ok().or(told);
            }
        }
        told
    }
}

fn in_range(name: &'static str, found: u64, max: u64) -> Result<(), StreamError> {
    if (1..=max).contains(&found) { Ok(()) } else { Err(StreamError::Count { name, found, max }) }
}

/// One task of a formula: all of it, or what leaves this residue. Its text is `C8H11NO`, or `C8H11NO:0/3` for the first of three.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Residue {
    /// The formula, or another text that the program takes for one.
    pub formula: String,
    /// From 0, below `modulus`.
    pub residue: u64,
    /// In how many tasks the formula is split, from 1.
    pub modulus: u64,
}

/// Says that a text is no residue of a formula.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` is no formula (expected one such as C8H11NO, or C8H11NO:0/3 for the first of 3 parts)",
    excerpt(found)
)]
pub struct NotAResidue {
    found: String,
}

impl FromStr for Residue {
    type Err = NotAResidue;

    fn from_str(text: &str) -> Result<Self, NotAResidue> {
        let refused = || NotAResidue { found: text.to_owned() };
        let (formula, part) = text.split_once(':').unwrap_or((text, "0/1"));
        let (residue, modulus) = part.split_once('/').ok_or_else(refused)?;
        let number = |digits: &str| {
            let canonical = !digits.starts_with('+') && (digits == "0" || !digits.starts_with('0'));
            digits.parse::<u64>().ok().filter(|_| canonical)
        };
        let (residue, modulus) = number(residue).zip(number(modulus)).ok_or_else(refused)?;
        // It becomes an argument: never a flag.
        let is_formula = formula.starts_with(|c: char| c.is_ascii_alphanumeric())
            && formula.len() <= 100
            && formula.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_formula || residue >= modulus || modulus > SPLIT_MAX {
            return Err(refused());
        }
        Ok(Self { formula: formula.to_owned(), residue, modulus })
    }
}

impl fmt::Display for Residue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.modulus {
            1 => f.write_str(&self.formula),
            modulus => write!(f, "{}:{}/{modulus}", self.formula, self.residue),
        }
    }
}

impl Residue {
    /// A word of `argv` for this task.
    pub fn fill(&self, word: &str) -> String {
        word.replace(FORMULA_PLACEHOLDER, &self.formula)
            .replace(RESIDUE_PLACEHOLDER, &self.residue.to_string())
            .replace(MODULUS_PLACEHOLDER, &self.modulus.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geng() -> StreamOptions {
        StreamOptions { total: ">Z {total} graphs".into(), lines_per_part: 10, filter: None }
    }

    #[test]
    fn a_total_is_found_where_the_program_tells_it() {
        let geng = geng();
        assert_eq!(geng.total_in(">A geng -c n=6 e=5-15\n>Z 112 graphs generated in 0.00 sec\n"), Some(112));
        assert_eq!(geng.total_in(">Z 1 graphs\n>Z 2 graphs\n"), Some(2), "the last one counts");
        for untold in ["", ">Z 112", ">Z  graphs", ">Z -1 graphs", ">Z 99999999999999999999999 graphs"] {
            assert_eq!(geng.total_in(untold), None, "{untold}");
        }
        let surge = StreamOptions { total: SURGE_TOTAL.into(), ..geng };
        assert_eq!(surge.validate(), Ok(()));
        assert_eq!(surge.total_in("C8H11NO  1217 -> 60115 -> 2123287 in 0.71 sec\n"), Some(2_123_287));
    }

    #[test]
    fn streams_that_cannot_be_counted_are_refused() {
        assert_eq!(geng().validate(), Ok(()));
        for total in ["", "graphs", "{total}", "{total} graphs", ">Z {total}", "1{total} a", "\n{total} a"] {
            assert!(StreamOptions { total: total.into(), ..geng() }.validate().is_err(), "{total}");
        }
        let none = StreamOptions { lines_per_part: 0, ..geng() }.validate().unwrap_err();
        assert_eq!(none.to_string(), "lines_per_part is 0 (expected 1 to 18446744073709551615)");
        let filter = |argv: &[&str], batch_lines| {
            let argv = argv.iter().map(|&word| word.to_owned()).collect();
            StreamOptions { filter: Some(FilterOptions { argv, batch_lines }), ..geng() }.validate()
        };
        assert_eq!(filter(&["grep", "C"], 5), Ok(()));
        assert_eq!(filter(&[], 5), Err(StreamError::Filter));
        assert_eq!(filter(&["a\0"], 5), Err(StreamError::Filter));
        assert!(filter(&["cat"], BATCH_LINES_MAX + 1).is_err());
    }

    #[test]
    fn a_residue_is_its_text() {
        for text in ["C8H11NO", "C8H11NO:0/3", "9:2/3", "C:99999/100000"] {
            assert_eq!(text.parse::<Residue>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            ":0/3",
            "C:3/3",
            "C:0",
            "C:0/0",
            "C:00/3",
            "C:+0/3",
            "-u",
            "C H",
            "C:0/100001",
            "C:0/3/4",
            "C;x",
        ] {
            assert!(wrong.parse::<Residue>().is_err(), "{wrong}");
        }
        let third: Residue = "C8H11NO:2/3".parse().unwrap();
        assert_eq!(third.fill("-m{residue}/{modulus}"), "-m2/3");
        assert_eq!(third.fill("{formula}"), "C8H11NO");
    }
}
