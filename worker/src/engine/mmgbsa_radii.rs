//! Whether the atoms' radii fit the model of the solvent, as the input of gmx_MMPBSA says. Pure.
//!
//! With others gmx_MMPBSA ends well, and its total looks like one.

/// The models of generalised Born, `igb`, and the set of radii, `PBRadii`, that each was made with: bondi is 1, mbondi 2, mbondi2 3 and
/// mbondi3 4.
const RADII_OF_MODELS: [(u32, u32); 5] = [(1, 2), (2, 3), (5, 3), (7, 1), (8, 4)];

/// What is wrong with the radii of an input, if anything. Both have to be said: the defaults differ between versions.
pub(crate) fn mismatch(input: &str) -> Option<String> {
    let (Some(model), Some(radii)) = (number(input, "igb"), number(input, "PBRadii")) else {
        return Some("it does not say both igb and PBRadii".to_owned());
    };
    match RADII_OF_MODELS.into_iter().find(|(known, _)| *known == model) {
        Some((_, fits)) if fits == radii => None,
        Some((_, fits)) => Some(format!("PBRadii={radii} (expected {fits} for igb={model})")),
        None => Some(format!("igb={model} (expected 1, 2, 5, 7 or 8)")),
    }
}

/// The number that a variable of a Fortran namelist is given last. Names have no case, `#` begins a comment, and a list may stand in one line.
fn number(input: &str, name: &str) -> Option<u32> {
    let lines = input.lines().map(|line| line.split('#').next().unwrap_or_default().replace('=', " = "));
    let words: Vec<String> = lines
        .flat_map(|line| line.split([' ', '\t', ',', '/']).map(str::to_owned).collect::<Vec<_>>())
        .filter(|word| !word.is_empty())
        .collect();
    let given = words.windows(3).rfind(|words| words[0].eq_ignore_ascii_case(name) && words[1] == "=");
    given.and_then(|words| words[2].parse().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_model_has_its_radii_and_no_others() {
        let input = |model: u32, radii: u32| {
            format!(
                "&general\n  startframe=2, pbradii = {radii} , # PBRadii=9\n/\n&gb\nigb={model}, saltcon=0.15,\n/\n"
            )
        };
        for (model, fits) in RADII_OF_MODELS {
            for radii in 1..=4 {
                assert_eq!(mismatch(&input(model, radii)).is_none(), radii == fits, "{model} {radii}");
            }
        }
        assert_eq!(mismatch("&general PBRadii=3 /\n&gb igb=5 saltcon=0.15/"), None, "in one line");
        assert_eq!(mismatch(&input(5, 2)).unwrap(), "PBRadii=2 (expected 3 for igb=5)");
        assert_eq!(mismatch(&input(6, 2)).unwrap(), "igb=6 (expected 1, 2, 5, 7 or 8)");
        for silent in ["", "igb=5,", "PBRadii=3,", "igb=five, PBRadii=3"] {
            assert_eq!(mismatch(silent).unwrap(), "it does not say both igb and PBRadii", "{silent}");
        }
    }

    proptest! {
        #[test]
        fn hostile_input_has_no_radii(input in "[^0-9]*") {
            prop_assert!(mismatch(&input).is_some());
        }
    }
}
