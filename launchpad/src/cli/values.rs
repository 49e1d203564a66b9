//! The values of flags that are more than a number or a text, and how they are read.

use std::path::PathBuf;
use std::str::FromStr;

use common::task::{Column, ColumnKind};

/// Three coordinates, in Å.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Center(pub [f64; 3]);

/// Three lengths, in Å.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edges(pub [f64; 3]);

/// A label's name and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Letters, digits, `_`, `.` and `-`.
    pub name: String,
    /// Any text.
    pub value: String,
}

/// A program and its arguments, as words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argv(pub Vec<String>);

/// A file that every task gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// A small letter, then small letters, digits and `_`.
    pub role: String,
    /// The file.
    pub path: PathBuf,
}

/// A column of the engine `command`.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredColumn(pub Column);

/// A CSV file and one of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredColumn {
    /// The file.
    pub path: PathBuf,
    /// The column.
    pub column: String,
}

/// Of hours, minutes or USD, beyond which nobody means what he types.
const NUMBER_MAX: f64 = 1e6;

/// Numbers of tasks to try side by side, ascending, each from 1 to 1024.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideBySide(pub Vec<u32>);

/// Something about a run that can be changed while it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Tasks worked on at any time; 0 is no limit.
    Parallelism(u64),
}

/// Says why a value of the command line was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not valid (expected {expected})")]
pub struct InvalidValue {
    found: String,
    expected: &'static str,
}

fn refuse(found: &str, expected: &'static str) -> InvalidValue {
    InvalidValue { found: found.to_owned(), expected }
}

fn numbers(text: &str) -> Option<Vec<f64>> {
    text.split(',').map(|part| part.trim().parse().ok()).collect()
}

fn number(text: &str, is_good: impl Fn(f64) -> bool, expected: &'static str) -> Result<f64, InvalidValue> {
    text.parse().ok().filter(|number| is_good(*number)).ok_or_else(|| refuse(text, expected))
}

/// A number above 0, of hours, minutes or USD.
pub(super) fn above_zero(text: &str) -> Result<f64, InvalidValue> {
    number(text, |number| number > 0.0 && number <= NUMBER_MAX, "a number above 0, up to 1,000,000")
}

/// A number from 0, of the same.
pub(super) fn from_zero(text: &str) -> Result<f64, InvalidValue> {
    number(text, |number| (0.0..=NUMBER_MAX).contains(&number), "a number from 0 to 1,000,000")
}

/// A share of a whole.
pub(super) fn share(text: &str) -> Result<f64, InvalidValue> {
    number(text, |number| (0.0..=1.0).contains(&number), "a number from 0 to 1")
}

/// A probability of what is not certain.
pub(super) fn below_one(text: &str) -> Result<f64, InvalidValue> {
    number(text, |number| (0.0..1.0).contains(&number), "a number from 0 to below 1")
}

impl FromStr for Center {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let three = numbers(text).and_then(|numbers| numbers.try_into().ok());
        three.map(Self).ok_or_else(|| refuse(text, "three numbers such as 42.3,45.4,18.2"))
    }
}

impl FromStr for Edges {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let edges = match numbers(text).as_deref() {
            Some(&[edge]) => Some([edge; 3]),
            Some(&[x, y, z]) => Some([x, y, z]),
            _ => None,
        };
        edges.map(Self).ok_or_else(|| refuse(text, "one number or three, such as 14 or 14,20,14"))
    }
}

impl Label {
    /// What a label's name may be.
    pub(crate) const NAME_EXPECTED: &str = "letters, digits, _ . -";

    /// Whether a label may have this name: it is part of a field of the run's hash.
    pub(crate) fn is_name(name: &str) -> bool {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        !name.is_empty() && name.chars().all(allowed)
    }
}

impl FromStr for Label {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.split_once('=') {
            Some((name, value)) if Self::is_name(name) => {
                Ok(Self { name: name.to_owned(), value: value.to_owned() })
            }
            _ => Err(refuse(text, "name=value, the name of letters, digits, _ . -")),
        }
    }
}

impl FromStr for Argv {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let words = shlex::split(text).filter(|words| !words.is_empty());
        words.map(Self).ok_or_else(|| refuse(text, "a program and its arguments, every quote closed"))
    }
}

