//! `poses`: the poses of the best molecules in one file, from the attempts that made their shards.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;

use common::queue::Queue;
use common::task::{RunId, TaskId};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use super::Context;
use crate::cli;
use crate::consolidation::Walk;
use crate::error::LaunchpadError;
use crate::new_file::{NewFile, is_stdout};
use crate::output::{Report, thousands};
use crate::poses::{PoseFormat, fetch, pose_text};
use crate::ranking::{Ranked, rank};

/// Molecules whose files are fetched at a time.
const FETCHES: usize = 8;

#[derive(Debug, Serialize)]
struct Written<'a> {
    run: &'a RunId,
    molecules: u64,
    poses: u64,
    tasks: u64,
    tasks_included: u64,
    tasks_faulty: u64,
    output: &'a Path,
}

/// Writes poses.
pub(super) async fn poses(context: &Context, arguments: &cli::Poses) -> Result<(), LaunchpadError> {
    let format = PoseFormat::of(&arguments.output)?;
    let run = &arguments.run;
    let queue = context.location.queue()?;
    let info = queue.run_info(run).await?;
    let store = context.location.run_store(&info.store, run)?;
    let line = context.output.progress("reading", info.spec.manifest.tasks);
    let walk = Walk { queue: &queue, store: &store, spec: &info.spec };
    let ranking = rank(&walk, &arguments.order, arguments.top, line).await?;
    let indices = indices(&queue, run, &ranking.best).await?;
    let mut file = NewFile::create(&arguments.output)?;
    let failed = |source| LaunchpadError::File { action: "write", path: arguments.output.clone(), source };
    let fetches = ranking.best.iter().map(async |molecule| {
        let index_sha256 = indices.get(&molecule.task).map_or("", String::as_str);
        Ok::<_, LaunchpadError>((
            molecule,
            fetch(&store, &info.spec.engine, molecule, index_sha256, format).await?,
        ))
    });
    let mut fetched = futures::stream::iter(fetches).buffered(FETCHES);
    let mut count = 0;
    while let Some((molecule, kept)) = fetched.try_next().await? {
        let (text, poses) = pose_text(run, molecule, &kept, (arguments.modes as usize, count))?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        count += poses;
    }
    file.publish()?;
    let written = Written {
        run,
        molecules: ranking.best.len() as u64,
        poses: count,
        tasks: ranking.tasks,
        tasks_included: ranking.tasks_included,
        tasks_faulty: ranking.tasks_faulty,
        output: &arguments.output,
    };
    context.output.report_beside(is_stdout(&arguments.output), &written)
}

/// The recorded digest of each task's index object.
async fn indices(
    queue: &Queue,
    run: &RunId,
    best: &[Ranked],
) -> Result<HashMap<TaskId, String>, LaunchpadError> {
    let tasks: Vec<TaskId> = best.iter().map(|molecule| molecule.task).collect();
    let infos = queue.tasks(run, &tasks).await?;
    Ok(tasks.into_iter().zip(infos).filter_map(|(task, info)| Some((task, info.index_sha256?))).collect())
}

impl Report for Written<'_> {
    fn text(&self) -> String {
        format!(
            "{} poses of {} molecules {}\nfrom {} of {} tasks\n",
            thousands(self.poses),
            thousands(self.molecules),
            if is_stdout(self.output) {
                "on standard output".to_owned()
            } else {
                format!("in {}", self.output.display())
            },
            thousands(self.tasks_included),
            thousands(self.tasks)
        )
    }
}
