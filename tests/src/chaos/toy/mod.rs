//! The program that a fleet runs under chaos: short, deterministic, and as awkward as real engines are. It ignores SIGTERM on some
//! molecules, leaves processes behind on others, writes its rows in halves, and fails over some of them so many times or always. What it
//! says of a molecule is a pure function, from which the checker computes every shard by itself; how often it fails over one, too.

pub mod diary;
pub mod windows;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, raise};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use diary::{Deed, Diary};

/// The reason of a molecule that is bad.
pub const BAD_REASON: &str = "too_odd";
/// Its flag with the longest pause per molecule, in ms.
pub const PAUSE_FLAG: &str = "--pause-ms-max";
/// Its flag with a file that holds it up as long as it is there.
pub const GATE_FLAG: &str = "--gate";
/// Its flag with the folder of diaries.
pub const DIARY_FLAG: &str = "--diary";
/// Its flag with the number of steps that it makes of its molecule, after each of which it could go on.
pub const STEPS_FLAG: &str = "--steps";

/// Its state after a step, in the folder that a worker bundles, and how far it is.
const STATE: &str = "checkpoint/state";
const PROGRESS: &str = "checkpoint/progress";
/// How long a step takes, in ms.
const STEP_MS: u64 = 200;
/// By sysexits: the input is bad, and not now.
const DATA_ERROR: u8 = 65;
const TRY_AGAIN: u8 = 75;
/// How often it repeats itself in the file that is kept: more than a page of a disk.
const TRACE_LINES: usize = 1000;

/// How a molecule treats the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    /// As it should.
    Fine,
    /// The program fails over it in so many attempts; `None` is always.
    Fails(Option<usize>),
    /// The program crashes over it in so many attempts; `None` is always.
    Crashes(Option<usize>),
    /// The program refuses the whole task for it.
    Refused,
    /// In one attempt the program says that it can't do it now.
    Busy,
}

/// What the program finds out about one molecule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    number: u64,
}

impl Finding {
    /// Of a molecule, by its text (a SMILES or an SDF record), its id and its seed.
    pub fn of(id: &str, text: &[u8], seed: u32) -> Self {
        let digest = Sha256::new().chain_update(format!("{seed}\0{id}\0")).chain_update(text).finalize();
        Self { number: digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)) }
    }

    /// Whether the molecule is bad, as one in seven is.
    pub const fn is_bad(self) -> bool {
        self.number.is_multiple_of(7)
    }

    /// The value of one that is not, in points.
    pub fn value(self) -> String {
        format!("-{}.{:03}", self.number / 7 % 20, self.number / 140 % 1000)
    }

    /// Why one is bad.
    pub fn detail(self) -> String {
        format!("oddity {}, \"very\" odd", self.number / 7 % 1000)
    }

    /// How the molecule treats the program: one in six is awkward, one in 32 hopeless.
    pub const fn temper(self) -> Temper {
        match self.number % 97 {
            0..=5 => Temper::Fails(Some(1)),
            6..=7 => Temper::Fails(Some(2)),
            8..=9 => Temper::Fails(Some(4)),
            // Not twice: a molecule that crashes the program in two attempts is to blame, whatever it does in a third.
            10..=13 => Temper::Crashes(Some(1)),
            14 => Temper::Fails(None),
            15 => Temper::Crashes(None),
            16 => Temper::Refused,
            17 => Temper::Busy,
            _ => Temper::Fine,
        }
    }

    /// How long the program takes, up to `max_ms`; now and then as long as all of that, to outlive a lease.
    const fn pause_ms(self, max_ms: u64) -> u64 {
        if self.number.is_multiple_of(31) { max_ms } else { self.number / 31 % (1 + max_ms / 20) }
    }

    /// What stands for its state after a step.
    fn state(self, id: &str, step: u64) -> String {
        let digest = Sha256::digest(format!("{}\0{id}\0{step}", self.number));
        format!("{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
    }

    const fn ignores_sigterm(self) -> bool {
        self.number % 11 == 1
    }

    const fn leaves_a_process(self) -> bool {
        self.number % 13 == 2
    }
}

/// What an attempt of the program is told.
struct Attempt {
    name: String,
    diary: Diary,
    pause_ms_max: u64,
    gate: Option<PathBuf>,
    steps: u64,
}

