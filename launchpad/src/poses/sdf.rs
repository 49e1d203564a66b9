//! Takes the SDF records of an engine apart: bonds, charges and coordinates stay as the engine wrote them. Pure.

/// One pose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// From the line behind the title to `M  END`.
    block: Vec<&'a str>,
    /// What follows.
    data: Vec<&'a str>,
}

/// The records of a file, the best first, or what is wrong with the text.
pub(super) fn records(text: &str) -> Result<Vec<Record<'_>>, String> {
    let mut records = Vec::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_end() == "$$$$" {
            records.push(
                Record::parse(&lines).ok_or_else(|| format!("record {} has no end", records.len() + 1))?,
            );
            lines.clear();
        } else {
            lines.push(line);
        }
    }
    if lines.iter().any(|line| !line.trim().is_empty()) {
        return Err(format!("record {} was cut short", records.len() + 1));
    }
    Ok(records)
}

impl<'a> Record<'a> {
    fn parse(lines: &[&'a str]) -> Option<Self> {
        let end = lines.iter().position(|line| line.trim_end() == "M  END")?;
        let (block, data) = lines.split_at(end + 1);
        Some(Self { block: block.get(1..)?.to_vec(), data: data.to_vec() })
    }

    /// The value of a data item; empty if there is none.
    pub(super) fn tag(&self, name: &str) -> &'a str {
        let of = |line: &str| Some(line.split_once('<')?.1.split_once('>')?.0 == name);
        let is_it = |line: &&&str| line.starts_with('>') && of(line) == Some(true);
        let mut lines = self.data.iter();
        match lines.by_ref().find(is_it) {
            Some(_) => lines.next().map_or("", |value| value.trim()),
            None => "",
        }
    }

    /// The record under another title, up to and with `M  END`.
    pub(super) fn titled(&self, title: &str) -> String {
        format!("{title}\n{}\n", self.block.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLUENE: &str = include_str!("../../../tests/golden/rustina-0.9.0-toluene.sdf");

    #[test]
    fn a_record_keeps_its_structure_under_another_title() {
        let records = records(TOLUENE).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!((records[0].tag("CNN_VS"), records[0].tag("CNN")), ("3.4594675332", ""));
        let titled = records[0].titled("my molecule");
        let whole = TOLUENE.split_once("M  END").unwrap().0.replacen("toluene", "my molecule", 1);
        assert_eq!(titled, format!("{whole}M  END\n"));
    }

    #[test]
    fn what_is_cut_is_named() {
        let cut = &TOLUENE[..TOLUENE.rfind("$$$$").unwrap()];
        assert_eq!(records(cut).unwrap_err(), "record 2 was cut short");
        assert_eq!(records(&TOLUENE.replacen("M  END", "", 1)).unwrap_err(), "record 1 has no end");
        assert_eq!(records("$$$$\n").unwrap_err(), "record 1 has no end");
        assert_eq!(records("").unwrap(), []);
    }
}
