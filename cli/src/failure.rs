//! How a command ends: success, a failed check, or bad usage (exit code 64).
//!
//! Errors travel as `anyhow::Error`; one that holds a [`Usage`] anywhere in its chain is the
//! user's to mend and ends with 64, everything else ends with 1.

use std::process::ExitCode;

use cloister_runtime::exit;

/// The command line or a file it names is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// A usage error as `anyhow::Error`.
pub(crate) fn usage(text: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Usage(text.into()))
}

/// Whether the user has to change the command or a configuration file.
pub(crate) fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(<dyn std::error::Error>::is::<Usage>)
}

/// The exit code of an error.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(if is_usage(error) {
        exit::USAGE
    } else {
        exit::FAILED
    })
}

/// The error as one line: causes joined, line breaks and repeats removed.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause
            .to_string()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        // Many library errors print their source themselves.
        if !text.is_empty() && !parts.last().is_some_and(|last| last.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::{is_usage, one_line, usage};

    #[test]
    fn usage_is_found_below_added_context() {
        let error = Err::<(), _>(usage("no such suite"))
            .context("generating a key")
            .unwrap_err();
        assert!(is_usage(&error));
        assert_eq!(one_line(&error), "generating a key: no such suite");
    }

    #[test]
    fn an_error_is_one_line() {
        let error = anyhow::anyhow!("first\n  second").context("outer");
        assert_eq!(one_line(&error), "outer: first second");
    }
}
