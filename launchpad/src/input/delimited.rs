//! Reads tables with a header: CSV by RFC 4180, and the same with tabs.
//!
//! The parser is fed line by line, so that line numbers stay right behind quoted line breaks, and a quote that is never
//! closed is reported instead of swallowing the rest of the file.

use std::io::{self, BufRead};

use csv_core::ReadRecordResult;

use super::columns::Columns;
use super::lines::{LINE_BYTES_MAX, Lines, utf8};
use super::molecule::FoundMolecule;
use super::problem::Fault;

/// The reader of a table's rows.
#[derive(Debug)]
pub(super) struct Delimited<R> {
    records: Records<R>,
    width: usize,
    smiles: usize,
    id: usize,
}

impl<R: BufRead> Delimited<R> {
    /// Reads the header. An empty stream is a table without rows.
    pub(super) fn new(source: R, delimiter: u8, columns: &Columns) -> io::Result<Result<Self, Fault>> {
        let mut records = Records::new(source, delimiter);
        let header = match records.next()? {
            None => return Ok(Ok(Self { records, width: 0, smiles: 0, id: 0 })),
            Some(Err(fault)) => return Ok(Err(fault)),
            Some(Ok(header)) => header,
        };
        let names: Vec<_> = (0..header.width).map(|i| String::from_utf8_lossy(header.field(i))).collect();
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        Ok(columns.find(&names, header.line).map(|(smiles, id)| Self {
            width: header.width,
            smiles,
            id,
            records,
        }))
    }

    fn molecule(&self, record: &Record) -> Result<FoundMolecule, Fault> {
        let (line, width) = (record.line, record.width);
        if width != self.width {
            let what = format!("the row has {width} fields (expected {}, as in the header)", self.width);
            return Err(Fault::new(line, what));
        }
        let (id, smiles) = (utf8(record.field(self.id), line)?, utf8(record.field(self.smiles), line)?);
        FoundMolecule::from_smiles(id, smiles, line)
    }
}

impl<R: BufRead> Iterator for Delimited<R> {
    type Item = io::Result<Result<FoundMolecule, Fault>>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.records.next().transpose()?;
        Some(record.map(|record| record.and_then(|record| self.molecule(&record))))
    }
}

/// One row: its fields one after the other, and where each ends.
#[derive(Debug)]
struct Record {
    line: u64,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    filled: usize,
    width: usize,
    quoting: Quoting,
    misquoted: bool,
}

/// Where in a field the last byte was. The parser forgives text behind a closing quote; two quotes that were opened by mistake
/// in different rows would then pair up and swallow the rows between them.
#[derive(Debug, Clone, Copy)]
enum Quoting {
    FieldStart,
    Plain,
    Quoted,
    ClosingQuote,
}

impl Quoting {
    /// `None` where text follows a closing quote.
    const fn after(self, byte: u8, delimiter: u8) -> Option<Self> {
        match self {
            Self::Quoted => Some(if byte == b'"' { Self::ClosingQuote } else { Self::Quoted }),
            Self::FieldStart | Self::ClosingQuote if byte == b'"' => Some(Self::Quoted),
            Self::FieldStart | Self::Plain | Self::ClosingQuote if byte == delimiter || byte == b'\n' => {
                Some(Self::FieldStart)
            }
            Self::FieldStart | Self::Plain => Some(Self::Plain),
            Self::ClosingQuote => None,
        }
    }
}

impl Record {
    fn starting_at(line: u64) -> Self {
        Self {
            line,
            bytes: vec![0; 256],
            ends: vec![0; 16],
            filled: 0,
            width: 0,
            quoting: Quoting::FieldStart,
            misquoted: false,
        }
    }

