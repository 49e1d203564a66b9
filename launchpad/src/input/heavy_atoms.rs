//! Reads where the heavy atoms of a structure are, to place a search box round it. It reads nothing else of a structure.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::InputError;
use super::connection_table::{ConnectionTable, coordinate};
use super::format::extension;
use super::lines::{Line, Lines};
use super::problem::{Fault, excerpt};

/// The positions of all atoms but hydrogens (and deuterium and tritium), x y z in Å; at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct HeavyAtoms(Vec<[f64; 3]>);

#[derive(Debug, Clone, Copy)]
enum StructureFormat {
    Pdb,
    Pdbqt,
    Sdf,
    Mol2,
}

impl StructureFormat {
    const EXTENSIONS: &'static str = "pdb, ent, pdbqt, sdf, sd, mol, mol2";

    fn of_path(path: &Path) -> Result<Self, InputError> {
        match extension(path).as_str() {
            "pdb" | "ent" => Ok(Self::Pdb),
            "pdbqt" => Ok(Self::Pdbqt),
            "sdf" | "sd" | "mol" => Ok(Self::Sdf),
            "mol2" => Ok(Self::Mol2),
            _ => Err(InputError::UnknownFormat { path: path.to_owned(), known: Self::EXTENSIONS }),
        }
    }
}

impl HeavyAtoms {
    /// Reads the first model, record or molecule of a PDB, PDBQT, SDF or MOL2 file; its extension tells which.
    pub fn read(path: &Path) -> Result<Self, InputError> {
        let format = StructureFormat::of_path(path)?;
        let source = File::open(path).map_err(|source| InputError::Open { path: path.to_owned(), source })?;
        Self::of_lines(Lines::new(BufReader::new(source)), format, path)
    }

    /// The same of a file that is at hand; `path` is its name.
    pub(crate) fn of_bytes(path: &Path, bytes: &[u8]) -> Result<Self, InputError> {
        Self::of_lines(Lines::new(bytes), StructureFormat::of_path(path)?, path)
    }

    fn of_lines<R: BufRead>(
        lines: Lines<R>,
        format: StructureFormat,
        path: &Path,
    ) -> Result<Self, InputError> {
        let file = path.display().to_string();
        match positions(lines, format) {
            Err(source) => Err(InputError::Read { file, source }),
            Ok(Err(fault)) => Err(InputError::Unusable(fault.in_file(&file))),
            Ok(Ok(positions)) => Ok(Self(positions)),
        }
    }

    /// How many there are, from 1.
    pub(crate) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// How many of them are where `is_there` says.
    pub(crate) fn count_where(&self, is_there: impl Fn([f64; 3]) -> bool) -> u64 {
        self.0.iter().filter(|&&position| is_there(position)).count() as u64
    }

    /// The mean of their positions, in Å. All atoms count alike.
    pub fn centroid(&self) -> [f64; 3] {
        let count = self.0.len() as f64;
        [0, 1, 2].map(|axis| self.0.iter().map(|position| position[axis]).sum::<f64>() / count)
    }

    /// The lowest and the highest coordinate on each axis, in Å.
    pub fn bounds(&self) -> ([f64; 3], [f64; 3]) {
        let along = |axis: usize| self.0.iter().map(move |position| position[axis]);
        let lowest = [0, 1, 2].map(|axis| along(axis).fold(f64::INFINITY, f64::min));
        let highest = [0, 1, 2].map(|axis| along(axis).fold(f64::NEG_INFINITY, f64::max));
        (lowest, highest)
    }
}

fn positions<R: BufRead>(
    lines: Lines<R>,
    format: StructureFormat,
) -> io::Result<Result<Vec<[f64; 3]>, Fault>> {
    let found = match format {
        StructureFormat::Pdb => pdb(lines, pdb_hydrogen)?,
        StructureFormat::Pdbqt => pdb(lines, pdbqt_hydrogen)?,
        StructureFormat::Sdf => sdf(lines)?,
        StructureFormat::Mol2 => mol2(lines)?,
    };
    Ok(found.and_then(|found| match found.as_slice() {
        [] => Err(Fault::new(1, "the file has no heavy atom (expected at least one)")),
        _ => Ok(found),
    }))
}

