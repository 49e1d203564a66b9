//! The GPUs of this machine: what its driver tells, which of them are this worker's, and what an engine is told of its own. A GPU that
//! MIG splits stands for each of its parts, and for nothing if it has none.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use crate::claim::claim;
use crate::config::Config;
use crate::mig::{self, Part};
use crate::process::{Ended, How, Launcher, SpawnError, engine_environment};

/// How long `nvidia-smi` may take; a broken driver lets it hang.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// The fields of [`Gpu`] in their order.
const QUERY: [&str; 3] =
    ["nvidia-smi", "--query-gpu=index,uuid,name,driver_version,memory.total", "--format=csv,noheader"];
/// What lists the parts of GPUs, too.
const LIST: [&str; 2] = ["nvidia-smi", "--list-gpus"];
/// What tells which GPUs are in MIG mode: no listing does of those without parts.
const MODES: [&str; 3] = ["nvidia-smi", "--query-gpu=uuid,mig.mode.current", "--format=csv,noheader"];
/// What a driver says of a field that it does not know: one before 450 knows of no MIG.
const UNKNOWN_FIELD: &str = "is not a valid field to query";

/// A GPU, or a part of one, as its driver tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gpu {
    /// The number of the whole GPU, from 0; it may change when the machine starts again.
    pub(crate) index: u32,
    /// Its name for good, such as `GPU-8a6b…` or `MIG-feb8…`.
    pub(crate) uuid: String,
    name: String,
    driver: String,
    /// As told, such as `23034 MiB`; `[N/A]` where the machine shares its memory.
    memory: String,
}

