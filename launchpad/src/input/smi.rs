//! Reads lines of a SMILES and an id.
//!
//! White space separates them. The id reaches to the next tab or to the end of the line, so that it may hold blanks, as the names of
//! vendors do; further columns stand behind tabs and are ignored. Without an id the molecule is called after its line, `line_17`. Blank lines and lines starting with `#` are skipped, as is a header `smiles …` on the first of the others.

use std::io::{self, BufRead};

use super::columns::SMILES_NAMES;
use super::lines::{Line, Lines};
use super::molecule::FoundMolecule;
use super::problem::Fault;

/// The reader.
#[derive(Debug)]
pub(super) struct Smi<R> {
    lines: Lines<R>,
    started: bool,
}

impl<R: BufRead> Smi<R> {
    /// Starts at the beginning of a stream.
    pub(super) fn new(source: R) -> Self {
        Self { lines: Lines::new(source), started: false }
    }

    fn next_molecule(&mut self) -> io::Result<Option<Result<FoundMolecule, Fault>>> {
        while let Some(line) = self.lines.next()? {
            if line.is_blank() || line.content.starts_with(b"#") {
                continue;
            }
            let first = !std::mem::replace(&mut self.started, true);
            if first && is_header(line.content) {
                continue;
            }
            return Ok(Some(parse(&line)));
        }
        Ok(None)
    }
}

impl<R: BufRead> Iterator for Smi<R> {
    type Item = io::Result<Result<FoundMolecule, Fault>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_molecule().transpose()
    }
}

fn is_header(content: &[u8]) -> bool {
    let first = content.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
    SMILES_NAMES.iter().any(|name| first.eq_ignore_ascii_case(name.as_bytes()))
}

fn parse(line: &Line<'_>) -> Result<FoundMolecule, Fault> {
    let text = line.text()?.trim();
    let (smiles, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    let rest = rest.trim_start_matches(' ');
    let name = rest.strip_prefix('\t').unwrap_or(rest).split('\t').next().unwrap_or_default();
    if name.trim_start().starts_with('|') {
        let what = "a CXSMILES extension `|…|` follows the SMILES (expected the id)";
        return Err(
            Fault::new(line.number, what).with_hint("remove the extension: only plain SMILES are read")
        );
    }
    FoundMolecule::from_smiles(name, smiles, line.number)
        .map_err(|fault| fault.with_hint("each line is a SMILES, white space and an id, in this order; what follows a tab behind the id is ignored"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Format;
    use crate::input::fixture::check;

    #[test]
    fn lines_are_a_smiles_and_an_id() {
        check(Format::Smi, "CCO ethanol\nc1ccccc1\tbenzene\n", &["1 ethanol CCO", "2 benzene c1ccccc1"]);
        check(Format::Smi, "  CCO   a  46.07\trest\n", &["1 a  46.07 CCO"]);
        let salt = "C[NH3+].[Cl-] methylammonium chloride salt \n";
        check(Format::Smi, salt, &["1 methylammonium chloride salt C[NH3+].[Cl-]"]);
        check(Format::Smi, "CCO \tethyl alcohol\t46.07\n", &["1 ethyl alcohol CCO"]);
        check(Format::Smi, "CC(=O)O\tacetic acid\t60.05\n", &["1 acetic acid CC(=O)O"]);
        check(Format::Smi, "CCO\nCCN \nCCC\t\t3\n", &["1 line_1 CCO", "2 line_2 CCN", "3 line_3 CCC"]);
    }

    #[test]
    fn what_is_no_molecule_is_skipped() {
        check(Format::Smi, "", &[]);
        check(Format::Smi, "\u{feff}# made by hand\r\n\r\n \t\r\nCCO a\r\n", &["4 a CCO"]);
        check(Format::Smi, "# c\nSMILES name\nCCO a\n", &["3 a CCO"]);
        check(
            Format::Smi,
            "C a\nsmiles b",
            &[
                "1 a C",
                "f:2: `m` at character 2 of the SMILES (expected an element of B C N O P S F Cl Br I, a digit, a bond or a bracket)",
            ],
        );
    }

    #[test]
    fn problems_do_not_end_the_reading() {
        check(
            Format::Smi,
            &b"CC( a\nCCO b\nCC\xff c\nCCN d\nCCC |$;;$| e\n"[..],
            &[
                "f:1: `(` at character 3 of the SMILES has no partner",
                "2 b CCO",
                "f:3: byte 3 is 0xff (expected UTF-8 text)",
                "4 d CCN",
                "f:5: a CXSMILES extension `|…|` follows the SMILES (expected the id)",
            ],
        );
    }

    #[test]
    fn swapped_columns_get_a_hint() {
        let fault = Smi::new(&b"benzene c1ccccc1\n"[..]).next().unwrap().unwrap().unwrap_err();
        assert!(fault.in_file("f").hint.unwrap().contains("in this order"));
    }
}