/// `ATOM` and `HETATM` lines of the first model: x, y, z are columns 31–38, 39–46 and 47–54.
fn pdb<R: BufRead>(
    mut lines: Lines<R>,
    is_hydrogen: fn(&[u8]) -> bool,
) -> io::Result<Result<Vec<[f64; 3]>, Fault>> {
    let mut found = Vec::new();
    while let Some(line) = lines.next()? {
        let content = line.content;
        if content.starts_with(b"ENDMDL") {
            break;
        }
        if !content.starts_with(b"ATOM  ") && !content.starts_with(b"HETATM") || is_hydrogen(content) {
            continue;
        }
        let axis = |start: usize| coordinate(content.get(start..start + 8)?);
        match (axis(30), axis(38), axis(46)) {
            (Some(x), Some(y), Some(z)) => found.push([x, y, z]),
            _ => return Ok(Err(no_coordinates(&line))),
        }
    }
    Ok(Ok(found))
}

/// The element is columns 77–78, which older programs leave out; the atom's name, columns 13–16, then tells it.
fn pdb_hydrogen(content: &[u8]) -> bool {
    let element = column(content, 76, 78);
    if element.is_empty() { hydrogen_name(content) } else { is_hydrogen(element) }
}

/// AutoDock's atom type starts in column 78; its hydrogens are H, HD and HS.
fn pdbqt_hydrogen(content: &[u8]) -> bool {
    match column(content, 77, 80) {
        b"" => hydrogen_name(content),
        kind => matches!(kind, b"H" | b"HD" | b"HS"),
    }
}

/// Hydrogens are named `H…`, `1H…` or `D…`. Mercury, holmium and the like occur as ions, whose name is that of their residue.
fn hydrogen_name(content: &[u8]) -> bool {
    let (name, residue) = (column(content, 12, 16), column(content, 17, 20));
    let letter = name.iter().find(|byte| !byte.is_ascii_digit());
    name != residue && matches!(letter, Some(b'H' | b'D'))
}

fn is_hydrogen(symbol: &[u8]) -> bool {
    [b"H", b"D", b"T"].iter().any(|isotope| symbol.eq_ignore_ascii_case(*isotope))
}

/// Columns `start` to `end` (from 0, the end not included) without blanks, as far as the line goes.
fn column(content: &[u8], start: usize, end: usize) -> &[u8] {
    content.get(start..end.min(content.len())).unwrap_or_default().trim_ascii()
}

fn sdf<R: BufRead>(mut lines: Lines<R>) -> io::Result<Result<Vec<[f64; 3]>, Fault>> {
    let (mut table, mut found) = (ConnectionTable::new(), Vec::new());
    while let Some(line) = lines.next()? {
        match table.take(&line) {
            Err(fault) => return Ok(Err(fault)),
            Ok(Some(atom)) if !is_hydrogen(atom.symbol.as_bytes()) => found.push(atom.position),
            Ok(_) if table.ended() || line.content.starts_with(b"$$$$") => break,
            Ok(_) => {}
        }
    }
    Ok(table.finish(1).map(|()| found))
}

/// Lines `id name x y z type …` of the first `@<TRIPOS>ATOM` section; Tripos types of no mass are lone pairs and dummies.
fn mol2<R: BufRead>(mut lines: Lines<R>) -> io::Result<Result<Vec<[f64; 3]>, Fault>> {
    let (mut found, mut in_atoms) = (Vec::new(), false);
    while let Some(line) = lines.next()? {
        if line.content.starts_with(b"@") {
            if in_atoms {
                break;
            }
            in_atoms = line.content.trim_ascii_end() == b"@<TRIPOS>ATOM";
        } else if in_atoms && !line.is_blank() {
            match mol2_atom(line.content) {
                Some((kind, _)) if is_hydrogen(kind) || matches!(kind, b"LP" | b"Du") => {}
                Some((_, position)) => found.push(position),
                None => return Ok(Err(no_coordinates(&line))),
            }
        }
    }
    Ok(Ok(found))
}

/// The element of an atom's Tripos type, and its position.
fn mol2_atom(content: &[u8]) -> Option<(&[u8], [f64; 3])> {
    let mut words = content.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).skip(2);
    let position = [coordinate(words.next()?)?, coordinate(words.next()?)?, coordinate(words.next()?)?];
    let element = words.next()?.split(|&byte| byte == b'.').next()?;
    Some((element, position))
}

