//! `cloister scrub`: finds and replaces identifiers in text. JSON Lines `{id,text}` in,
//! `{id,spans,text}` out; offsets in characters.

use anyhow::Result;
use cloister_scrub::{Kind, KnownIdentifiers, scrub};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::jsonl::Input;
use crate::output::write_line;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,
}

#[derive(Deserialize)]
struct Line {
    id: Value,
    text: String,
}

#[derive(Serialize)]
struct Answer {
    id: Value,
    spans: Vec<Span>,
    text: String,
}

#[derive(Serialize)]
struct Span {
    start: usize,
    end: usize,
    kind: &'static str,
    score: f32,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let nobody = KnownIdentifiers::default();
    for line in args.input.lines::<Line>()? {
        let line = line?;
        let scrubbed = scrub(&line.text, &nobody);
        let spans = scrubbed
            .spans
            .iter()
            .map(|span| Span {
                start: span.start,
                end: span.end,
                kind: kind(span.kind),
                score: span.score,
            })
            .collect();
        let answer = Answer {
            id: line.id,
            spans,
            text: scrubbed.text,
        };
        write_line(&serde_json::to_string(&answer)?)?;
    }
    Ok(())
}

/// The closed list of kinds, as the output names them.
fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Name => "name",
        Kind::Id => "id",
        Kind::Date => "date",
        Kind::Phone => "phone",
        Kind::Email => "email",
        Kind::Ssn => "ssn",
        Kind::Mrn => "mrn",
        Kind::Url => "url",
        Kind::Ip => "ip",
        Kind::Address => "address",
        Kind::Age => "age",
        Kind::Account => "account",
        Kind::Institution => "institution",
        Kind::Uid => "uid",
        _ => "other",
    }
}
