//! Every script in every state of a task under every kind of lease name: the reply by the tables here, everything that Redis
//! holds by the model, each call twice. Calls are raw, so that names which no typed method would send are among them.

use common::queue::Charge;
use common::queue::model::Model;
use common::task::{LeaseName, Limits, Moments, State, TaskId};

use super::history::adoption;
use super::stage::{Moment, Stage};
use super::step::{Answer, BUNDLE, PIECE, Step, Success, WHY_PAUSED, WHY_RELEASED};
use super::{Snapshot, repairing};
use crate::sample_input;

/// A task that was leased twice, the second time as [`CURRENT`].
const SUBJECT: u64 = 0;
/// A task that stays pending and was never leased; the last of the run.
const UNTOUCHED: u64 = 4;
/// Tasks of the run. 1 is leased by w2, 2 is delayed, 3 and 4 are pending.
const TASKS: u64 = 5;
const CURRENT: &str = "2.w1.2";
const STALE: &str = "1.w1.1";
const NEVER_ISSUED: [&str; 6] = ["3.w1.3", "2.w2.2", "2.w1.1", "2.w1.22", "12.w1.2", "1.w1.2"];
const MALFORMED: [&str; 12] = [
    "",
    "2",
    "2.w1",
    "w1.2",
    "2.w1.",
    "2.w1.2 ",
    " 2.w1.2",
    "02.w1.2",
    "2.W1.2",
    "2.w1.2:failed",
    "%d+.w1.2",
    "2.w1.2.1",
];
/// Ids that are no task's; the last ones only look like the subject's.
const NO_TASK: [&str; 9] = ["5", "99", "", "x", "-1", "00", "0 ", "0.0", "1e0"];

/// The subject's states, and what leads from leased to each. A task that waits was never leased: [`while_it_waits`] has that one.
const LEASED: [&str; 8] =
    ["leased", "released", "on hold", "reclaimed", "delayed", "succeeded", "dead", "cancelled"];

/// What a script answers under the current name, by the states of [`LEASED`], the first time and again.
const UNDER_THE_CURRENT_NAME: [(&str, [&str; 8], [&str; 8]); 6] = [
    (
        "heartbeat",
        ["held", "unheld", "unheld", "unheld", "unheld", "lost", "lost", "cancelled"],
        ["held", "unheld", "unheld", "unheld", "unheld", "lost", "lost", "cancelled"],
    ),
    (
        "complete",
        ["ok", "ok", "ok", "ok", "ok", "ok", "lost dead", "cancelled"],
        ["ok", "ok", "ok", "ok", "ok", "ok", "lost dead", "cancelled"],
    ),
    (
        "fail",
        [
            "delayed",
            "lost pending",
            "lost delayed",
            "lost pending",
            "lost delayed",
            "lost succeeded",
            "lost dead",
            "cancelled",
        ],
        [
            "lost delayed",
            "lost pending",
            "lost delayed",
            "lost pending",
            "lost delayed",
            "lost succeeded",
            "lost dead",
            "cancelled",
        ],
    ),
    (
        "release",
        [
            "ok",
            "lost pending",
            "lost delayed",
            "lost pending",
            "lost delayed",
            "lost succeeded",
            "lost dead",
            "cancelled",
        ],
        [
            "lost pending",
            "lost pending",
            "lost delayed",
            "lost pending",
            "lost delayed",
            "lost succeeded",
            "lost dead",
            "cancelled",
        ],
    ),
    (
        "tell",
        [
            "ok",
            "lost pending",
            "lost delayed",
            "lost pending",
            "lost delayed",
            "lost succeeded",
            "lost dead",
            "cancelled",
        ],
        [
            "ok",
            "lost pending",
            "lost delayed",
            "lost pending",
            "lost delayed",
            "lost succeeded",
            "lost dead",
            "cancelled",
        ],
    ),
    (
        "checkpoint",
        ["ok", "ok", "ok", "ok", "ok", "lost succeeded", "lost dead", "cancelled"],
        ["ok", "ok", "ok", "ok", "ok", "lost succeeded", "lost dead", "cancelled"],
    ),
];

/// One call: the script, its arguments, and the step that the model takes for it.
struct Call {
    script: &'static str,
    arguments: Vec<String>,
    step: Step,
}

/// What only several calls show. Quick: it sees most mistakes that random histories seldom meet.
pub async fn scenarios(stage: &mut Stage) -> Result<(), String> {
    charged_to_death(stage).await?;
    hints(stage).await?;
    handed_over(stage).await?;
    groups(stage).await?;
    cancelled_in_order(stage).await?;
    repairing::scenarios(stage).await?;
    waiting_to_the_end(stage).await
}

