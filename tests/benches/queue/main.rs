//! How fast a run is pushed and worked off, what a task costs in Redis' memory and time, and what a large fleet costs that has nothing
//! to do. Every rate stands beside its ceiling, measured in turns with it: simpler calls over the same connection to the same Redis,
//! whose append-only file is on. Prints figures and judges none; `cargo bench -p tests --bench queue`, with names of parts to run
//! some only: `push`, `memory`, `drain`, `fleet`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures time and prints"
)]

mod drain;
mod fleet;
mod memory;
mod meter;
mod push;

#[tokio::main]
async fn main() {
    // Cargo adds `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with("--")).collect();
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|name| name == part);
    if is_wanted("push") {
        push::measure().await;
    }
    if is_wanted("memory") {
        memory::measure().await;
    }
    if is_wanted("drain") {
        drain::measure().await;
    }
    if is_wanted("fleet") {
        fleet::measure().await;
    }
}
