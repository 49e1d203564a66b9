//! `man`: the manual pages, made from the command line's own definition.

use std::fs;
use std::path::PathBuf;

use clap::CommandFactory as _;
use serde::Serialize;

use super::Context;
use crate::cli::{self, Cli};
use crate::error::LaunchpadError;
use crate::output::Report;

#[derive(Debug, Serialize)]
struct Pages {
    folder: PathBuf,
}

impl Report for Pages {
    fn text(&self) -> String {
        let folder = self.folder.display();
        format!("Wrote the manual pages to {folder}; `man {folder}/launchpad.1` shows the first.\n")
    }
}

/// Writes one page for the program and one for each command.
pub(super) fn man(context: &Context, arguments: &cli::Man) -> Result<(), LaunchpadError> {
    let folder = arguments.output.clone();
    let written =
        fs::create_dir_all(&folder).and_then(|()| clap_mangen::generate_to(Cli::command(), &folder));
    written.map_err(|source| LaunchpadError::File { action: "write", path: folder.clone(), source })?;
    context.output.report(&Pages { folder })
}
