//! What the tests share: a real Redis of their own, runs to push into it, and waiting for a condition. Holds no test itself.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "everything here runs inside tests, where a panic is the report"
)]

mod certificates;
pub mod chaos;
mod cluster;
mod crashing;
mod eventually;
mod flaky_proxy;
mod lab;
mod memory_cgroup;
mod model_server;
mod nvidia_smi;
mod outpost;
mod peak;
mod pretender;
pub mod protocol;
mod redis;
mod run;
mod server;
mod terachem_server;
mod unruly_store;

pub use certificates::Authority;
pub use cluster::{cluster, replica_of};
pub use eventually::eventually;
pub use flaky_proxy::{FlakyProxy, Line};
pub use lab::{LEASE_MS, Lab, LabWorker, Programs, Ran, is_alive, run_id};
pub use memory_cgroup::MemoryCgroup;
pub use model_server::{Act, Asked, ModelServer};
pub use outpost::Outpost;
pub use peak::{Peak, peak_of};
pub use pretender::Pretender;
pub use redis::{Persistence, TestRedis};
pub use run::{TestRun, sample_input, sample_spec};
pub use server::{Server, has_copied, replication_offset};
pub use terachem_server::{Job, TerachemServer};
pub use unruly_store::{Manner, UnrulyStore, open_unruly};
