//! The fleet member: lease → stage → run → judge → upload → complete.

pub mod engine;
pub mod process;
