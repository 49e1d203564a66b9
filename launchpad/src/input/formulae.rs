//! Reads lists of molecular formulae, one per line, as `launchpad formulae` writes them, and as scripts write them that print what CDK's
//! `MolecularFormulaManipulator.getString` gives (Groovy Cheminformatics with the CDK, script 14.11): what follows white space is ignored,
//! such as a mass, and so are blank lines and lines starting with `#`. What CDK writes of an ion, `[C8H10NO]+`, and of an isotope,
//! `[13]C2H6O`, is no formula of a molecule that a generator can be asked for. A bare number is taken: generators of graphs are asked by
//! the number of vertices.

use std::collections::BTreeSet;
use std::io::{self, BufRead};

use super::lines::{Line, Lines};
use super::molecule::{FoundMolecule, FoundStructure};
use super::problem::{Fault, excerpt};

/// The symbols of all elements.
const ELEMENTS: &str = "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr \
    Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po \
    At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og";
/// More atoms of an element has no formula whose structures anybody enumerates.
const ATOMS_MAX: u32 = 10_000;
/// The longest number of vertices.
const DIGITS_MAX: usize = 4;
const HINT: &str = "a formula is symbols of elements and numbers, such as C8H11NO, one per line";

/// The reader.
#[derive(Debug)]
pub(super) struct Formulae<R> {
    lines: Lines<R>,
}

impl<R: BufRead> Formulae<R> {
    /// Starts at the beginning of a stream.
    pub(super) fn new(source: R) -> Self {
        Self { lines: Lines::new(source) }
    }

    fn next_formula(&mut self) -> io::Result<Option<Result<FoundMolecule, Fault>>> {
        while let Some(line) = self.lines.next()? {
            if !line.is_blank() && !line.content.starts_with(b"#") {
                return Ok(Some(parse(&line)));
            }
        }
        Ok(None)
    }
}

impl<R: BufRead> Iterator for Formulae<R> {
    type Item = io::Result<Result<FoundMolecule, Fault>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_formula().transpose()
    }
}

fn parse(line: &Line<'_>) -> Result<FoundMolecule, Fault> {
    let formula = line.text()?.split_whitespace().next().unwrap_or_default();
    let is_number = formula.len() <= DIGITS_MAX && formula.bytes().all(|byte| byte.is_ascii_digit());
    match if is_number && !formula.is_empty() { Ok(()) } else { check(formula) } {
        Ok(()) => {
            let structure = FoundStructure::Formula(formula.to_owned());
            Ok(FoundMolecule { id: formula.to_owned(), structure, line: line.number })
        }
        Err(what) => {
            let what = format!("`{}` is no formula: {what}", excerpt(formula.as_bytes()));
            Err(Fault::new(line.number, what).with_hint(HINT))
        }
    }
}

/// Whether a text is elements, each once, with numbers of atoms from 1.
fn check(formula: &str) -> Result<(), String> {
    if formula.starts_with('[') {
        return Err("it is that of an ion or of an isotope".to_owned());
    }
    let mut rest = formula;
    let mut seen = BTreeSet::new();
    while let Some(first) = rest.chars().next() {
        if !first.is_ascii_uppercase() {
            return Err(format!("`{}` where an element should be", excerpt(first.to_string().as_bytes())));
        }
        let lower = rest[1..].find(|c: char| !c.is_ascii_lowercase()).map_or(rest.len(), |at| at + 1);
        let (symbol, behind) = rest.split_at(lower);
        let digits = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
        let (count, behind) = behind.split_at(digits);
        if !ELEMENTS.split_whitespace().any(|element| element == symbol) {
            return Err(format!("there is no element `{}`", excerpt(symbol.as_bytes())));
        }
        if !seen.insert(symbol) {
            return Err(format!("it has `{symbol}` twice"));
        }
        let sound = |atoms: u32| (1..=ATOMS_MAX).contains(&atoms);
        if !count.is_empty() && (count.starts_with('0') || !count.parse().is_ok_and(sound)) {
            return Err(format!(
                "{} atoms of {symbol} (expected 1 to {ATOMS_MAX})",
                excerpt(count.as_bytes())
            ));
        }
        rest = behind;
    }
    if seen.is_empty() { Err("it is empty".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use crate::input::Format;
    use crate::input::fixture::check;

    #[test]
    fn lists_are_read_as_they_are() {
        check(Format::Formulae, "C8H11NO\nCH4\r\n", &["1 C8H11NO C8H11NO", "2 CH4 CH4"]);
        check(Format::Formulae, "# mine\n\nC6H12O6\t180.063\n", &["3 C6H12O6 C6H12O6"]);
        // What CDK 2.8 of Debian printed for the script of the book, `getString` and the mass.
        let cdk = include_str!("../../../tests/golden/cdk-2.8-133-da.txt");
        check(Format::Formulae, cdk, &["1 C11H C11H", "2 C9H11N C9H11N", "3 C9H9O C9H9O", "4 C8H7NO C8H7NO"]);
    }

    #[test]
    fn what_is_no_formula_is_named_with_its_line() {
        let refused = |text: &str, expect: &str| {
            check(
                Format::Formulae,
                format!("CH4\n{text}\n"),
                &["1 CH4 CH4", &format!("f:2: `{text}` is no formula: {expect}")],
            );
        };
        refused("C8H11Xx", "there is no element `Xx`");
        refused("c6h6", "`c` where an element should be");
        refused("C6H6C", "it has `C` twice");
        refused("C0H4", "0 atoms of C (expected 1 to 10000)");
        refused("C99999H4", "99999 atoms of C (expected 1 to 10000)");
        check(Format::Formulae, "9\n", &["1 9 9"]);
        refused("12345", "`1` where an element should be");
        refused("CCO-", "it has `C` twice");
        // So does CDK 2.8 write a charge, and an isotope.
        for text in ["[C8H10NO]+", "[C8H10NO]2-", "[13]C2H6O"] {
            refused(text, "it is that of an ion or of an isotope");
        }
    }
}
