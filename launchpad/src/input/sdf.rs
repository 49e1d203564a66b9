//! Reads the records of an SDF: id, place in the file, and whether there are 3D coordinates. No record is held in memory.
//!
//! The id is the title line, or a property that the user names; without one it is the record's line, `line_17`. A last record
//! without `$$$$` is accepted if it has its `M  END`.

use std::io::{self, BufRead};

use super::connection_table::ConnectionTable;
use super::lines::{Line, Lines, utf8};
use super::molecule::FoundMolecule;
use super::problem::{Fault, quoted_list};

/// How many property names a message lists.
const NAMES_LISTED_MAX: usize = 20;

/// The reader.
#[derive(Debug)]
pub(super) struct Sdf<R> {
    lines: Lines<R>,
    id_property: Option<String>,
}

impl<R: BufRead> Sdf<R> {
    /// Starts at the beginning of a stream; ids are titles unless a property is named.
    pub(super) fn new(source: R, id_property: Option<String>) -> Self {
        Self { lines: Lines::new(source), id_property }
    }

    fn next_record(&mut self) -> io::Result<Option<Result<FoundMolecule, Fault>>> {
        let wanted = self.id_property.as_deref();
        let mut record: Option<Record<'_>> = None;
        while let Some(line) = self.lines.next()? {
            let record = record.get_or_insert_with(|| Record::starting_at(&line, wanted));
            record.length += line.length;
            if line.content.starts_with(b"$$$$") {
                return Ok(Some(record.finish()));
            }
            record.take(&line);
        }
        Ok(record.filter(|record| !record.blank).map(|record| record.finish()))
    }
}

impl<R: BufRead> Iterator for Sdf<R> {
    type Item = io::Result<Result<FoundMolecule, Fault>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_record().transpose()
    }
}

/// A record as far as it was read.
#[derive(Debug)]
struct Record<'a> {
    line: u64,
    offset: u64,
    length: u64,
    blank: bool,
    name: Vec<u8>,
    name_line: u64,
    table: ConnectionTable,
    property: Option<Property<'a>>,
    fault: Option<Fault>,
}

/// The property that holds the id.
#[derive(Debug)]
struct Property<'a> {
    wanted: &'a str,
    found: bool,
    value_follows: bool,
    others: Vec<String>,
}

impl<'a> Record<'a> {
    fn starting_at(first: &Line<'_>, wanted: Option<&'a str>) -> Self {
        let name = if wanted.is_none() { first.content.to_vec() } else { Vec::new() };
        let property =
            wanted.map(|wanted| Property { wanted, found: false, value_follows: false, others: Vec::new() });
        Self {
            line: first.number,
            offset: first.offset,
            length: 0,
            blank: true,
            name,
            name_line: first.number,
            table: ConnectionTable::new(),
            property,
            fault: None,
        }
    }

    fn take(&mut self, line: &Line<'_>) {
        self.blank &= line.is_blank();
        if self.fault.is_some() {
            return;
        }
        if !self.table.ended() {
            self.fault = self.table.take(line).err();
        } else if line.content.starts_with(b"M  END") {
            // Joined MOL files: all but the first would be lost in silence.
            let what =
                format!("a second `M  END` in the record of line {} (expected `$$$$` before)", self.line);
            self.fault = Some(Fault::new(line.number, what).with_hint("end every record with a line `$$$$`"));
        } else {
            let value = self.property.as_mut().and_then(|property| property.take(line.content));
            if let Some(value) = value {
                (self.name, self.name_line) = (value, line.number);
            }
        }
    }

    fn finish(&self) -> Result<FoundMolecule, Fault> {
        if self.blank {
            return Err(Fault::new(self.line, "the record is empty"));
        }
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        self.table.finish(self.line)?;
        if let Some(property) = self.property.as_ref().filter(|property| !property.found) {
            let others = quoted_list(property.others.iter().map(String::as_str));
            let what = format!("the record has no property `{}` (it has: {others})", property.wanted);
            return Err(Fault::new(self.line, what));
        }
        let name = utf8(&self.name, self.name_line)?;
        FoundMolecule::from_record(name, self.offset, self.length, self.line)
    }
}