/// Runs the program in its scratch folder, as a worker starts it.
pub fn main(arguments: &[String]) -> ExitCode {
    let flag = |name: &str| arguments.iter().skip_while(|word| *word != name).nth(1);
    let number = |name: &str| flag(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    let attempt = Attempt {
        pause_ms_max: number(PAUSE_FLAG),
        gate: flag(GATE_FLAG).map(PathBuf::from),
        steps: number(STEPS_FLAG),
        ..Attempt::in_folder(Path::new(flag(DIARY_FLAG).map_or("", String::as_str)))
    };
    ended(attempt.work())
}

/// How the program ends.
fn ended(worked: io::Result<ExitCode>) -> ExitCode {
    // A full disk, most likely. The last line of a log is what people see.
    worked.unwrap_or_else(|error| {
        _ = writeln!(io::stderr(), "the toy failed: {error}");
        ExitCode::FAILURE
    })
}

impl Attempt {
    /// The attempt that the environment tells of, with this folder of diaries.
    #[expect(clippy::disallowed_methods, reason = "it plays an engine, which is told by its environment")]
    fn in_folder(diaries: &Path) -> Self {
        let told = |name: &str| std::env::var(name).unwrap_or_default();
        let diary = Diary::of(diaries, &told("MOLFLEET_RUN"), &told("MOLFLEET_TASK"));
        Self { name: told("MOLFLEET_ATTEMPT"), diary, pause_ms_max: 0, gate: None, steps: 0 }
    }

    fn work(&self) -> io::Result<ExitCode> {
        let task: Value = serde_json::from_slice(&fs::read("task.json")?)?;
        let mut rows = File::create(task["rows"].as_str().unwrap_or("rows.csv"))?;
        let mut trace = File::create("output/trace.txt")?;
        writeln!(rows, "molecule_id,verdict,reason,value,detail")?;
        if self.steps == 0 {
            self.diary.note(&self.name, Deed::Began)?;
        }
        for molecule in task["molecules"].as_array().into_iter().flatten() {
            let id = molecule["id"].as_str().unwrap_or_default();
            let text = match molecule["structure"].as_str() {
                Some(path) => fs::read(PathBuf::from(path))?,
                None => molecule["smiles"].as_str().unwrap_or_default().as_bytes().to_vec(),
            };
            let finding = Finding::of(id, &text, seed(molecule));
            self.behave(finding)?;
            if let Some(code) = self.come_to_nothing(id, finding.temper())? {
                return Ok(code);
            }
            self.make_steps(id, finding)?;
            trace.write_all(finding.value().repeat(TRACE_LINES).as_bytes())?;
            let row = row(id, finding);
            let (half, rest) = row.split_at(row.len() / 2);
            rows.write_all(half)?;
            wait(finding.pause_ms(self.pause_ms_max) / 4);
            rows.write_all(rest)?;
        }
        rows.sync_all()?;
        Ok(ExitCode::SUCCESS)
    }

    #[expect(clippy::disallowed_methods, reason = "it plays an engine, which starts what it likes")]
    fn behave(&self, finding: Finding) -> io::Result<()> {
        let mut sigterm = SigSet::empty();
        sigterm.add(Signal::SIGTERM);
        if finding.ignores_sigterm() {
            sigterm.thread_block()?;
        } else {
            sigterm.thread_unblock()?;
        }
        if finding.leaves_a_process() {
            let quiet = Stdio::null;
            Command::new("sleep").arg("600").stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn()?;
        }
        while self.gate.as_deref().is_some_and(Path::exists) {
            wait(20);
        }
        wait(finding.pause_ms(self.pause_ms_max));
        Ok(())
    }

    /// Fails over a molecule, if it is time to, and notes that first.
    fn come_to_nothing(&self, id: &str, temper: Temper) -> io::Result<Option<ExitCode>> {
        let so_far = self.diary.failures_before(&self.name, id);
        let is_time = |times: Option<usize>| times.is_none_or(|times| so_far < times);
        let deed = match temper {
            Temper::Fails(times) if is_time(times) => Deed::Failed(id.to_owned()),
            Temper::Crashes(times) if is_time(times) => Deed::Crashed(id.to_owned()),
            Temper::Refused => Deed::Refused(id.to_owned()),
            Temper::Busy if so_far == 0 => Deed::Busy(id.to_owned()),
            _ => return Ok(None),
        };
        self.diary.note(&self.name, deed.clone())?;
        writeln!(io::stderr(), "{}", last_words(&self.name))?;
        Ok(Some(match deed {
            Deed::Crashed(_) => {
                raise(Signal::SIGKILL)?;
                ExitCode::FAILURE
            }
            Deed::Refused(_) => ExitCode::from(DATA_ERROR),
            Deed::Busy(_) => ExitCode::from(TRY_AGAIN),
            _ => ExitCode::FAILURE,
        }))
    }

    /// Makes the steps of a molecule, from where a former attempt came to, and leaves its state after each.
    fn make_steps(&self, id: &str, finding: Finding) -> io::Result<()> {
        let mut done = 0;
        if self.steps > 0 {
            done = self.go_on(id, finding)?;
        }
        for step in done + 1..=self.steps {
            wait(STEP_MS);
            replace(STATE, &format!("{} {step} {}", self.name, finding.state(id, step)))?;
            replace(PROGRESS, &format!("{step}/{}", self.steps))?;
            writeln!(io::stdout(), "progress {step}/{}", self.steps)?;
        }
        Ok(())
    }

    /// The step to go on from. A state has to be one that an attempt of this task can have left.
    fn go_on(&self, id: &str, finding: Finding) -> io::Result<u64> {
        let state = match fs::read_to_string(STATE) {
            Ok(state) => state,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.diary.note(&self.name, Deed::Began)?;
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        let words: Vec<&str> = state.split(' ').collect();
        if let [from, step, digest] = words[..]
            && let Ok(step) = step.parse()
            && step <= self.steps
            && digest == finding.state(id, step)
        {
            self.diary.note(&self.name, Deed::WentOn { from: from.to_owned(), step })?;
            return Ok(step);
        }
        self.diary.note(&self.name, Deed::Astray)?;
        Err(io::Error::other("its state is none that it can have left"))
    }
}

/// What an attempt that comes to nothing says last.
pub fn last_words(attempt: &str) -> String {
    format!("the toy has come to nothing in {attempt}")
}

/// A molecule's seed.
fn seed(molecule: &Value) -> u32 {
    molecule["seed"].as_u64().and_then(|seed| u32::try_from(seed).ok()).unwrap_or(0)
}

/// Makes a file that is whole at any moment.
fn replace(path: &str, text: &str) -> io::Result<()> {
    let aside = Path::new("replacement");
    fs::write(aside, text)?;
    fs::rename(aside, path)
}

fn row(id: &str, finding: Finding) -> Vec<u8> {
    let (value, detail) = (finding.value(), finding.detail());
    let cells =
        if finding.is_bad() { [id, "bad", BAD_REASON, "", &detail] } else { [id, "ok", "", &value, ""] };
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells).unwrap();
    writer.into_inner().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "an engine takes its time")]
