//! The object store: deterministic names, write-once puts, one retry policy. Thin over `object_store`; nothing here lists a bucket.

mod error;
pub mod key;
mod local;
mod probe;
mod retry;
mod store;
mod stream;

pub use error::{StorageDisposition, StorageError};
pub use local::LocalStore;
pub use retry::RetryPolicy;
pub use store::{Creation, RunStore, Store};
