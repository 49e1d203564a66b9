//! x
use super::Context;
use crate::cli;
use crate::error::LaunchpadError;
pub(super) async fn trial(context: &Context, arguments: &cli::Trial) -> Result<(), LaunchpadError> {
    super::push::push(context, &arguments.push).await
}
