//! Which engines this machine can run, and with which programs. Starts them for their versions only.

use std::time::Duration;

use common::checkup::{Check, Verdict};

use crate::config::Config;
use crate::engine::{built_in, engine_for};
use crate::process::{Ended, How, Launcher, SpawnError, engine_environment, find_program};
use crate::serving::probe;

/// How long `nvidia-smi` may take; a broken driver lets it hang.
const GPU_TIME_LIMIT: Duration = Duration::from_secs(20);

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

/// The machine's GPUs, if its driver tells them.
pub(super) async fn gpus(launcher: &Launcher, config: &Config) -> Check {
    let query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"].map(str::to_owned);
    let env = engine_environment(&config.path, std::path::Path::new("/tmp"), 1, &[]);
    told(&launcher.capture(query.into(), env, GPU_TIME_LIMIT).await)
}

fn told(answer: &Result<Ended, SpawnError>) -> Check {
    match answer {
        Err(SpawnError::NotFound { .. }) => Check::note("gpus", "none: there is no nvidia-smi"),
        Ok(ended) if ended.how == How::Exited(0) => {
            let gpus: Vec<&str> =
                ended.stdout_tail.lines().map(str::trim).filter(|gpu| !gpu.is_empty()).collect();
            Check::ok("gpus", if gpus.is_empty() { "none".to_owned() } else { gpus.join("; ") })
        }
        Ok(ended) => {
            let output = [ended.stdout_tail.trim(), ended.stderr_tail.trim()].join(" ");
            Check::wrong("gpus", format!("nvidia-smi fails: {}", output.trim()), "is the driver loaded?")
        }
        Err(error) => Check::wrong("gpus", crate::heartbeat::chain(error), "can nvidia-smi be run here?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(how: How, stdout: &str) -> Ended {
        let (stdout_tail, stderr_tail) = (stdout.to_owned(), String::new());
        Ended { how, elapsed_ms: 1, stdout_tail, stderr_tail }
    }

    #[test]
    fn gpus_are_listed_with_their_memory() {
        let check = told(&Ok(ended(How::Exited(0), "NVIDIA L4, 23034 MiB\nNVIDIA L4, 23034 MiB\n")));
        assert_eq!(
            (check.verdict, check.found.as_str()),
            (Verdict::Ok, "NVIDIA L4, 23034 MiB; NVIDIA L4, 23034 MiB")
        );
    }

    #[test]
    fn no_driver_is_no_fault_and_a_broken_one_is() {
        let absent = SpawnError::NotFound { program: "nvidia-smi".into(), path: "/bin".into() };
        assert_eq!(told(&Err(absent)).verdict, Verdict::Note);
        let broken = told(&Ok(ended(How::Exited(9), "NVIDIA-SMI has failed")));
        assert_eq!(broken.verdict, Verdict::Wrong);
        assert!(broken.found.contains("has failed"));
    }
}
