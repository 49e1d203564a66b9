//! Reads the atoms of an SDF record's connection table, V2000 or V3000, line by line (BIOVIA, "`CTfile` Formats", 2020).
//!
//! It finds what is truncated or flat; bonds and charges are RDKit's business, on the worker.

use super::lines::Line;
use super::problem::{Fault, excerpt};

/// An atom of a connection table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TableAtom {
    /// The element, or what stands in its place.
    pub(super) symbol: String,
    /// x y z in Å.
    pub(super) position: [f64; 3],
}

/// A connection table as far as it was read.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    stage: Stage,
    atoms: u64,
    declared_3d: bool,
    deep: bool,
    extended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Title,
    Program,
    Comment,
    Counts,
    Atoms { left: u64, bonds: u64 },
    Bonds { left: u64 },
    Properties,
    V3000 { left: Option<u64>, in_atoms: bool, continued: bool },
    Ended,
}

impl ConnectionTable {
    /// Starts before the title line.
    pub(super) const fn new() -> Self {
        Self { stage: Stage::Title, atoms: 0, declared_3d: false, deep: false, extended: false }
    }

    /// Whether `M  END` was there.
    pub(super) fn ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Takes the next line; gives the atom that stands on it.
    pub(super) fn take(&mut self, line: &Line<'_>) -> Result<Option<TableAtom>, Fault> {
        let content = line.content;
        let ends = content.starts_with(b"M  END");
        match self.stage {
            Stage::Title => self.stage = Stage::Program,
            Stage::Program => {
                self.declared_3d = content.get(20..22) == Some(b"3D");
                self.stage = Stage::Comment;
            }
            Stage::Comment => self.stage = Stage::Counts,
            Stage::Counts => self.stage = counts(line)?,
            Stage::Atoms { .. } | Stage::Bonds { .. } | Stage::Properties | Stage::V3000 { .. } if ends => {
                self.end(line.number)?;
            }
            Stage::Atoms { left, bonds } => {
                let atom = v2000_atom(content).ok_or_else(|| no_atom(line))?;
                self.stage = match left - 1 {
                    0 => bonds_stage(bonds),
                    left => Stage::Atoms { left, bonds },
                };
                return Ok(Some(self.see(atom)));
            }
            Stage::Bonds { left } => self.stage = bonds_stage(left - 1),
            Stage::V3000 { .. } => return self.take_v3000(line),
            Stage::Properties | Stage::Ended => {}
        }
        Ok(None)
    }

    /// Refuses a table that stopped early or has no depth; `line` is where its record starts.
    pub(super) fn finish(&self, line: u64) -> Result<(), Fault> {
        if !self.ended() {
            return Err(Fault::new(line, "the record has no `M  END` line"));
        }
        // A planar molecule may lie in the plane z = 0, but then its program line says 3D and it has an extent.
        let placed = self.deep || (self.declared_3d && self.extended);
        if self.atoms > 1 && !placed {
            let what = format!("z is 0 for all {} atoms (expected 3D coordinates)", self.atoms);
            let hint = "2D coordinates: give SMILES instead, or make 3D coordinates first";
            return Err(Fault::new(line, what).with_hint(hint));
        }
        Ok(())
    }

    fn see(&mut self, atom: TableAtom) -> TableAtom {
        self.atoms += 1;
        self.deep |= atom.position[2] != 0.0;
        self.extended |= atom.position.iter().any(|&value| value != 0.0);
        atom
    }

    fn end(&mut self, line: u64) -> Result<(), Fault> {
        let missing = match self.stage {
            Stage::Atoms { left, .. } | Stage::V3000 { left: Some(left @ 1..), .. } => Some((left, "atom")),
            Stage::Bonds { left } => Some((left, "bond")),
            Stage::V3000 { left: None, .. } => {
                return Err(Fault::new(line, "`M  END` stands before the line `M  V30 COUNTS`"));
            }
            Stage::Title
            | Stage::Program
            | Stage::Comment
            | Stage::Counts
            | Stage::Properties
            | Stage::V3000 { .. }
            | Stage::Ended => None,
        };
        if let Some((left, what)) = missing {
            return Err(Fault::new(
                line,
                format!("the table ends {left} {what} lines before its counts line says"),
            ));
        }
        self.stage = Stage::Ended;
        Ok(())
    }

