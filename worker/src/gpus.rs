//! The GPUs of this machine: what its driver tells, which of them are this worker's, and what an engine is told of its own.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use crate::config::Config;
use crate::process::{Ended, How, Launcher, SpawnError, engine_environment};

/// How long `nvidia-smi` may take; a broken driver lets it hang.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// The fields of [`Gpu`] in their order.
const QUERY: [&str; 3] = [
    "nvidia-smi",
    "--query-gpu=index,uuid,name,memory.total,driver_version",
    "--format=csv,noheader,nounits",
];

/// A GPU as its driver tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gpu {
    /// Its number, from 0; it may change when the machine starts again.
    pub(crate) index: u32,
    /// Its name for good, such as `GPU-8a6b…`.
    pub(crate) uuid: String,
    name: String,
    /// As told: a number of MiB, or `[N/A]` where the machine shares its memory.
    memory_mib: String,
    driver: String,
}

impl Gpu {
    /// What people and provenances are told: model, memory, driver and name for good.
    pub(crate) fn account(&self) -> String {
        let Self { uuid, name, memory_mib, driver, .. } = self;
        format!("{name}, {memory_mib} MiB, driver {driver}, {uuid}")
    }
}

/// Which GPUs a worker takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuChoice {
    /// All that the machine has.
    All,
    /// By their numbers; empty for none.
    Only(Vec<u32>),
}

impl FromStr for GpuChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::Only(Vec::new())),
            numbers => {
                let numbers = numbers.split(',').map(|number| number.trim().parse());
                let mut numbers = numbers
                    .collect::<Result<Vec<u32>, _>>()
                    .map_err(|_| "expected all, none, or numbers such as 0,1".to_owned())?;
                numbers.sort_unstable();
                numbers.dedup();
                Ok(Self::Only(numbers))
            }
        }
    }
}

/// Why a worker can't have the GPUs that it was told to take, or none at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GpuError {
    #[error("nvidia-smi fails: {0}")]
    Fails(String),
    #[error("nvidia-smi can't be run")]
    Start(#[source] SpawnError),
    #[error("nvidia-smi says `{line}` (expected index, uuid, name, MiB of memory, driver version)")]
    Nonsense { line: String },
    #[error("--gpus names GPU {number}, this machine has {found}")]
    Missing { number: u32, found: String },
    #[error("GPU {number} is another worker's")]
    Taken { number: u32 },
    #[error("the lock of GPU {number} can't be made")]
    Lock {
        number: u32,
        #[source]
        source: std::io::Error,
    },
}

impl GpuError {
    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::Fails(_) | Self::Start(_) | Self::Nonsense { .. } => {
                "is the driver loaded? --gpus none works without"
            }
            Self::Missing { .. } => "`nvidia-smi --list-gpus` shows their numbers",
            Self::Taken { .. } => "each worker of a host can have its own, by --gpus",
            Self::Lock { .. } => "--cache names a folder that this user may write to",
        }
    }
}

/// The GPUs that a worker gives to attempts, each its own as long as it lives.
#[derive(Debug, Default)]
pub(crate) struct Gpus {
    pub(crate) ours: Vec<Gpu>,
    /// Whether the machine has any at all: then engines see none but what they are given.
    on_machine: bool,
    /// The system frees them with the process, however it ends.
    locks: Vec<File>,
}

impl Gpus {
    /// Finds the machine's GPUs and takes those that it is to take. What goes wrong with GPUs that nobody asked for by number is
    /// said, and the worker does without.
    pub(crate) async fn take(launcher: &Launcher, config: &Config) -> Result<Self, GpuError> {
        let is_asked_for = matches!(&config.gpus, GpuChoice::Only(numbers) if !numbers.is_empty());
        let found = match discover(launcher, config).await {
            Err(error) if !is_asked_for => {
                let error = crate::heartbeat::chain(&error);
                tracing::warn!(error, "this worker does without GPUs");
                return Ok(Self::default());
            }
            found => found?,
        };
        let mut gpus = Self { on_machine: !found.is_empty(), ..Self::default() };
        for gpu in chosen(&config.gpus, found)? {
            match lock(&config.cache, &gpu) {
                Ok(file) => gpus.locks.push(file),
                Err(error) if !is_asked_for => {
                    tracing::warn!(error = crate::heartbeat::chain(&error), "this worker does without a GPU");
                    continue;
                }
                Err(error) => return Err(error),
            }
            tracing::info!(number = gpu.index, gpu = gpu.account(), "a GPU of this worker");
            gpus.ours.push(gpu);
        }
        Ok(gpus)
    }

