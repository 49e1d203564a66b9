//! How far something is: a bar on a terminal, now and then a line in a log.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tell;

/// A bar, or lines at every tenth of the way.
#[derive(Debug)]
pub(crate) struct ProgressLine {
    what: &'static str,
    total: u64,
    bar: Option<ProgressBar>,
    log: bool,
    tenths: u64,
    suffix: String,
}

impl ProgressLine {
    pub(super) fn new(what: &'static str, total: u64, quiet: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let bar = (terminal && !quiet).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {human_pos}/{human_len} {msg}");
            bar.set_style(style.expect("the template is well formed"));
            bar.set_prefix(what);
            bar
        });
        Self { what, total, log: bar.is_none() && !quiet, bar, tenths: 0, suffix: String::new() }
    }

    /// Sets what stands behind the numbers.
    pub(crate) fn describe(&mut self, suffix: &str) {
        suffix.clone_into(&mut self.suffix);
        if let Some(bar) = &self.bar {
            bar.set_message(suffix.to_owned());
        }
    }

    /// Says how far it is.
    pub(crate) fn set(&mut self, position: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
        }
        let tenths = (position * 10).checked_div(self.total).unwrap_or(10);
        if self.log && tenths > self.tenths {
            tell(&format!("{}\n", self.line(position)));
        }
        self.tenths = tenths;
    }

    fn line(&self, position: u64) -> String {
        let line = format!("{} {position}/{} {}", self.what, self.total, self.suffix);
        line.trim_end().to_owned()
    }

    /// Takes the bar away; what was logged stays.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