    fn take_v3000(&mut self, line: &Line<'_>) -> Result<Option<TableAtom>, Fault> {
        let Stage::V3000 { left, in_atoms, continued } = &mut self.stage else { return Ok(None) };
        let Some(content) = line.content.strip_prefix(b"M  V30 ") else { return Ok(None) };
        // Coordinates come first on an atom's line, so a continuation line holds nothing that is needed.
        let continues = std::mem::replace(continued, content.trim_ascii_end().ends_with(b"-"));
        if continues {
            return Ok(None);
        }
        let mut words = content.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        if *in_atoms && content.trim_ascii() != b"END ATOM" {
            let atom = v3000_atom(words).ok_or_else(|| no_atom(line))?;
            let remaining = left.and_then(|left| left.checked_sub(1));
            *left = Some(remaining.ok_or_else(|| {
                Fault::new(line.number, "the table has more atoms than its line `M  V30 COUNTS` says")
            })?);
            return Ok(Some(self.see(atom)));
        }
        match (words.next(), words.next()) {
            (Some(b"COUNTS"), atoms) => *left = Some(positive(atoms, line)?),
            (Some(b"BEGIN"), Some(b"ATOM")) => *in_atoms = true,
            (Some(b"END"), Some(b"ATOM")) => *in_atoms = false,
            _ => {}
        }
        Ok(None)
    }
}

const fn bonds_stage(left: u64) -> Stage {
    if left == 0 { Stage::Properties } else { Stage::Bonds { left } }
}

/// The counts line, `aaabbb…` and the version; V3000 has its counts further down.
fn counts(line: &Line<'_>) -> Result<Stage, Fault> {
    let content = line.content;
    let has = |version: &[u8]| content.windows(version.len()).any(|window| window == version);
    if has(b"V3000") {
        return Ok(Stage::V3000 { left: None, in_atoms: false, continued: false });
    }
    let bonds = content.get(3..6).and_then(number::<u64>);
    let (true, Some(bonds)) = (has(b"V2000"), bonds) else {
        let found = excerpt(content);
        let what = format!("line 4 of the record is `{found}` (expected a counts line with V2000 or V3000)");
        return Err(
            Fault::new(line.number, what).with_hint("a record is three header lines, then the counts line")
        );
    };
    Ok(Stage::Atoms { left: positive(content.get(..3), line)?, bonds })
}

fn positive(digits: Option<&[u8]>, line: &Line<'_>) -> Result<u64, Fault> {
    digits.and_then(number).filter(|&atoms| atoms > 0).ok_or_else(|| {
        let found = excerpt(digits.unwrap_or_default());
        Fault::new(line.number, format!("the number of atoms is `{found}` (expected 1 or more)"))
    })
}

fn no_atom(line: &Line<'_>) -> Fault {
    let found = excerpt(line.content);
    Fault::new(line.number, format!("`{found}` is no atom line (expected x, y, z and an element)"))
}

/// Columns 1–10, 11–20 and 21–30 are x, y, z, columns 32–34 the symbol.
fn v2000_atom(content: &[u8]) -> Option<TableAtom> {
    let coordinate = |start: usize| coordinate(content.get(start..start + 10)?);
    let symbol = content.get(31..)?;
    let symbol = str::from_utf8(symbol.get(..3).unwrap_or(symbol)).ok()?.trim();
    (!symbol.is_empty()).then_some(())?;
    let position = [coordinate(0)?, coordinate(10)?, coordinate(20)?];
    Some(TableAtom { symbol: symbol.to_owned(), position })
}

/// `index type x y z …`
fn v3000_atom<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<TableAtom> {
    let symbol = str::from_utf8(words.nth(1)?).ok()?.to_owned();
    let position = [coordinate(words.next()?)?, coordinate(words.next()?)?, coordinate(words.next()?)?];
    Some(TableAtom { symbol, position })
}

/// A finite coordinate in Å.
pub(super) fn coordinate(text: &[u8]) -> Option<f64> {
    number(text).filter(|value: &f64| value.is_finite())
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    str::from_utf8(text).ok()?.trim().parse().ok()
}
