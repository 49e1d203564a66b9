//! What the name of a pinned object below a run looks like: `inputs/<sha256>/<name>` or `drivers/<sha256>/<name>`. Its last part becomes
//! a file name on workers and an argument of programs, so nothing else is taken for one.

use crate::excerpt::excerpt_to;

/// The longest last part, in characters.
pub(crate) const NAME_LENGTH_MAX: usize = 100;
/// How much of a name a message quotes: the digest, and enough behind it.
const FOUND_MAX: usize = 200;

/// Where pinned objects are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Folder {
    /// Files of the user.
    Inputs,
    /// Scripts.
    Drivers,
}

impl Folder {
    const fn name(self) -> &'static str {
        match self {
            Self::Inputs => "inputs",
            Self::Drivers => "drivers",
        }
    }
}

/// Says which object has a name that no push gives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the object `{found}` can't be used (expected {folder}/<64 hexadecimal digits>/<name of A-Z a-z 0-9 _ . ->)"
)]
pub struct ObjectNameError {
    found: String,
    folder: &'static str,
}

/// Checks an object's name and gives the digest in it.
pub(super) fn check_object(object: &str, folder: Folder) -> Result<&str, ObjectNameError> {
    let parse = || {
        let mut parts = object.split('/');
        let (first, sha256, name) = (parts.next()?, parts.next()?, parts.next()?);
        let fits = first == folder.name() && is_sha256(sha256) && is_file_name(name);
        (fits && parts.next().is_none()).then_some(sha256)
    };
    parse().ok_or_else(|| ObjectNameError { found: excerpt_to(object, FOUND_MAX), folder: folder.name() })
}

/// Whether a text is a SHA-256 as this project writes it.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a character may be part of a file name in the store.
pub(crate) const fn is_allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-')
}

/// Whether a file name may start with this: neither a hidden file nor a flag.
pub(crate) const fn starts_name(character: char) -> bool {
    is_allowed(character) && !matches!(character, '.' | '-')
}

fn is_file_name(name: &str) -> bool {
    name.starts_with(starts_name) && name.len() <= NAME_LENGTH_MAX && name.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_push_gives_are_taken() {
        let sha256 = "0f".repeat(32);
        let check = |object: &str| check_object(object, Folder::Drivers).map(str::to_owned);
        assert_eq!(check(&format!("drivers/{sha256}/a-b_c.py")), Ok(sha256.clone()));
        for bad in ["-rf", "..", ".", "", ".x", "a b", "a\n", "a\0", "ä", "a/b", &"x".repeat(101)] {
            assert!(check(&format!("drivers/{sha256}/{bad}")).is_err(), "{bad:?}");
        }
        for bad in ["spec.json", "", "drivers//x", "drivers/0f/x", "../drivers/x", "/drivers/x/y"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check(&format!("inputs/{sha256}/x")).is_err());
        let error = check("../\nx").unwrap_err().to_string();
        assert!(error.starts_with("the object `../\\nx` can't be used (expected drivers/<64"), "{error}");
    }
}
