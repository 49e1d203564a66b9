//! The runs that a worker serves, in order of priority, and what each said last. Pure bookkeeping: it asks nobody.

use std::sync::Arc;
use std::time::Duration;

use common::backoff::Backoff;
use common::queue::WhyNothing;
use common::task::RunId;
use tokio::time::Instant;

use crate::serving::{Serving, ServingError};
use crate::slots::Slots;

/// How often the registry is read for new runs.
const REGISTRY_EVERY: Duration = Duration::from_secs(5);
/// How often a run is looked for that is not there, or asked again that Redis refused.
const ABSENT_EVERY: Duration = Duration::from_secs(2);
/// How long a run is left alone whose server was away: it may be well, and crash over the next task as over the last.
const DOUBTFUL_FOR: Duration = Duration::from_secs(5);
/// The pauses between requests for one run that Redis did not answer.
const UNANSWERED: Backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(5) };
/// How often a run is looked at again that this worker could not serve.
const UNFIT_EVERY: Duration = Duration::from_mins(5);

/// What to ask next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Which runs there are.
    Registry,
    /// What this run is.
    Serve(RunId),
    /// This many tasks of this run; 0 asks for none but those that an earlier request with this number gave.
    Lease {
        run: RunId,
        /// Of the spec that the worker knows.
        digest: String,
        request: u64,
        slots: u32,
    },
}

/// What is known of one run.
#[derive(Debug)]
struct Known {
    run: RunId,
    serving: Option<Arc<Serving>>,
    unfit: Option<ServingError>,
    /// The number of the next request; raised only after an answer that gave tasks.
    request: u64,
    /// Whether the last request got no answer: it may have given tasks that nobody renews until it is made again.
    is_unanswered: bool,
    /// How many requests in a row got no answer, also those about what it is.
    tries: u32,
    /// Whether there was a hint since it was asked: it may have overtaken an answer that is older than the new work.
    is_hinted: bool,
    due: Instant,
    /// Why it gave nothing last; `None` if it gave something, or was not asked yet.
    why: Option<Why>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Absent,
    Said(WhyNothing),
}

/// The runs of a worker.
#[derive(Debug)]
pub(crate) struct Runs {
    known: Vec<Known>,
    /// When the registry is read next; `None` if the worker was told its runs.
    registry_due: Option<Instant>,
    /// How often in a row it could not be read.
    registry_tries: u32,
    registry_read: bool,
}

impl Known {
    fn new(run: RunId) -> Self {
        Self {
            run,
            serving: None,
            unfit: None,
            request: 1,
            is_unanswered: false,
            tries: 0,
            is_hinted: false,
            due: Instant::now(),
            why: None,
        }
    }

    /// How many tasks of it fit into the free slots; a run that is not served yet takes none, and can always be looked at.
    fn fit(&self, slots: &Slots) -> u32 {
        self.serving.as_ref().map_or(1, |serving| slots.fit(serving.need()))
    }

    fn is_unfit_for_good(&self) -> bool {
        self.unfit.as_ref().is_some_and(|error| !error.may_pass())
    }

    /// Whether nothing says that asking it is in vain.
    const fn may_give(&self) -> bool {
        self.why.is_none() && self.unfit.is_none()
    }

    /// The next request for so many tasks.
    fn lease(&self, slots: u32) -> Next {
        let digest = self.serving.as_ref().map_or_else(String::new, |serving| serving.info.digest.clone());
        Next::Lease { run: self.run.clone(), digest, request: self.request, slots }
    }

    /// What to ask it now.
    fn next(&self, slots: u32) -> Next {
        if self.serving.is_some() || self.is_unanswered {
            self.lease(slots)
        } else {
            Next::Serve(self.run.clone())
        }
    }

    /// Whether the last request got no answer.
    const fn is_silent(&self) -> bool {
        self.tries > 0
    }

    const fn answered(&mut self) {
        (self.is_unanswered, self.tries) = (false, 0);
    }

    fn later(&mut self, pause: Duration) {
        self.due = Instant::now() + pause;
    }
}