impl Property<'_> {
    /// Takes a line behind the connection table; gives the id if it is the first line of the wanted value.
    fn take(&mut self, content: &[u8]) -> Option<Vec<u8>> {
        if std::mem::take(&mut self.value_follows) {
            return Some(content.to_vec());
        }
        let name = property_name(content)?;
        if !self.found && name.eq_ignore_ascii_case(self.wanted) {
            (self.found, self.value_follows) = (true, true);
        } else if self.others.len() < NAMES_LISTED_MAX {
            self.others.push(name);
        }
        None
    }
}

/// The name in a line such as `>  <NAME>  (1)`.
fn property_name(content: &[u8]) -> Option<String> {
    let rest = content.strip_prefix(b">")?;
    let start = rest.iter().position(|&byte| byte == b'<')? + 1;
    let end = rest.iter().rposition(|&byte| byte == b'>').filter(|&end| end >= start)?;
    Some(String::from_utf8_lossy(&rest[start..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use crate::input::fixture::{check, check_with, outcome};
    use crate::input::{Columns, Format, FoundStructure, read};

    const ATOMS: [&str; 2] = [
        "   40.1036   43.6670   18.8148 C   0  0  0  0  0  0  0  0  0  0  0  0",
        "   41.2329   44.5933   18.4739 O   0  0",
    ];

    fn table(atoms: &[&str]) -> String {
        let counts = format!("{:3}{:3}  0  0  0  0  0  0  0  0999 V2000", atoms.len(), atoms.len() - 1);
        let bonds = "  1  2  1  0\n".repeat(atoms.len() - 1);
        format!("  RDKit\n\n{counts}\n{}\n{bonds}M  END\n", atoms.join("\n"))
    }

    fn record(title: &str) -> String {
        format!("{title}\n{}> <ID>  (1)\nid of {title}\n\n> <x>\n1\n\n$$$$\n", table(&ATOMS))
    }

    const V3000: &str = "v3\n  RDKit          3D\n\n  0  0  0  0  0  0  0  0  0  0999 V3000\nM  V30 BEGIN CTAB\n\
        M  V30 COUNTS 2 1 0 0 0\nM  V30 BEGIN ATOM\nM  V30 1 C 0.5 0.25 1.5 0 -\nM  V30 CHG=1\nM  V30 2 O 1.0 0 0 0\n\
        M  V30 END ATOM\nM  V30 BEGIN BOND\nM  V30 1 1 1 2\nM  V30 END BOND\nM  V30 END CTAB\nM  END\n$$$$\n";

    #[test]
    fn ranges_slice_back_to_the_records() {
        let no_end = record("last").trim_end().trim_end_matches("$$$$").to_owned();
        for ending in ["\n", "\r\n"] {
            for mark in ["", "\u{feff}"] {
                for last in ["", no_end.as_str()] {
                    let mut records: Vec<String> =
                        ["a", "", "ü [2,3-c]"].into_iter().map(record).chain([V3000.to_owned()]).collect();
                    records.extend((!last.is_empty()).then(|| last.to_owned()));
                    let records: Vec<String> = records.iter().map(|r| r.replace('\n', ending)).collect();
                    let file = format!("{mark}{}", records.concat());
                    let found = read(file.as_bytes(), "f", Format::Sdf, &Columns::default()).unwrap();
                    let slices: Vec<_> = found
                        .map(|entry| match entry.unwrap().unwrap().structure {
                            FoundStructure::SdfRecord { offset, length } => {
                                let start = usize::try_from(offset).unwrap();
                                file[start..start + usize::try_from(length).unwrap()].to_owned()
                            }
                            FoundStructure::Smiles(smiles) | FoundStructure::Formula(smiles) => {
                                panic!("{smiles}")
                            }
                        })
                        .collect();
                    assert_eq!(slices, records);
                }
            }
        }
    }

    #[test]
    fn ids_are_titles_lines_or_a_property() {
        let file = format!("{}{}\n \n", record("a"), record(""));
        let length = record("a").len();
        let ids = |columns| outcome(Format::Sdf, file.as_bytes(), &columns);
        let second = format!("16 line_16 {length}+{}", length - 2);
        let first = format!("1 a 0+{length}");
        assert_eq!(ids(Columns::default())[..], [first, second]);
        let named = ids(Columns { smiles: None, id: Some("id".into()) });
        assert!(named[0].starts_with("1 id of a 0+"), "{named:?}");
        check_with(
            Format::Sdf,
            record("a"),
            ("", "zinc"),
            &["f:1: the record has no property `zinc` (it has: `ID`, `x`)"],
        );
    }

    #[test]
    fn broken_records_are_named_and_the_next_one_is_read() {
        let good = record("good");
        let check_broken = |broken: &str, expect: &str| {
            let found = outcome(Format::Sdf, format!("{broken}{good}").as_bytes(), &Columns::default());
            assert_eq!(found[0], expect);
            assert!(found[1].contains(" good ") && found.len() == 2, "{found:?}");
        };
        let counts = "(expected a counts line with V2000 or V3000)";
        check_broken("$$$$\n", "f:1: the record is empty");
        check_broken(&good.replace("M  END\n", ""), "f:1: the record has no `M  END` line");
        check_broken(
            &good.replace("  1  2  1  0\n", ""),
            "f:7: the table ends 1 bond lines before its counts line says",
        );
        let atom = format!("{}\n", ATOMS[1]);
        check_broken(
            &good.replace(&atom, ""),
            "f:6: `  1  2  1  0` is no atom line (expected x, y, z and an element)",
        );
        check_broken(
            &good.replace(" V2000", ""),
            &format!("f:4: line 4 of the record is `  2  1  0  0  0  0  0  0  0  0999` {counts}"),
        );
        check_broken(&format!("\n{good}"), &format!("f:4: line 4 of the record is `` {counts}"));
        check_broken(
            &good.replace("  2  1", "  0  0"),
            "f:4: the number of atoms is `  0` (expected 1 or more)",
        );
        check_broken(
            &good.replace("18.4739", "    nan"),
            "f:6: `   41.2329   44.5933       nan O   0  0` is no atom line (expected x, y, z and an element)",
        );
        check_broken(
            &V3000.replace("M  V30 2 O 1.0 0 0 0\n", ""),
            "f:15: the table ends 1 atom lines before its counts line says",
        );
        check_broken(
            &V3000.replace("COUNTS 2", "COUNTS 1"),
            "f:10: the table has more atoms than its line `M  V30 COUNTS` says",
        );
        check(Format::Sdf, "cut off", &["f:1: the record has no `M  END` line"]);
        let joined = good.replace("$$$$\n", "");
        check_broken(
            &format!("{joined}{good}"),
            "f:22: a second `M  END` in the record of line 1 (expected `$$$$` before)",
        );
        let long = &["x"; 201].concat();
        check_broken(
            &good.replace("good", long),
            &format!("f:1: the id `{}…` has 201 characters (expected 1 to 200)", "x".repeat(60)),
        );
    }

    #[test]
    fn bytes_that_are_no_text_matter_only_in_the_id() {
        let file = [
            b"\xff\n",
            table(&ATOMS).as_bytes(),
            b"$$$$\nb\n",
            table(&ATOMS).as_bytes(),
            b"> <x>\n\xff\n$$$$\n",
        ]
        .concat();
        let found = outcome(Format::Sdf, &file, &Columns::default());
        assert_eq!(found[0], "f:1: byte 1 is 0xff (expected UTF-8 text)");
        assert!(found[1].starts_with("10 b "), "{found:?}");
    }

    #[test]
    fn flat_molecules_are_refused() {
        let flat = ["    1.0000    2.0000    0.0000 C   0", "    0.0000    0.0000    0.0000 O   0"];
        let check = |file: String, good: bool| {
            let entry = read(file.as_bytes(), "f", Format::Sdf, &Columns::default()).unwrap().next();
            match entry.unwrap().unwrap() {
                Ok(_) => assert!(good, "{file}"),
                Err(problem) => {
                    assert!(!good, "{problem}");
                    assert_eq!(problem.what, "z is 0 for all 2 atoms (expected 3D coordinates)");
                    assert!(problem.hint.unwrap().starts_with("2D coordinates: give SMILES instead"));
                }
            }
        };
        let program = "     RDKit          3D";
        check(format!("a\n{}$$$$\n", table(&flat)), false);
        check(format!("a\n{}$$$$\n", table(&flat[..1])), true);
        check(format!("a\n{}$$$$\n", table(&flat).replace("  RDKit", program)), true);
        check(format!("a\n{}$$$$\n", table(&[flat[1], flat[1]]).replace("  RDKit", program)), false);
        check(V3000.replace(" 1.5 ", " 0 ").replace("3D", "2D"), false);
    }
}
