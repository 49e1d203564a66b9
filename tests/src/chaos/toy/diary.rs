//! What the toy notes of its attempts outside of everything that is under test: one file for each task, a line for each thing. By it the
//! toy knows how often it has failed already, and the checker what really happened.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// What an attempt's program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// It began, with nothing to go on from.
    Began,
    /// It went on from the state that another attempt had left after this many steps.
    WentOn {
        /// The attempt.
        from: String,
        /// Steps that were done.
        step: u64,
    },
    /// It found what no attempt of its task can have left.
    Astray,
    /// It ended with an error over this molecule, as the molecule wants.
    Failed(String),
    /// It was ended by a signal over it.
    Crashed(String),
    /// It refused the input of its task for this molecule.
    Refused(String),
    /// It said that it can't do this molecule now.
    Busy(String),
}

/// A line of a diary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The lease name.
    pub attempt: String,
    /// What it did.
    pub deed: Deed,
}

/// The diary of a task.
#[derive(Debug, Clone)]
pub struct Diary {
    file: PathBuf,
}

impl Deed {
    /// The molecule over which the program came to nothing, if it did.
    pub fn fails_over(&self) -> Option<&str> {
        match self {
            Self::Failed(molecule)
            | Self::Crashed(molecule)
            | Self::Refused(molecule)
            | Self::Busy(molecule) => Some(molecule),
            Self::Began | Self::WentOn { .. } | Self::Astray => None,
        }
    }
}

impl Entry {
    fn line(&self) -> String {
        let (word, about) = match &self.deed {
            Deed::Began => ("began", String::new()),
            Deed::WentOn { from, step } => ("went_on", format!("{step} {from}")),
            Deed::Astray => ("astray", String::new()),
            Deed::Failed(molecule) => ("failed", molecule.clone()),
            Deed::Crashed(molecule) => ("crashed", molecule.clone()),
            Deed::Refused(molecule) => ("refused", molecule.clone()),
            Deed::Busy(molecule) => ("busy", molecule.clone()),
        };
        format!("{} {word} {about}\n", self.attempt)
    }

    fn parse(line: &str) -> Option<Self> {
        let (attempt, rest) = line.split_once(' ')?;
        let (word, about) = rest.split_once(' ')?;
        let molecule = about.to_owned();
        let deed = match word {
            "began" => Deed::Began,
            "went_on" => {
                let (step, from) = about.split_once(' ')?;
                Deed::WentOn { from: from.to_owned(), step: step.parse().ok()? }
            }
            "astray" => Deed::Astray,
            "failed" => Deed::Failed(molecule),
            "crashed" => Deed::Crashed(molecule),
            "refused" => Deed::Refused(molecule),
            "busy" => Deed::Busy(molecule),
            _ => return None,
        };
        Some(Self { attempt: attempt.to_owned(), deed })
    }
}

impl Diary {
    /// The diary of a task in a folder of diaries.
    pub fn of(folder: &Path, run: &str, task: &str) -> Self {
        Self { file: folder.join(run).join(task) }
    }

    /// Adds a line. Several programs may do that at once.
    pub fn note(&self, attempt: &str, deed: Deed) -> io::Result<()> {
        fs::create_dir_all(self.file.parent().unwrap_or_else(|| Path::new("")))?;
        let mut file = OpenOptions::new().append(true).create(true).open(&self.file)?;
        file.write_all(Entry { attempt: attempt.to_owned(), deed }.line().as_bytes())
    }

    /// All that was noted, the oldest first.
    pub fn read(&self) -> Vec<Entry> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.lines().filter_map(Entry::parse).collect()
    }

    /// In how many other attempts the program came to nothing over a molecule.
    pub fn failures_before(&self, attempt: &str, molecule: &str) -> usize {
        let entries = self.read();
        let failed = entries.iter().filter(|entry| entry.deed.fails_over() == Some(molecule));
        let attempts: BTreeSet<&str> = failed.map(|entry| entry.attempt.as_str()).collect();
        attempts.into_iter().filter(|other| *other != attempt).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_and_failures_are_counted_by_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let diary = Diary::of(folder.path(), "r", "7");
        assert_eq!(diary.read(), []);
        let deeds = [
            ("1.a.1", Deed::Began),
            ("1.a.1", Deed::Failed("mol [0],x".into())),
            ("1.a.1", Deed::Failed("mol [0],x".into())),
            ("2.b.1", Deed::WentOn { from: "1.a.1".into(), step: 4 }),
            ("2.b.1", Deed::Crashed("mol [0],x".into())),
            ("3.b.2", Deed::Astray),
            ("3.b.2", Deed::Refused("mol[1]".into())),
            ("3.b.2", Deed::Busy("mol[2]".into())),
        ];
        for (attempt, deed) in deeds.clone() {
            diary.note(attempt, deed).unwrap();
        }
        let read: Vec<_> = diary.read().into_iter().map(|entry| (entry.attempt, entry.deed)).collect();
        assert_eq!(read, deeds.map(|(attempt, deed)| (attempt.to_owned(), deed)));
        assert_eq!(diary.failures_before("4.c.1", "mol [0],x"), 2);
        assert_eq!(diary.failures_before("2.b.1", "mol [0],x"), 1);
        assert_eq!(diary.failures_before("4.c.1", "mol[1]"), 1);
    }
}
