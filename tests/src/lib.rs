//! What the tests share: a real Redis of their own, runs to push into it, and waiting for a condition. Holds no test itself.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "everything here runs inside tests, where a panic is the report"
)]

pub mod chaos;
mod eventually;
mod flaky_proxy;
mod lab;
mod pretender;
mod redis;
mod run;
mod unruly_store;

pub use eventually::eventually;
pub use flaky_proxy::{FlakyProxy, Line};
pub use lab::{LEASE_MS, Lab, LabWorker, Programs, Ran, is_alive, run_id};
pub use pretender::Pretender;
pub use redis::{Persistence, TestRedis};
pub use run::{TestRun, sample_input, sample_spec};
pub use unruly_store::{Manner, UnrulyStore, open_unruly};
