//! GPUs, from `nvidia-smi` to an engine's environment. This machine need have none: a stand-in for `nvidia-smi` says what that of a machine
//! with two did, and a driver that takes a lock for the GPU that it was given stands for the engine.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::collections::BTreeSet;
use std::fs;

use redis::AsyncCommands as _;
use serde_json::Value;
use tests::{Lab, Programs, eventually, is_alive};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

/// The two of a machine whose listing was recorded, with the driver and memory that stand in the table below it
/// (github.com/akash-network/provider-configs/pull/12).
const FIRST: &str = "GPU-c7b57be0-94ff-d352-a59b-d0ee00aeed43";
const SECOND: &str = "GPU-d6de6afc-bdfe-75c4-5273-0544439153fc";
const QUERY: &str = "0, GPU-c7b57be0-94ff-d352-a59b-d0ee00aeed43, Quadro RTX 4000, 535.129.03, 8192 MiB\n\
                     1, GPU-d6de6afc-bdfe-75c4-5273-0544439153fc, Quadro RTX 4000, 535.129.03, 8192 MiB\n";
const LIST: &str = include_str!("../golden/nvidia-smi-535-rtx4000.txt");
/// What GPUs that can't be split say of MIG (github.com/Syllo/nvtop/pull/470), for each of those.
const MODES: &str =
    "GPU-c7b57be0-94ff-d352-a59b-d0ee00aeed43, [N/A]\nGPU-d6de6afc-bdfe-75c4-5273-0544439153fc, [N/A]\n";

/// Fails if another one computes on its GPU; ends when the gate is open.
const DRIVER: &str = r#"
import csv, json, os, time
stubs = STUBS
gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
assert gpu == os.environ.get("MOLFLEET_GPU"), os.environ
os.mkdir(f"{stubs}/{gpu}")
with open(f"{stubs}/given", "a") as file:
    file.write(f"{gpu}\n")
with open(f"{stubs}/engines", "a") as file:
    file.write(f"{os.getpid()}\n")
while os.path.exists(f"{stubs}/gate"):
    time.sleep(0.02)
task = json.load(open("task.json"))
with open(task["rows"], "w", newline="") as file:
    csv.writer(file).writerows([["molecule_id", "letters"], [task["molecules"][0]["id"], 1]])
os.rmdir(f"{stubs}/{gpu}")
"#;

/// Notes whose task it does, on which GPU, and what it knows of NVIDIA's Multi-Process Service.
const NOTING: &str = r#"
import csv, json, os
mps = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("CUDA_MPS_")]
with open(STUBS + "/noted", "a") as file:
    file.write(" ".join([os.environ["MOLFLEET_RUN"], os.environ.get("MOLFLEET_GPU", "none"), *mps]) + "\n")
task = json.load(open("task.json"))
with open(task["rows"], "w", newline="") as file:
    csv.writer(file).writerows([["molecule_id", "letters"], [task["molecules"][0]["id"], 1]])
"#;

/// A lab whose machine says that it has two GPUs, with a run of four tasks that need one each.
async fn lab() -> Lab {
    let lab = Lab::new(PROGRAMS).await;
    lab.has_gpus(QUERY, LIST, MODES);
    push(&lab, "r", DRIVER, &["--needs-gpu"]);
    lab
}

