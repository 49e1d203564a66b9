//! Mistakes that a person could make in a script, each with a name; and the slips that change nothing anybody could see.

/// The mistake, the script's verb or `prelude`, the text as it is, and the text with the mistake.
pub(super) const NAMED: &[(&str, &str, &str, &str)] = &[];