    fn field(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// Follows the quotes through a part of the row.
    fn follow_quotes(&mut self, part: &[u8], delimiter: u8) {
        for &byte in part {
            let after = self.quoting.after(byte, delimiter);
            self.misquoted |= after.is_none();
            self.quoting = after.unwrap_or(Quoting::Plain);
        }
    }

    /// Takes a part of the row; says whether it is complete.
    fn take(&mut self, parser: &mut csv_core::Reader, mut part: &[u8]) -> bool {
        // The parser takes an empty part for the end of the file.
        while !part.is_empty() {
            let (free, ends) = (&mut self.bytes[self.filled..], &mut self.ends[self.width..]);
            let (result, read, written, fields) = parser.read_record(part, free, ends);
            part = &part[read..];
            self.filled += written;
            self.width += fields;
            match result {
                ReadRecordResult::OutputFull => self.bytes.resize(self.bytes.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record | ReadRecordResult::End => return true,
            }
        }
        false
    }
}

/// Rows with their lines.
#[derive(Debug)]
struct Records<R> {
    lines: Lines<R>,
    parser: Box<csv_core::Reader>,
    delimiter: u8,
}

impl<R: BufRead> Records<R> {
    fn new(source: R, delimiter: u8) -> Self {
        // A carriage return alone ends no row: `Lines` decides where lines end.
        let terminator = csv_core::Terminator::Any(b'\n');
        let parser = csv_core::ReaderBuilder::new().delimiter(delimiter).terminator(terminator).build();
        Self { lines: Lines::new(source), parser: Box::new(parser), delimiter }
    }

    fn next(&mut self) -> io::Result<Option<Result<Record, Fault>>> {
        let mut open: Option<Record> = None;
        while let Some(line) = self.lines.next()? {
            if open.is_none() && line.is_blank() {
                continue;
            }
            let mut record = open.take().unwrap_or_else(|| Record::starting_at(line.number));
            record.follow_quotes(line.content, self.delimiter);
            record.follow_quotes(b"\n", self.delimiter);
            let fault = if let Err(fault) = line.check_whole() {
                fault
            } else if record.take(&mut self.parser, line.content) || record.take(&mut self.parser, b"\n") {
                let last = line.number;
                return Ok(Some(if record.misquoted {
                    Err(misquoted(record.line, last))
                } else {
                    Ok(record)
                }));
            } else if record.filled > LINE_BYTES_MAX {
                unclosed(record.line, line.number)
            } else {
                open = Some(record);
                continue;
            };
            self.parser.reset();
            return Ok(Some(Err(fault)));
        }
        let last = self.lines.number();
        Ok(open.map(|record| Err(unclosed(record.line, last))))
    }
}

const QUOTES_HINT: &str = "a quote inside a field is written `\"\"`, and the field stands in quotes";

fn unclosed(first: u64, last: u64) -> Fault {
    let what = format!("the row opens a quote that is not closed (read as one row to line {last})");
    Fault::new(first, what).with_hint(QUOTES_HINT)
}

fn misquoted(first: u64, last: u64) -> Fault {
    let what = format!("text follows the closing quote of a field (read as one row to line {last})");
    Fault::new(first, what).with_hint(QUOTES_HINT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Format;
    use crate::input::fixture::{check, check_with};

    #[test]
    fn rows_are_molecules() {
        let table = "name,SMILES,dg\nethanol,CCO,-1\n\n\"thieno[2,3-c]pyridine\",c1cncc2c1ccs2,\n,C,\n";
        let expect = ["2 ethanol CCO", "4 thieno[2,3-c]pyridine c1cncc2c1ccs2", "5 line_5 C"];
        check(Format::Csv, table, &expect);
        check(Format::Csv, table.replace('\n', "\r\n"), &expect);
        check(Format::Csv, format!("\u{feff}{}", table.trim_end()), &expect);
        check(Format::Tsv, "id\tsmiles\na, b\tCCO\n", &["2 a, b CCO"]);
        check_with(Format::Csv, "id,smiles,s,k\na,C,CC,b\n", ("s", "k"), &["2 b CC"]);
        check(Format::Csv, "", &[]);
        check(Format::Csv, "id,smiles\n", &[]);
    }

    #[test]
    fn quoted_line_breaks_keep_line_numbers_right() {
        let table = "id,smiles,note\na,C,\"x\n\n\"\"y\"\"\"\nb,CC,\nc,C(,\n";
        check(
            Format::Csv,
            table,
            &["2 a C", "5 b CC", "f:6: `(` at character 2 of the SMILES has no partner"],
        );
    }

    #[test]
    fn problems_do_not_end_the_reading() {
        check(
            Format::Csv,
            &b"id,smiles\na\nb,C,1\n\xff,C\n\"c\nd\",C\ne,C\n"[..],
            &[
                "f:2: the row has 1 fields (expected 2, as in the header)",
                "f:3: the row has 3 fields (expected 2, as in the header)",
                "f:4: byte 1 is 0xff (expected UTF-8 text)",
                "f:5: the id `c\\nd` has a control character (expected printable text)",
                "7 e C",
            ],
        );
    }

    #[test]
    fn a_quote_that_stays_open_is_reported() {
        check(
            Format::Csv,
            "id,smiles,note\na,C,\nb,C,\"oops\nc,C,\nd,C,",
            &["2 a C", "f:3: the row opens a quote that is not closed (read as one row to line 5)"],
        );
        let mut table = "id,smiles\n\"a,C\n".to_owned();
        table.push_str(&"b,C\n".repeat(LINE_BYTES_MAX / 4));
        table.push_str("c,CC\n");
        let found = crate::input::fixture::outcome(Format::Csv, table.as_bytes(), &Columns::default());
        assert!(found[0].starts_with("f:2: the row opens a quote that is not closed"), "{}", found[0]);
        assert!(found.last().unwrap().ends_with("c CC"));
    }

    #[test]
    fn quotes_that_pair_up_by_mistake_swallow_no_row_in_silence() {
        check(
            Format::Csv,
            "id,smiles,note\na,C,\"x\nb,C,\nc,C,\"y\nd,C,5\" \ne,C,\"f\"\n\"g\"h,C,\n",
            &[
                "f:2: text follows the closing quote of a field (read as one row to line 4)",
                "5 d C",
                "6 e C",
                "f:7: text follows the closing quote of a field (read as one row to line 7)",
            ],
        );
    }

    #[test]
    fn wide_rows_fit() {
        let names = (0..40).map(|i| format!("c{i}")).collect::<Vec<_>>().join(",");
        let values = vec!["x".repeat(50); 40].join(",");
        check(Format::Csv, format!("{names},smiles,id\n{values},CCO,a\n"), &["2 a CCO"]);
    }
}
