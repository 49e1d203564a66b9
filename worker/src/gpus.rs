//! The GPUs of this machine: what its driver tells, which of them are this worker's, and what an engine is told of its own. A GPU that
//! MIG splits stands for each of its parts.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use crate::config::Config;
use crate::mig::{self, Part};
use crate::process::{Ended, How, Launcher, SpawnError, engine_environment};

/// How long `nvidia-smi` may take; a broken driver lets it hang.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// The fields of [`Gpu`] in their order.
const QUERY: [&str; 3] = [
    "nvidia-smi",
    "--query-gpu=index,uuid,name,memory.total,driver_version",
    "--format=csv,noheader,nounits",
];

/// What lists the parts of GPUs, too.
const LIST: [&str; 2] = ["nvidia-smi", "--list-gpus"];

/// A GPU, or a part of one, as its driver tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gpu {
    /// The number of the whole GPU, from 0; it may change when the machine starts again.
    pub(crate) index: u32,
    /// Its name for good, such as `GPU-8a6b…` or `MIG-feb8…`.
    pub(crate) uuid: String,
    name: String,
    /// In words; as told, `[N/A] MiB`, where the machine shares its memory.
    memory: String,
    driver: String,
}

impl Gpu {
    /// What people and provenances are told: model, memory, driver and name for good.
    pub(crate) fn account(&self) -> String {
        let Self { uuid, name, memory, driver, .. } = self;
        format!("{name}, {memory}, driver {driver}, {uuid}")
    }

