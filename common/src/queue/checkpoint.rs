//! Bundles from which the next attempt of a task can go on, and how far a task is: what Redis knows of them, and the call that says so.
//! The bundles themselves are in the store.

use std::fmt;
use std::str::FromStr;

use super::lease::fate;
use super::{Fate, Queue, QueueError, scripts};
use crate::task::{LeaseName, RunId, TaskId};

/// How long a release holds a task at most, in ms.
pub const HOLD_MAX_MS: u64 = 10_000;

/// A bundle in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The attempt that made it.
    pub lease: LeaseName,
    /// Its number within the attempt, from 1; free again once the bundle is deleted.
    pub number: u64,
    /// Of its bytes.
    pub sha256: String,
}

/// How far a task is: the steps done and those of the whole task.
pub type Progressed = (u64, u64);

/// What became of registering a bundle: those that are kept now, the newest first.
pub type Kept = Result<Vec<Bundle>, Fate>;

/// From where the next attempt of a task can go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// How far the newest bundle is, if its engine says.
    pub progress: Option<Progressed>,
    /// At most two, the newest first.
    pub bundles: Vec<Bundle>,
}

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}:{}", self.lease, self.number, self.sha256)
    }
}

/// Says that a text names no bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no bundle (expected <lease name>-<number>:<sha256>)")]
pub struct NoBundle(String);

impl FromStr for Bundle {
    type Err = NoBundle;

    fn from_str(text: &str) -> Result<Self, NoBundle> {
        let parse = || {
            let (name, sha256) = text.split_once(':')?;
            let (lease, number) = name.rsplit_once('-')?;
            let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
            let bundle = Self { lease: lease.parse().ok()?, number, sha256: sha256.to_owned() };
            // One spelling for each bundle: its name becomes the name of an object.
            (bundle.to_string() == text).then_some(bundle)
        };
        parse().ok_or_else(|| NoBundle(text.to_owned()))
    }
}

impl Checkpoint {
    /// Reads what Redis has. A bundle is a help and never needed: what can't be read is left out.
    pub fn parse(text: &str) -> Self {
        let mut words = text.split(' ');
        let progress = words.next().and_then(|word| word.split_once('/'));
        let progress = progress.and_then(|(step, steps)| Some((step.parse().ok()?, steps.parse().ok()?)));
        Self { progress, bundles: words.filter_map(|word| word.parse().ok()).collect() }
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&progress_text(self.progress))?;
        self.bundles.iter().try_for_each(|bundle| write!(f, " {bundle}"))
    }
}

fn progress_text(progress: Option<Progressed>) -> String {
    progress.map_or_else(|| "-".to_owned(), |(step, steps)| format!("{step}/{steps}"))
}

impl Queue {
    /// Records a bundle that stands in the store. Repeating it is fine. It ends the hold of a release of the same lease.
    pub async fn checkpoint(
        &self,
        run: &RunId,
        task: TaskId,
        bundle: &Bundle,
        progress: Option<Progressed>,
    ) -> Result<Kept, QueueError> {
        let arguments = (
            task.0,
            bundle.lease.to_string(),
            bundle.number,
            bundle.sha256.as_str(),
            progress_text(progress),
        );
        let reply = self.run_script(&scripts::CHECKPOINT, run, arguments).await?;
        if reply.code() != "ok" {
            return fate(&reply).map(Err);
        }
        let kept: Option<Vec<Bundle>> = reply.texts(1)?.into_iter().map(|text| text.parse().ok()).collect();
        kept.map(Ok).ok_or_else(|| reply.unknown())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_redis_has_is_read_as_it_was_written() {
        for text in ["-", "- 1.w1.1-1:5a", "3/9 12.w1.7-2:5a 12.w1.7-1:1d"] {
            assert_eq!(Checkpoint::parse(text).to_string(), text);
        }
        assert_eq!(Checkpoint::parse(""), Checkpoint::default());
    }

    #[test]
    fn a_bundle_that_has_no_proper_name_is_left_out() {
        for bundle in
            ["", "1.w1.1:5a", "1.w1.1-0:5a", "1.w1.1-01:5a", "../../x-1:5a", "1.w1.1-1", "01.w1.1-1:5a"]
        {
            assert_eq!(Checkpoint::parse(&format!("- {bundle}")), Checkpoint::default(), "`{bundle}`");
        }
    }

    proptest! {
        #[test]
        fn hostile_texts_become_no_path(text in ".{0,80}") {
            for bundle in Checkpoint::parse(&text).bundles {
                let name = format!("{}-{}", bundle.lease, bundle.number);
                prop_assert!(!name.contains('/') && !name.contains(".."), "{name}");
            }
        }
    }
}