/// The GPUs of a machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    /// What can be computed on: whole GPUs, and parts of those that are split.
    pub(crate) devices: Vec<Gpu>,
    /// Those in MIG mode that have no parts: CUDA finds no device there.
    pub(crate) without_parts: Vec<Gpu>,
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
    #[error("nvidia-smi says `{line}` (expected index, uuid, name, driver version, memory)")]
    Nonsense { line: String },
    #[error("nvidia-smi lists `{line}` (expected a part of a GPU with its UUID)")]
    Listing { line: String },
    #[error("nvidia-smi says `{line}` (expected uuid, MIG mode)")]
    Mode { line: String },
    #[error("GPU {number} is in MIG mode and has no parts: nothing can be computed on it")]
    WithoutParts { number: u32 },
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
            Self::Fails(_)
            | Self::Start(_)
            | Self::Nonsense { .. }
            | Self::Listing { .. }
            | Self::Mode { .. } => "is the driver loaded? --gpus none works without",
            Self::WithoutParts { .. } => {
                "give it parts (`nvidia-smi mig -lgip` lists sizes, `nvidia-smi mig -i <number> -cgi <size> -C` makes one), or turn \
                 MIG off (`nvidia-smi -i <number> -mig 0`)"
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
        let mut gpus = Self { on_machine: found != Machine::default(), ..Self::default() };
        let found = chosen(&config.gpus, found)?;
        for gpu in &found.without_parts {
            let error = GpuError::WithoutParts { number: gpu.index };
            let (gpu, hint) = (gpu.account(), error.hint());
            tracing::warn!(%error, gpu, hint, "this worker does without a GPU");
        }
        for gpu in found.devices {
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
async fn discover(launcher: &Launcher, config: &Config) -> Result<Machine, GpuError> {
    let ask = async |argv: &[&str]| {
        let env = engine_environment(&config.path, Path::new("/tmp"), 1, &[]);
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        output(launcher.capture(argv, env, TIME_LIMIT).await)
    };
    let found = gpus(&ask(&QUERY).await?)?;
    if found.is_empty() {
        return Ok(Machine::default());
    }
    let listing = ask(&LIST).await?;
    machine(&found, &listing, &modes(ask(&MODES).await)?)
}

/// Those of them that a worker with these flags takes.
pub(crate) async fn find(launcher: &Launcher, config: &Config) -> Result<Machine, GpuError> {
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

/// What it says of MIG mode; nothing if its driver has no such thing.
fn modes(answer: Result<String, GpuError>) -> Result<String, GpuError> {
    match answer {
        Err(GpuError::Fails(said)) if said.contains(UNKNOWN_FIELD) => Ok(String::new()),
        answer => answer,
    }
}

/// With the parts of each GPU in its place, if it is split.
fn machine(gpus: &[Gpu], listing: &str, modes: &str) -> Result<Machine, GpuError> {
    let parts =
        mig::parts(listing).map_err(|line| GpuError::Listing { line: common::excerpt::excerpt(line) })?;
    let in_mode =
        mig::in_mode(modes).map_err(|line| GpuError::Mode { line: common::excerpt::excerpt(line) })?;
    let mut machine = Machine::default();
    for gpu in gpus {
        let mut own = parts.iter().filter(|part| part.of == gpu.uuid).map(|part| gpu.part(part)).peekable();
        if own.peek().is_some() {
            machine.devices.extend(own);
        } else if in_mode.contains(&gpu.uuid.as_str()) {
            machine.without_parts.push(gpu.clone());
        } else {
            machine.devices.push(gpu.clone());
        }
    }
    Ok(machine)
}

fn gpu(line: &str) -> Result<Gpu, GpuError> {
    let nonsense = || GpuError::Nonsense { line: common::excerpt::excerpt(line) };
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [index, uuid, name, driver, memory] = fields[..] else { return Err(nonsense()) };
    let index = index.parse().ok().filter(|_| mig::is_uuid(uuid, "GPU-")).ok_or_else(nonsense)?;
    let [uuid, name, driver, memory] = [uuid, name, driver, memory].map(str::to_owned);
    Ok(Gpu { index, uuid, name, driver, memory })
}

fn chosen(choice: &GpuChoice, machine: Machine) -> Result<Machine, GpuError> {
    let GpuChoice::Only(numbers) = choice else { return Ok(machine) };
    let Machine { devices, without_parts } = machine;
    let is_among = |gpus: &[Gpu], number: u32| gpus.iter().any(|gpu| gpu.index == number);
    for &number in numbers {
        if is_among(&without_parts, number) {
            return Err(GpuError::WithoutParts { number });
        }
        if !is_among(&devices, number) {
            let there: Vec<String> = devices.iter().map(|gpu| gpu.index.to_string()).collect();
            let found = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            return Err(GpuError::Missing { number, found });
        }
    }
    let devices = devices.into_iter().filter(|gpu| numbers.contains(&gpu.index)).collect();
    Ok(Machine { devices, without_parts: Vec::new() })
}

/// Two workers of a host must not take the same one.
fn lock(cache: &Path, gpu: &Gpu) -> Result<File, GpuError> {
    let number = gpu.index;
    // Old drivers have slashes in the names of parts.
    let claimed = claim(cache, &gpu.uuid.replace('/', "_"));
    claimed.map_err(|source| GpuError::Lock { number, source })?.ok_or(GpuError::Taken { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line as `nvidia-smi` printed it; that query asked for `compute_cap`, too (`github.com/wa200508/airsim-rf`,
    /// `results/profiling/p100-basis-quick-20261004/REPORT.md`).
    const P100: &str =
        "0, GPU-0d70be84-560c-cf1e-8d49-c41015f45415, Tesla P100-PCIE-16GB, 580.178.04, 16384 MiB, 6.0";
    /// The fields of one line that asked for more, in another order and without units (github.com/Ricks-Lab/gpu-utils/issues/83).
    const OLD: &str = "0, GPU-22b2c6ac-2d49-4863-197c-9c469071178a, GeForce RTX 2080, 440.64, 7979 MiB\n";
    /// Two GPUs of one machine, from its listing and the table that was recorded with it (see `mig`).
    const TWO: &str = "0, GPU-c7b57be0-94ff-d352-a59b-d0ee00aeed43, Quadro RTX 4000, 535.129.03, 8192 MiB\n\
                       1, GPU-d6de6afc-bdfe-75c4-5273-0544439153fc, Quadro RTX 4000, 535.129.03, 8192 MiB\n";
    /// Of memory that is shared with the CPU it has no number: name and memory from github.com/unslothai/unsloth/pull/10703, UUID from
    /// github.com/leptonai/gpud/pull/1170, driver from github.com/canonical/inference-snaps/issues/143.
    const SHARED: &str = "0, GPU-2dee1e25-b3b5-007e-2b55-79f2d0f2ebe5, NVIDIA GB10, 580.95.05, [N/A]\n";
    /// The listing of a machine with four A100, one of which is split (see `mig`).
    const PARTLY: &str = include_str!("../../tests/golden/nvidia-smi-2023-a100-partly-mig.txt");
    /// MIG modes of four GPUs, of which the first has it on, with `mig.mode.pending` behind them
    /// (github.com/kubernetes-sigs/dra-driver-nvidia-gpu/pull/852).
    const MODES: &str = include_str!("../../tests/golden/nvidia-smi-2026-mig-modes.txt");

    fn ended(code: i32, stdout: &str) -> Ended {
        let (stdout_tail, stderr_tail) = (stdout.to_owned(), String::new());
        Ended { how: How::Exited(code), elapsed_ms: 1, stdout_tail, stderr_tail }
    }

    fn told(answer: Result<Ended, SpawnError>) -> Result<Vec<Gpu>, GpuError> {
        gpus(&output(answer)?)
    }

    fn two() -> Machine {
        Machine { devices: told(Ok(ended(0, TWO))).unwrap(), ..Machine::default() }
    }

    /// Four A100 with these UUIDs as the query would tell of them: no recording has model and UUIDs of such a machine together with
    /// its driver and memory, those are of another one (github.com/DataDog/datadog-agent/pull/33120).
    fn four<'a>(uuids: impl Iterator<Item = &'a str>) -> Vec<Gpu> {
        let line = |(n, uuid)| format!("{n}, {uuid}, NVIDIA A100-SXM4-80GB, 535.216.01, 81920 MiB\n");
        gpus(&uuids.enumerate().map(line).collect::<String>()).unwrap()
    }

    fn listed() -> Vec<Gpu> {
        let whole = PARTLY.lines().filter(|line| line.starts_with("GPU "));
        four(whole.map(|line| line.split_once("UUID: ").unwrap().1.trim_end_matches(')')))
    }

    #[test]
    fn gpus_are_read_with_model_memory_and_driver() {
        assert_eq!(two().devices.iter().map(|gpu| gpu.index).collect::<Vec<_>>(), [0, 1]);
        let account = |text| told(Ok(ended(0, text))).unwrap()[0].account();
        assert_eq!(
            account(P100.rsplit_once(',').unwrap().0),
            "Tesla P100-PCIE-16GB, 16384 MiB, driver 580.178.04, GPU-0d70be84-560c-cf1e-8d49-c41015f45415"
        );
        assert!(account(OLD).starts_with("GeForce RTX 2080, 7979 MiB, driver 440.64"));
        assert!(account(SHARED).starts_with("NVIDIA GB10, [N/A], driver"));
    }

    #[test]
    fn a_gpu_that_is_split_stands_for_its_parts() {
        let all = machine(&listed(), PARTLY, "").unwrap();
        let indices: Vec<u32> = all.devices.iter().map(|gpu| gpu.index).collect();
        assert_eq!(indices, [0, 0, 0, 0, 1, 2, 3]);
        assert_eq!(
            all.devices[3].account(),
            "NVIDIA A100-SXM4-80GB MIG 1g.20gb, a part of 81920 MiB, driver 535.216.01, \
             MIG-930574a9-d43a-5d2b-95da-3e68384c8d6b"
        );
        assert_eq!(all.devices[4..], listed()[1..]);
        // To have parts is to be in MIG mode, whether or not that is told.
        let told = "GPU-513536b6-7d19-9063-b049-1e69664bb298, Enabled";
        assert_eq!(machine(&listed(), PARTLY, told).unwrap(), all);
        let chosen = chosen(&"0,2".parse().unwrap(), all).unwrap();
        assert_eq!(chosen.devices.len(), 5, "all parts of the first one");
        let listing = "  MIG 1g.20gb Device 0: (UUID: MIG-1)\n";
        let error = machine(&listed(), listing, "").unwrap_err().to_string();
        assert!(error.starts_with("nvidia-smi lists `  MIG 1g.20gb"), "{error}");
    }

    /// NVIDIA's MIG User Guide, "Creating GPU Instances": without them "CUDA workloads cannot be run on the GPU".
    #[test]
    fn a_gpu_in_mig_mode_without_parts_is_none() {
        let four = four(MODES.lines().map(|line| line.split_once(',').unwrap().0));
        // The listing of such a GPU is that of a whole one: written by hand after that of the machine above.
        let line = |gpu: &Gpu| format!("GPU {}: {} (UUID: {})\n", gpu.index, gpu.name, gpu.uuid);
        let listing: String = four.iter().map(line).collect();
        let found = || machine(&four, &listing, MODES).unwrap();
        assert_eq!((&found().devices[..], &found().without_parts[..]), (&four[1..], &four[..1]));
        assert_eq!(chosen(&GpuChoice::All, found()).unwrap(), found());
        let choose = |words: &str| chosen(&words.parse().unwrap(), found());
        assert_eq!(choose("1,2").unwrap(), Machine { devices: four[1..3].to_vec(), ..Machine::default() });
        let error = choose("1,0").unwrap_err();
        assert_eq!(error.to_string(), "GPU 0 is in MIG mode and has no parts: nothing can be computed on it");
        assert!(error.hint().contains("-mig 0"), "{}", error.hint());
        let with_header = format!("uuid, mig.mode.current\n{MODES}");
        let error = machine(&four, &listing, &with_header).unwrap_err().to_string();
        assert!(error.starts_with("nvidia-smi says `uuid, mig.mode.current` (expected"), "{error}");
    }

    /// Recorded for another field that the driver did not know (github.com/CoHDI/composable-resource-operator/issues/37).
    #[test]
    fn a_driver_that_knows_no_mig_has_no_gpu_in_its_mode() {
        let unknown = "Field \"device_minor\" is not a valid field to query.\n\n";
        assert_eq!(modes(output(Ok(ended(2, unknown)))).unwrap(), "");
        let error = modes(output(Ok(ended(9, FAILED)))).unwrap_err();
        assert!(matches!(error, GpuError::Fails(_)), "{error}");
        assert_eq!(modes(output(Ok(ended(0, MODES)))).unwrap(), MODES);
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
        // Recorded in github.com/NVIDIA/open-gpu-kernel-modules/issues/862; its code is 6 in the manual of `nvidia-smi`.
        assert!(told(Ok(ended(6, "No devices were found\n"))).unwrap().is_empty());
    }

    /// Recorded in github.com/GoogleCloudPlatform/compute-gpu-installation/pull/18; its code is 9 in the manual of `nvidia-smi`.
    const FAILED: &str = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest \
                          NVIDIA driver is installed and running.\n";

    #[test]
    fn what_went_wrong_is_told_in_the_drivers_own_words() {
        let check = |code, said: &str, message: &str| {
            let error = told(Ok(ended(code, said))).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        };
        check(9, FAILED, "nvidia-smi fails: NVIDIA-SMI has failed");
        check(0, FAILED, "nvidia-smi says `NVIDIA-SMI has failed");
        // github.com/mozilla/translations/issues/1167
        let mismatch =
            "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.144\n";
        check(18, mismatch, "nvidia-smi fails: Failed to initialize NVML: Driver/library version mismatch");
        // github.com/kubernetes-sigs/dra-driver-nvidia-gpu/issues/1008
        let unbound = "Failed to initialize NVML: No supported GPUs were found\n\
                       Unable to determine the number of GPUs\n";
        check(255, unbound, "nvidia-smi fails: Failed to initialize NVML: No supported GPUs were found");
        // github.com/NVIDIA/open-gpu-kernel-modules/issues/387, with no word of its code: any will do.
        let fallen = "Unable to determine the device handle for GPU 0000:0B:00.0: Unknown Error\n";
        check(255, fallen, "nvidia-smi fails: Unable to determine the device handle");
        check(0, fallen, "nvidia-smi says `Unable to determine the device handle");
    }

    /// A field that the driver has no value for is `[N/A]` (above), `[Not Supported]` before driver 440
    /// (github.com/enkore/i3pystatus/pull/776) and `[Unknown Error]` (pull/850 there). No recording has them in ours: those lines are
    /// written by hand.
    #[test]
    fn a_field_without_a_value_may_be_the_memory_and_not_the_name() {
        let line = |uuid, memory| format!("0, {uuid}, GeForce GTX 770, 390.25, {memory}\n");
        let uuid = "GPU-22b2c6ac-2d49-4863-197c-9c469071178a";
        for word in ["[Not Supported]", "[Unknown Error]", "[GPU is lost]", "ERR!"] {
            let gpu = &told(Ok(ended(0, &line(uuid, word)))).unwrap()[0];
            assert_eq!(gpu.account(), format!("GeForce GTX 770, {word}, driver 390.25, {uuid}"));
            let error = told(Ok(ended(0, &line(word, "1998 MiB")))).unwrap_err().to_string();
            assert!(error.starts_with(&format!("nvidia-smi says `0, {word}")), "{error}");
        }
        for wrong in
            ["x, GPU-1, GTX 770, 390.25, 1998 MiB", "0, GPU-1, GTX 770", "0, GPU-1, GTX 770, 1, 2, 3"]
        {
            let error = told(Ok(ended(0, wrong))).unwrap_err().to_string();
            assert!(error.starts_with(&format!("nvidia-smi says `{wrong}`")), "{error}");
        }
    }

    #[test]
    fn only_gpus_that_are_there_can_be_chosen() {
        let choose = |words: &str| chosen(&words.parse().unwrap(), two()).map(|machine| machine.devices);
        assert_eq!(choose("all").unwrap(), two().devices);
        assert_eq!(choose("1,1").unwrap(), two().devices[1..]);
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