    fn part(&self, part: &Part) -> Self {
        let Self { index, name, memory, driver, .. } = self;
        let (name, memory) = (format!("{name} MIG {}", part.profile), format!("a part of {memory}"));
        Self { index: *index, uuid: part.uuid.clone(), name, memory, driver: driver.clone() }
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
    #[error("nvidia-smi lists `{line}` (expected a part of a GPU with its UUID)")]
    Listing { line: String },
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
            Self::Fails(_) | Self::Start(_) | Self::Nonsense { .. } | Self::Listing { .. } => {
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
    let ask = async |argv: &[&str]| {
        let env = engine_environment(&config.path, Path::new("/tmp"), 1, &[]);
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        output(launcher.capture(argv, env, TIME_LIMIT).await)
    };
    let found = gpus(&ask(&QUERY).await?)?;
    if found.is_empty() { Ok(found) } else { split(&found, &ask(&LIST).await?) }
}

/// Those of them that a worker with these flags takes.
pub(crate) async fn find(launcher: &Launcher, config: &Config) -> Result<Vec<Gpu>, GpuError> {
    chosen(&config.gpus, discover(launcher, config).await?)
}

/// What `nvidia-smi` says; nothing on a machine without GPUs.
fn output(answer: Result<Ended, SpawnError>) -> Result<String, GpuError> {
    match answer {
        Err(SpawnError::NotFound { .. }) => Ok(String::new()),
        Err(error) => Err(GpuError::Start(error)),
        // It is 0 or 6 without a GPU, and says so on either stream.
        Ok(ended)
            if format!("{}{}", ended.stdout_tail, ended.stderr_tail).contains("No devices were found") =>
        {
            Ok(String::new())
        }
        Ok(ended) if ended.how == How::Exited(0) => Ok(ended.stdout_tail),
        Ok(ended) => {
            let output = [ended.stdout_tail.trim(), ended.stderr_tail.trim()].join(" ");
            Err(GpuError::Fails(output.trim().to_owned()))
        }
    }
}

fn gpus(told: &str) -> Result<Vec<Gpu>, GpuError> {
    told.lines().filter(|line| !line.trim().is_empty()).map(gpu).collect()
}

/// With the parts of each GPU that has some in its place.
fn split(gpus: &[Gpu], listing: &str) -> Result<Vec<Gpu>, GpuError> {
    let unreadable = |line| GpuError::Listing { line: common::excerpt::excerpt(line) };
    let parts = mig::parts(listing).map_err(unreadable)?;
    let devices = |gpu: &Gpu| {
        let own: Vec<Gpu> =
            parts.iter().filter(|part| part.of == gpu.uuid).map(|part| gpu.part(part)).collect();
        if own.is_empty() { vec![gpu.clone()] } else { own }
    };
    Ok(gpus.iter().flat_map(devices).collect())
}

fn gpu(line: &str) -> Result<Gpu, GpuError> {
    let nonsense = || GpuError::Nonsense { line: common::excerpt::excerpt(line) };
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [index, uuid, name, memory_mib, driver] = fields[..] else { return Err(nonsense()) };
    let index = index.parse().ok().filter(|_| mig::is_uuid(uuid, "GPU-")).ok_or_else(nonsense)?;
    let [uuid, name, driver] = [uuid, name, driver].map(str::to_owned);
    Ok(Gpu { index, uuid, name, memory: format!("{memory_mib} MiB"), driver })
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
    // Old drivers have slashes in the names of parts.
    let file = File::create(cache.join(format!("{}.lock", gpu.uuid.replace('/', "_")))).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(GpuError::Taken { number: gpu.index }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields as drivers really gave them: model, memory, driver and UUID of driver 440.64 from github.com/Ricks-Lab/gpu-utils/issues/83,
    /// number, model and UUID of the H200 from github.com/gpustack/gpustack/issues/4997, with the memory of their data sheet.
    const OLD: &str = "0, GPU-22b2c6ac-2d49-4863-197c-9c469071178a, GeForce RTX 2080, 7979, 440.64\n";
    const TWO: &str = "0, GPU-f5ec9d38-2cba-a4b8-a8ef-72d26911880e, NVIDIA H200 NVL, 143771, 550.90.07\n\
                       1, GPU-64b2e88f-dbcb-8560-9c61-dc8f7c0ce434, NVIDIA H200 NVL, 143771, 550.90.07\n";
    /// Of memory that is shared with the CPU it has no number (github.com/unslothai/unsloth/pull/10703).
    const SHARED: &str = "0, GPU-2dee1e25-b3b5-007e-2b55-79f2d0f2ebe5, NVIDIA GB10, [N/A], 580.95.05\n";
    /// The listing of a machine with four A100, one of which is split (see `mig`), and what it would be told of them.
    const PARTLY: &str = include_str!("../../tests/golden/nvidia-smi-2023-a100-partly-mig.txt");

    fn ended(code: i32, stdout: &str) -> Ended {
        let (stdout_tail, stderr_tail) = (stdout.to_owned(), String::new());
        Ended { how: How::Exited(code), elapsed_ms: 1, stdout_tail, stderr_tail }
    }

    fn told(answer: Result<Ended, SpawnError>) -> Result<Vec<Gpu>, GpuError> {
        gpus(&output(answer)?)
    }

    /// The four A100 of [`PARTLY`] as the query would tell of them.
    fn four() -> Vec<Gpu> {
        let whole = PARTLY.lines().filter(|line| line.starts_with("GPU "));
        let uuid = |line: &str| line.split_once("UUID: ").unwrap().1.trim_end_matches(')').to_owned();
        let line = |(n, uuid)| format!("{n}, {uuid}, NVIDIA A100-SXM4-80GB, 81920, 535.86.10\n");
        gpus(&whole.map(uuid).enumerate().map(line).collect::<String>()).unwrap()
    }

    #[test]
    fn gpus_are_read_with_model_memory_and_driver() {
        let gpus = told(Ok(ended(0, TWO))).unwrap();
        assert_eq!(gpus.iter().map(|gpu| gpu.index).collect::<Vec<_>>(), [0, 1]);
        let account = |text| told(Ok(ended(0, text))).unwrap()[0].account();
        assert_eq!(
            account(OLD),
            "GeForce RTX 2080, 7979 MiB, driver 440.64, GPU-22b2c6ac-2d49-4863-197c-9c469071178a"
        );
        assert!(account(SHARED).starts_with("NVIDIA GB10, [N/A] MiB"));
    }

    #[test]
    fn a_gpu_that_is_split_stands_for_its_parts() {
        let all = split(&four(), PARTLY).unwrap();
        let indices: Vec<u32> = all.iter().map(|gpu| gpu.index).collect();
        assert_eq!(indices, [0, 0, 0, 0, 1, 2, 3]);
        assert_eq!(
            all[3].account(),
            "NVIDIA A100-SXM4-80GB MIG 1g.20gb, a part of 81920 MiB, driver 535.86.10, \
             MIG-930574a9-d43a-5d2b-95da-3e68384c8d6b"
        );
        assert_eq!(all[4..], four()[1..]);
        let chosen = chosen(&"0,2".parse().unwrap(), all).unwrap();
        assert_eq!(chosen.len(), 5, "all parts of the first one");
        let error = split(&four(), "  MIG 1g.20gb Device 0: (UUID: MIG-1)\n").unwrap_err().to_string();
        assert!(error.starts_with("nvidia-smi lists `  MIG 1g.20gb"), "{error}");
    }

    #[test]
    fn the_parts_of_old_drivers_have_locks_like_all_others() {
        let cache = tempfile::tempdir().unwrap();
        let part = Part { of: String::new(), profile: "1g.5gb".into(), uuid: "MIG-GPU-9de3/9/0".into() };
        let part = told(Ok(ended(0, OLD))).unwrap()[0].part(&part);
        let first = lock(cache.path(), &part).unwrap();
        assert!(matches!(lock(cache.path(), &part), Err(GpuError::Taken { number: 0 })));
        drop(first);
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
