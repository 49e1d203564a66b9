//! The toy in the place of Python and GROMACS: what the driver of `gromacs-fep` leaves for its worker, without any physics. So runs of
//! groups go the whole way of a real one, and the last task of a molecule really needs what the others have left.
//!
//! The windows of a molecule have to start from one set-up, so the toy makes another one each time. It believes nothing in the last task:
//! the samples of each window have to be those that it made.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::diary::Deed;
use super::{Attempt, BAD_REASON, Finding, ended, seed};
use crate::Lab;

/// Windows of a molecule, and how far each is decoupled: charges and van der Waals forces.
pub const WINDOWS: [[f64; 2]; 3] = [[0.0, 0.0], [1.0, 0.5], [1.0, 1.0]];
/// Samples of a window of 1 ps.
pub const SAMPLES: usize = 21;
/// What the last task calls itself.
pub const REDUCTION: &str = "reduction";

/// What a part of a molecule, a window or the reduction, is to the program.
pub fn of_part(id: &str, part: &str, smiles: &str, seed: u32) -> Finding {
    Finding::of(&format!("{id}#{part}"), smiles.as_bytes(), seed)
}

/// What it finds of a molecule: free energy, errors, overlaps and steps, as a worker reads it.
pub fn reduction(finding: Finding) -> Value {
    let value: f64 = finding.value().parse().unwrap_or(0.0);
    json!({
        "bar": value, "bar_error": 0.125, "steps": [value, 0.0], "overlaps": [0.5, 0.25],
        "samples": SAMPLES * WINDOWS.len(), "mbar": value, "mbar_error": 0.25,
    })
}

/// The begin of a `run.toml` of such molecules. The toy has to stand on the workers' `PATH` as [`STANDS_FOR`](crate::chaos::STANDS_FOR).
pub fn run_file(lab: &Lab, run: &str, diaries: &Path, pause_ms_max: u64) -> String {
    let driver = lab.write(&format!("{run}.py"), &format!("{}\n{pause_ms_max}\n", diaries.display()));
    let [coulomb, vdw] = [0, 1].map(|which| WINDOWS.map(|lambdas| lambdas[which]));
    format!(
        "engine = 'gromacs-fep'\n\
         [options]\ndriver = '{}'\nlambdas_coulomb = {coulomb:?}\nlambdas_vdw = {vdw:?}\ncharges = 'gasteiger'\n\
         window_ps = 1\ndiscard_ps = 0\nequilibration_ps = 1\nbox_nm = 2",
        driver.display()
    )
}

/// A molecule that is called in its place.
struct Molecule {
    id: String,
    smiles: String,
    seed: u32,
    /// Its window; `None` in the last task.
    window: Option<u64>,
}

/// Runs a step as a worker starts it: `python3 DRIVER STEP`, where the toy's driver is the folder of its diaries and its longest pause.
/// Whatever else is asked of the program, it only says that it is there.
pub fn main(arguments: &[String]) -> ExitCode {
    let driver = arguments.get(1).and_then(|path| fs::read_to_string(path).ok());
    let told = driver.as_deref().and_then(|driver| driver.split_once('\n'));
    let (Some((diaries, pause)), Some(step)) = (told, arguments.get(2)) else {
        _ = writeln!(io::stdout(), "toy");
        return ExitCode::SUCCESS;
    };
    let attempt =
        Attempt { pause_ms_max: pause.trim().parse().unwrap_or(0), ..Attempt::in_folder(Path::new(diaries)) };
    ended(Molecule::read().and_then(|molecule| molecule.step(step, &attempt)))
}

impl Molecule {
    fn read() -> io::Result<Self> {
        let task: Value = serde_json::from_slice(&fs::read("task.json")?)?;
        let molecule = &task["molecules"][0];
        let text = |name: &str| molecule[name].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            id: text("id"),
            smiles: text("smiles"),
            seed: seed(molecule),
            window: task["window"].as_u64(),
        })
    }

    /// What the program finds of the whole molecule.
    fn finding(&self) -> Finding {
        Finding::of(&self.id, self.smiles.as_bytes(), self.seed)
    }

    fn step(&self, step: &str, attempt: &Attempt) -> io::Result<ExitCode> {
        for folder in ["fep", "window"] {
            fs::create_dir_all(folder)?;
        }
        match step {
            "solute" if self.finding().is_bad() => {
                let refused = json!({ "reason": BAD_REASON, "detail": self.finding().detail() });
                fs::write("fep/refused.json", refused.to_string())?;
            }
            "solute" => fs::write("fep/solute.gro", &self.smiles)?,
            "solvate" => fs::write("fep/solvated.gro", &self.smiles)?,
            "relax" | "equilibrate" => fs::write(format!("fep/{step}.gro"), &self.smiles)?,
            "pack" => fs::write("setup.tar", format!("{} by {}", self.id, attempt.name))?,
            "window" | "reduce" => return self.hard_step(attempt),
            "energies" => fs::write("window/energy.xvg", "0.0000 -1.5\n1.0000 -1.5\n")?,
            _ => return Err(io::Error::other(format!("no step is called `{step}`"))),
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The step that takes its time, and that may come to nothing.
    fn hard_step(&self, attempt: &Attempt) -> io::Result<ExitCode> {
        attempt.diary.note(&attempt.name, Deed::Began)?;
        let part = self.window.map_or(REDUCTION.to_owned(), |window| window.to_string());
        let finding = of_part(&self.id, &part, &self.smiles, self.seed);
        attempt.behave(finding)?;
        if let Some(code) = attempt.come_to_nothing(&self.id, finding.temper())? {
            return Ok(code);
        }
        if let Some(window) = self.window {
            fs::write("window/dhdl.xvg", self.samples(window))?;
            fs::write("window/window.log", "Finished\n")?;
            fs::write("window/window.gro", &self.smiles)?;
            return Ok(ExitCode::SUCCESS);
        }
        for window in 0..WINDOWS.len() as u64 {
            if fs::read_to_string(format!("windows/{window:03}/dhdl.xvg"))? != self.samples(window) {
                attempt.diary.note(&attempt.name, Deed::Astray)?;
                return Err(io::Error::other(format!("window {window} is not what it was")));
            }
        }
        fs::write("fep/reduction.json", reduction(self.finding()).to_string())?;
        Ok(ExitCode::SUCCESS)
    }

    /// The samples of a window: the time in ps, the derivatives, and the difference to each window.
    fn samples(&self, window: u64) -> String {
        let value = of_part(&self.id, &window.to_string(), &self.smiles, self.seed).value();
        let mut text = format!("@ subtitle \"T = 298.15 (K) state {window}: (lambdas)\"\n");
        for sample in 0..SAMPLES {
            // Writing to a string cannot fail.
            _ = write!(text, "{:.4}", sample as f64 * 0.05);
            for _ in 0..2 + WINDOWS.len() {
                _ = write!(text, " {value}");
            }
            text.push('\n');
        }
        text
    }
}
