//! JSON Lines in and out: one answer per input line, in input order.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::de::DeserializeOwned;

use crate::failure::usage;

/// Longest line, in bytes: a record of text, never a film.
const MAX_LINE_BYTES: usize = 16 << 20;

/// Where the lines come from.
#[derive(Debug, Clone, Args)]
pub(crate) struct Input {
    /// JSON Lines file, or `-` for standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
}

impl Input {
    /// The lines, parsed one at a time. Empty lines are skipped. A line that is no record of the
    /// expected kind is a usage error that names its number and never its text.
    pub(crate) fn lines<T: DeserializeOwned>(&self) -> Result<impl Iterator<Item = Result<T>>> {
        let reader: Box<dyn BufRead> = if self.file == Path::new("-") {
            Box::new(BufReader::new(std::io::stdin()))
        } else {
            let file = File::open(&self.file)
                .map_err(|error| usage(format!("{}: {error}", self.file.display())))?;
            Box::new(BufReader::new(file))
        };
        Ok(parse(reader))
    }
}

fn parse<T: DeserializeOwned>(mut reader: impl BufRead) -> impl Iterator<Item = Result<T>> {
    let mut number = 0usize;
    std::iter::from_fn(move || {
        loop {
            number += 1;
            let line = match read_line(&mut reader, number) {
                Ok(Some(line)) => line,
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            // serde's message may quote the text; only place and kind go out.
            return Some(serde_json::from_slice(&line).map_err(|error| {
                let kind = format!("{:?}", error.classify()).to_lowercase();
                usage(format!(
                    "line {number}, column {}: {kind} error",
                    error.column()
                ))
            }));
        }
    })
}

fn read_line(reader: &mut impl BufRead, number: usize) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let chunk = reader.fill_buf().context("reading input")?;
        if chunk.is_empty() {
            return Ok((!line.is_empty()).then_some(line));
        }
        let (taken, ended) = match chunk.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at, true),
            None => (chunk.len(), false),
        };
        line.extend_from_slice(chunk.get(..taken).unwrap_or_default());
        reader.consume(taken + usize::from(ended));
        if line.len() > MAX_LINE_BYTES {
            return Err(usage(format!("line {number} is longer than 16 MiB")));
        }
        if ended {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Line {
        id: u32,
    }

    #[test]
    fn lines_come_in_order_and_empty_ones_are_skipped() {
        let lines: Vec<Line> = parse(&b"{\"id\":1}\n\n{\"id\":2}"[..])
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(lines, [Line { id: 1 }, Line { id: 2 }]);
    }

    #[test]
    fn an_error_names_the_line_and_never_its_text() {
        let error = parse::<Line>(&b"{\"id\":1}\n{\"id\":\"CANARY\"}\n"[..])
            .nth(1)
            .unwrap();
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains("line 2") && !text.contains("CANARY"),
            "{text}"
        );
    }
}
