//! `schema`: prints the contract of the Redis keys, as `docs/protocol.md` has it.

use common::task::SPEC_SCHEMA;
use serde::Serialize;

use super::Context;
use crate::error::LaunchpadError;
use crate::output::Report;

const PROTOCOL: &str = include_str!("../../../docs/protocol.md");

#[derive(Debug, Serialize)]
struct Schema {
    version: u32,
    /// Markdown.
    keys: &'static str,
}

impl Report for Schema {
    fn text(&self) -> String {
        format!("Schema version {}\n\n{}\n", self.version, self.keys)
    }
}

/// Prints the section on keys with the schema's version.
pub(super) fn schema(context: &Context) -> Result<(), LaunchpadError> {
    context.output.report(&Schema { version: SPEC_SCHEMA, keys: keys(PROTOCOL) })
}

/// The section `## Keys`, up to the next heading of its level.
fn keys(protocol: &str) -> &str {
    let start = protocol.find("\n## Keys").map_or(0, |at| at + 1);
    let section = &protocol[start..];
    let end = section.find("\n## ").unwrap_or(section.len());
    section[..end].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_on_keys_is_found_in_the_page() {
        assert_eq!(keys("# P\n\n## A\nx\n\n## Keys\nk\n### more\ny\n\n## B\n"), "## Keys\nk\n### more\ny");
        assert!(keys(PROTOCOL).starts_with("## Keys"));
        assert!(keys(PROTOCOL).contains(common::queue::keys::RUNS));
    }
}