impl Runs {
    pub(crate) fn new(told: &[RunId]) -> Self {
        let mut known: Vec<Known> = Vec::with_capacity(told.len());
        for run in told {
            // A run that was named twice has one row of request numbers all the same.
            if known.iter().all(|other| other.run != *run) {
                known.push(Known::new(run.clone()));
            }
        }
        Self {
            known,
            registry_due: told.is_empty().then(Instant::now),
            registry_tries: 0,
            registry_read: false,
        }
    }

    /// What to ask now, if anything: the highest priority that is due and fits into the free slots. If that gave nothing last time,
    /// whatever has waited longest comes first: else it would always be the turn of the first runs once there are so many that some are
    /// due again before the last was asked. Runs that did not answer are passed over.
    pub(crate) fn next(&self, slots: &Slots) -> Option<Next> {
        let now = Instant::now();
        if self.registry_tries == 0 && self.registry_due.is_some_and(|due| due <= now) {
            return Some(Next::Registry);
        }
        let due = || self.asked_in_turn(slots).filter(|known| known.due <= now);
        let known =
            due().next().filter(|first| first.may_give()).or_else(|| due().min_by_key(|known| known.due))?;
        Some(known.next(known.fit(slots)))
    }

    /// What to ask once more, beside what is asked in turn: whatever got no answer and has waited longest for the next try, be there a
    /// free slot or not. A request for tasks is the same one with no slots: it may have given tasks, and gives no new ones.
    pub(crate) fn next_again(&self) -> Option<Next> {
        let now = Instant::now();
        let known = self.silent().min_by_key(|known| known.due).filter(|known| known.due <= now);
        let registry_due = self.silent_registry_due().filter(|due| *due <= now);
        match (known, registry_due) {
            (Some(known), due) if due.is_none_or(|due| known.due <= due) => Some(known.next(0)),
            (_, due) => due.map(|_| Next::Registry),
        }
    }

    /// When the next request is due that fits into the free slots.
    pub(crate) fn next_due(&self, slots: &Slots) -> Option<Instant> {
        let registry = self.registry_due.filter(|_| self.registry_tries == 0);
        self.asked_in_turn(slots).map(|known| known.due).chain(registry).min()
    }

    /// When the next request is due that got no answer.
    pub(crate) fn again_due(&self) -> Option<Instant> {
        self.silent().map(|known| known.due).chain(self.silent_registry_due()).min()
    }

    /// The runs that answer, of which tasks fit into the free slots.
    fn asked_in_turn(&self, slots: &Slots) -> impl Iterator<Item = &Known> {
        self.known.iter().filter(|known| !known.is_silent() && known.fit(slots) > 0)
    }

    fn silent(&self) -> impl Iterator<Item = &Known> {
        self.known.iter().filter(|known| known.is_silent())
    }

    fn silent_registry_due(&self) -> Option<Instant> {
        self.registry_due.filter(|_| self.registry_tries > 0)
    }

    /// This run is being asked for tasks.
    pub(crate) fn asked(&mut self, run: &RunId) {
        self.with(run, |known| (known.is_unanswered, known.is_hinted) = (true, false));
    }

    /// A request about this run got no answer. It is made again after a pause, and holds up no other run until then.
    pub(crate) fn unanswered(&mut self, run: &RunId) {
        self.with(run, |known| {
            known.tries += 1;
            known.later(UNANSWERED.pause(known.tries, &mut rand::rng()));
        });
    }

    /// The registry could not be read.
    pub(crate) fn registry_unanswered(&mut self) {
        self.registry_tries += 1;
        let pause = UNANSWERED.pause(self.registry_tries, &mut rand::rng());
        self.registry_due = self.registry_due.map(|_| Instant::now() + pause);
    }