fn wait(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_depend_on_everything_and_never_change() {
        let finding = Finding::of("benzene", b"c1ccccc1", 7);
        assert_eq!(finding, Finding::of("benzene", b"c1ccccc1", 7));
        for other in [("benzol", "c1ccccc1", 7), ("benzene", "C1=CC=CC=C1", 7), ("benzene", "c1ccccc1", 8)] {
            assert_ne!(finding, Finding::of(other.0, other.1.as_bytes(), other.2));
        }
        let all = (0..2000).map(|seed| Finding::of("x", b"C", seed));
        let tempers = all.clone().map(Finding::temper);
        let count = |wanted: Temper| tempers.clone().filter(|temper| *temper == wanted).count();
        assert!(count(Temper::Fine) > 1500, "{}", count(Temper::Fine));
        let [once, always] = [Some(1), None].map(|times| [Temper::Fails(times), Temper::Crashes(times)]);
        for temper in [once, always].concat().into_iter().chain([Temper::Refused, Temper::Busy]) {
            assert!(count(temper) > 3, "{temper:?}");
        }
        let kinds = all.map(|one| (one.is_bad(), one.ignores_sigterm(), one.leaves_a_process()));
        let (bad, stubborn, messy) = kinds.fold((0, 0, 0), |(a, b, c), (bad, stubborn, messy)| {
            (a + u32::from(bad), b + u32::from(stubborn), c + u32::from(messy))
        });
        assert!(bad > 200 && stubborn > 100 && messy > 100, "{bad} {stubborn} {messy}");
    }
}
