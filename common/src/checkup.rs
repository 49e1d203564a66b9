//! What the `doctor` of both programs found: a line for each check, in the same words and the same JSON. Looks at nothing and prints
//! nothing.

use serde::Serialize;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is as it should be.
    Ok,
    /// Worth knowing, or it can't be told from here; nothing has to be done.
    Note,
    /// A person has to change something.
    Wrong,
    /// There was no answer.
    Unreachable,
}

/// One check. Its JSON is stable: fields are added, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked, as a stable short word.
    pub name: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What a person can do about it; absent when nothing has to be done.
    pub hint: Option<String>,
}

impl Check {
    /// It is as it should be.
    pub fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), hint: None }
    }

    /// It says something without judging.
    pub fn note(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Note, found: found.into(), hint: None }
    }

    /// A person has to change something, and `hint` says what.
    pub fn wrong(name: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Wrong, found: found.into(), hint: Some(hint.into()) }
    }

    /// There was no answer. The error is told with its causes.
    pub fn unreachable(name: &'static str, error: &dyn std::error::Error, hint: Option<String>) -> Self {
        Self { name, verdict: Verdict::Unreachable, found: chain(error), hint }
    }

    /// [`Check::ok`] if `holds`, else [`Check::wrong`] with what was found and what to do.
    pub fn judge(name: &'static str, holds: bool, found: impl Into<String>, hint: impl Into<String>) -> Self {
        if holds { Self::ok(name, found) } else { Self::wrong(name, found, hint) }
    }
}

/// How the verdicts are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// `✓`, `·` and `✗`, for a person at a terminal.
    Symbols,
    /// Words, for logs and for `NO_COLOR`.
    Words,
}

impl Marks {
    const fn of(self, verdict: Verdict) -> &'static str {
        match (self, verdict) {
            (Self::Symbols, Verdict::Ok) => "✓",
            (Self::Symbols, Verdict::Note) => "·",
            (Self::Symbols, Verdict::Wrong | Verdict::Unreachable) => "✗",
            (Self::Words, Verdict::Ok) => "ok         ",
            (Self::Words, Verdict::Note) => "note       ",
            (Self::Words, Verdict::Wrong) => "wrong      ",
            (Self::Words, Verdict::Unreachable) => "unreachable",
        }
    }
}

/// All checks of one visit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checkup {
    /// Whether nothing has to be changed and everything answered.
    pub ok: bool,
    /// In the order in which they were made.
    pub checks: Vec<Check>,
}

impl Checkup {
    /// Sums up some checks.
    pub fn new(checks: Vec<Check>) -> Self {
        let is_fine = |check: &Check| matches!(check.verdict, Verdict::Ok | Verdict::Note);
        Self { ok: checks.iter().all(is_fine), checks }
    }

    /// How many checks came out like this.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }

    /// A line for each check, and one below it that says what to do where something has to be done.
    pub fn text(&self, marks: Marks) -> String {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        let line = |check: &Check| {
            let mark = marks.of(check.verdict);
            let indent = mark.chars().count() + width + 3;
            let hint =
                check.hint.as_ref().map_or(String::new(), |hint| format!("{:indent$}hint: {hint}\n", ""));
            format!("{mark} {:width$}  {}\n{hint}", check.name, check.found)
        };
        self.checks.iter().map(line).collect()
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkup_reads_the_same_with_and_without_symbols() {
        let checkup = Checkup::new(vec![
            Check::ok("redis", "answers"),
            Check::note("clock", "1 ms behind"),
            Check::wrong("eviction", "allkeys-lru", "set it to noeviction"),
        ]);
        assert!(!checkup.ok);
        assert_eq!(checkup.count(Verdict::Wrong), 1);
        assert_eq!(
            checkup.text(Marks::Symbols),
            "✓ redis     answers\n· clock     1 ms behind\n✗ eviction  allkeys-lru\n            hint: set it to noeviction\n"
        );
        assert_eq!(
            checkup.text(Marks::Words),
            "ok          redis     answers\nnote        clock     1 ms behind\nwrong       eviction  allkeys-lru\n                      hint: set it to noeviction\n"
        );
    }

    #[test]
    fn a_note_asks_for_nothing_and_silence_does() {
        assert!(Checkup::new(vec![Check::note("gpu", "none")]).ok);
        let silent = Check::unreachable("redis", &std::io::Error::other("refused"), None);
        assert_eq!(silent.found, "refused");
        assert!(!Checkup::new(vec![silent]).ok);
    }
}
