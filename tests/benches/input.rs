//! How much time and memory launchpad needs for large inputs and large runs. Prints both for each command; `cargo bench -p tests --bench input`.
//!
//! It needs some 5 GB in the folder for temporary files. Each command is measured by a process of its own, this program again, since the
//! system only tells the largest of all children.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::digest::sha256_hex;
use common::queue::{Charge, Completion, Failure, Grant, LeaseReply, Queue};
use common::storage::key;
use common::task::{Moments, Row, RunId, Shard, Verdict, WorkerId};
use futures::{TryStreamExt as _, stream};
use tests::{Peak, TestRedis, peak_of};

const SDF_BYTES: u64 = 1 << 30; // 1 GiB
const LINES: u64 = 10_000_000;
const TASKS: u64 = 100_000;
const MANY_TASKS: u64 = 1_000_000;
/// Tasks of the large run that die, for one reason or the other.
const DEAD: u64 = 100_000;
/// Tasks per lease call.
const LEASE: u64 = 500;
/// The first argument of the process that measures one command.
const MEASURE: &str = "measure";

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == MEASURE) {
        measure(&arguments[1..]);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench { folder: folder.path().to_owned(), redis: TestRedis::start().await };
    let wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    if wanted("sdf") {
        bench.sdf();
    }
    if wanted("smiles") {
        bench.smiles();
    }
    if wanted("tasks") {
        bench.tasks().await;
    }
    if wanted("consolidate") {
        bench.consolidate().await;
    }
}

/// Runs launchpad and prints its peak.
fn measure(arguments: &[String]) {
    let mut launchpad = Command::new(env!("CARGO_BIN_EXE_launchpad-under-test"));
    let Peak { mib, seconds } = peak_of(launchpad.args(arguments).stdout(Stdio::null()));
    println!("  peak {mib:.0} MiB after {seconds:.0} s");
}

struct Bench {
    folder: PathBuf,
    redis: TestRedis,
}

impl Bench {
    fn launchpad(&self, what: &str, arguments: &[&str]) {
        println!("{what}");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .arg(MEASURE)
            .args(["--quiet", "--redis", &self.redis.url(), "--store", "store"])
            .args(arguments);
        assert!(command.current_dir(&self.folder).status().unwrap().success());
    }

    fn push(&self, what: &str, ligands: &str, run: &str, flags: &[&str]) {
        let receptor = example("receptor.pdb").display().to_string();
        let fixed = ["push", ligands, "--run", run, "--receptor", &receptor, "--confirm-after-ms", "0"];
        let search_box = ["--box-center", "42.32,45.43,18.17", "--box-size", "14"];
        self.launchpad(what, &[&fixed[..], &search_box[..], flags].concat());
    }

    fn write(&self, name: &str, fill: impl FnOnce(&mut BufWriter<File>)) {
        let mut file = BufWriter::new(File::create(self.folder.join(name)).unwrap());
        fill(&mut file);
        file.flush().unwrap();
    }

    fn sdf(&self) {
        let record = fs::read_to_string(example("benzene.sdf")).unwrap();
        let (_title, record) = record.trim_end().split_once('\n').unwrap();
        self.write("large.sdf", |file| {
            let mut bytes = 0;
            for number in 0.. {
                let text = format!("m{number}\n{record}\n$$$$\n");
                file.write_all(text.as_bytes()).unwrap();
                bytes += text.len() as u64;
                if bytes >= SDF_BYTES {
                    break;
                }
            }
        });
        self.push("push of an SDF of 1 GiB", "large.sdf", "sdf", &["--batch-size", "1000"]);
        fs::remove_file(self.folder.join("large.sdf")).unwrap();
        self.launchpad("its removal", &["remove", "sdf", "--outputs", "--yes"]);
    }

    fn smiles(&self) {
        self.write("large.smi", |file| {
            for number in 0..LINES {
                writeln!(file, "CC(C)Cc1ccc(cc1)C(C)C(=O)NCCc1ccc(O)c(O)c1 m{number}").unwrap();
            }
        });
        self.push("dry run of 10,000,000 lines of SMILES", "large.smi", "smi", &["--dry-run"]);
        self.push("their push, 100 to a task", "large.smi", "smi", &["--batch-size", "100"]);
        fs::remove_file(self.folder.join("large.smi")).unwrap();
        self.launchpad("its removal", &["remove", "smi", "--outputs", "--yes"]);
    }

    async fn consolidate(&self) {
        self.write("many.smi", |file| {
            for number in 0..TASKS {
                writeln!(file, "CC(C)Cc1ccc(cc1)C(C)C(=O)NCCc1ccc(O)c(O)c1 m{number}").unwrap();
            }
        });
        self.push("push of 100,000 tasks", "many.smi", "many", &[]);
        self.work().await;
        self.launchpad("their consolidation", &["consolidate", "many", "-o", "results.csv"]);
        self.launchpad("their removal", &["remove", "many", "--outputs", "--yes"]);
    }

