//! Tries out a store with an object of its own: what every run relies on is seen to hold. Leaves nothing behind and touches no run.

use bytes::Bytes;
use object_store::path::Path;

use super::{Creation, RetryPolicy, RunStore, StorageError, Store};
use crate::backoff::Backoff;
use crate::checkup::Check;
use crate::clock::{Clock as _, SystemClock};

/// The folder of probes in a store; no run id starts with a dot.
const FOLDER: &str = ".molfleet-doctor";
/// A person waits for the answer.
const TRIES_MAX: u32 = 2;
const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

const FIRST: &[u8] = b"molfleet doctor: the first bytes";
const SECOND: &[u8] = b"molfleet doctor: other bytes";

impl Store {
    /// Writes, reads and deletes the object `.molfleet-doctor/<probe>`, whose name has to be new.
    pub async fn probe(&self, probe: &str) -> Vec<Check> {
        let pause = Backoff { first: LIMIT / 100, longest: LIMIT / 100 };
        let retry = RetryPolicy { tries_max: TRIES_MAX, total_max: LIMIT, try_max: LIMIT, backoff: pause };
        let store =
            RunStore { store: self.clone().with_retry(retry), root: Path::from(FOLDER), may_wait: false };
        let clock = SystemClock::start();
        let first = match store.create(probe, Bytes::from_static(FIRST)).await {
            // `Same` is our own first try, whose answer was lost.
            Ok(Creation::New | Creation::Same) => {
                Check::ok("store_write", format!("written and durable in {} ms", clock.elapsed_ms()))
            }
            Ok(Creation::Differs(_)) => {
                let found = format!("`{FOLDER}/{probe}` is there already");
                return vec![Check::wrong("store_write", found, "it is not ours: try again")];
            }
            Err(error) => return vec![Check::unreachable("store_write", &error, error.hint())],
        };
        let second = store.create(probe, Bytes::from_static(SECOND)).await;
        vec![
            first,
            answered("store_write_once", second, |creation| write_once(&creation)),
            answered("store_read", store.read(probe).await, |bytes| read_back(&bytes)),
            answered("store_read_range", store.read_range(probe, 9, 6).await, |bytes| range(&bytes)),
            deleted(&store, probe).await,
        ]
    }
}

fn answered<T>(name: &'static str, answer: Result<T, StorageError>, judge: impl Fn(T) -> Check) -> Check {
    answer.map_or_else(|error| Check::unreachable(name, &error, error.hint()), judge)
}

fn write_once(creation: &Creation) -> Check {
    let refused = *creation == Creation::Differs(Bytes::from_static(FIRST));
    let found =
        if refused { "a second object of the same name is refused" } else { "an object can be overwritten" };
    Check::judge(
        "store_write_once",
        refused,
        found,
        "results could be replaced unnoticed: use a store that honours create-if-absent (a local disk, NFS 4)",
    )
}

fn read_back(bytes: &Bytes) -> Check {
    let same = bytes.as_ref() == FIRST;
    let found = if same {
        "gives back the bytes that were written"
    } else {
        "gives back other bytes than were written"
    };
    Check::judge("store_read", same, found, "don't trust this store with results")
}

fn range(bytes: &Bytes) -> Check {
    let same = bytes.as_ref() == &FIRST[9..15];
    let found = if same {
        "gives back parts of an object"
    } else {
        "gives back another part of an object than was asked for"
    };
    Check::judge("store_read_range", same, found, "SDF inputs are read by range: use another store")
}

async fn deleted(store: &RunStore, probe: &str) -> Check {
    let gone = match store.delete(probe).await {
        Ok(()) => store.find(probe).await,
        Err(error) => Err(error),
    };
    answered("store_delete", gone, |left| {
        let found =
            if left.is_none() { "the probe is gone again" } else { "a deleted object is still there" };
        Check::judge(
            "store_delete",
            left.is_none(),
            found,
            "`launchpad remove --outputs` needs the right to delete",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkup::{Checkup, Verdict};

    #[tokio::test]
    async fn a_local_store_passes_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}", folder.path().display())).unwrap();
        let checkup = Checkup::new(store.probe("p1").await);
        assert!(checkup.ok, "{checkup:?}");
        assert_eq!(checkup.checks.len(), 5);
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
    }

    #[tokio::test]
    async fn somebody_elses_object_stays() {
        let folder = tempfile::tempdir().unwrap();
        let object = folder.path().join(FOLDER).join("p1");
        std::fs::create_dir(folder.path().join(FOLDER)).unwrap();
        std::fs::write(&object, "somebody's").unwrap();
        let store = Store::open(&format!("file://{}", folder.path().display())).unwrap();
        let checks = store.probe("p1").await;
        assert_eq!((checks.len(), checks[0].verdict), (1, Verdict::Wrong));
        assert_eq!(std::fs::read(&object).unwrap(), b"somebody's");
    }

    #[test]
    fn a_store_that_overwrites_is_refused() {
        assert_eq!(write_once(&Creation::New).verdict, Verdict::Wrong);
        assert_eq!(write_once(&Creation::Same).verdict, Verdict::Wrong);
        assert_eq!(write_once(&Creation::Differs(Bytes::from_static(SECOND))).verdict, Verdict::Wrong);
        assert_eq!(write_once(&Creation::Differs(Bytes::from_static(FIRST))).verdict, Verdict::Ok);
        assert_eq!(range(&Bytes::from_static(FIRST)).verdict, Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_written_is_named_with_its_cause() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FOLDER), "a file where the probe's folder would be").unwrap();
        let store = Store::open(&format!("file://{}", folder.path().display())).unwrap();
        let checks = store.probe("p1").await;
        assert_eq!(checks.len(), 1);
        assert_eq!(checks[0].verdict, Verdict::Unreachable);
        assert!(checks[0].hint.is_some());
    }
}