/// Pushes four tasks that this driver does, in which `STUBS` stands for the folder of the stubs.
fn push(lab: &Lab, run: &str, driver: &str, flags: &[&str]) {
    let stubs = serde_json::to_string(&lab.path("stubs")).unwrap();
    let driver = lab.write(&format!("{run}.py"), &driver.replace("STUBS", &stubs));
    let ligands = lab.write("r.smi", "C a\nC b\nC c\nC d\n");
    let mut push = vec!["push", ligands.to_str().unwrap(), "--run", run, "--engine", "command"];
    push.extend(["--driver", driver.to_str().unwrap()]);
    push.extend(["--column", "letters,min=1,max=500", "--failures-max", "1", "--confirm-after-ms", "0"]);
    push.extend_from_slice(flags);
    let ran = lab.launchpad(&push);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[tokio::test]
async fn each_part_of_a_gpu_that_is_split_has_a_task_of_its_own() {
    let lab = lab().await;
    // Of driver 535.216.01; the query's line is of the table recorded with it (github.com/DataDog/datadog-agent/pull/33120).
    let list = include_str!("../golden/nvidia-smi-535-a100-mig.txt");
    let whole = "0, GPU-7fdaf0a5-179b-f636-d15d-daf243e3ff16, NVIDIA A100-SXM4-80GB, 535.216.01, 81920 MiB\n";
    lab.has_gpus(whole, list, "GPU-7fdaf0a5-179b-f636-d15d-daf243e3ff16, Enabled\n");
    lab.set("gate", "");
    let mut worker = lab.worker("w", &["--run", "r", "--cores", "4", "--gpus", "0"]);
    let given: BTreeSet<String> = lab.until_noted("given", 4).await.into_iter().collect();
    assert!(given.len() == 4 && given.iter().all(|given| given.starts_with("MIG-")), "{given:?}");
    lab.unset("gate");
    assert_eq!(worker.left().await, 0, "{}", worker.last_words());
    assert_eq!(lab.progress("r").await.molecules_ok, 4);
    let shown: Value = serde_json::from_str(&lab.launchpad(&["show", "r", "0", "--json"]).stdout).unwrap();
    let gpu = shown["attempts"][0]["record"]["provenance"]["gpu"].as_str().unwrap();
    assert!(gpu.starts_with("NVIDIA A100-SXM4-80GB MIG 1g.10gb, a part of 81920 MiB"), "{gpu}");
}

#[tokio::test]
async fn four_tasks_on_two_gpus_never_share_one() {
    let lab = lab().await;
    lab.set("gate", "");
    let mut worker = lab.worker("w", &["--run", "r", "--exit-when", "drained", "--cores", "4"]);
    let given: BTreeSet<String> = lab.until_noted("given", 2).await.into_iter().collect();
    assert_eq!(given, BTreeSet::from([FIRST, SECOND].map(str::to_owned)));
    assert_eq!(lab.progress("r").await.leased, 2, "two cores stay free for want of a GPU");
    let mut redis = lab.redis.connection().await;
    let workers: Vec<String> = redis.zrange("molfleet:workers", 0, -1).await.unwrap();
    let gpus: String = redis.hget(format!("molfleet:worker:{}", workers[0]), "gpus").await.unwrap();
    assert!(gpus.starts_with("Quadro RTX 4000, 8192 MiB, driver 535.129.03, GPU-c7b5"), "{gpus}");

    lab.unset("gate");
    assert_eq!(worker.left().await, 0, "{}", worker.last_words());
    let progress = lab.progress("r").await;
    assert_eq!((progress.molecules_ok, progress.failures), (4, 0));
    assert_eq!(lab.noted("given").len(), 4);
    for task in ["0", "1", "2", "3"] {
        let shown: Value =
            serde_json::from_str(&lab.launchpad(&["show", "r", task, "--json"]).stdout).unwrap();
        let gpu = shown["attempts"][0]["record"]["provenance"]["gpu"].as_str().unwrap();
        assert!(gpu.ends_with(FIRST) || gpu.ends_with(SECOND), "{gpu}");
    }
}

/// With two cores or more; with one, the second worker is refused.
#[tokio::test]
async fn tasks_are_kept_on_cores_of_their_own_also_by_two_workers() {
    let lab = lab().await;
    let note = "assert gpu ==";
    let cores = "open(f'{stubs}/cores', 'a').write(f'{sorted(os.sched_getaffinity(0))}\\n')\nassert gpu ==";
    let config = lab.write("run.toml", "[needs]\ngpu = true\n");
    push(&lab, "pinned", &DRIVER.replace(note, cores), &["--config", config.to_str().unwrap()]);
    lab.set("gate", "");
    let here = std::thread::available_parallelism().unwrap().get();
    let all = here.to_string();
    let flags = |gpu, cores| ["--run", "pinned", "--pin-cores", "--gpus", gpu, "--cores", cores];
    let mut one = lab.worker("one", &flags("0", "1"));
    lab.until_noted("cores", 1).await;
    let mut workers = 1;
    let mut rest = (here > 1).then(|| lab.worker("rest", &flags("1", &all)));
    if let Some(rest) = &rest {
        workers = 2;
        let told =
            rest.until_logged("it has the rest", |line| line["message"] == "cores of this worker").await;
        let numbers = told["numbers"].as_str().unwrap();
        assert_eq!(numbers.split(',').count(), here - 1, "{numbers}");
    }
    let cores: BTreeSet<String> = lab.until_noted("cores", workers).await.into_iter().collect();
    assert_eq!(cores.len(), workers, "two tasks are on the same core: {cores:?}");
    assert!(cores.iter().all(|cores| !cores.contains(',')), "one thread, one core: {cores:?}");
    let mut refused = lab.worker("refused", &flags("none", "1"));
    assert_eq!(refused.left().await, 78);
    let said = format!("all {here} cores that this worker may use are other workers'");
    assert!(refused.log().contains(&said), "{}", refused.log());
    lab.unset("gate");
    for worker in std::iter::once(&mut one).chain(&mut rest) {
        assert_eq!(worker.left().await, 0, "{}", worker.last_words());
    }
    assert_eq!(lab.progress("pinned").await.molecules_ok, 4);
}

#[tokio::test]
async fn a_worker_without_a_gpu_leaves_such_a_run_alone() {
    let lab = lab().await;
    let mut none = lab.worker("none", &["--run", "r", "--gpus", "none"]);
    assert_eq!(none.left().await, 78);
    assert!(none.log().contains("run `r` needs a GPU, this worker has none"), "{}", none.log());
    let mut missing = lab.worker("missing", &["--run", "r", "--gpus", "0,2"]);
    assert_eq!(missing.left().await, 78);
    assert!(missing.log().contains("--gpus names GPU 2, this machine has 0, 1"), "{}", missing.log());
    assert_eq!(lab.progress("r").await.pending, 4);
}

/// Modes as recorded (github.com/kubernetes-sigs/dra-driver-nvidia-gpu/pull/852), for the two GPUs of this lab.
#[tokio::test]
async fn a_gpu_in_mig_mode_without_parts_is_given_to_no_task() {
    let lab = lab().await;
    lab.has_gpus(QUERY, LIST, &format!("{FIRST}, Enabled, Enabled\n{SECOND}, Disabled, Disabled\n"));
    lab.set("gate", "");
    let mut refused = lab.worker("refused", &["--run", "r", "--gpus", "0"]);
    assert_eq!(refused.left().await, 78);
    let said = "GPU 0 is in MIG mode and has no parts: nothing can be computed on it";
    assert!(refused.log().contains(said), "{}", refused.log());
    let doctor = lab.worker_doctor(&[]);
    let checks: Value = serde_json::from_str(&doctor.stdout).unwrap();
    let gpus = checks["checks"].as_array().unwrap().iter().find(|check| check["name"] == "gpus").unwrap();
    let found = gpus["found"].as_str().unwrap();
    assert!(found.starts_with("1: Quadro RTX 4000") && found.ends_with(said), "{found}");
    assert_eq!(gpus["verdict"], "wrong");
    assert!(gpus["hint"].as_str().unwrap().contains("-mig 0"), "{gpus}");

    let mut worker = lab.worker("w", &["--run", "r", "--exit-when", "drained", "--cores", "4"]);
    assert_eq!(lab.until_noted("given", 1).await, [SECOND]);
    worker
        .until_logged("the other one is told", |line| {
            line["error"] == said && line["hint"].as_str().is_some_and(|hint| hint.contains("-mig 0"))
        })
        .await;
    lab.unset("gate");
    assert_eq!(worker.left().await, 0, "{}", worker.last_words());
    assert_eq!(lab.noted("given"), [SECOND; 4]);
}

#[tokio::test]
async fn two_workers_of_a_host_take_different_gpus() {
    let lab = lab().await;
    lab.set("gate", "");
    let one = lab.worker("one", &["--run", "r", "--cores", "4", "--gpus", "0"]);
    assert_eq!(lab.until_noted("given", 1).await, [FIRST]);
    // All that are left: the second one.
    let mut other = lab.worker("other", &["--run", "r", "--cores", "4"]);
    assert_eq!(lab.until_noted("given", 2).await, [FIRST, SECOND]);
    let mut refused = lab.worker("refused", &["--run", "r", "--gpus", "1"]);
    assert_eq!(refused.left().await, 78);
    assert!(refused.log().contains("GPU 1 is another worker's"), "{}", refused.log());
    assert_eq!(lab.progress("r").await.leased, 2);
    lab.unset("gate");
    assert_eq!(other.left().await, 0, "{}", other.last_words());
    assert_eq!(lab.progress("r").await.molecules_ok, 4, "{}", one.log());
}

/// On GPUs only: elsewhere there is nobody whom it would help.
#[tokio::test]
async fn an_engine_with_a_gpu_hears_of_the_multi_process_service_and_no_other_does() {
    let lab = lab().await;
    push(&lab, "gpu", NOTING, &["--needs-gpu"]);
    push(&lab, "cpu", NOTING, &[]);
    let variables = [
        ("CUDA_MPS_PIPE_DIRECTORY", "/run/mps"),
        ("CUDA_MPS_LOG_DIRECTORY", "/var/log/mps"),
        ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "25"),
        ("CUDA_MPS_UNHEARD_OF", "1"),
    ];
    let flags = ["--run", "gpu", "--run", "cpu", "--gpus", "0"];
    let mut worker = lab.worker_with(&lab.path("stubs"), "w", &flags, &variables);
    assert_eq!(worker.left().await, 0, "{}", worker.last_words());
    let noted: BTreeSet<String> = lab.noted("noted").into_iter().collect();
    let with_gpu = format!(
        "gpu {FIRST} CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=25 CUDA_MPS_LOG_DIRECTORY=/var/log/mps \
         CUDA_MPS_PIPE_DIRECTORY=/run/mps"
    );
    assert_eq!(noted, BTreeSet::from([with_gpu, "cpu none".to_owned()]));
    // A machine without the service says nothing of it.
    push(&lab, "without", NOTING, &["--needs-gpu"]);
    assert_eq!(lab.worker("without", &["--run", "without", "--gpus", "0"]).left().await, 0);
    assert_eq!(lab.noted("noted").last(), Some(&format!("without {FIRST}")));
}

