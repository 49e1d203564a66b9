//! `formulae`: lists molecular formulae, one per line. It needs neither Redis nor a store.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::Serialize;

use super::Context;
use crate::cli;
use crate::error::LaunchpadError;
use crate::formulae::{Formula, count, for_each};
use crate::new_file::{NewFile, is_stdout};
use crate::output::{self, Report, checked, thousands};

#[derive(Debug, Serialize)]
struct Line {
    formula: String,
    heavy_atoms: u32,
}

#[derive(Debug, Serialize)]
struct Summary {
    /// At most.
    heavy_atoms: u32,
    formulae: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<PathBuf>,
}

impl Report for Summary {
    fn text(&self) -> String {
        match &self.output {
            None => format!("{}\n", self.formulae),
            Some(output) => format!("{} formulae in {}\n", thousands(self.formulae), output.display()),
        }
    }
}

/// Counts the formulae, or writes them to a file or standard output.
pub(super) fn formulae(context: &Context, arguments: &cli::Formulae) -> Result<(), LaunchpadError> {
    let heavy_atoms = arguments.heavy_atoms;
    let json = context.output.is_json();
    let output = arguments.output.clone().filter(|path| !is_stdout(path));
    if let Some(path) = &output {
        let failed = |source| LaunchpadError::File { action: "write", path: path.clone(), source };
        let mut file = NewFile::create(path)?;
        write_all(heavy_atoms, json, &mut file).map_err(failed)?;
        file.publish()?;
    } else if !arguments.count {
        return checked(write_all(heavy_atoms, json, BufWriter::new(output::stdout())));
    }
    context.output.report(&Summary { heavy_atoms, formulae: count(heavy_atoms), output })
}

fn write_all(heavy_atoms: u32, json: bool, mut to: impl Write) -> io::Result<()> {
    let mut write = |formula: Formula| {
        if json {
            let line = Line { formula: formula.to_string(), heavy_atoms: formula.heavy_atoms() };
            serde_json::to_writer(&mut to, &line)?;
            to.write_all(b"\n")
        } else {
            writeln!(to, "{formula}")
        }
    };
    let ended = for_each(heavy_atoms, |formula| match write(formula) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    });
    match ended {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => to.flush(),
    }
}