    async fn tasks(&self) {
        self.write("million.smi", |file| {
            for number in 0..MANY_TASKS {
                writeln!(file, "CC(C)Cc1ccc(cc1)C(C)C(=O)NCCc1ccc(O)c(O)c1 m{number}").unwrap();
            }
        });
        self.push("push of 1,000,000 tasks", "million.smi", "million", &[]);
        self.redis_memory().await;
        self.fail_some().await;
        let list = |flags: &[&str]| {
            let command = [&["tasks", "million"], flags].concat();
            self.launchpad(&command.join(" "), &command);
        };
        list(&[]);
        list(&["--json"]);
        list(&["--state", "dead", "--reason", "^engine_crashed$"]);
        list(&["--reason", "^engine_crashed$"]);
        list(&["--with", "failures", "--limit", "20"]);
        let change = |flags: &[&str]| self.launchpad(&flags.join(" "), flags);
        change(&["status", "million"]);
        change(&["retry", "million", "--reason", "^engine_crashed$", "--limit", "1000"]);
        change(&["retry", "million", "--dead"]);
        change(&["cancel", "million", "--yes"]);
        change(&["tasks", "million", "--state", "cancelled"]);
        change(&["retry", "million", "--cancelled"]);
        self.redis_memory().await;
        change(&["remove", "million", "--outputs", "--yes"]);
    }

    /// Lets tasks of the large run die, every other one for another reason.
    async fn fail_some(&self) {
        let queue = Queue::open(&self.redis.url()).unwrap();
        let (run, worker): (RunId, WorkerId) = ("million".parse().unwrap(), "pretender".parse().unwrap());
        let digest = queue.run_info(&run).await.unwrap().digest;
        for request in 1..=DEAD / LEASE {
            let reply = queue.lease(&run, &digest, &worker, request, LEASE).await.unwrap();
            let LeaseReply::Granted { grants, .. } = reply else { return };
            let failures = grants.iter().map(|grant| {
                let reason = if grant.task.0 % 2 == 0 { "engine_crashed" } else { "time_limit" };
                let failure =
                    Failure { reason, charge: Charge::LastFailure, tail: "the last line", jitter_ppm: 0 };
                let (queue, run) = (&queue, &run);
                Ok(async move { queue.fail(run, grant.task, &grant.lease, &failure).await.map(|_| ()) })
            });
            stream::iter(failures).try_buffer_unordered(64).try_collect::<()>().await.unwrap();
        }
    }

    async fn redis_memory(&self) {
        let mut connection = self.redis.connection().await;
        let info: String = redis::cmd("INFO").arg("memory").query_async(&mut connection).await.unwrap();
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        println!("  Redis holds {} MiB", used.trim().parse::<u64>().unwrap() >> 20);
    }

    /// Does the work of a fleet without engines.
    async fn work(&self) {
        let queue = Queue::open(&self.redis.url()).unwrap();
        let (run, worker): (RunId, WorkerId) = ("many".parse().unwrap(), "pretender".parse().unwrap());
        let digest = queue.run_info(&run).await.unwrap().digest;
        for folder in ["shards", "index"] {
            fs::create_dir_all(self.folder.join("store/many").join(folder)).unwrap();
        }
        for request in 1.. {
            let LeaseReply::Granted { grants, .. } =
                queue.lease(&run, &digest, &worker, request, LEASE).await.unwrap()
            else {
                return;
            };
            let completions = grants.iter().map(|grant| Ok(self.succeed(&queue, &run, grant)));
            stream::iter(completions).try_buffer_unordered(4).try_collect::<()>().await.unwrap();
        }
    }

    async fn succeed(
        &self,
        queue: &Queue,
        run: &RunId,
        grant: &Grant,
    ) -> Result<(), common::queue::QueueError> {
        let rows = grant.molecules.iter().map(|molecule| Row {
            molecule_id: molecule.id.clone(),
            smiles: molecule.smiles().to_owned(),
            verdict: Verdict::Ok,
            reason: String::new(),
            score: "-5.1".to_owned(),
            columns: vec!["9".to_owned()],
        });
        let shard =
            Shard { score_unit: "kcal/mol".into(), columns: vec!["modes".into()], rows: rows.collect() }
                .encode();
        let (shard_sha256, index) = (sha256_hex(shard.as_ref()), "{}");
        let objects = self.folder.join("store/many");
        let index_name = objects.join(key::index(grant.task, &shard_sha256));
        fs::create_dir_all(index_name.parent().unwrap()).unwrap();
        fs::write(index_name, index).unwrap();
        fs::write(objects.join(key::shard(grant.task)), &shard).unwrap();
        let completion = Completion {
            shard_sha256: &shard_sha256,
            index_sha256: &sha256_hex(index.as_bytes()),
            molecules_ok: 1,
            molecules_bad: 0,
            bytes_down: 0,
            bytes_up: shard.len() as u64,
            moments: Moments { queued: grant.queued_ms, leased: grant.queued_ms, ..Moments::default() },
        };
        assert_eq!(queue.complete(run, grant.task, &grant.lease, &completion).await?, Ok(()));
        Ok(())
    }
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/t4l-l99a").join(name)
}