/// What is left for a machine without GPUs is done there, whatever waits for one; then one that has some comes.
#[tokio::test]
async fn a_worker_without_gpus_drains_the_run_on_cpus_while_that_on_gpus_waits() {
    let lab = lab().await;
    push(&lab, "gpu", NOTING, &["--needs-gpu", "--priority", "9"]);
    push(&lab, "cpu", NOTING, &[]);
    let runs = ["--run", "gpu", "--run", "cpu"];
    let mut on_cpus = lab.worker("cpus", &[&runs[..], &["--gpus", "none"]].concat());
    let drained = lab.until("cpu", "the run on CPUs is drained", |progress| progress.succeeded == 4).await;
    assert_eq!((drained.total, drained.failures, drained.releases), (4, 0, 0));
    let waiting = lab.progress("gpu").await;
    assert_eq!((waiting.pending, waiting.leased, waiting.releases), (4, 0, 0));
    assert_eq!(lab.noted("noted"), ["cpu none"; 4]);
    // Nothing is left that it could do, and something that it was told to.
    assert_eq!(on_cpus.left().await, 78, "{}", on_cpus.last_words());
    let mut on_gpus = lab.worker("gpus", &runs);
    assert_eq!(on_gpus.left().await, 0, "{}", on_gpus.last_words());
    assert_eq!(lab.progress("gpu").await.succeeded, 4);
    let noted = lab.noted("noted");
    assert!(noted[4..].iter().all(|line| line.starts_with("gpu GPU-")), "{noted:?}");
    assert_eq!(noted.len(), 8);
}

