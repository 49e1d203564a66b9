//! A molecule in 3D as quantum chemistry wants it, from an SDF record (V2000): elements, coordinates in bohr, the charge. Pure.

/// One ångström in bohr (CODATA 2018).
pub(crate) const BOHR_PER_ANGSTROM: f64 = 1.0 / 0.529_177_210_903;
/// Where V2000 counts atoms, in its fourth line.
const COUNTS_LINE: usize = 3;

/// The elements by atomic number, from 1.
const ELEMENTS: [&str; 86] = [
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar", "K",
    "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr",
    "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe",
    "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu",
    "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn",
];

/// A molecule in 3D.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Geometry {
    /// The element of each atom.
    pub(crate) elements: Vec<String>,
    /// x y z of each atom, in bohr.
    pub(crate) xyz_bohr: Vec<f64>,
    /// The sum of the formal charges.
    pub(crate) formal_charge: i32,
}

impl Geometry {
    /// Reads the first record of a file.
    pub(crate) fn of_sdf(text: &str) -> Result<Self, String> {
        let lines: Vec<&str> = text.lines().collect();
        let counts = lines.get(COUNTS_LINE).filter(|line| line.trim_end().ends_with("V2000"));
        let atoms = counts.and_then(|line| line.get(..3)?.trim().parse::<usize>().ok());
        let atoms = atoms.filter(|atoms| *atoms > 0).ok_or("no atoms in a V2000 record")?;
        let first = COUNTS_LINE + 1;
        let block = lines.get(first..first + atoms).ok_or("fewer atoms than its fourth line says")?;
        let mut geometry = Self { elements: Vec::new(), xyz_bohr: Vec::new(), formal_charge: 0 };
        for line in block {
            let coordinate = |at: usize| {
                let number = line.get(10 * at..10 * (at + 1))?.trim().parse::<f64>().ok()?;
                number.is_finite().then_some(number * BOHR_PER_ANGSTROM)
            };
            let xyz = [coordinate(0), coordinate(1), coordinate(2)].into_iter().collect::<Option<Vec<_>>>();
            let element = line.get(31..34).map(str::trim).filter(|element| ELEMENTS.contains(element));
            let (Some(xyz), Some(element)) = (xyz, element) else {
                return Err(format!("`{}` is no atom", line.trim_end()));
            };
            geometry.xyz_bohr.extend(xyz);
            geometry.elements.push(element.to_owned());
        }
        let rest = lines.iter().skip(first + atoms).take_while(|line| line.trim_end() != "M  END");
        for line in rest.filter_map(|line| line.strip_prefix("M  CHG")) {
            let charges = line.split_whitespace().skip(2).step_by(2);
            for charge in charges {
                let charge: i32 = charge.parse().map_err(|_| format!("`{line}` are no charges"))?;
                geometry.formal_charge = geometry.formal_charge.saturating_add(charge);
            }
        }
        Ok(geometry)
    }

    /// Whether so many unpaired electrons are possible: the number of electrons has to be as even or odd.
    pub(crate) fn allows(&self, charge: i32, multiplicity: u32) -> bool {
        let number =
            |element: &String| ELEMENTS.iter().position(|known| known == element).map_or(0, |at| at + 1);
        let protons = i64::try_from(self.elements.iter().map(number).sum::<usize>()).unwrap_or(i64::MAX);
        let electrons = protons.saturating_sub(charge.into());
        let unpaired = i64::from(multiplicity) - 1;
        electrons > 0 && unpaired >= 0 && unpaired <= electrons && (electrons - unpaired) % 2 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMMONIUM: &str = "ammonium\n     RDKit          3D\n\n  5  4  0  0  0  0  0  0  0  0999 V2000\n    \
        0.0000    0.0000    0.0000 N   0  0  0  0  0  4  0  0  0  0  0  0\n    \
        0.5900    0.5900    0.5900 H   0  0\n   -0.5900   -0.5900    0.5900 H   0  0\n   \
       -0.5900    0.5900   -0.5900 H   0  0\n    0.5900   -0.5900   -0.5900 H   0  0\n  \
        1  2  1  0\n  1  3  1  0\n  1  4  1  0\n  1  5  1  0\nM  CHG  1   1   1\nM  END\n$$$$\n";

    #[test]
    fn a_record_becomes_elements_bohr_and_a_charge() {
        let geometry = Geometry::of_sdf(AMMONIUM).unwrap();
        assert_eq!(geometry.elements, ["N", "H", "H", "H", "H"]);
        assert_eq!(geometry.formal_charge, 1);
        assert!((geometry.xyz_bohr[3] - 1.114_938_4).abs() < 1e-6, "{:?}", geometry.xyz_bohr);
        assert!((geometry.xyz_bohr[6] + 1.114_938_4).abs() < 1e-6);
        let neutral = AMMONIUM.replace("M  CHG  1   1   1\n", "M  CHG  2   1   1   2  -1\n");
        assert_eq!(Geometry::of_sdf(&neutral).unwrap().formal_charge, 0);
    }

    #[test]
    fn electrons_and_multiplicity_have_to_fit() {
        let ammonium = Geometry::of_sdf(AMMONIUM).unwrap();
        // 11 protons.
        let fits = |charge, multiplicity| ammonium.allows(charge, multiplicity);
        assert!(fits(1, 1) && fits(1, 3) && fits(0, 2) && fits(1, 11));
        assert!(!fits(1, 2) && !fits(0, 1) && !fits(1, 13) && !fits(11, 1) && !fits(1, 0));
    }

    #[test]
    fn what_is_no_geometry_is_named() {
        let check = |from: &str, to: &str, expect: &str| {
            let error = Geometry::of_sdf(&AMMONIUM.replacen(from, to, 1)).unwrap_err();
            assert!(error.starts_with(expect), "{error}");
        };
        check("V2000", "V3000", "no atoms in a V2000 record");
        check("  5  4", "  0  0", "no atoms in a V2000 record");
        check("  5  4", " 99  4", "fewer atoms than");
        check("0.5900", "   nan", "`       nan");
        check(" N  ", " Xx ", "`    0.0000    0.0000    0.0000 Xx");
        check("CHG  1   1   1", "CHG  1   1   x", "`  1   1   x` are no charges");
    }

    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn hostile_records_are_refused_or_finite(any in any::<String>(), at in 0..400_usize) {
            let at = AMMONIUM.floor_char_boundary(at.min(AMMONIUM.len()));
            for text in [any.clone(), format!("{}{any}{}", &AMMONIUM[..at], &AMMONIUM[at..])] {
                if let Ok(geometry) = Geometry::of_sdf(&text) {
                    prop_assert!(geometry.xyz_bohr.len() == 3 * geometry.elements.len());
                    prop_assert!(geometry.xyz_bohr.iter().all(|x| x.is_finite()));
                }
            }
        }
    }
}
