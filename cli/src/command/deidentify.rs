//! `cloister deidentify`: a folder of DICOM files through the same steps as a modality's film:
//! deidentify → redact → gate. What fails any of them is named as quarantined and not written.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cloister_deid::{Deidentifier, HmacPseudonyms, Policy, ProfileOption, gate};
use cloister_log::durable;
use cloister_redact::{FoundBox, Redactor};
use cloister_seal::files::read_secret;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use std::fmt::Write as _;
use zeroize::Zeroizing;

use super::detect_text::boxes_json;
use crate::detector::DetectorArgs;
use crate::failure::usage;
use crate::output::{Output, write_line};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with DICOM files, searched at any depth.
    #[arg(long = "in", value_name = "DIR")]
    input: PathBuf,
    /// Folder to write to; files are named by study pseudonym and pseudonymous UID.
    #[arg(long = "out", value_name = "DIR")]
    output: PathBuf,
    /// 32-byte pseudonym key (`keys pseudonym`), mode 0600.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// JSON Lines, one per file; standard output by default.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Issuer of patient ids for objects that name none.
    #[arg(long, value_name = "NAME", default_value = "LOCAL")]
    issuer: String,
    /// Option of PS3.15 E.3 beside the Basic profile; repeatable. A value that an option would
    /// keep is still removed if it holds one of the patient's own identifiers or cannot be read.
    ///
    /// retain-safe-private: private attributes on the standard's list.
    /// retain-uids: UIDs as they are.
    /// retain-device-identity: serial numbers, stations, AE titles.
    /// retain-institution-identity: name and address of the institution.
    /// retain-patient-characteristics: age, sex, size, weight, allergies.
    /// retain-full-dates: dates and times as they are.
    /// retain-modified-dates: dates moved by whole days, the same for all of a patient's objects.
    /// clean-descriptors: descriptions and comments without identifiers.
    /// clean-structured-content: content items of structured reports, cleaned.
    /// clean-graphics: annotations, cleaned; overlays and curves always go.
    #[arg(long = "option", value_name = "NAME", verbatim_doc_comment)]
    options: Vec<ProfileOption>,
    #[command(flatten)]
    detector: DetectorArgs,
}

/// What became of a file.
struct Cleaned {
    output: PathBuf,
    bytes: Vec<u8>,
    boxes: Vec<FoundBox>,
}

struct Context {
    deidentifier: Deidentifier,
    pseudonyms: HmacPseudonyms,
    redactor: Redactor,
    issuer: String,
    input: PathBuf,
    output: PathBuf,
}

pub(crate) async fn run(args: Args, out: Output) -> Result<()> {
    if !args.input.is_dir() {
        return Err(usage(format!(
            "--in: {} is no folder",
            args.input.display()
        )));
    }
    let policy = Policy::with(args.options.iter().copied())
        .map_err(|error| usage(format!("--option: {error}")))?;
    let secret = read_secret(&args.key)?;
    let key: [u8; 32] = secret.as_slice().try_into().map_err(|_| {
        usage(format!(
            "--key: {} does not hold 32 bytes",
            args.key.display()
        ))
    })?;
    let files = files_below(&args.input)?;
    durable::create_dir_all(&args.output, 0o700)?;
    let context = Context {
        deidentifier: Deidentifier::new(policy),
        pseudonyms: HmacPseudonyms::new(Zeroizing::new(key)),
        redactor: args.detector.start()?,
        issuer: args.issuer.clone(),
        input: args.input.clone(),
        output: args.output.clone(),
    };
    let bar = out.bar(files.len() as u64, "deidentify");
    let mut lines = String::new();
    let (mut clean, mut quarantined) = (0usize, 0usize);
    let shared = &context;
    let mut results = futures_util::stream::iter(&files)
        .map(|file| async move { (file, clean_file(shared, file).await) })
        .buffered(usize::from(args.detector.workers));
    let mut written = HashSet::new();
    while let Some((file, cleaned)) = results.next().await {
        bar.inc(1);
        // In the order of the inputs, so that the same one wins every time.
        let cleaned = cleaned.and_then(|cleaned| {
            write(&context.output, &mut written, &cleaned)?;
            Ok(cleaned)
        });
        let (line, is_clean) = report_line(&context, file, cleaned);
        if is_clean {
            clean += 1;
        } else {
            quarantined += 1;
        }
        match &args.report {
            Some(_) => writeln!(lines, "{line}")?,
            None => write_line(&line.to_string())?,
        }
    }
    bar.finish_and_clear();
    if let Some(path) = &args.report {
        durable::write_atomic(path, lines.as_bytes(), 0o600)
            .with_context(|| path.display().to_string())?;
        out.emit(&json!({ "clean": clean, "quarantined": quarantined, "report": path }))?;
        out.say(format!(
            "{clean} clean, {quarantined} quarantined; see {}",
            path.display()
        ))?;
    }
    Ok(())
}

