//! Putting right what a look found. Every step is one that may run twice, and each does nothing if the run has gone on since.

use common::queue::Adoption;
use common::task::{ManifestReader, TaskId, encode_molecules};

use super::look::{Audited, Look, Mend};
use crate::error::LaunchpadError;

/// Tasks per call: Redis is held for some 10 ms.
const STEP: usize = 500;
/// Tasks that are put into their place per look: each walks the lists of pending and dead tasks.
const PLACES_MAX: usize = 200;

/// Puts right what a look found, as far as it can be done at once. Returns how much that was; look again for the rest.
pub(crate) async fn mend(audited: &Audited<'_>, look: &Look) -> Result<u64, LaunchpadError> {
    let mends = || look.findings.iter().filter_map(|finding| finding.mend.as_ref());
    // First, since everything else is an event.
    let mut done = repair(audited, look).await?;
    let adoptions: Vec<Adoption> = mends()
        .filter_map(|mend| match mend {
            Mend::Adopt(adoption) => Some(adoption.clone()),
            Mend::Push(_) | Mend::Place(_) | Mend::Counter(..) => None,
        })
        .collect();
    for step in adoptions.chunks(STEP) {
        done += audited.queue.adopt(audited.run, step).await?;
    }
    for mend in mends() {
        if let Mend::Push(from) = mend {
            done += push(audited, *from).await?;
        }
    }
    Ok(done)
}

async fn repair(audited: &Audited<'_>, look: &Look) -> Result<u64, LaunchpadError> {
    let (mut counters, mut tasks) = (Vec::new(), Vec::new());
    for mend in look.findings.iter().filter_map(|finding| finding.mend.as_ref()) {
        match mend {
            Mend::Counter(name, counted) => counters.push((*name, *counted)),
            Mend::Place(task) if tasks.len() < PLACES_MAX => tasks.push(*task),
            Mend::Place(_) | Mend::Push(_) | Mend::Adopt(_) => {}
        }
    }
    if counters.is_empty() && tasks.is_empty() {
        return Ok(0);
    }
    let is_done = audited.queue.repair(audited.run, &look.latest_event, &counters, &tasks).await?;
    Ok(if is_done { (counters.len() + tasks.len()) as u64 } else { 0 })
}

/// Pushes the tasks from this one on, and seals.
async fn push(audited: &Audited<'_>, from: TaskId) -> Result<u64, LaunchpadError> {
    let (run, digest) = (audited.run, &audited.info.digest);
    let mut tasks = ManifestReader::new(audited.manifest.open()?);
    let mut next = from;
    let mut rest = tasks.by_ref().filter(|task| task.as_ref().map_or(true, |(id, _)| *id >= from)).peekable();
    while rest.peek().is_some() {
        let chunk = rest.by_ref().take(STEP).collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<String> = chunk.iter().map(|(_, molecules)| encode_molecules(molecules)).collect();
        audited.queue.push(run, digest, next, &inputs).await?;
        next = TaskId(next.0 + inputs.len() as u64);
    }
    // A push that fell short is found by the next look.
    audited.queue.seal(run, audited.info.spec.manifest.tasks).await?;
    Ok(next.0 - from.0 + 1)
}
