//! Whether a stored shard is the recorded result of its task: same bytes, same molecules, same counts, its index beside it.

use common::digest::sha256_hex;
use common::queue::TaskInfo;
use common::storage::{RunStore, StorageError, key};
use common::task::{Molecule, RunSpec, Shard, ShardError, TaskId};

/// Why a task has no result that can be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// A stable short word.
    pub(crate) reason: &'static str,
    /// The evidence.
    pub(crate) detail: String,
}

impl Fault {
    pub(crate) fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// Fetches and checks the shard of a succeeded task. What the store does not have is the task's fault; a store that refuses or can't
/// be reached is an error, since it says nothing about the task.
pub(crate) async fn check_shard(
    store: &RunStore,
    spec: &RunSpec,
    task: TaskId,
    molecules: &[Molecule],
    info: &TaskInfo,
) -> Result<Result<Shard, Fault>, StorageError> {
    let name = key::shard(task);
    let (Some(shard_sha256), Some(index_sha256)) = (&info.shard_sha256, &info.index_sha256) else {
        return Ok(Err(Fault::new("digest_missing", "Redis has no digest of the shard or of its index")));
    };
    let Some(bytes) = store.find(&name).await? else {
        return Ok(Err(Fault::new("shard_missing", format!("`{name}` is not in the store"))));
    };
    let shard = match judge(&bytes, molecules, shard_sha256, &name) {
        Ok(shard) => shard,
        Err(fault) => return Ok(Err(fault)),
    };
    let (ok, bad) = spec.engine.counts(task, &shard);
    if (ok, bad) != (info.molecules_ok, info.molecules_bad) {
        let detail = format!(
            "`{name}` has {ok} ok and {bad} bad (recorded: {} ok and {} bad)",
            info.molecules_ok, info.molecules_bad
        );
        return Ok(Err(Fault::new("counts_differ", detail)));
    }
    let index = key::index(task, shard_sha256);
    Ok(match store.find(&index).await? {
        None => Err(Fault::new("index_missing", format!("`{index}` is not in the store"))),
        Some(bytes) if sha256_hex(&bytes) != *index_sha256 => Err(Fault::new(
            "index_altered",
            format!(
                "`{index}` has other bytes than recorded (theirs: {}, ours: {index_sha256})",
                sha256_hex(&bytes)
            ),
        )),
        Some(_) => Ok(shard),
    })
}

/// Holds a shard's bytes against its digest and its task. When the digest differs, it tells what kind of damage that is.
fn judge(bytes: &[u8], molecules: &[Molecule], sha256: &str, name: &str) -> Result<Shard, Fault> {
    let parsed = Shard::parse(bytes).and_then(|shard| {
        shard.check_molecules(molecules.iter().map(|molecule| molecule.id.as_str()))?;
        Ok(shard)
    });
    let theirs = sha256_hex(bytes);
    if theirs == sha256 {
        return parsed.map_err(|error| Fault::new("shard_invalid", format!("`{name}`: {}", chain(&error))));
    }
    let digests = format!("theirs: {theirs}, ours: {sha256}");
    Err(match parsed {
        Ok(_) => Fault::new("shard_altered", format!("`{name}` has other bytes than recorded ({digests})")),
        Err(error) => {
            let reason = match &error {
                ShardError::CutShort => "shard_truncated",
                ShardError::Count { found, expected } if found < expected => "shard_truncated",
                ShardError::Molecule { .. } | ShardError::Count { .. } => "shard_swapped",
                ShardError::Csv(_)
                | ShardError::Header { .. }
                | ShardError::Verdict { .. }
                | ShardError::Contradiction { .. } => "shard_altered",
            };
            Fault::new(reason, format!("`{name}`: {} ({digests})", chain(&error)))
        }
    })
}

fn chain(error: &ShardError) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

#[cfg(test)]
mod tests {
    use common::task::MoleculeSource;

    use super::*;

    const SHARD: &str =
        "molecule_id,smiles,verdict,reason,score,score_unit\na,C,ok,,-5.1,kcal/mol\nb,CC,ok,,-6.0,kcal/mol\n";

    fn molecules() -> Vec<Molecule> {
        let molecule =
            |id: &str| Molecule { id: id.into(), source: MoleculeSource::Smiles { smiles: "C".into() } };
        vec![molecule("a"), molecule("b")]
    }

    #[test]
    fn each_kind_of_damage_has_its_name() {
        let recorded = sha256_hex(SHARD.as_bytes());
        assert!(judge(SHARD.as_bytes(), &molecules(), &recorded, "s").is_ok());
        let check = |text: &str, expect: &str| {
            assert_eq!(judge(text.as_bytes(), &molecules(), &recorded, "s").unwrap_err().reason, expect);
        };
        check(&SHARD.replace("-5.1", "-5.2"), "shard_altered");
        check(&SHARD[..SHARD.len() - 4], "shard_truncated");
        check(&SHARD.replace("b,CC,ok,,-6.0,kcal/mol\n", ""), "shard_truncated");
        check("", "shard_truncated");
        check(&SHARD.replace("\na,", "\nx,"), "shard_swapped");
        check(&SHARD.replace("-5.1", "NaN"), "shard_altered");
    }

    #[test]
    fn a_wrong_shard_under_its_own_digest_is_invalid() {
        let other = SHARD.replace("\nb,", "\nc,");
        let fault = judge(other.as_bytes(), &molecules(), &sha256_hex(other.as_bytes()), "s").unwrap_err();
        assert_eq!(fault.reason, "shard_invalid");
        assert_eq!(fault.detail, "`s`: row 2 is molecule `c` (expected `b`)");
    }
}
