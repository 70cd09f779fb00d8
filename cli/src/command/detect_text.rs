//! `cloister detect-text`: where text is burned into a film, and what would become of it. JSON Lines
//! `{id,image}` in (DICOM, PNG or JPEG), `{id,boxes:[{frame,x,y,w,h,score,action}]}` out, or
//! `{id,error}` with a closed code for a picture that cannot be read. `action` is `redact`, or `keep`
//! for a laterality marker or view label. What a DICOM header says of the patient is compared with
//! what is read, as in the rooms; where the header cannot be read nothing is known of the patient.

use std::path::PathBuf;

use anyhow::Result;
use cloister_deid::{Deidentifier, Policy};
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
                anyhow::Ok(match redactor.detect(bytes, &known).await {
                    Ok(found) => {
                        let boxes = boxes_json(&found.boxes);
                        (json!({ "id": line.id, "boxes": boxes }), true)
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

/// As DESIGN section 4 has them.
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
