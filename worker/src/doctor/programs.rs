//! Which engines this machine can run, and with which programs. Starts them for their versions only.

use common::checkup::{Check, Verdict};

use crate::config::Config;
use crate::engine::{built_in, engine_for};
use crate::gpus::{self, GpuError, Machine};
use crate::process::{Launcher, find_program};
use crate::serving::probe;

/// A line for each built-in engine. A machine need not run all of them: it is wrong only if it can run none, or a run that is
/// named needs it, which that run's own check says.
pub(super) async fn engines(launcher: &Launcher, config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    for options in built_in() {
        let (engine, name) = (engine_for(&options), options.name());
        checks.push(match probe(engine.as_ref(), name, launcher, &config.path).await {
            Ok((path, versions)) => {
                let versions = versions.iter().map(|(program, version)| match program.as_str() {
                    "rdkit" => {
                        let python = find_program("python3", &path).unwrap_or_default();
                        format!("{program} {version} of `{}`", python.display())
                    }
                    _ => format!("{program} {version}"),
                });
                Check::ok("engine", format!("{name}: {}", versions.collect::<Vec<_>>().join(", ")))
            }
            Err(error) => Check {
                name: "engine",
                verdict: Verdict::Note,
                found: crate::heartbeat::chain(&error),
                hint: error.hint(),
            },
        });
    }
    if config.runs.is_empty() && checks.iter().all(|check| check.verdict != Verdict::Ok) {
        for check in &mut checks {
            check.verdict = Verdict::Wrong;
        }
    }
    checks
}

/// The machine's GPUs, and whether a worker with these flags has any.
pub(super) async fn gpus(launcher: &Launcher, config: &Config) -> (Check, bool) {
    let found = gpus::find(launcher, config).await;
    (told(&found), found.is_ok_and(|found| !found.devices.is_empty()))
}

fn told(found: &Result<Machine, GpuError>) -> Check {
    let found = match found {
        Ok(found) => found,
        Err(error) => return Check::wrong("gpus", crate::heartbeat::chain(error), error.hint()),
    };
    let devices = found.devices.iter().map(|gpu| format!("{}: {}", gpu.index, gpu.account()));
    let mut said: Vec<String> = devices.collect();
    let unusable = found.without_parts.iter().map(|gpu| GpuError::WithoutParts { number: gpu.index });
    let unusable: Vec<GpuError> = unusable.collect();
    said.extend(unusable.iter().map(GpuError::to_string));
    match unusable.first() {
        Some(error) => Check::wrong("gpus", said.join("; "), error.hint()),
        None if said.is_empty() => Check::note("gpus", "none"),
        None => Check::ok("gpus", said.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_gpu_is_no_fault_and_a_broken_driver_is() {
        assert_eq!(told(&Ok(Machine::default())).verdict, Verdict::Note);
        let broken = told(&Err(GpuError::Fails("NVIDIA-SMI has failed".into())));
        assert_eq!(
            (broken.verdict, broken.found.as_str()),
            (Verdict::Wrong, "nvidia-smi fails: NVIDIA-SMI has failed")
        );
    }
}
