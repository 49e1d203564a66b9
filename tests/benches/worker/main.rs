//! How fast a worker is: tasks per second through its whole path, from an idle worker's wake to its engine, and what a task costs.
//!
//! Each figure is printed beside its ceiling, which is measured in turns with it since the machine may be busy with other things:
//! lowest, median and highest of all rounds. `cargo bench -p tests --bench worker [-- [drain] [latency] [lost] [leaving] [ROUNDS]]`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program that measures and prints"
)]

mod drain;
mod fleet;
mod latency;
mod leaving;
mod lost;

/// Rounds of each figure, unless an argument says otherwise.
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let rounds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS);
    let names: Vec<&String> =
        arguments.iter().filter(|argument| argument.parse::<usize>().is_err()).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| *wanted == name);
    if wanted("drain") {
        drain::measure(rounds).await;
    }
    if wanted("latency") {
        latency::measure(rounds).await;
    }
    if wanted("lost") {
        lost::measure().await;
    }
    if wanted("leaving") {
        leaving::measure().await;
    }
}

/// Lowest, median and highest of some values.
pub(crate) fn spread(values: impl IntoIterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

/// The same as text with so many decimals.
pub(crate) fn text([lowest, median, highest]: [f64; 3], decimals: usize) -> String {
    format!("{lowest:.decimals$} / {median:.decimals$} / {highest:.decimals$}")
}