    /// The runs that were asked for tasks, with the number of the next request.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (&Serving, u64)> {
        self.known.iter().filter_map(|known| Some((known.serving.as_deref()?, known.request)))
    }

    /// There may be work: ask every run now. Those that did not answer keep their pause.
    pub(crate) fn wake(&mut self) {
        let now = Instant::now();
        for known in self.known.iter_mut().filter(|known| known.unfit.is_none()) {
            known.due = if known.is_silent() { known.due } else { now };
            known.is_hinted = true;
        }
        if self.registry_tries == 0 {
            self.registry_due = self.registry_due.map(|_| now);
        }
    }

    /// A slot is free: ask this run now.
    pub(crate) fn wake_one(&mut self, run: &RunId) {
        let now = Instant::now();
        // What was due and not asked for want of slots has said its last word long ago: it counts no more.
        for known in self.known.iter_mut().filter(|known| known.due < now) {
            known.why = None;
        }
        self.with(run, |known| known.due = if known.is_silent() { known.due } else { now });
    }

    /// The registry has these runs, the highest priority first.
    pub(crate) fn registered(&mut self, runs: Vec<RunId>) {
        let mut old = std::mem::take(&mut self.known);
        self.known = runs
            .into_iter()
            .map(|run| match old.iter().position(|known| known.run == run) {
                Some(at) => old.swap_remove(at),
                None => Known::new(run),
            })
            .collect();
        (self.registry_read, self.registry_tries) = (true, 0);
        self.registry_due = self.registry_due.map(|_| Instant::now() + REGISTRY_EVERY);
    }

    pub(crate) fn served(&mut self, run: &RunId, serving: Arc<Serving>) {
        self.with(run, |known| {
            known.answered();
            known.serving = Some(serving);
            known.unfit = None;
        });
    }

    /// Whether this is another reason than the last one why the run can't be served.
    pub(crate) fn is_news(&self, run: &RunId, error: &ServingError) -> bool {
        let unfit = self.known.iter().find(|known| known.run == *run).and_then(|known| known.unfit.as_ref());
        unfit.is_none_or(|unfit| unfit.to_string() != error.to_string())
    }

    pub(crate) fn unfit(&mut self, run: &RunId, error: ServingError) {
        self.with(run, |known| {
            known.answered();
            known.later(if error.may_pass() { ABSENT_EVERY } else { UNFIT_EVERY });
            known.unfit = Some(error);
        });
    }

    /// The run is not there, or not any more; under the same id another one may come.
    pub(crate) fn gone(&mut self, run: &RunId) {
        let is_told = self.is_told();
        self.with(run, |known| {
            if known.serving.is_some() {
                tracing::warn!(%run, "the run was removed");
            } else if is_told && known.why != Some(Why::Absent) {
                let hint = "`launchpad status` lists the runs; with --exit-when empty a worker does not wait";
                tracing::warn!(%run, hint, "there is no such run yet");
            }
            known.serving = None;
            known.answered();
            known.why = Some(Why::Absent);
            known.later(ABSENT_EVERY);
        });
    }

    /// Another run has this id now: it is read before it is asked again.
    pub(crate) fn changed(&mut self, run: &RunId) {
        self.with(run, |known| {
            known.serving = None;
            known.answered();
            known.why = None;
        });
    }

    /// A server of this run's engine may be away: whether one is well is found out before the run is asked again.
    pub(crate) fn doubt(&mut self, run: &RunId) {
        self.with(run, |known| {
            // What was asked and not answered yet may have given tasks, which need to be served.
            if !known.is_unanswered {
                known.serving = None;
            }
            known.later(DOUBTFUL_FOR);
        });
    }

    /// Redis refused the request. It is made again later, and holds up no other run until then.
    pub(crate) fn refused(&mut self, run: &RunId) {
        self.with(run, |known| {
            known.answered();
            known.later(ABSENT_EVERY);
        });
    }

    pub(crate) fn granted(&mut self, run: &RunId) {
        self.with(run, |known| {
            known.request += 1;
            known.answered();
            known.why = None;
        });
    }

    pub(crate) fn nothing(&mut self, run: &RunId, why: WhyNothing, wait: Duration) {
        self.with(run, |known| {
            if known.why != Some(Why::Said(why)) {
                tell(run, why);
            }
            known.answered();
            // A request that was only made again, for no slots, says nothing about new tasks.
            let is_asked_again = why == WhyNothing::NoneAsked;
            known.why = if is_asked_again { None } else { Some(Why::Said(why)) };
            known.later(if known.is_hinted || is_asked_again { Duration::ZERO } else { wait });
        });
    }

    pub(crate) fn stale(&mut self, run: &RunId, answered: u64) {
        self.with(run, |known| {
            known.request = known.request.max(answered) + 1;
            known.answered();
        });
    }

    pub(crate) fn serving(&self, run: &RunId) -> Option<Arc<Serving>> {
        self.known.iter().find(|known| known.run == *run)?.serving.clone()
    }

    /// Whether every run has said that it is drained. A run that is not there yet is waited for.
    pub(crate) fn all_drained(&self) -> bool {
        self.all(|why| matches!(why, Why::Said(WhyNothing::Drained)))
    }

    /// Whether no run has anything to lease now.
    pub(crate) fn all_empty(&self) -> bool {
        let nothing = |why| matches!(why, Why::Absent | Why::Said(WhyNothing::Drained | WhyNothing::Empty));
        self.all(nothing) || (self.registry_read && self.known.is_empty())
    }

    /// Whether this holds of every run that the worker can serve, or perhaps can later.
    fn all(&self, is: impl Fn(Why) -> bool) -> bool {
        let mut fit = self.known.iter().filter(|known| !known.is_unfit_for_good()).peekable();
        fit.peek().is_some()
            && fit.all(|known| known.unfit.is_none() && !known.is_silent() && known.why.is_some_and(&is))
    }

    /// Whether not one of the runs that the worker was told can be served, for good.
    pub(crate) fn all_unfit(&self) -> bool {
        self.is_told() && self.known.iter().all(Known::is_unfit_for_good)
    }

    /// Whether the worker was told its runs, by name.
    pub(crate) fn is_told(&self) -> bool {
        self.registry_due.is_none()
    }

    /// The reason why a run can't be served for good, if there is one.
    pub(crate) fn take_unfit(&mut self) -> Option<ServingError> {
        self.known.iter_mut().find(|known| known.is_unfit_for_good())?.unfit.take()
    }

    fn with(&mut self, run: &RunId, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.known.iter_mut().find(|known| known.run == *run) {
            change(known);
        }
    }
}

