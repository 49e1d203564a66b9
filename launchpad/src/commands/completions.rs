//! `completions`: what a shell needs to complete commands and flags, made from the command line's own definition.

use clap::CommandFactory as _;
use clap_complete::aot;
use serde::Serialize;

use super::Context;
use crate::cli::{self, Cli, Shell};
use crate::error::LaunchpadError;
use crate::output::Report;

#[derive(Debug, Serialize)]
struct Script {
    shell: &'static str,
    script: String,
}

impl Report for Script {
    fn text(&self) -> String {
        self.script.clone()
    }
}

/// Prints the script of a shell.
pub(super) fn completions(context: &Context, arguments: &cli::Completions) -> Result<(), LaunchpadError> {
    context.output.report(&script(arguments.shell))
}

fn script(shell: Shell) -> Script {
    let (shell, generator) = match shell {
        Shell::Bash => ("bash", aot::Shell::Bash),
        Shell::Zsh => ("zsh", aot::Shell::Zsh),
        Shell::Fish => ("fish", aot::Shell::Fish),
    };
    let mut script = Vec::new();
    aot::generate(generator, &mut Cli::command(), "launchpad", &mut script);
    Script { shell, script: String::from_utf8(script).expect("help texts are UTF-8") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_flag_can_be_completed() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let Script { shell, script } = script(shell);
            let command = Cli::command();
            for subcommand in command.get_subcommands() {
                assert!(script.contains(subcommand.get_name()), "{shell}: {}", subcommand.get_name());
            }
            for flag in ["exhaustiveness", "until-drained", "measured"] {
                assert!(script.contains(flag), "{shell}: --{flag}");
            }
        }
    }
}
