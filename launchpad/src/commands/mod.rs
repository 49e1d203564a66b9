//! The commands, one file each. They decide what happens in which order; `output` prints.

mod audit;
mod cancel;
mod completions;
mod consolidate;
mod doctor;
mod drain;
mod driver;
mod export;
mod follow;
mod formulae;
mod local;
mod logs;
mod man;
mod merge;
mod pause;
mod plan;
mod poses;
mod push;
mod remove;
mod retry;
mod schema;
mod set;
mod show;
mod status;
mod tasks;
mod top;
mod trial;
mod tune;
mod watched;
mod workers;

use crate::cli::{Cli, Command};
use crate::error::LaunchpadError;
use crate::location::Location;
use crate::output::{self, Output};

/// What every command needs.
#[derive(Debug)]
pub(crate) struct Context {
    output: Output,
    location: Location,
}

/// Goes on only if a person says yes, and refuses where there is none to be asked.
fn confirm(command: &'static str, question: &str) -> Result<(), LaunchpadError> {
    if !output::can_ask() {
        return Err(LaunchpadError::NobodyToAsk { command });
    }
    if output::ask(question) { Ok(()) } else { Err(LaunchpadError::Declined) }
}

/// Does what a command line says.
pub(crate) async fn execute(cli: Cli, output: Output) -> Result<(), LaunchpadError> {
    let folder = std::env::current_dir().map_err(LaunchpadError::Runtime)?;
    let context = Context { output, location: Location::new(cli.redis, cli.redis_flags, cli.store, folder) };
    match cli.command {
        Command::Push(arguments) => push::push(&context, &arguments).await,
        Command::Status(arguments) => status::status(&context, &arguments).await,
        Command::Show(arguments) => show::show(&context, &arguments).await,
        Command::Tasks(arguments) => tasks::tasks(&context, &arguments).await,
        Command::Logs(arguments) => logs::logs(&context, &arguments).await,
        Command::Workers => workers::workers(&context).await,
        Command::Top(arguments) => top::top(&context, &arguments).await,
        Command::Poses(arguments) => poses::poses(&context, &arguments).await,
        Command::Export(arguments) => export::export(&context, &arguments).await,
        Command::Consolidate(arguments) => consolidate::consolidate(&context, &arguments).await,
        Command::Audit(arguments) => audit::audit(&context, &arguments).await,
        Command::Retry(arguments) => retry::retry(&context, &arguments).await,
        Command::Cancel(arguments) => cancel::cancel(&context, &arguments).await,
        Command::Drain(arguments) => drain::drain(&context, &arguments).await,
        Command::Pause(arguments) => pause::pause(&context, &arguments).await,
        Command::Resume(arguments) => pause::resume(&context, &arguments).await,
        Command::Set(arguments) => set::set(&context, &arguments).await,
        Command::Remove(arguments) => remove::remove(&context, &arguments).await,
        Command::Driver(arguments) => driver::driver(&context, &arguments).await,
        Command::Trial(arguments) => trial::trial(&context, &arguments).await,
        Command::Tune(arguments) => tune::tune(&context, &arguments).await,
        Command::Doctor(arguments) => doctor::doctor(&context, &arguments).await,
        Command::Completions(arguments) => completions::completions(&context, &arguments),
        Command::Plan(arguments) => plan::plan(&context, &arguments),
        Command::Formulae(arguments) => formulae::formulae(&context, &arguments),
        Command::Man(arguments) => man::man(&context, &arguments),
        Command::Schema => schema::schema(&context),
        Command::Local(arguments) => local::local(&context, &arguments),
    }
}
