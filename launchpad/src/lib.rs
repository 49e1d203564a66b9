//! The chemist's command as a library: what `launchpad` does, without its terminal.

pub mod input;
pub mod local_redis;
pub mod search_box;