fn report_line(context: &Context, file: &Path, cleaned: Result<Cleaned, String>) -> (Value, bool) {
    let input = file.strip_prefix(&context.input).unwrap_or(file);
    match cleaned {
        Ok(cleaned) => (
            json!({
                "input": input,
                "status": "clean",
                "output": cleaned.output,
                "boxes": boxes_json(&cleaned.boxes),
            }),
            true,
        ),
        Err(reason) => (
            json!({ "input": input, "status": "quarantined", "reason": reason, "boxes": [] }),
            false,
        ),
    }
}

/// The error is a closed reason.
async fn clean_file(context: &Context, file: &Path) -> Result<Cleaned, String> {
    let encoded = tokio::fs::read(file).await.map_err(|_| "FILE_UNREADABLE")?;
    let (deidentified, known) = context
        .deidentifier
        .deidentify(&encoded, &context.issuer, &context.pseudonyms)
        .map_err(|_| "DEIDENTIFY_FAILED")?;
    let bytes = deidentified.to_bytes().map_err(|_| "DEIDENTIFY_FAILED")?;
    let redacted = context
        .redactor
        .redact(bytes)
        .await
        .map_err(|error| error.code().to_ascii_uppercase())?;
    gate::look(redacted.object(), &known, context.deidentifier.policy())
        .map_err(|_| "RESIDUAL_IDENTIFIER")?;
    // The input's name may itself be an identifier, so the output gets another.
    let output = Path::new(deidentified.study_pseudonym().as_str())
        .join(format!("{}.dcm", deidentified.sop_instance_uid()));
    Ok(Cleaned {
        output,
        bytes: redacted.object().to_vec(),
        boxes: redacted.boxes().to_vec(),
    })
}

/// Writes a clean object. Another object of this run under the same SOP Instance UID is not
/// overwritten; the same bytes again are no harm.
fn write(folder: &Path, written: &mut HashSet<PathBuf>, cleaned: &Cleaned) -> Result<(), String> {
    let path = folder.join(&cleaned.output);
    if written.contains(&path) {
        let before = std::fs::read(&path).map_err(|_| "OUTPUT_FAILED")?;
        return (before == cleaned.bytes)
            .then_some(())
            .ok_or_else(|| "DUPLICATE_INSTANCE".to_owned());
    }
    let write = || {
        durable::create_dir_all(path.parent().unwrap_or(folder), 0o700)?;
        durable::write_atomic(&path, &cleaned.bytes, 0o600)
    };
    write().map_err(|_| "OUTPUT_FAILED")?;
    written.insert(path);
    Ok(())
}

/// Regular files at any depth, sorted; links are not followed.
pub(super) fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Cleaned, write};

    #[test]
    fn another_object_under_the_same_uid_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let cleaned = |bytes: &[u8]| Cleaned {
            output: "study/2.25.1.dcm".into(),
            bytes: bytes.to_vec(),
            boxes: Vec::new(),
        };
        let mut written = HashSet::new();
        let mut put = |bytes| write(folder.path(), &mut written, &cleaned(bytes));
        assert_eq!(put(b"first"), Ok(()));
        assert_eq!(put(b"first"), Ok(()));
        assert_eq!(put(b"second"), Err("DUPLICATE_INSTANCE".to_owned()));
        let kept = std::fs::read(folder.path().join("study/2.25.1.dcm")).unwrap();
        assert_eq!(kept, b"first");
    }
}
