//! Takes the SDF of an engine's poses apart (Dalby et al. 1992, doi:10.1021/ci00007a012): records, and the data items behind each. Pure;
//! it judges nothing and changes no number.

/// What ends a record.
const RECORD_END: &str = "$$$$";
/// What ends the structure in it.
const BLOCK_END: &str = "M  END";

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdfRecord<'a> {
    /// From the title to `M  END`.
    block: Vec<&'a str>,
    /// What follows.
    data: Vec<&'a str>,
}

/// Says which record of a file is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SdfError {
    /// The file ends within it.
    #[error("record {record} has no end: the file was cut short")]
    CutShort {
        /// Counted from 1.
        record: usize,
    },
    /// Its structure has no end.
    #[error("record {record} has no `{BLOCK_END}`")]
    NoBlockEnd {
        /// Counted from 1.
        record: usize,
    },
}

/// The records of a file, in its order.
pub fn records(text: &str) -> Result<Vec<SdfRecord<'_>>, SdfError> {
    let mut records = Vec::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_end() == RECORD_END {
            let record = records.len() + 1;
            records.push(SdfRecord::of_lines(&lines).ok_or(SdfError::NoBlockEnd { record })?);
            lines.clear();
        } else {
            lines.push(line);
        }
    }
    if lines.iter().any(|line| !line.trim().is_empty()) {
        return Err(SdfError::CutShort { record: records.len() + 1 });
    }
    Ok(records)
}

impl<'a> SdfRecord<'a> {
    fn of_lines(lines: &[&'a str]) -> Option<Self> {
        let end = lines.iter().position(|line| line.trim_end() == BLOCK_END)?;
        let (block, data) = lines.split_at(end + 1);
        Some(Self { block: block.to_vec(), data: data.to_vec() })
    }

    /// The lines of its structure, from the title to `M  END`.
    pub fn block(&self) -> &[&'a str] {
        &self.block
    }

    /// The value of a data item, whatever a program writes round its name; empty if there is none.
    pub fn item(&self, name: &str) -> &'a str {
        let name_of = |line: &'a str| line.split_once('<')?.1.split_once('>').map(|(name, _)| name);
        let mut lines = self.data.iter();
        match lines.by_ref().find(|line| line.starts_with('>') && name_of(line) == Some(name)) {
            Some(_) => lines.next().map_or("", |value| value.trim()),
            None => "",
        }
    }

    /// Its structure under another title, up to and with `M  END`.
    pub fn titled(&self, title: &str) -> String {
        let block = self.block.get(1..).unwrap_or_default();
        format!("{title}\n{}\n", block.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLUENE: &str = include_str!("../../tests/golden/rustina-0.9.0-toluene.sdf");

    #[test]
    fn a_record_keeps_its_structure_under_another_title() {
        let records = records(TOLUENE).unwrap();
        assert_eq!(records.len(), 2);
        let block = TOLUENE.split_once("M  END").unwrap().0;
        assert_eq!(records[0].titled("my molecule"), format!("my molecule{block}M  END\n"));
        assert_eq!(records[1].block().len(), 4 + 15 + 15 + 1);
    }

    #[test]
    fn data_items_are_found_as_every_program_writes_them() {
        let item = |line: &str| {
            let text = format!("x\n\n\n  0  0  0 V2000\nM  END\n{line}\n 1.5 \n\n$$$$\n");
            records(&text).unwrap()[0].item("CNN_VS").to_owned()
        };
        for line in ["> <CNN_VS>", ">  <CNN_VS>", ">  <CNN_VS>  (1) ", ">25 <CNN_VS>"] {
            assert_eq!(item(line), "1.5", "{line}");
        }
        for line in ["<CNN_VS>", "> CNN_VS", "> <CNN_VS", "> <cnn_vs>", "> <CNN_VS2>"] {
            assert_eq!(item(line), "", "{line}");
        }
        assert_eq!(records(TOLUENE).unwrap()[0].item("CNN_VS"), "3.4594675332");
    }

    #[test]
    fn what_is_cut_is_named() {
        let cut = &TOLUENE[..TOLUENE.rfind("$$$$").unwrap()];
        assert_eq!(records(cut), Err(SdfError::CutShort { record: 2 }));
        assert_eq!(records(&TOLUENE.replacen("M  END", "", 1)), Err(SdfError::NoBlockEnd { record: 1 }));
        assert_eq!(records("$$$$\n"), Err(SdfError::NoBlockEnd { record: 1 }));
        assert_eq!(records("\n"), Ok(Vec::new()));
    }
}