/// Says why a run gave nothing, once.
fn tell(run: &RunId, why: WhyNothing) {
    match why {
        WhyNothing::NoneAsked => {}
        WhyNothing::Damaged => tracing::warn!(
            %run,
            hint = "`launchpad audit` of the run tells what another hand has changed, and --fix puts right what it can",
            "tasks are pending, and none of them is on the list or can be read"
        ),
        WhyNothing::Paused | WhyNothing::Cap | WhyNothing::Empty | WhyNothing::Drained => {
            tracing::info!(%run, ?why, "nothing to do");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::Need;

    fn run(id: &str) -> RunId {
        id.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_leaves_when_all_its_runs_are_drained() {
        let mut runs = Runs::new(&[run("a"), run("b")]);
        runs.nothing(&run("a"), WhyNothing::Drained, Duration::from_secs(5));
        assert!(!runs.all_drained());
        runs.gone(&run("b"));
        assert!(!runs.all_drained() && runs.all_empty());
        runs.nothing(&run("b"), WhyNothing::Empty, Duration::from_secs(5));
        assert!(!runs.all_drained() && runs.all_empty());
        runs.nothing(&run("b"), WhyNothing::Drained, Duration::from_secs(5));
        assert!(runs.all_drained());
        runs.granted(&run("b"));
        assert!(!runs.all_drained() && !runs.all_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_of_all_runs_waits_for_the_first_one() {
        let mut runs = Runs::new(&[]);
        assert!(matches!(runs.next(&Slots::new(1, 0, 1)), Some(Next::Registry)));
        assert!(!runs.all_empty());
        runs.registered(vec![]);
        assert!(!runs.all_drained() && runs.all_empty());
        assert!(runs.next(&Slots::new(1, 0, 1)).is_none());
        runs.wake();
        assert!(matches!(runs.next(&Slots::new(1, 0, 1)), Some(Next::Registry)));
        runs.registered(vec![run("a")]);
        assert!(matches!(runs.next(&Slots::new(1, 0, 1)), Some(Next::Serve(next)) if next == run("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_are_kept_until_a_hint() {
        let mut runs = Runs::new(&[run("a")]);
        runs.gone(&run("a"));
        assert!(runs.next(&Slots::new(1, 0, 1)).is_none());
        runs.wake();
        assert!(matches!(runs.next(&Slots::new(1, 0, 1)), Some(Next::Serve(next)) if next == run("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hint_that_overtakes_an_older_answer_is_not_forgotten() {
        let mut runs = Runs::new(&[run("a")]);
        runs.asked(&run("a"));
        runs.wake();
        runs.nothing(&run("a"), WhyNothing::Empty, Duration::from_secs(5));
        assert!(matches!(runs.next(&Slots::new(1, 0, 1)), Some(Next::Serve(next)) if next == run("a")));
        runs.asked(&run("a"));
        runs.nothing(&run("a"), WhyNothing::Empty, Duration::from_secs(5));
        assert!(runs.next(&Slots::new(1, 0, 1)).is_none(), "it was heeded once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_is_named_twice_is_asked_once() {
        let mut runs = Runs::new(&[run("a"), run("a")]);
        runs.nothing(&run("a"), WhyNothing::Drained, Duration::from_secs(5));
        assert!(runs.all_drained());
        assert!(runs.next(&Slots::new(1, 0, 1)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_answer_is_no_reason_to_leave() {
        let mut runs = Runs::new(&[run("a"), run("b")]);
        runs.nothing(&run("a"), WhyNothing::Drained, Duration::from_secs(5));
        runs.granted(&run("b"));
        // An hour of work for `b` on all cores, in which somebody requeues a task of `a`.
        tokio::time::advance(Duration::from_hours(1)).await;
        runs.wake_one(&run("b"));
        runs.nothing(&run("b"), WhyNothing::Drained, Duration::from_secs(5));
        assert!(!runs.all_drained());
        runs.nothing(&run("a"), WhyNothing::Drained, Duration::from_secs(5));
        assert!(runs.all_drained());
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_cannot_be_served_now_is_not_drained() {
        let mut runs = Runs::new(&[run("a"), run("b")]);
        runs.nothing(&run("a"), WhyNothing::Drained, Duration::from_secs(5));
        runs.unfit(&run("b"), ServingError::Queue(common::queue::QueueError::NoSuchRun(run("b"))));
        assert!(!runs.all_drained() && !runs.all_empty() && !runs.all_unfit());
        runs.unfit(&run("b"), ServingError::Cores { run: run("b"), needed: 2, cores: 1 });
        assert!(runs.all_drained() && !runs.all_unfit());
        assert!(matches!(runs.take_unfit(), Some(ServingError::Cores { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn many_runs_that_have_nothing_hold_up_none_that_comes_after_them() {
        let many: Vec<RunId> = (0..200).map(|n| run(&format!("r{n}"))).collect();
        let mut runs = Runs::new(&many);
        let mut asked = std::collections::BTreeSet::new();
        // Each answer takes 10 ms, and 20 of them as long as the runs have to be left alone.
        for _ in 0..3 * many.len() {
            let Some(Next::Serve(next)) = runs.next(&Slots::new(1, 0, 1)) else { panic!("all is due") };
            tokio::time::advance(Duration::from_millis(10)).await;
            runs.nothing(&next, WhyNothing::Drained, Duration::from_millis(200));
            asked.insert(next);
        }
        assert_eq!(asked.len(), many.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_gives_tasks_is_asked_by_its_priority() {
        let mut runs = Runs::new(&[run("high"), run("low")]);
        let next = |runs: &Runs| match runs.next(&Slots::new(1, 0, 1)) {
            Some(Next::Serve(next)) => next,
            other => panic!("{other:?}"),
        };
        runs.nothing(&run("high"), WhyNothing::Empty, Duration::from_secs(5));
        assert_eq!(next(&runs), run("low"));
        tokio::time::advance(Duration::from_secs(6)).await;
        // What was due while all slots were taken may have tasks again.
        runs.wake_one(&run("low"));
        assert_eq!(next(&runs), run("high"));
        runs.granted(&run("high"));
        assert_eq!(next(&runs), run("high"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_an_answer_is_made_again_before_the_run_is_asked_anything_new() {
        let mut runs = Runs::new(&[run("a"), run("b")]);
        let mut slots = Slots::new(1, 0, 1);
        runs.asked(&run("a"));
        runs.unanswered(&run("a"));
        // While it is left alone, the other one is asked all the same.
        assert_eq!(runs.next(&slots), Some(Next::Serve(run("b"))));
        runs.wake();
        runs.wake_one(&run("a"));
        tokio::time::advance(UNANSWERED.longest).await;
        let again = Some(Next::Lease { run: run("a"), digest: String::new(), request: 1, slots: 0 });
        assert_eq!(runs.next_again(), again, "the same number, and no new tasks");
        assert_eq!(runs.next(&slots), Some(Next::Serve(run("b"))), "never anything new");
        slots.take(Need { threads: 1, gpu: false }).unwrap();
        assert_eq!(runs.next_again(), again, "be there a free slot or not");
        runs.granted(&run("a"));
        assert_eq!((runs.next_again(), runs.again_due()), (None, None));
        runs.asked(&run("a"));
        runs.unanswered(&run("a"));
        tokio::time::advance(UNANSWERED.longest).await;
        runs.nothing(&run("a"), WhyNothing::NoneAsked, Duration::from_secs(5));
        assert_eq!(runs.next(&Slots::new(1, 0, 1)), Some(Next::Serve(run("a"))), "asked anew, and at once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_answer_is_tried_at_growing_intervals_and_holds_up_nothing() {
        let mut runs = Runs::new(&[]);
        let slots = Slots::new(1, 0, 1);
        runs.registered(vec![run("a"), run("b")]);
        runs.nothing(&run("a"), WhyNothing::Drained, Duration::ZERO);
        runs.unanswered(&run("a"));
        tokio::time::advance(REGISTRY_EVERY).await;
        runs.registry_unanswered();
        assert_eq!(runs.next(&slots), Some(Next::Serve(run("b"))), "neither the registry nor the first run");
        tokio::time::advance(UNANSWERED.longest).await;
        assert_eq!(runs.next_again(), Some(Next::Serve(run("a"))), "it has waited longest");
        runs.unanswered(&run("a"));
        assert_eq!(runs.next_again(), Some(Next::Registry));
        runs.registered(vec![run("a"), run("b")]);
        let due = runs.again_due().unwrap();
        assert!(due <= Instant::now() + UNANSWERED.ceiling(2) && runs.next_again().is_none());
        runs.nothing(&run("b"), WhyNothing::Drained, Duration::from_secs(5));
        assert!(!runs.all_drained() && !runs.all_empty(), "what it said before is no answer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_redis_refuses_holds_up_no_other() {
        let mut runs = Runs::new(&[run("a"), run("b")]);
        runs.asked(&run("a"));
        runs.refused(&run("a"));
        assert_eq!(runs.next(&Slots::new(1, 0, 1)), Some(Next::Serve(run("b"))));
        assert_eq!(runs.next_again(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn request_numbers_only_grow() {
        let mut runs = Runs::new(&[run("a")]);
        runs.granted(&run("a"));
        runs.stale(&run("a"), 7);
        assert_eq!(runs.known[0].request, 8);
        runs.stale(&run("a"), 3);
        assert_eq!(runs.known[0].request, 9);
    }
}
