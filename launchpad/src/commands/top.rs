//! `top`: the best molecules of what has succeeded so far.

use common::task::RunId;
use serde::Serialize;

use super::Context;
use crate::cli;
use crate::consolidation::Walk;
use crate::error::LaunchpadError;
use crate::output::{Report, Table, thousands};
use crate::ranking::{Ranking, rank};

#[derive(Debug, Serialize)]
struct Top<'a> {
    run: &'a RunId,
    #[serde(flatten)]
    ranking: Ranking,
}

/// Lists the best molecules.
pub(super) async fn top(context: &Context, arguments: &cli::Top) -> Result<(), LaunchpadError> {
    let queue = context.location.queue()?;
    let info = queue.run_info(&arguments.run).await?;
    let store = context.location.run_store(&info.store, &arguments.run)?;
    let line = context.output.progress("reading", info.spec.manifest.tasks);
    let walk = Walk { queue: &queue, store: &store, spec: &info.spec };
    let ranking = rank(&walk, &arguments.order, arguments.count, line).await?;
    context.output.report(&Top { run: &arguments.run, ranking })
}

impl Report for Top<'_> {
    fn text(&self) -> String {
        let ranking = &self.ranking;
        let (by, value) = (ranking.by.as_str(), format!(">{}", ranking.by));
        let mut columns = vec![">rank", "molecule", ">score", "unit"];
        if by != "score" {
            columns.push(&value);
        }
        columns.extend([">task", "smiles"]);
        let mut table = Table::new(&columns);
        for molecule in &ranking.best {
            let mut cells = vec![molecule.rank.to_string(), molecule.molecule_id.clone()];
            cells.extend([molecule.score.clone(), molecule.score_unit.clone()]);
            cells.extend((by != "score").then(|| molecule.value.clone()));
            cells.extend([molecule.task.to_string(), molecule.smiles.clone()]);
            table.row(cells);
        }
        let body =
            if table.is_empty() { "No molecule has a value yet.\n".to_owned() } else { table.to_string() };
        format!(
            "{body}\nfrom {} molecules of {} of {} tasks{}\n",
            thousands(ranking.molecules),
            thousands(ranking.tasks_included),
            thousands(ranking.tasks),
            if ranking.tasks_faulty == 0 {
                String::new()
            } else {
                format!("; {} were left out, their shards are damaged", thousands(ranking.tasks_faulty))
            }
        )
    }
}