/// The system knows which locks are whose, and ends them with their process.
#[tokio::test]
async fn the_gpu_of_a_killed_worker_is_free_again() {
    let lab = lab().await;
    push(&lab, "short", DRIVER, &["--needs-gpu", "--lease-ms", "2400", "--heartbeat-ms", "400"]);
    lab.set("gate", "");
    let flags = ["--run", "short", "--gpus", "0"];
    let mut holder = lab.worker("holder", &flags);
    assert_eq!(lab.until_noted("given", 1).await, [FIRST]);
    let mut refused = lab.worker("refused", &flags);
    assert_eq!(refused.left().await, 78);
    assert!(refused.log().contains("GPU 0 is another worker's"), "{}", refused.log());
    holder.kill9();
    // Of the killed engine, which can't take its own mark away.
    let killed = lab.path("stubs").join(FIRST);
    eventually("the engine is gone", || async {
        let engines = lab.noted("engines");
        let pid: u32 = engines[0].parse().unwrap();
        if is_alive(pid) { Err(pid) } else { Ok(()) }
    })
    .await;
    fs::remove_dir(killed).unwrap();
    let mut next = lab.worker("next", &flags);
    next.until_logged("it has the GPU", |line| line["message"] == "a GPU of this worker").await;
    assert_eq!(lab.until_noted("given", 2).await, [FIRST, FIRST]);
    lab.unset("gate");
    assert_eq!(next.left().await, 0, "{}", next.last_words());
    let progress = lab.progress("short").await;
    assert_eq!((progress.succeeded, progress.failures, progress.lapses), (4, 0, 1));
}

/// On one GPU: as many as share it, whatever cores are free.
#[tokio::test]
async fn tuning_finds_how_many_tasks_share_a_gpu() {
    let lab = lab().await;
    let runs = ["--run", "t-tune-1", "--run", "t-tune-2", "--run", "t-tune-3"];
    let flags = ["--gpus", "0", "--tasks-per-gpu", "2", "--cores", "4"];
    let mut worker = lab.worker("w", &[&runs[..], &flags].concat());
    let stubs = serde_json::to_string(&lab.path("stubs")).unwrap();
    let driver = lab.write("noting.py", &NOTING.replace("STUBS", &stubs));
    let mut tune = vec!["tune", "r.smi", "--run", "t", "--engine", "command", "--needs-gpu", "--json"];
    tune.extend(["--driver", driver.to_str().unwrap(), "--column", "letters,min=1,max=500"]);
    tune.extend(["--side-by-side", "1,2,3", "--confirm-after-ms", "0"]);
    let ran = lab.launchpad(&tune);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let of = |level: &Value| ["side_by_side", "at_once", "ok"].map(|name| level[name].as_u64().unwrap());
    let levels: Vec<_> = json["levels"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(levels, [[1, 1, 2], [2, 2, 4], [3, 2, 6]], "{json}");
    let noted = lab.noted("noted");
    assert!(noted.len() == 12 && noted.iter().all(|line| line.ends_with(FIRST)), "{noted:?}");
}