fn no_coordinates(line: &Line<'_>) -> Fault {
    let found = excerpt(line.content);
    Fault::new(line.number, format!("`{found}` is no atom line (expected finite x, y and z)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, content: &str) -> Result<HeavyAtoms, InputError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        HeavyAtoms::read(&path)
    }

    fn check(name: &str, content: &str, expect: &[[f64; 3]]) {
        assert_eq!(read(name, content).unwrap().0, expect, "{content}");
    }

    fn check_error(name: &str, content: &str, expect: &str) {
        let error = read(name, content).unwrap_err().to_string();
        assert!(error.ends_with(expect), "{error}");
    }

    /// A PDB line; the name and residue are columns 13 to 20, the element columns 77 and 78.
    fn pdb_line(name: &str, x: f64, element: &str) -> String {
        format!("HETATM    1 {name} A   1    {x:8.3}   2.000  -3.000  1.00  0.00          {element:>2}\n")
    }

    #[test]
    fn pdb_elements_come_from_their_column_or_the_name() {
        let check_atom = |name: &str, element: &str, heavy: bool| {
            let lines = pdb_line(" C1  LIG", 1.0, "C") + &pdb_line(name, 5.0, element);
            let both = [[1.0, 2.0, -3.0], [5.0, 2.0, -3.0]];
            check("x.pdb", &lines, &both[..if heavy { 2 } else { 1 }]);
        };
        check_atom(" H1  LIG", "H", false);
        check_atom(" H1  LIG", "", false);
        check_atom("HG21 VAL", "", false);
        check_atom("1HB  ALA", "", false);
        check_atom(" D   HOD", "", false);
        check_atom("D1   LIG", "D", false);
        check_atom(" CA  ALA", "", true);
        check_atom("CL1  LIG", "", true);
        check_atom("HG    HG", "", true);
        check_atom("HG   MMC", "HG", true);
        check_atom(" OH  TYR", "", true);
    }

    #[test]
    fn only_the_first_model_counts() {
        let model = |x| format!("MODEL 1\n{}ENDMDL\n", pdb_line(" C1  LIG", x, "C"));
        check("x.ent", &(model(1.0) + &model(9.0)), &[[1.0, 2.0, -3.0]]);
    }

    #[test]
    fn pdbqt_types_tell_hydrogens() {
        let line = |x: f64, kind: &str| {
            format!("ATOM      1  X   LIG A   1    {x:8.3}   2.000  -3.000  1.00  0.00     0.100 {kind}\n")
        };
        let file = line(1.0, "A ") + &line(2.0, "HD") + &line(3.0, "Cl") + &line(4.0, "H") + &line(5.0, "OA");
        check("x.pdbqt", &file, &[[1.0, 2.0, -3.0], [3.0, 2.0, -3.0], [5.0, 2.0, -3.0]]);
    }

    #[test]
    fn sdf_and_mol2_give_their_first_molecule() {
        let sdf = "t\n  x\n\n  2  1  0  0  0  0  0  0  0  0999 V2000\n    1.0000    2.0000    3.0000 Cl  0\n    \
            1.5000    2.0000    3.0000 H   0\n  1  2  1  0\nM  END\n$$$$\n";
        check("x.sdf", &sdf.repeat(2), &[[1.0, 2.0, 3.0]]);
        let mol2 = "@<TRIPOS>MOLECULE\nx\n@<TRIPOS>ATOM\n 1 CA 1.0 2.0 3.0 C.3 1 B2 0\n 2 H1 0 0 0 H 1 B2 0\n \
            3 LP 0 0 0 LP\n 4 CL 4 5 6 Cl\n@<TRIPOS>BOND\n 1 1 2 1\n";
        check("x.mol2", &mol2.repeat(2), &[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    }

    #[test]
    fn unusable_structures_are_named() {
        check_error("x.pdb", "", "x.pdb:1: the file has no heavy atom (expected at least one)");
        check_error(
            "x.pdb",
            &pdb_line(" H1  LIG", 1.0, "H"),
            ":1: the file has no heavy atom (expected at least one)",
        );
        let cut = "REMARK\nATOM      1  C1  LIG     1      41.249  44.5";
        check_error(
            "x.pdb",
            cut,
            ":2: `ATOM      1  C1  LIG     1      41.249  44.5` is no atom line (expected finite x, y and z)",
        );
        check_error(
            "x.mol2",
            "@<TRIPOS>ATOM\n1 C 1 2\n",
            ":2: `1 C 1 2` is no atom line (expected finite x, y and z)",
        );
        check_error("x.sdf", "t\n\n\n", "x.sdf:1: the record has no `M  END` line");
        check_error("x.cif", "", "is not known (known extensions: pdb, ent, pdbqt, sdf, sd, mol, mol2)");
    }
}
