//! Where docking searches: a box with edges along the axes, given by the user or laid round a reference structure.

use crate::input::HeavyAtoms;

/// A search box in the receptor's coordinates. All numbers are rounded to 0.001 Å, the precision of PDB files, so that a
/// box made from the same structure always has the same bytes in the run's spec.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchBox {
    center: [f64; 3],
    size: [f64; 3],
}

/// No edge is shorter, in Å: a benzene ring is 2.8 Å wide, and a box that holds not even one ring was meant in nm or as a padding.
const EDGE_MIN_ANGSTROM: f64 = 3.0;

/// Says what is wrong with a box.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SearchBoxError {
    /// An edge is too short for a molecule, or no length.
    #[error("the {axis} edge of the search box is {found} Å (expected {EDGE_MIN_ANGSTROM} or more)")]
    Edge {
        /// `x`, `y` or `z`.
        axis: char,
        /// Its length in Å.
        found: f64,
    },
    /// A coordinate of the centre is infinite or no number.
    #[error("the {axis} coordinate of the search box's centre is {found} (expected a finite number in Å)")]
    Center {
        /// `x`, `y` or `z`.
        axis: char,
        /// The coordinate.
        found: f64,
    },
}

impl SearchBox {
    /// What [`SearchBox::around`] adds on every side unless told otherwise, in Å: the default of smina's and gnina's
    /// `--autobox_add`.
    pub const PADDING_DEFAULT: f64 = 4.0;

    /// A box by its centre and the lengths of its edges, x y z in Å.
    pub fn new(center: [f64; 3], size: [f64; 3]) -> Result<Self, SearchBoxError> {
        let (center, size) = (center.map(rounded), size.map(rounded));
        for (index, axis) in ['x', 'y', 'z'].into_iter().enumerate() {
            let (found, edge) = (center[index], size[index]);
            if !found.is_finite() {
                return Err(SearchBoxError::Center { axis, found });
            }
            if !edge.is_finite() || edge < EDGE_MIN_ANGSTROM {
                return Err(SearchBoxError::Edge { axis, found: edge });
            }
        }
        Ok(Self { center, size })
    }

    /// A box of a given size on the centroid of a structure's heavy atoms, each counting alike.
    pub fn centered_on(atoms: &HeavyAtoms, size: [f64; 3]) -> Result<Self, SearchBoxError> {
        Self::new(atoms.centroid(), size)
    }

    /// The bounding box of a structure's heavy atoms with `padding` Å more on each of its six sides.
    pub fn around(atoms: &HeavyAtoms, padding: f64) -> Result<Self, SearchBoxError> {
        let (lowest, highest) = atoms.bounds();
        let center = [0, 1, 2].map(|axis| f64::midpoint(lowest[axis], highest[axis]));
        let size = [0, 1, 2].map(|axis| highest[axis] - lowest[axis] + 2.0 * padding);
        Self::new(center, size)
    }

    /// Its centre, x y z in Å.
    pub const fn center(&self) -> [f64; 3] {
        self.center
    }

    /// The lengths of its edges, x y z in Å, each 3 or more.
    pub const fn size(&self) -> [f64; 3] {
        self.size
    }

    /// Its volume in Å³.
    pub(crate) fn volume(&self) -> f64 {
        self.size.iter().product()
    }

    /// Whether a position is in it, or at most `margin` Å beyond a side.
    pub(crate) fn holds(&self, position: [f64; 3], margin: f64) -> bool {
        (0..3).all(|axis| (position[axis] - self.center[axis]).abs() <= self.size[axis] / 2.0 + margin)
    }
}

/// To 0.001 Å. Adding zero turns −0 into 0, which would be written differently.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0 + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// p-xylene in the cavity of T4 lysozyme L99A, as openmmtools 0.27.0 has it (without the element column).
    const P_XYLENE: &str = "\
ATOM      1  C1  TMP     1      41.249  44.585  18.477
ATOM      2  C2  TMP     1      41.765  45.448  19.452
ATOM      3  C3  TMP     1      41.804  44.568  17.193
ATOM      4  C4  TMP     1      40.093  43.673  18.812
ATOM      5  C5  TMP     1      42.837  46.293  19.141
ATOM      6  C6  TMP     1      42.876  45.414  16.882
ATOM      7  C7  TMP     1      43.392  46.276  17.857
ATOM      8  C8  TMP     1      44.548  47.188  17.522
ATOM     11  H3  TMP     1      40.317  42.653  18.465
ATOM     18  H10 TMP     1      44.954  47.621  18.448
TER
END
";

    fn atoms(content: &str) -> HeavyAtoms {
        let file = tempfile::Builder::new().suffix(".pdb").tempfile().unwrap();
        std::fs::write(file.path(), content).unwrap();
        HeavyAtoms::read(file.path()).unwrap()
    }

    #[test]
    fn a_sized_box_sits_on_the_centroid_of_the_heavy_atoms() {
        let found = SearchBox::centered_on(&atoms(P_XYLENE), [14.0; 3]).unwrap();
        assert_eq!(found, SearchBox { center: [42.321, 45.431, 18.167], size: [14.0; 3] });
    }

    #[test]
    fn an_automatic_box_holds_the_heavy_atoms_and_the_padding() {
        let found = SearchBox::around(&atoms(P_XYLENE), SearchBox::PADDING_DEFAULT).unwrap();
        assert_eq!(found, SearchBox { center: [42.321, 45.431, 18.167], size: [12.455, 11.515, 10.57] });
    }

    #[test]
    fn numbers_are_written_alike_every_time() {
        let found = SearchBox::new([-0.000_1, 0.1 + 0.2, 1.000_499], [3.0, 4.0, 5.000_5]).unwrap();
        assert_eq!(serde_json::to_string(&found.center()).unwrap(), "[0.0,0.3,1.0]");
        assert_eq!(serde_json::to_string(&found.size()).unwrap(), "[3.0,4.0,5.001]");
    }

    #[test]
    fn boxes_without_room_are_refused() {
        let check = |center: [f64; 3], size: [f64; 3], expect: &str| {
            assert_eq!(SearchBox::new(center, size).unwrap_err().to_string(), expect);
        };
        check([0.0; 3], [3.0, 2.999, 3.0], "the y edge of the search box is 2.999 Å (expected 3 or more)");
        check([0.0; 3], [3.0, 0.000_1, 3.0], "the y edge of the search box is 0 Å (expected 3 or more)");
        check([0.0; 3], [3.0, 3.0, f64::NAN], "the z edge of the search box is NaN Å (expected 3 or more)");
        check(
            [f64::INFINITY, 0.0, 0.0],
            [3.0; 3],
            "the x coordinate of the search box's centre is inf (expected a finite number in Å)",
        );
        let one = atoms("ATOM      1  C1  TMP     1      41.249  44.585  18.477\n");
        assert!(SearchBox::around(&one, 0.0).is_err());
    }
}
