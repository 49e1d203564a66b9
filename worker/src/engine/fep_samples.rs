//! The tables that GROMACS writes, `.xvg`: numbers in rows, the time in ps first. Reads and checks them, and judges nothing else.

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Samples {
    /// Which window wrote it, as far as it says so.
    pub(crate) window: Option<usize>,
    rows: Vec<Vec<f64>>,
}

/// Says what is wrong with a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SamplesError {
    /// A cell that holds no number, or none that is finite.
    #[error("row {row} has `{found}` (expected a finite number)")]
    NotFinite {
        /// Counted from 1.
        row: usize,
        /// The cell.
        found: String,
    },
    /// Too few or too many rows or columns, or at other times.
    #[error("{what} (expected {expected})")]
    Shape {
        /// What is there.
        what: String,
        /// What belongs there.
        expected: String,
    },
}

/// What a table has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// Rows, the one at time 0 among them.
    pub(crate) rows: u64,
    /// Columns, the time among them.
    pub(crate) columns: usize,
    /// Between two rows, in ps.
    pub(crate) every_ps: f64,
}

/// How far a time may be from its place, in ps: it is printed with four digits.
const TIME_TOLERANCE_PS: f64 = 1e-3;

impl Samples {
    /// Reads a table.
    pub(crate) fn parse(text: &str) -> Result<Self, SamplesError> {
        let (mut rows, mut window) = (Vec::new(), None);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with('@') {
                window = window.or_else(|| state_of(line));
                continue;
            }
            let row = rows.len() + 1;
            let number = |cell: &str| {
                let number = cell.parse::<f64>().ok().filter(|number| number.is_finite());
                number.ok_or_else(|| SamplesError::NotFinite { row, found: cell.chars().take(40).collect() })
            };
            rows.push(line.split_whitespace().map(number).collect::<Result<_, _>>()?);
        }
        Ok(Self { window, rows })
    }

    /// Holds it against what it has to be.
    pub(crate) fn check(&self, expected: Expected) -> Result<(), SamplesError> {
        let shape = |what: String, expected: String| Err(SamplesError::Shape { what, expected });
        let found = self.rows.len() as u64;
        if found != expected.rows {
            return shape(format!("{found} rows"), expected.rows.to_string());
        }
        for (number, row) in self.rows.iter().enumerate() {
            if row.len() != expected.columns {
                let what = format!("row {} has {} columns", number + 1, row.len());
                return shape(what, expected.columns.to_string());
            }
            let at = number as f64 * expected.every_ps;
            if (row[0] - at).abs() > TIME_TOLERANCE_PS {
                return shape(format!("row {} is of {} ps", number + 1, row[0]), format!("{at} ps"));
            }
        }
        Ok(())
    }
}

/// The number in `state 3:` of a subtitle.
fn state_of(line: &str) -> Option<usize> {
    let (_, rest) = line.split_once("@ subtitle")?.1.split_once(" state ")?;
    rest.split_once(':')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: &str = "# made by gmx\n@ subtitle \"T = 298.15 (K) \\xl\\f{} state 3: (coul-lambda, vdw-lambda)\"\n\
                         @ s0 legend \"x\"\n0.0000 1.5 -2\n0.0500 1e3 0\n0.1000 0.1 7\n";

    fn checked(text: &str) -> Result<(), String> {
        let samples = Samples::parse(text).map_err(|error| error.to_string())?;
        samples.check(Expected { rows: 3, columns: 3, every_ps: 0.05 }).map_err(|error| error.to_string())
    }

    #[test]
    fn a_table_is_read() {
        assert_eq!(Samples::parse(TABLE).unwrap().window, Some(3));
        assert_eq!(checked(TABLE), Ok(()));
    }

    #[test]
    fn what_is_missing_or_no_number_is_named() {
        let check = |from: &str, to: &str, expect: &str| {
            assert!(TABLE.contains(from));
            assert_eq!(checked(&TABLE.replace(from, to)), Err(expect.to_owned()));
        };
        check("0.1000 0.1 7\n", "", "2 rows (expected 3)");
        check("0.1 7\n", "0.1\n", "row 3 has 2 columns (expected 3)");
        check("1e3", "nan", "row 2 has `nan` (expected a finite number)");
        check("1e3", "-1.#IND", "row 2 has `-1.#IND` (expected a finite number)");
        check("0.1000 ", "0.1500 ", "row 3 is of 0.15 ps (expected 0.1 ps)");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.saturating_mul(4), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn hostile_tables_are_refused_or_finite(any in any::<String>(), inserted in "[-+0-9.eEinfa@#: \n]{0,20}", at in 0..=TABLE.len(), dropped in 0..30_usize) {
            let rest: String = TABLE[at..].chars().skip(dropped).collect();
            for text in [format!("{}{inserted}{rest}", &TABLE[..at]), any] {
                match Samples::parse(&text) {
                    Ok(samples) => {
                        prop_assert!(samples.rows.iter().flatten().all(|number| number.is_finite()));
                        // Empty rows, too many and too few: said, never counted on.
                        if samples.check(Expected { rows: 3, columns: 3, every_ps: 0.05 }).is_ok() {
                            prop_assert!(samples.rows.len() == 3 && samples.rows.iter().all(|row| row.len() == 3));
                        }
                    }
                    Err(error) => prop_assert!(error.to_string().chars().count() < 200, "{}", error),
                }
            }
        }
    }
}
