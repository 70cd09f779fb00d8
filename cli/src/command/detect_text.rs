//! `cloister detect-text`: where text is burned into a film, and what would become of it. JSON Lines
//! `{id,image}` in (DICOM, PNG or JPEG), `{id,boxes:[{frame,x,y,w,h,score,action}]}` out, or
//! `{id,error}` with a closed code for a picture that cannot be read. `action` is `redact`, or `keep`
//! for a laterality marker or view label. What a DICOM header says of the patient is compared with
//! what is read, as in the rooms; where the header cannot be read nothing is known of the patient.

use std::path::PathBuf;

use anyhow::Result;
use cloister_deid::{Deidentifier, Policy};
use cloister_redact::{Findings, RedactError, Redactor};
use cloister_scrub::KnownIdentifiers;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::detector::DetectorArgs;
use crate::jsonl::Input;
use crate::output::write_line;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    detector: DetectorArgs,
    /// Blank, encode and look again at every DICOM file as the rooms do: a film on which text is left
    /// becomes `{id,error}`, and every line says how many milliseconds codecs and looking took.
    #[arg(long)]
    whole: bool,
}

#[derive(Deserialize)]
struct Line {
    id: Value,
    image: PathBuf,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let redactor = args.detector.start()?;
    let lines = args.input.lines::<Line>()?;
    let mut answers = futures_util::stream::iter(lines)
        .map(|line| {
            let redactor = redactor.clone();
            async move {
                let line = line?;
                let Ok(bytes) = tokio::fs::read(&line.image).await else {
                    return Ok((json!({ "id": line.id, "error": "file_unreadable" }), false));
                };
                let known = Deidentifier::new(Policy::basic())
                    .identifiers(&bytes)
                    .unwrap_or_default();
                // Pictures are not encoded again: there is nothing more to look at.
                let found = if args.whole && is_dicom(&bytes) {
                    whole(&redactor, bytes, &known).await
                } else {
                    redactor.detect(bytes, &known).await
                };
                anyhow::Ok(match found {
                    Ok(found) => {
                        let mut answer =
                            json!({ "id": line.id, "boxes": boxes_json(&found.boxes) });
                        if args.whole {
                            answer["codec_ms"] = millis(found.spent.codec);
                            answer["look_ms"] = millis(found.spent.look);
                        }
                        (answer, true)
                    }
                    Err(error) => (json!({ "id": line.id, "error": error.code() }), false),
                })
            }
        })
        // In input order, as many at a time as there are workers.
        .buffered(usize::from(args.detector.workers));
    let mut unanswered = 0usize;
    while let Some(answer) = answers.next().await {
        let (answer, answered) = answer?;
        unanswered += usize::from(!answered);
        write_line(&answer.to_string())?;
    }
    if unanswered > 0 {
        anyhow::bail!("{unanswered} picture(s) could not be read");
    }
    Ok(())
}

/// The preamble's end (PS3.10 7.1).
fn is_dicom(bytes: &[u8]) -> bool {
    bytes.get(128..132) == Some(b"DICM")
}

fn millis(micros: u64) -> Value {
    json!(micros as f64 / 1000.0)
}

/// What `redact` and `clear` do with an object.
async fn whole(
    redactor: &Redactor,
    bytes: Vec<u8>,
    known: &KnownIdentifiers,
) -> Result<Findings, RedactError> {
    let redacted = redactor.redact(bytes, known).await?;
    let (object, _, mut findings) = redacted.into_parts();
    let spent = redactor.check(object.into(), &findings).await?;
    findings.spent.codec += spent.codec;
    findings.spent.look += spent.look;
    Ok(findings)
}

/// Boxes as every JSON line has them.
pub(super) fn boxes_json(boxes: &[cloister_redact::FoundBox]) -> Vec<Value> {
    boxes
        .iter()
        .map(|found| {
            json!({
                "frame": found.frame,
                "x": found.x,
                "y": found.y,
                "w": found.w,
                "h": found.h,
                "score": found.score,
                "action": found.action.name(),
            })
        })
        .collect()
}
