//! The program that a fleet runs under chaos: short, deterministic, and as awkward as real engines are. It ignores SIGTERM on some
//! molecules, leaves processes behind on others, and writes its rows in halves. What it says of a molecule is a pure function, from
//! which the checker computes every shard by itself.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The reason of a molecule that is bad.
pub const BAD_REASON: &str = "too_odd";
/// Its flag with the longest pause per molecule, in ms.
pub const PAUSE_FLAG: &str = "--pause-ms-max";
/// Its flag with a file that holds it up as long as it is there.
pub const GATE_FLAG: &str = "--gate";

/// How often it repeats itself in the file that is kept: more than a page of a disk.
const TRACE_LINES: usize = 1000;

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

    /// How long the program takes, up to `max_ms`; now and then as long as all of that, to outlive a lease.
    const fn pause_ms(self, max_ms: u64) -> u64 {
        if self.number.is_multiple_of(31) { max_ms } else { self.number / 31 % (1 + max_ms / 20) }
    }

    const fn ignores_sigterm(self) -> bool {
        self.number % 11 == 1
    }

    const fn leaves_a_process(self) -> bool {
        self.number % 13 == 2
    }
}

/// Runs the program in its scratch folder, as a worker starts it.
pub fn main(arguments: &[String]) -> ExitCode {
    let flag = |name: &str| arguments.iter().skip_while(|word| *word != name).nth(1);
    let pause_ms_max = flag(PAUSE_FLAG).and_then(|text| text.parse().ok()).unwrap_or(0);
    match work(pause_ms_max, flag(GATE_FLAG).map(Path::new)) {
        Ok(()) => ExitCode::SUCCESS,
        // A full disk, most likely. The last line of a log is what people see.
        Err(error) => {
            _ = writeln!(io::stderr(), "the toy failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work(pause_ms_max: u64, gate: Option<&Path>) -> io::Result<()> {
    let task: Value = serde_json::from_slice(&fs::read("task.json")?)?;
    let mut rows = File::create(task["rows"].as_str().unwrap_or("rows.csv"))?;
    let mut trace = File::create("output/trace.txt")?;
    writeln!(rows, "molecule_id,verdict,reason,value,detail")?;
    for molecule in task["molecules"].as_array().into_iter().flatten() {
        let id = molecule["id"].as_str().unwrap_or_default();
        let seed = molecule["seed"].as_u64().and_then(|seed| u32::try_from(seed).ok()).unwrap_or(0);
        let text = match molecule["structure"].as_str() {
            Some(path) => fs::read(PathBuf::from(path))?,
            None => molecule["smiles"].as_str().unwrap_or_default().as_bytes().to_vec(),
        };
        let finding = Finding::of(id, &text, seed);
        behave(finding, pause_ms_max, gate)?;
        trace.write_all(finding.value().repeat(TRACE_LINES).as_bytes())?;
        let row = row(id, finding);
        let (half, rest) = row.split_at(row.len() / 2);
        rows.write_all(half)?;
        wait(finding.pause_ms(pause_ms_max) / 4);
        rows.write_all(rest)?;
    }
    rows.sync_all()
}

fn row(id: &str, finding: Finding) -> Vec<u8> {
    let (value, detail) = (finding.value(), finding.detail());
    let cells =
        if finding.is_bad() { [id, "bad", BAD_REASON, "", &detail] } else { [id, "ok", "", &value, ""] };
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells).unwrap();
    writer.into_inner().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "it plays an engine, which starts what it likes")]
fn behave(finding: Finding, pause_ms_max: u64, gate: Option<&Path>) -> io::Result<()> {
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
    while gate.is_some_and(Path::exists) {
        wait(20);
    }
    wait(finding.pause_ms(pause_ms_max));
    Ok(())
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
        let kinds = all.map(|one| (one.is_bad(), one.ignores_sigterm(), one.leaves_a_process()));
        let (bad, stubborn, messy) = kinds.fold((0, 0, 0), |(a, b, c), (bad, stubborn, messy)| {
            (a + u32::from(bad), b + u32::from(stubborn), c + u32::from(messy))
        });
        assert!(bad > 200 && stubborn > 100 && messy > 100, "{bad} {stubborn} {messy}");
    }
}