impl FromStr for InputFile {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.split_once('=') {
            Some((role, path)) if !role.is_empty() && !path.is_empty() => {
                Ok(Self { role: role.to_owned(), path: path.into() })
            }
            _ => Err(refuse(text, "ROLE=FILE, such as receptor=protein.pdb")),
        }
    }
}

impl FromStr for DeclaredColumn {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let refused = || refuse(text, "NAME[,unit=U][,min=X][,max=Y][,kind=number|text]");
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default().trim().to_owned();
        let mut column = Column { name, kind: ColumnKind::Number, unit: String::new(), min: None, max: None };
        for part in parts {
            let number = |value: &str| value.parse().map(Some).map_err(|_| refused());
            match part.trim().split_once('=') {
                Some(("unit", value)) => value.clone_into(&mut column.unit),
                Some(("min", value)) => column.min = number(value)?,
                Some(("max", value)) => column.max = number(value)?,
                Some(("kind", "number")) => column.kind = ColumnKind::Number,
                Some(("kind", "text")) => column.kind = ColumnKind::Text,
                _ => return Err(refused()),
            }
        }
        Ok(Self(column))
    }
}

impl FromStr for MeasuredColumn {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.rsplit_once(':') {
            Some((path, column)) if !path.is_empty() && !column.is_empty() => {
                Ok(Self { path: path.into(), column: column.to_owned() })
            }
            _ => Err(refuse(text, "FILE:COLUMN, such as affinities.csv:dg_kcal_mol")),
        }
    }
}

impl FromStr for Setting {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let expected = "parallelism=N, N from 0";
        match text.split_once('=') {
            Some(("parallelism", value)) => {
                value.parse().map(Self::Parallelism).map_err(|_| refuse(text, expected))
            }
            _ => Err(refuse(text, expected)),
        }
    }
}

impl FromStr for SideBySide {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let numbers: Result<Vec<u32>, _> = text.split(',').map(|number| number.trim().parse()).collect();
        let numbers = numbers.unwrap_or_default();
        let is_good = !numbers.is_empty()
            && numbers.is_sorted_by(|one, next| one < next)
            && numbers.iter().all(|number| (1..=1024).contains(number));
        if is_good {
            Ok(Self(numbers))
        } else {
            Err(refuse(text, "ascending numbers from 1 to 1024, such as 1,2,4"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_read_from_one_number_or_three() {
        assert_eq!("14".parse(), Ok(Edges([14.0; 3])));
        assert_eq!("1, 2,3.5".parse(), Ok(Edges([1.0, 2.0, 3.5])));
        assert_eq!("-1,2,3".parse(), Ok(Center([-1.0, 2.0, 3.0])));
        assert!("1,2".parse::<Edges>().is_err());
        assert!("1".parse::<Center>().is_err());
    }

    #[test]
    fn pairs_are_split_where_they_should_be() {
        let label = Label { name: "target".into(), value: "a=b".into() };
        assert_eq!("target=a=b".parse(), Ok(label));
        assert!("a{b=1".parse::<Label>().is_err());
        let measured: MeasuredColumn = "/a:b/c.csv:dg".parse().unwrap();
        assert_eq!((measured.path.to_str(), measured.column.as_str()), (Some("/a:b/c.csv"), "dg"));
        assert_eq!("parallelism=0".parse(), Ok(Setting::Parallelism(0)));
        assert!("parallelism=-1".parse::<Setting>().is_err());
        assert_eq!((above_zero("0.5"), from_zero("0"), share("1")), (Ok(0.5), Ok(0.0), Ok(1.0)));
        for wrong in ["", "x", "-1", "nan", "inf", "1e7"] {
            assert!(
                [above_zero, from_zero, share, below_one].iter().all(|parse| parse(wrong).is_err()),
                "{wrong}"
            );
        }
        assert!(above_zero("0").is_err() && below_one("1").is_err());
        assert_eq!("1, 2,8".parse(), Ok(SideBySide(vec![1, 2, 8])));
        for wrong in ["", "0", "1,1", "2,1", "1,", "1025", "-1"] {
            assert!(wrong.parse::<SideBySide>().is_err(), "{wrong}");
        }
    }
}