    /// What the environment of an engine has, which was given this one of [`Gpus::ours`].
    pub(crate) fn variables(&self, given: Option<&Gpu>) -> Vec<(String, OsString)> {
        let visible = given.map(|gpu| gpu.uuid.as_str()).or(self.on_machine.then_some(""));
        let visible = visible.map(|uuid| ("CUDA_VISIBLE_DEVICES".to_owned(), uuid.into()));
        let given = given.map(|gpu| ("MOLFLEET_GPU".to_owned(), OsString::from(&gpu.uuid)));
        visible.into_iter().chain(given).collect()
    }
}

/// All GPUs of this machine; none if it has no `nvidia-smi`.
async fn discover(launcher: &Launcher, config: &Config) -> Result<Vec<Gpu>, GpuError> {
    let env = engine_environment(&config.path, Path::new("/tmp"), 1, &[]);
    told(launcher.capture(QUERY.map(str::to_owned).into(), env, TIME_LIMIT).await)
}

/// Those of them that a worker with these flags takes.
pub(crate) async fn find(launcher: &Launcher, config: &Config) -> Result<Vec<Gpu>, GpuError> {
    chosen(&config.gpus, discover(launcher, config).await?)
}

fn told(answer: Result<Ended, SpawnError>) -> Result<Vec<Gpu>, GpuError> {
    match answer {
        Err(SpawnError::NotFound { .. }) => Ok(Vec::new()),
        Err(error) => Err(GpuError::Start(error)),
        // It is 0 or 6 without a GPU, and says so on either stream.
        Ok(ended)
            if format!("{}{}", ended.stdout_tail, ended.stderr_tail).contains("No devices were found") =>
        {
            Ok(Vec::new())
        }
        Ok(ended) if ended.how == How::Exited(0) => {
            let lines = ended.stdout_tail.lines().filter(|line| !line.trim().is_empty());
            lines.map(gpu).collect()
        }
        Ok(ended) => {
            let output = [ended.stdout_tail.trim(), ended.stderr_tail.trim()].join(" ");
            Err(GpuError::Fails(output.trim().to_owned()))
        }
    }
}

fn gpu(line: &str) -> Result<Gpu, GpuError> {
    let nonsense = || GpuError::Nonsense { line: common::excerpt::excerpt(line) };
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [index, uuid, name, memory_mib, driver] = fields[..] else { return Err(nonsense()) };
    let is_uuid = uuid.starts_with("GPU-")
        && uuid.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
    let index = index.parse().ok().filter(|_| is_uuid).ok_or_else(nonsense)?;
    let [uuid, name, memory_mib, driver] = [uuid, name, memory_mib, driver].map(str::to_owned);
    Ok(Gpu { index, uuid, name, memory_mib, driver })
}

fn chosen(choice: &GpuChoice, found: Vec<Gpu>) -> Result<Vec<Gpu>, GpuError> {
    let GpuChoice::Only(numbers) = choice else { return Ok(found) };
    if let Some(&number) = numbers.iter().find(|number| found.iter().all(|gpu| gpu.index != **number)) {
        let there: Vec<String> = found.iter().map(|gpu| gpu.index.to_string()).collect();
        let found = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        return Err(GpuError::Missing { number, found });
    }
    Ok(found.into_iter().filter(|gpu| numbers.contains(&gpu.index)).collect())
}

