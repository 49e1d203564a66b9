//! A cheap look at a SMILES, so that a wrong column or a broken line is found before anything is pushed.
//!
//! It must not refuse what RDKit could read: whether it is a molecule is decided on the worker.

/// Says what cannot be part of a SMILES (Weininger, J. Chem. Inf. Comput. Sci. 1988, 28, 31, with RDKit's extensions).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SmilesFault {
    #[error("the SMILES is empty")]
    Empty,
    #[error("`{found}` at character {at} of the SMILES (expected {expected})", found = found.escape_debug())]
    Character { found: char, at: usize, expected: &'static str },
    #[error("`{bracket}` at character {at} of the SMILES has no partner")]
    Unbalanced { bracket: char, at: usize },
}

/// Checks characters and brackets.
pub(super) fn check_smiles(smiles: &str) -> Result<(), SmilesFault> {
    if smiles.is_empty() {
        return Err(SmilesFault::Empty);
    }
    let mut atom = None;
    let mut branches = Vec::new();
    for (index, found) in smiles.chars().enumerate() {
        let at = index + 1;
        match (found, atom) {
            ('[', None) => atom = Some(at),
            (']', Some(_)) => atom = None,
            ('(', None) => branches.push(at),
            (')', None) => {
                branches.pop().ok_or(SmilesFault::Unbalanced { bracket: ')', at })?;
            }
            (']', None) => return Err(SmilesFault::Unbalanced { bracket: ']', at }),
            (_, Some(_)) if !stands_in_brackets(found) => {
                let expected = "a letter, a digit or one of `@+-*:#` inside `[]`";
                return Err(SmilesFault::Character { found, at, expected });
            }
            (_, None) if !stands_alone(found) => {
                let expected = "an element of B C N O P S F Cl Br I, a digit, a bond or a bracket";
                return Err(SmilesFault::Character { found, at, expected });
            }
            _ => {}
        }
    }
    if let Some(at) = atom {
        return Err(SmilesFault::Unbalanced { bracket: '[', at });
    }
    branches.first().map_or(Ok(()), |&at| Err(SmilesFault::Unbalanced { bracket: '(', at }))
}

fn stands_in_brackets(character: char) -> bool {
    character.is_ascii_alphanumeric() || "@+-*:#'".contains(character)
}

/// Letters are those of the organic subset, with the second ones of Cl and Br; `<` and `>` are parts of dative bonds.
fn stands_alone(character: char) -> bool {
    character.is_ascii_digit() || "BCNOPSFIbcnopslr*-=#$:~/\\.%<>@".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rdkit_can_read_passes() {
        for smiles in [
            "c1cncc2c1ccs2",
            "CC(C)(C)c1ccc(cc1)[C@@H](O)[NH3+]",
            "F/C=C\\F",
            "[Na+].[Cl-]",
            "C%12CCCC%12",
            "C%(123)CCCC%(123)",
            "N->[Fe+2]<-N",
            "[13CH3:1]BrC$C~*",
            "[#6]C#N",
            "[se]1cccc1",
        ] {
            assert_eq!(check_smiles(smiles), Ok(()), "{smiles}");
        }
    }

    #[test]
    fn what_cannot_be_a_smiles_is_named() {
        let check = |smiles: &str, expect: &str| {
            let fault = check_smiles(smiles).unwrap_err().to_string();
            assert!(fault.starts_with(expect), "{smiles}: {fault}");
        };
        check("", "the SMILES is empty");
        check("benzene", "`e` at character 2 of the SMILES (expected an element");
        check("C C", "` ` at character 2");
        check("C\tC", "`\\t` at character 2");
        check("Cé", "`é` at character 2");
        check("C(C", "`(` at character 2 of the SMILES has no partner");
        check("C(C))", "`)` at character 5");
        check("C[NH", "`[` at character 2");
        check("CN]", "`]` at character 3");
        check("[[C]]", "`[` at character 2 of the SMILES (expected a letter");
        check("[C(N)]", "`(` at character 3");
    }
}
