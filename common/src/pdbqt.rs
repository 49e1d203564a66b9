//! Tells a PDBQT file from a PDB file of that name. Pure; it reads no coordinates and judges no chemistry.
//!
//! The format is that of the PDB with a partial charge in columns 71–76 and AutoDock's atom type in columns 78–79 (AutoDock 4.2 User
//! Guide, Appendix I; Vina reads the charge from columns 69–76). Vina takes a missing charge for 0 and reads the type alone, in which
//! place a PDB file may have the second column of an element: it then docks with wrong types and exits 0.

/// The first line of an atom, with its number from 1, that has no charge or no type in its place.
pub fn untyped_atom(text: &str) -> Option<(u64, &str)> {
    let atoms =
        text.lines().zip(1..).filter(|(line, _)| line.starts_with("ATOM  ") || line.starts_with("HETATM"));
    atoms.into_iter().find(|(line, _)| !is_typed(line)).map(|(line, number)| (number, line))
}

fn is_typed(line: &str) -> bool {
    let charge = line.get(68..76).map(str::trim).and_then(|charge| charge.parse::<f64>().ok());
    let kind = line.get(77..line.len().min(79)).unwrap_or_default().trim();
    charge.is_some_and(f64::is_finite) && kind.starts_with(|letter: char| letter.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAVITY: &str = include_str!("../../tests/golden/openbabel-3.1.1-t4l-l99a-cavity.pdbqt");
    const PDB: &str = include_str!("../../examples/t4l-l99a/receptor.pdb");

    #[test]
    fn real_files_are_told_apart() {
        assert_eq!(untyped_atom(CAVITY), None);
        let (number, line) = untyped_atom(PDB).unwrap();
        assert_eq!((number, line.trim_end()), (2, PDB.lines().nth(1).unwrap().trim_end()));
        assert_eq!(untyped_atom("REMARK\nTER\n"), None);
    }

    #[test]
    fn an_element_is_no_type_and_a_segment_no_charge() {
        let atom = "ATOM      1  N   MET A   1      59.470  35.630  24.910  1.00 20.00";
        let check = |rest: &str, typed: bool| {
            assert_eq!(untyped_atom(&format!("{atom}{rest}")).is_none(), typed, "{rest}");
        };
        check("    -0.064 N ", true);
        check("    +0.000 HD", true);
        check("      0.10 A", true);
        check("           N", false);
        check("      PROA N  ", false);
        check("    -0.064", false);
        check("    -0.064 ", false);
        check("    -0.064  2", false);
        check("       nan N ", false);
        check("", false);
        check("    -0.06é N ", false);
    }
}