/// Two workers of a host must not take the same one.
fn lock(cache: &Path, gpu: &Gpu) -> Result<File, GpuError> {
    let failed = |source| GpuError::Lock { number: gpu.index, source };
    let file = File::create(cache.join(format!("{}.lock", gpu.uuid))).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(GpuError::Taken { number: gpu.index }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "0, GPU-5c1f3b0e-0d0a-4c1e-9f39-5a3b1c1d2e3f, NVIDIA L4, 23034, 550.90.07\n\
                       1, GPU-9a8b7c6d-1e2f-4a3b-8c4d-5e6f7a8b9c0d, NVIDIA L4, 23034, 550.90.07\n";

    fn ended(code: i32, stdout: &str) -> Ended {
        let (stdout_tail, stderr_tail) = (stdout.to_owned(), String::new());
        Ended { how: How::Exited(code), elapsed_ms: 1, stdout_tail, stderr_tail }
    }

    #[test]
    fn gpus_are_read_with_model_memory_and_driver() {
        let gpus = told(Ok(ended(0, TWO))).unwrap();
        assert_eq!(gpus.iter().map(|gpu| gpu.index).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(
            gpus[1].account(),
            "NVIDIA L4, 23034 MiB, driver 550.90.07, GPU-9a8b7c6d-1e2f-4a3b-8c4d-5e6f7a8b9c0d"
        );
        let four = [0, 1, 2, 3]
            .map(|n| format!("{n}, GPU-{n}0000000-aaaa, NVIDIA A100-SXM4-80GB, 81920, 535.161.08"));
        assert_eq!(told(Ok(ended(0, &four.join("\n")))).unwrap().len(), 4);
        // Memory that is shared with the CPU has no size of its own.
        let shared = told(Ok(ended(0, "0, GPU-ab-cd, NVIDIA GB10, [N/A], 580.95.05\n"))).unwrap();
        assert!(shared[0].account().starts_with("NVIDIA GB10, [N/A] MiB"));
    }

    #[test]
    fn a_machine_without_gpus_is_well() {
        let absent = SpawnError::NotFound { program: "nvidia-smi".into(), path: "/bin".into() };
        assert!(told(Err(absent)).unwrap().is_empty());
        assert!(told(Ok(ended(0, ""))).unwrap().is_empty());
        assert!(told(Ok(ended(6, "No devices were found\n"))).unwrap().is_empty());
    }

    #[test]
    fn errors_and_garbage_are_told() {
        let driver = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.";
        let check = |answer, message: &str| {
            let error = told(Ok(answer)).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        };
        check(ended(9, driver), "nvidia-smi fails: NVIDIA-SMI has failed");
        check(ended(0, driver), "nvidia-smi says `NVIDIA-SMI has failed");
        check(
            ended(0, "0, [Unknown Error], NVIDIA L4, 23034, 550.90.07"),
            "nvidia-smi says `0, [Unknown Error]",
        );
        check(ended(0, "x, GPU-1, NVIDIA L4, 23034, 550.90.07"), "nvidia-smi says `x, GPU-1");
        check(ended(0, "0, GPU-1, NVIDIA L4"), "nvidia-smi says `0, GPU-1, NVIDIA L4`");
    }

    #[test]
    fn only_gpus_that_are_there_can_be_chosen() {
        let found = || told(Ok(ended(0, TWO))).unwrap();
        let choose = |words: &str| chosen(&words.parse().unwrap(), found());
        assert_eq!(choose("all").unwrap(), found());
        assert_eq!(choose("1,1").unwrap(), found()[1..]);
        assert_eq!(choose("none").unwrap(), []);
        assert_eq!(choose("2").unwrap_err().to_string(), "--gpus names GPU 2, this machine has 0, 1");
        assert!("".parse::<GpuChoice>().is_err() && "0,-1".parse::<GpuChoice>().is_err());
    }

    #[test]
    fn a_gpu_is_one_workers_until_that_is_gone() {
        let (cache, gpus) = (tempfile::tempdir().unwrap(), told(Ok(ended(0, TWO))).unwrap());
        let first = lock(cache.path(), &gpus[0]).unwrap();
        assert!(matches!(lock(cache.path(), &gpus[0]), Err(GpuError::Taken { number: 0 })));
        assert!(lock(cache.path(), &gpus[1]).is_ok());
        drop(first);
        assert!(lock(cache.path(), &gpus[0]).is_ok());
    }

    #[test]
    fn an_engine_sees_its_own_gpu_only() {
        let gpus = Gpus { ours: told(Ok(ended(0, TWO))).unwrap(), on_machine: true, ..Gpus::default() };
        let uuid = gpus.ours[1].uuid.as_str();
        let pairs = |given| {
            let variables = gpus.variables(given).into_iter();
            variables.map(|(name, value)| format!("{name}={}", value.display())).collect::<Vec<_>>()
        };
        assert_eq!(
            pairs(Some(&gpus.ours[1])),
            [format!("CUDA_VISIBLE_DEVICES={uuid}"), format!("MOLFLEET_GPU={uuid}")]
        );
        assert_eq!(pairs(None), ["CUDA_VISIBLE_DEVICES="]);
        // Where nobody knows of any, nothing is hidden.
        assert!(Gpus::default().variables(None).is_empty());
    }
}