/// The states of the table, each as it can be come back to.
#[derive(Debug)]
pub struct States(Vec<(&'static str, Kept)>);

/// The table: what is accepted under the current name, and the scripts that name no lease. What differs from it or from the model is the error.
pub async fn table(stage: &mut Stage) -> Result<States, String> {
    let leased = lead_to_leased(stage).await?;
    let mut states = Vec::new();
    for (number, state) in LEASED.into_iter().enumerate() {
        let context = |finding: String| format!("when {state}: {finding}");
        stage.restore(&leased).await?;
        lead_to(stage, state).await.map_err(context)?;
        let moment = stage.keep().await?;
        under_the_current_name(stage, &moment, number).await.map_err(context)?;
        others(stage, &moment, state).await.map_err(context)?;
        without_a_run(stage, &moment).await.map_err(context)?;
        states.push((state, moment));
    }
    in_a_new_run(stage).await?;
    while_it_waits(stage).await.map_err(|finding| format!("when waiting: {finding}"))?;
    Ok(States(states))
}

/// Names and ids that are refused in each state.
pub async fn refused(stage: &mut Stage, states: &States) -> Result<(), String> {
    for (state, moment) in &states.0 {
        refusals(stage, moment, state_of(state))
            .await
            .map_err(|finding| format!("when {state}: {finding}"))?;
    }
    Ok(())
}

/// The third back-off would be longer than the longest.
pub(super) fn limits() -> Limits {
    Limits { failures_max: 4, lapses_max: 2, backoff_max_ms: 100_000, ..Limits::default() }
}

fn worker(name: &str) -> common::task::WorkerId {
    name.parse().expect("a worker's id")
}

fn lease_name(name: &str) -> LeaseName {
    name.parse().expect("a lease name")
}

pub(super) fn lease(name: &str, request: u64, slots: u64) -> Step {
    Step::Lease { worker: worker(name), request, slots }
}

pub(super) fn complete(task: u64, name: &str) -> Step {
    Step::Complete(vec![(TaskId(task), lease_name(name), success())])
}

pub(super) fn fail(task: u64, name: &str, charge: Charge) -> Step {
    Step::Fail { task: TaskId(task), lease: lease_name(name), charge, jitter_ppm: 999_999 }
}

fn release(task: u64, name: &str) -> Step {
    Step::Release(TaskId(task), lease_name(name), 0)
}

const fn success() -> Success {
    let moments = Moments {
        queued: 1_000,
        leased: 2_500,
        staged: Some(2_600),
        engine_started: Some(2_700),
        engine_ended: Some(9_000),
        upload_started: Some(9_001),
        upload_ended: Some(9_017),
    };
    Success { molecules_ok: 3, molecules_bad: 1, bytes: (10, 20), moments }
}

/// A run with neighbours in several states, and the subject leased for the second time.
async fn lead_to_leased(stage: &mut Stage) -> Result<Kept, String> {
    stage.reset(&limits()).await?;
    let steps = [
        Step::Push { first: 0, tasks: TASKS },
        lease("w1", 1, 1),
        release(SUBJECT, STALE),
        lease("w1", 2, 1),
        lease("w2", 1, 2),
        fail(2, "1.w2.1", Charge::Failure),
    ];
    for step in steps {
        stage.take(&step).await?;
    }
    stage.keep().await
}

async fn lead_to(stage: &mut Stage, state: &str) -> Result<(), String> {
    let steps = match state {
        "leased" => vec![],
        "released" => vec![release(SUBJECT, CURRENT)],
        "on hold" => vec![Step::Release(TaskId(SUBJECT), lease_name(CURRENT), 10_000)],
        "reclaimed" => vec![
            Step::Heartbeat(vec![]),
            Step::Clock(30_000),
            Step::Heartbeat(vec![(TaskId(1), lease_name("1.w2.1"))]),
            Step::Clock(30_000),
            lease("w9", 1, 0),
        ],
        "delayed" => vec![fail(SUBJECT, CURRENT, Charge::Failure)],
        "succeeded" => vec![complete(SUBJECT, CURRENT)],
        "dead" => vec![fail(SUBJECT, CURRENT, Charge::LastFailure)],
        "cancelled" => vec![Step::CancelTasks(vec![TaskId(SUBJECT)])],
        other => unreachable!("`{other}`"),
    };
    for step in steps {
        stage.take(&step).await?;
    }
    Ok(())
}

/// A task that fails, and one that kills its workers, until it is dead; each call with its repetition.
async fn charged_to_death(stage: &mut Stage) -> Result<(), String> {
    // At this jitter the first back-off is a hundredth of a ms beyond a whole number of them.
    let fail = |name: &str, charge: Charge| Step::Fail {
        task: TaskId(SUBJECT),
        lease: lease_name(name),
        charge,
        jitter_ppm: 999_967,
    };
    let Limits { backoff_max_ms, lease_ms, .. } = limits();
    let over = Step::Pass(i64::try_from(backoff_max_ms).expect("minutes"));
    let looks = lease("w9", 1, 0);
    for charge in [Charge::Lapse, Charge::Failure] {
        stage.reset(&limits()).await?;
        stage.take(&Step::Push { first: 0, tasks: 1 }).await?;
        for (request, name) in [(1, "1.w1.1"), (2, "2.w1.2"), (3, "3.w1.3"), (4, "4.w1.4")] {
            for step in [lease("w1", request, 1), fail(name, charge), looks.clone()] {
                stage.take(&step).await?;
                stage.take(&step).await?;
            }
            // A paused run promotes.
            for step in [Step::Pause(true), over.clone(), looks.clone(), Step::Pause(false)] {
                stage.take(&step).await?;
            }
        }
    }
    stage.take(&Step::Requeue(vec![(TaskId(SUBJECT), 4)])).await?;
    let asks = lease("w9", 1, 1);
    let lapses = [Step::Clock(lease_ms + 1), looks.clone()];
    let sealed = [Step::Seal(1), Step::Push { first: 1, tasks: 1 }];
    // A paused run reclaims; a sealed one with a leased task is not drained; who asks for none is not idle.
    let first = [lease("w1", 5, 1), Step::Pass(6_000), asks.clone(), looks, Step::Pause(true)];
    let last = [Step::Pause(false), lease("w1", 6, 1), Step::Clock(lease_ms + 1), asks.clone(), asks];
    for step in sealed.into_iter().chain(first).chain(lapses).chain(last) {
        stage.take(&step).await?;
    }
    let died = stage.now.found.get("task:0 reason").map(String::as_str);
    if died != Some("lapses") {
        return Err(format!("it should have died of lapses, not of {died:?}"));
    }
    stage.take(&Step::Requeue(vec![(TaskId(SUBJECT), 6)])).await.map(|_| ())
}

/// Whatever makes work for idle workers tells them, and a deaf one is passed over.
async fn hints(stage: &mut Stage) -> Result<(), String> {
    let idle = || [lease("deaf", 1, 1), lease("ear", 1, 2)];
    let makes_work: [&[Step]; 5] = [
        &[Step::Push { first: 0, tasks: 1 }],
        &[release(0, "1.w1.1")],
        &[release(0, "2.w1.2"), Step::Pause(true), Step::Pause(false)],
        &[Step::CancelNext(1), Step::Requeue(vec![(TaskId(0), 3)])],
        &[Step::Parallelism(1), Step::Push { first: 1, tasks: 1 }, Step::Parallelism(0)],
    ];
    stage.reset(&limits()).await?;
    for (request, steps) in (1..).zip(makes_work) {
        let (last, before) = steps.split_last().ok_or("no step")?;
        for step in before.iter().chain(&idle()) {
            stage.take(step).await?;
        }
        stage.take(last).await?;
        if stage.now.found.keys().any(|name| name.starts_with("idle ")) {
            return Err(format!("`{last}` left workers idle"));
        }
        stage.take(&lease("w1", request, 1)).await?;
    }
    // A pause makes no work, also where some waits.
    let pause =
        [Step::Parallelism(1), Step::Push { first: 2, tasks: 1 }, lease("ear", 1, 2), Step::Pause(true)];
    for step in pause {
        stage.take(&step).await?;
    }
    if !stage.now.found.contains_key("idle ear") {
        return Err("a pause told a worker".to_owned());
    }
    let seen = [(TaskId(0), 4), (TaskId(1), 1), (TaskId(2), 0)];
    stage.take(&Step::CancelNext(3)).await?;
    let requeued = stage.take(&Step::Requeue(seen.into())).await?;
    (requeued == Answer::Count(3)).then_some(()).ok_or_else(|| format!("requeued {requeued}, expected 3"))
}

/// Bundles and holds: two bundles are kept until the success, a hold ends with the last bundle or by itself, and the task is then the
/// next one; a failure's back-off ends for no bundle. Every call twice.
async fn handed_over(stage: &mut Stage) -> Result<(), String> {
    let bundle = |name: &str, number| Step::Checkpoint(TaskId(0), lease_name(name), number);
    let hold = |name: &str, ms| Step::Release(TaskId(0), lease_name(name), ms);
    let (take, idle) = (|request| lease("w1", request, 1), lease("ear", 1, 9));
    let histories: [&[Step]; 6] = [
        &[take(1), bundle("1.w1.1", 1), bundle("1.w1.1", 2), bundle("1.w1.1", 1), bundle("1.w1.1", 3)],
        &[
            take(1),
            bundle("1.w1.1", 1),
            hold("1.w1.1", 10_000),
            Step::Parallelism(1),
            lease("w2", 1, 1),
            idle.clone(),
            lease("ear1", 1, 9),
            bundle("1.w1.1", 2),
            lease("w2", 2, 1),
            bundle("1.w1.1", 3),
            take(2),
        ],
        // The last one never comes: the older one is given, to the next who asks.
        &[
            take(1),
            bundle("1.w1.1", 1),
            hold("1.w1.1", 99_999),
            Step::Pass(10_001),
            lease("w2", 1, 0),
            take(2),
            bundle("2.w1.2", 1),
            complete(0, "2.w1.2"),
        ],
        &[
            take(1),
            bundle("1.w1.1", 1),
            fail(0, "1.w1.1", Charge::Failure),
            bundle("1.w1.1", 2),
            lease("w2", 1, 0),
        ],
        &[take(1), hold("1.w1.1", 1), idle.clone(), Step::Adopt(vec![adoption((TaskId(0), 1))])],
        &[
            take(1),
            bundle("1.w1.1", 1),
            hold("1.w1.1", 9_000),
            Step::Adopt(vec![adoption((TaskId(0), 1))]),
            bundle("1.w1.1", 2),
        ],
    ];
    for steps in histories {
        stage.reset(&limits()).await?;
        stage.take(&Step::Push { first: 0, tasks: 3 }).await?;
        for step in steps {
            stage.take(step).await?;
            stage.take(step).await?;
        }
    }
    Ok(())
}

fn requeue(seen: &[(u64, u64)]) -> Step {
    Step::Requeue(seen.iter().map(|(task, number)| (TaskId(*task), *number)).collect())
}

fn cancel(tasks: &[u64]) -> Step {
    Step::CancelTasks(tasks.iter().copied().map(TaskId).collect())
}

fn adopt(task: u64, number: u64) -> Step {
    Step::Adopt(vec![adoption((TaskId(task), number))])
}

/// Two windows and what waits for them: it comes to run, dies, is cancelled and comes back with them, and only then. Every call twice.
async fn groups(stage: &mut Stage) -> Result<(), String> {
    let take = lease("w1", 1, 2);
    let lapse = Step::Clock(limits().lease_ms + 1);
    let first = |task| complete(task, "1.w1.1");
    let both = Step::Complete([0, 1].map(|task| (TaskId(task), lease_name("1.w1.1"), success())).into());
    let ends = |task| fail(task, "1.w1.1", Charge::LastFailure);
    let looks = || lease("w9", 1, 0);
    let histories: [Vec<Step>; 11] = [
        // One by one; the next lease is the waiting task's.
        vec![take.clone(), first(1), first(2), first(0), lease("w2", 1, 1)],
        vec![take.clone(), both, first(2)],
        vec![adopt(2, 0), adopt(0, 0), adopt(1, 0), adopt(2, 0)],
        vec![take.clone(), fail(1, "1.w1.1", Charge::Failure), Step::Pass(200_000), looks(), first(1)],
        // A death; the survivor's success changes nothing; both ways back.
        vec![take.clone(), ends(1), first(0), requeue(&[(2, 0)]), requeue(&[(1, 1)])],
        vec![take.clone(), ends(1), ends(0), requeue(&[(2, 0), (1, 1)]), requeue(&[(0, 1)])],
        vec![
            take.clone(),
            lapse.clone(),
            looks(),
            lease("w1", 2, 2),
            lapse,
            looks(),
            requeue(&[(0, 2), (2, 0)]),
            requeue(&[(1, 2)]),
        ],
        // People: a window, the waiting task alone, the whole run.
        vec![cancel(&[0, 2]), requeue(&[(2, 0)]), cancel(&[1]), requeue(&[(0, 0)]), requeue(&[(1, 0)])],
        vec![
            take.clone(),
            cancel(&[2]),
            first(0),
            requeue(&[(2, 0)]),
            first(1),
            cancel(&[2]),
            requeue(&[(2, 0)]),
        ],
        vec![Step::CancelNext(1), Step::CancelNext(9), requeue(&[(5, 0), (4, 0), (3, 0)])],
        vec![take, ends(0), cancel(&[1, 2]), requeue(&[(0, 1)]), requeue(&[(1, 1)])],
    ];
    for steps in &histories {
        stage.reset_with(&limits(), Some(3)).await?;
        // The last one is no whole group.
        let pushes = [Step::Push { first: 0, tasks: 4 }, Step::Push { first: 2, tasks: 4 }];
        for step in pushes.iter().chain(steps) {
            stage.take(step).await?;
            stage.take(step).await?;
        }
    }
    told_of_groups(stage).await
}

/// Those who are idle are told of tasks that are pending, not of those that wait.
async fn told_of_groups(stage: &mut Stage) -> Result<(), String> {
    let idle = ["ear1", "ear2", "ear3", "ear4"].map(|name| lease(name, 1, 9));
    let told: [&[Step]; 4] = [
        &[Step::Push { first: 6, tasks: 3 }],
        &[adopt(0, 0), adopt(1, 0)],
        &[cancel(&[0]), requeue(&[(0, 0)])],
        &[Step::Push { first: 6, tasks: 2 }],
    ];
    for steps in told {
        stage.reset_with(&limits(), Some(3)).await?;
        let first = [Step::Push { first: 0, tasks: 6 }, Step::Pause(true)];
        for step in first.iter().chain(&idle).chain(steps) {
            stage.take(step).await?;
        }
    }
    // The last but one of a group makes work for one of them.
    stage.reset_with(&limits(), Some(3)).await?;
    let begun = [Step::Push { first: 0, tasks: 6 }, lease("w1", 1, 2), Step::Pause(true)];
    let ended = [complete(0, "1.w1.1"), complete(1, "1.w1.1")];
    for step in begun.iter().chain(&idle).chain(&ended) {
        stage.take(step).await?;
    }
    // A push is cut into batches, of which one may be a task that waits and nothing else.
    stage.reset_with(&limits(), Some(7)).await?;
    stage.take(&Step::Push { first: 0, tasks: 1001 }).await.map(|_| ())
}

/// Pending, then delayed, then leased tasks are cancelled, and no more than was said.
async fn cancelled_in_order(stage: &mut Stage) -> Result<(), String> {
    for bound in 1..6 {
        stage.reset(&limits()).await?;
        let steps = [
            Step::Push { first: 0, tasks: 5 },
            lease("w1", 1, 4),
            fail(0, "1.w1.1", Charge::Failure),
            fail(1, "1.w1.1", Charge::Failure),
            Step::CancelNext(bound),
        ];
        for step in &steps {
            stage.take(step).await?;
        }
        let cancelled = stage.now.found.get("progress cancelled").cloned().unwrap_or_default();
        if cancelled != bound.to_string() {
            return Err(format!("{cancelled} tasks were cancelled, expected {bound}"));
        }
    }
    Ok(())
}

/// A sealed run that waits for one task is not drained; and it can't be made again.
async fn waiting_to_the_end(stage: &mut Stage) -> Result<(), String> {
    stage.reset(&limits()).await?;
    stage.take(&Step::Push { first: 0, tasks: 2 }).await?;
    stage.let_wait(SUBJECT).await?;
    for step in [Step::Seal(2), Step::CancelNext(2), Step::Pass(6_000)] {
        stage.take(&step).await?;
    }
    let call = |script, arguments, step| Call { script, arguments, step };
    let digest = stage.digest.clone();
    let ask = ["w9", "1", "1", &digest].map(str::to_owned).into();
    one(stage, &call("lease", ask, lease("w9", 1, 1)), "nothing empty", "").await?;
    let create = [&digest, "spec", "x"].map(str::to_owned).into();
    one(stage, &call("create", create, Step::CancelTasks(vec![])), "exists 2 1", "").await
}

/// The arguments of a script that names a task and a lease.
fn fenced_arguments(script: &str, task: &str, name: &str) -> Vec<String> {
    let success = success();
    let more: Vec<String> = match script {
        "complete" => {
            let numbers = [success.molecules_ok, success.molecules_bad, success.bytes.0, success.bytes.1]
                .map(|n| n.to_string());
            let times = ["1000+1500+100+100+6300+1+16", "9017", "2048", "128", "8192", "16", "8192"];
            ["5a", "1d"]
                .map(str::to_owned)
                .into_iter()
                .chain(numbers)
                .chain(times.map(str::to_owned))
                .collect()
        }
        "fail" => ["exit_code", "again", "999999", "last line"].map(str::to_owned).into(),
        "release" => [WHY_RELEASED, "0"].map(str::to_owned).into(),
        "checkpoint" => ["1", BUNDLE.0, "3/9"].map(str::to_owned).into(),
        "tell" => [PIECE.0, "0", PIECE.1].map(str::to_owned).into(),
        _ => vec![],
    };
    [task, name].map(str::to_owned).into_iter().chain(more).collect()
}

fn fenced_call(script: &'static str, task: &str, name: &str) -> Call {
    let arguments = fenced_arguments(script, task, name);
    // What the model can't be asked, because it is no name or no task, changes nothing but the lease clock.
    let nothing = Step::Heartbeat(vec![]);
    let is_canonical = |id: &u64| id.to_string() == task;
    let step = match (task.parse().ok().filter(is_canonical), name.parse::<LeaseName>()) {
        (Some(task), Ok(_)) => match script {
            "heartbeat" => Step::Heartbeat(vec![(TaskId(task), lease_name(name))]),
            "complete" => complete(task, name),
            "fail" => fail(task, name, Charge::Failure),
            "tell" => Step::Tell(TaskId(task), lease_name(name), 0),
            "checkpoint" => Step::Checkpoint(TaskId(task), lease_name(name), 1),
            _ => release(task, name),
        },
        _ => nothing,
    };
    Call { script, arguments, step }
}

/// Names that are not the subject's latest one, and tasks that are none: refused, whatever the state.
async fn refusals(stage: &mut Stage, moment: &Kept, state: &str) -> Result<(), String> {
    let names = [STALE].into_iter().chain(NEVER_ISSUED).chain(MALFORMED).map(|name| ("0", name, state));
    let tasks = NO_TASK.into_iter().flat_map(|task| [(task, CURRENT, "absent"), (task, "", "absent")]);
    let others = [
        ("1", CURRENT, "leased"),
        ("4", CURRENT, "pending"),
        ("4", "", "pending"),
        ("4", "false", "pending"),
    ];
    // A refused call leaves everything as it was.
    stage.restore(moment).await?;
    for (task, name, state) in names.chain(tasks).chain(others) {
        for (script, ..) in UNDER_THE_CURRENT_NAME {
            let expected = if script == "heartbeat" { "lost".to_owned() } else { format!("lost {state}") };
            one(stage, &fenced_call(script, task, name), &expected, "").await?;
        }
    }
    Ok(())
}

async fn under_the_current_name(stage: &mut Stage, moment: &Kept, number: usize) -> Result<(), String> {
    for (script, first, again) in UNDER_THE_CURRENT_NAME {
        let call = fenced_call(script, "0", CURRENT);
        twice(stage, moment, &call, [first[number], again[number]]).await?;
    }
    Ok(())
}

/// The state's name in Redis.
fn state_of(state: &str) -> &str {
    match state {
        "released" | "reclaimed" => "pending",
        "on hold" => "delayed",
        state => state,
    }
}

/// A run without tasks, tasks that were never leased, and a task that waits: no name is theirs.
async fn in_a_new_run(stage: &mut Stage) -> Result<(), String> {
    stage.reset(&limits()).await?;
    let empty = stage.keep().await?;
    stage.take(&Step::Push { first: 0, tasks: TASKS }).await?;
    let pending = stage.keep().await?;
    stage.let_wait(SUBJECT).await?;
    let waiting = stage.keep().await?;
    for (moment, state) in [(empty, "absent"), (pending, "pending"), (waiting, "waiting")] {
        for name in [CURRENT, STALE, "1.w1.1", ""] {
            for (script, ..) in UNDER_THE_CURRENT_NAME {
                let expected =
                    if script == "heartbeat" { "lost".to_owned() } else { format!("lost {state}") };
                once(stage, &moment, &fenced_call(script, "0", name), &expected).await?;
            }
        }
        let (cancelled, task) = (u64::from(state != "absent"), TaskId(SUBJECT));
        let cancel = Call {
            script: "cancel",
            arguments: vec!["0".into(), "0".into()],
            step: Step::CancelTasks(vec![task]),
        };
        let replies = [format!("ok {cancelled}"), "ok 0".to_owned()];
        twice(stage, &moment, &cancel, replies.each_ref().map(String::as_str)).await?;
        let requeue = Call {
            script: "requeue",
            arguments: vec!["0".into(), "0".into()],
            step: Step::Requeue(vec![(task, 0)]),
        };
        twice(stage, &moment, &requeue, ["ok 0", "ok 0"]).await?;
    }
    Ok(())
}

/// In a run of groups: a task that waits for the rest of its group, of which one has succeeded, one is leased by [`CURRENT`]'s worker. No
/// name is its own, nobody gets it or adopts it, and every script leaves it where it is but for `cancel`.
async fn while_it_waits(stage: &mut Stage) -> Result<(), String> {
    const LAST: &str = "2";
    stage.reset_with(&limits(), Some(3)).await?;
    for step in [Step::Push { first: 0, tasks: 6 }, lease("w1", 2, 2), complete(0, "1.w1.2")] {
        stage.take(&step).await?;
    }
    let moment = stage.keep().await?;
    let names = [CURRENT, STALE, "1.w1.2"].into_iter().chain(NEVER_ISSUED).chain(MALFORMED);
    for name in names.chain(["waiting", "false"]) {
        for (script, ..) in UNDER_THE_CURRENT_NAME {
            let expected = if script == "heartbeat" { "lost" } else { "lost waiting" };
            twice(stage, &moment, &fenced_call(script, LAST, name), [expected; 2]).await?;
        }
    }
    let text = |arguments: &[&str]| arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
    let (digest, input, nothing) = (stage.digest.clone(), sample_input(6), || Step::CancelTasks(vec![]));
    let inputs = [sample_input(7), sample_input(8)];
    let [second, third] = inputs.each_ref().map(String::as_str);
    let adopted = |number: &str| text(&[LAST, number, "5b", "1e", "2", "0"]);
    let table: Vec<(&str, Vec<String>, Step, [&str; 2])> = vec![
        ("cancel", text(&["0", LAST]), cancel(&[2]), ["ok 1", "ok 0"]),
        ("cancel", text(&["1"]), Step::CancelNext(1), ["ok 2", "ok 1"]),
        ("requeue", text(&[LAST, "0"]), Step::Requeue(vec![(TaskId(2), 0)]), ["ok 0"; 2]),
        ("adopt", adopted("0"), adopt(2, 0), ["ok 0"; 2]),
        ("adopt", adopted("1"), adopt(2, 1), ["ok 0"; 2]),
        ("adopt", adopted(CURRENT), nothing(), ["ok 0"; 2]),
        ("lease", text(&["w9", "7", "1", &digest]), lease("w9", 7, 1), ["3 as 1.w9.7"; 2]),
        ("lease", text(&["w1", "2", "1", &digest]), lease("w1", 2, 1), ["1 as 1.w1.2"; 2]),
        ("lease", text(&["w1", "1", "1", &digest]), lease("w1", 1, 1), ["stale 2"; 2]),
        ("lease", text(&["w9", "7", "0", &digest]), lease("w9", 7, 0), ["nothing none_asked"; 2]),
        (
            "push",
            text(&[&digest, "6", &input, second, third]),
            Step::Push { first: 6, tasks: 3 },
            ["ok 9"; 2],
        ),
        ("push", text(&[&digest, "6", &input, second]), Step::Push { first: 6, tasks: 2 }, ["ok 6"; 2]),
        ("push", text(&[&digest, "9", &input]), Step::Push { first: 9, tasks: 1 }, ["gap 6"; 2]),
        ("seal", text(&["6"]), Step::Seal(6), ["ok"; 2]),
        ("seal", text(&["7"]), Step::Seal(7), ["short 6"; 2]),
        ("set", text(&["paused", WHY_PAUSED]), Step::Pause(true), ["ok"; 2]),
        ("set", text(&["parallelism", "7"]), Step::Parallelism(7), ["ok"; 2]),
        ("create", text(&[&digest, "spec", "x"]), nothing(), ["exists 6 0"; 2]),
        ("repair", text(&["1-1", "1", "waiting", "77", LAST]), nothing(), ["busy"; 2]),
    ];
    for (script, arguments, step, replies) in table {
        twice(stage, &moment, &Call { script, arguments, step }, replies).await?;
    }
    Ok(())
}

/// What the scripts without a lease name answer: script, arguments, the model's step, and the replies.
async fn others(stage: &mut Stage, moment: &Kept, state: &str) -> Result<(), String> {
    let (is_held, is_stopped) = (state == "leased", matches!(state, "dead" | "cancelled"));
    let is_open = !is_stopped && state != "succeeded";
    let text = |arguments: &[&str]| arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
    let is_adopted = is_open && !is_held;
    let adopted = |number: &str| text(&["0", number, "5b", "1e", "2", "0"]);
    let count = |is: bool| if is { "ok 1" } else { "ok 0" };
    let digest = stage.digest.clone();
    let differs = format!("differs {digest}");
    let input = sample_input(TASKS);
    let last = sample_input(UNTOUCHED);
    let subject = TaskId(SUBJECT);
    let next = if state_of(state) == "pending" && state != "delayed" { "0 as 3.w9.7" } else { "3 as 1.w9.7" };
    let table: Vec<(&str, Vec<String>, Step, [&str; 2])> = vec![
        ("cancel", text(&["0", "0"]), Step::CancelTasks(vec![subject]), [count(is_open), "ok 0"]),
        ("cancel", text(&["0", "7", "x", "00", ""]), Step::CancelTasks(vec![]), ["ok 0", "ok 0"]),
        ("requeue", text(&["0", "2"]), Step::Requeue(vec![(subject, 2)]), [count(is_stopped), "ok 0"]),
        ("requeue", text(&["0", "1", "0", "3"]), Step::Requeue(vec![]), ["ok 0", "ok 0"]),
        (
            "requeue",
            text(&["0", "", "0", "02", "0", "2.w1.2", "7", "0", "", "0"]),
            Step::Requeue(vec![]),
            ["ok 0"; 2],
        ),
        ("adopt", adopted("2"), Step::Adopt(vec![adoption((subject, 2))]), [count(is_adopted), "ok 0"]),
        ("adopt", adopted("1"), Step::Adopt(vec![]), ["ok 0"; 2]),
        ("adopt", adopted(CURRENT), Step::Adopt(vec![]), ["ok 0"; 2]),
        ("lease", text(&["w9", "7", "1", &digest]), lease("w9", 7, 1), [next, next]),
        (
            "lease",
            text(&["w1", "2", "1", &digest]),
            lease("w1", 2, 1),
            if is_held { ["0 as 2.w1.2"; 2] } else { ["stale 2"; 2] },
        ),
        ("lease", text(&["w1", "1", "1", &digest]), lease("w1", 1, 1), ["stale 2"; 2]),
        ("lease", text(&["w1", "3", "1", "other"]), Step::CancelTasks(vec![]), [&differs; 2]),
        ("lease", text(&["w9", "7", "0", &digest]), lease("w9", 7, 0), ["nothing none_asked"; 2]),
        ("push", text(&[&digest, "5", &input]), Step::Push { first: 5, tasks: 1 }, ["ok 6"; 2]),
        ("push", text(&[&digest, "4", &last, &input]), Step::Push { first: 4, tasks: 2 }, ["ok 6"; 2]),
        ("push", text(&[&digest, "6", &input]), Step::Push { first: 6, tasks: 1 }, ["gap 5"; 2]),
        ("push", text(&["other", "5", &input]), Step::CancelTasks(vec![]), [&differs; 2]),
        ("seal", text(&["5"]), Step::Seal(5), ["ok"; 2]),
        ("seal", text(&["6"]), Step::Seal(6), ["short 5"; 2]),
        ("seal", text(&["4"]), Step::Seal(4), ["short 5"; 2]),
        ("set", text(&["paused", WHY_PAUSED]), Step::Pause(true), ["ok"; 2]),
        ("set", text(&["paused", ""]), Step::Pause(false), ["ok"; 2]),
        ("set", text(&["parallelism", "7"]), Step::Parallelism(7), ["ok"; 2]),
        ("set", text(&["parallelism", "-1"]), Step::CancelTasks(vec![]), ["unknown"; 2]),
        ("set", text(&["parallelism", "7x"]), Step::CancelTasks(vec![]), ["unknown"; 2]),
        ("set", text(&["lease_ms", "7"]), Step::CancelTasks(vec![]), ["unknown"; 2]),
        ("create", text(&[&digest, "spec", "x"]), Step::CancelTasks(vec![]), ["exists 5 0"; 2]),
        ("create", text(&["other", "spec", "x"]), Step::CancelTasks(vec![]), [&differs; 2]),
        ("repair", text(&["1-1", "1", "pending", "77", "0"]), Step::CancelTasks(vec![]), ["busy"; 2]),
    ];
    for (script, arguments, step, replies) in table {
        twice(stage, moment, &Call { script, arguments, step }, replies).await?;
    }
    Ok(())
}

/// A run that is being removed, and one that is gone: all answer so, and nothing comes back.
async fn without_a_run(stage: &mut Stage, moment: &Kept) -> Result<(), String> {
    let digest = stage.digest.clone();
    let fenced = UNDER_THE_CURRENT_NAME.map(|(script, ..)| (script, fenced_arguments(script, "0", CURRENT)));
    let text = |arguments: &[&str]| arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
    let others = [
        ("lease", text(&["w9", "1", "1", &digest])),
        ("push", text(&[&digest, "5", "[]"])),
        ("seal", text(&["5"])),
        ("cancel", text(&["10"])),
        ("cancel", text(&["0", "0"])),
        ("requeue", text(&["0", "2"])),
        ("adopt", text(&["0", "2", "5b", "1e", "2", "0"])),
        ("repair", text(&["", "0"])),
        ("set", text(&["paused", "why"])),
    ];
    stage.restore(moment).await?;
    // Somebody is idle.
    stage.take(&Step::Pause(true)).await?;
    stage.take(&lease("w8", 1, 1)).await?;
    let (reply, mut found) = stage.call_raw("remove", &text(&["0", "1"])).await?;
    let is_there = |name: &str| found.contains_key(name);
    let is_hidden = found.get("run removing").is_some_and(|value| value == "1");
    if reply != ["more"] || !is_hidden || is_there("task:0 state") || !is_there("task:1 state") {
        return Err(format!("a first step of remove: {reply:?}, and {found:?}"));
    }
    for gone in ["removing", "done"] {
        for (script, arguments) in fenced.iter().chain(&others) {
            let (reply, after) = stage.call_raw(script, arguments).await?;
            if reply != ["gone"] || after != found {
                return Err(format!("{script} of a run that is {gone}: {reply:?}"));
            }
        }
        if gone == "removing" {
            let (reply, after) = stage.call_raw("create", &text(&[&digest, "spec", "x"])).await?;
            if reply != ["removing"] || after != found {
                return Err(format!("create of a run that is being removed: {reply:?}"));
            }
        }
        let (reply, after) = stage.call_raw("remove", &text(&["1", "4"])).await?;
        if reply != ["done"] || !after.is_empty() {
            return Err(format!("the last step of remove: {reply:?}, and there is still {after:?}"));
        }
        found = after;
    }
    Ok(())
}

async fn once(stage: &mut Stage, moment: &Kept, call: &Call, expected: &str) -> Result<(), String> {
    stage.restore(moment).await?;
    one(stage, call, expected, "").await
}

async fn twice(stage: &mut Stage, moment: &Kept, call: &Call, expected: [&str; 2]) -> Result<(), String> {
    once(stage, moment, call, expected[0]).await?;
    one(stage, call, expected[1], " again").await
}

async fn one(stage: &mut Stage, call: &Call, expected: &str, again: &str) -> Result<(), String> {
    let Call { script, arguments, step } = call;
    let context = |finding: String| format!("{script} {arguments:?}{again}: {finding}");
    stage.get_over_the_lag().await?;
    let (reply, found) = stage.call_raw(script, arguments).await.map_err(context)?;
    let said = said(script, &reply);
    let is_said = said.strip_prefix(expected).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    if !is_said {
        return Err(context(format!("said `{said}`, expected `{expected}`")));
    }
    let is_refused = said == "lost" || said.starts_with("lost ") || said == "cancelled" || said == "unheld";
    if is_refused && !is_same_but_for_the_clock(&stage.now.found, &found) {
        return Err(context("a refused call changed something".to_owned()));
    }
    stage.follow(step, found).map_err(context)?;
    Ok(())
}

fn is_same_but_for_the_clock(before: &Snapshot, after: &Snapshot) -> bool {
    let rest = |found: &Snapshot| {
        let mut rest = found.clone();
        rest.retain(|name, _| name != "run clock_ms" && name != "run ran_at" && !name.starts_with("events "));
        rest
    };
    rest(before) == rest(after) && !after.keys().any(|name| name.starts_with("events "))
}

/// What a reply says, without its times.
fn said(script: &str, reply: &[String]) -> String {
    match (script, reply) {
        ("heartbeat", [_, _, pulse, ..]) => pulse.clone(),
        ("complete", [_, answer]) => answer.replace('|', " "),
        ("lease", [code, _, grant, ..]) if code == "granted" => {
            let mut fields = grant.split('|');
            format!("{} as {}", fields.next().unwrap_or(""), fields.next().unwrap_or(""))
        }
        ("lease", [code, _, why, ..]) => format!("{code} {why}"),
        ("lease", [code, digest]) => format!("{code} {digest}"),
        _ => reply.join(" "),
    }
}

/// A moment that can be come back to: where the stage stands, and all of Redis as it can be restored.
#[derive(Debug)]
pub(super) struct Kept {
    moment: Moment,
    dumps: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Stage {
    /// Keeps this moment.
    pub(super) async fn keep(&mut self) -> Result<Kept, String> {
        let dumps = async {
            let mut pipe = redis::pipe();
            let (keys,): (Vec<Vec<u8>>,) =
                pipe.cmd("KEYS").arg("*").query_async(&mut self.connection).await?;
            let mut pipe = redis::pipe();
            for key in &keys {
                pipe.cmd("DUMP").arg(key);
            }
            let dumps: Vec<Vec<u8>> = pipe.query_async(&mut self.connection).await?;
            Ok(keys.into_iter().zip(dumps).collect())
        };
        let dumps = dumps.await.map_err(|error: redis::RedisError| error.to_string())?;
        Ok(Kept { moment: self.now.clone(), dumps })
    }

    /// Comes back to a moment.
    pub(super) async fn restore(&mut self, kept: &Kept) -> Result<(), String> {
        let mut pipe = redis::pipe();
        pipe.cmd("FLUSHALL");
        for (key, dump) in &kept.dumps {
            pipe.cmd("RESTORE").arg(key).arg(0).arg(dump.as_slice());
        }
        pipe.exec_async(&mut self.connection).await.map_err(|error| error.to_string())?;
        self.now = kept.moment.clone();
        Ok(())
    }

    /// Makes a pending task, which was never leased, wait, in a run without groups: for ever.
    async fn let_wait(&mut self, task: u64) -> Result<(), String> {
        let mut pipe = redis::pipe();
        pipe.lrem(self.key("pending"), 1, task);
        pipe.hset(self.key(&format!("task:{task}")), "state", State::Waiting.name());
        pipe.hincr(self.key("progress"), "pending", -1).hincr(self.key("progress"), "waiting", 1);
        pipe.exec_async(&mut self.connection).await.map_err(|error| error.to_string())?;
        let model: &mut Model = &mut self.now.model;
        model.pending.retain(|pending| *pending != task);
        let waiting = model.tasks.iter_mut().zip(0..).find(|(_, id)| *id == task);
        if let Some((waiting, _)) = waiting {
            waiting.state = State::Waiting;
        }
        self.now.found = self.now.camera.take(&mut self.connection).await?;
        Ok(())
    }
}
