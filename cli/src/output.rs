//! What the user sees: plain sentences, or one JSON object a line, and progress on a terminal.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// How this run talks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    terminal: bool,
}

impl Output {
    /// JSON lines if asked for; progress only where somebody looks.
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            terminal: std::io::stdout().is_terminal(),
        }
    }

    /// Whether machine-readable output was asked for.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// A sentence for a person; silent with `--json`.
    pub(crate) fn say(self, text: impl Display) -> Result<()> {
        if self.json {
            return Ok(());
        }
        write_line(&text.to_string())
    }

    /// An object for a program; silent without `--json`.
    pub(crate) fn emit(self, value: &impl Serialize) -> Result<()> {
        if self.json {
            write_line(&serde_json::to_string(value)?)?;
        }
        Ok(())
    }

    /// A bar over `total` steps; hidden when stdout is not a terminal or with `--json`.
    pub(crate) fn bar(self, total: u64, label: &'static str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(total), self.target());
        if let Ok(style) =
            ProgressStyle::with_template("  {msg:<24} {bar:32} {pos}/{len} {elapsed}")
        {
            bar.set_style(style);
        }
        bar.set_message(label);
        bar
    }

    /// A spinner for work of unknown length.
    pub(crate) fn spinner(self, label: impl Into<String>) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, self.target());
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(label.into());
        if self.terminal && !self.json {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        bar
    }

    fn target(self) -> ProgressDrawTarget {
        if self.terminal && !self.json {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        }
    }
}

/// One line to stdout; a closed pipe is an error here instead of a panic in `println!`.
pub(crate) fn write_line(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.write_all(b"\n")?;
    stdout.flush()?;
    Ok(())
}

/// One line to stderr; there is nobody left to tell if that fails.
pub(crate) fn complain(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "cloister: {line}"));
}
