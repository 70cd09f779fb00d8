//! `cloister deidentify`: a folder of DICOM files through the same steps as a modality's film:
//! deidentify → redact → state → gate. What fails any of them is named as quarantined and not
//! written.
//!
//! One line a file, in the order of their paths:
//!
//! ```json
//! {"input":"a.dcm","status":"clean","output":"S…/2.25.….dcm","flags":[],"boxes":[…]}
//! {"input":"b.dcm","status":"quarantined","reason":"NOT_DICOM","flags":[],"boxes":[]}
//! ```
//!
//! `flags` is always there. `DUPLICATE_INSTANCE`: another object of this run has the same SOP
//! Instance UID and other content; this one is written beside it as `UID-2.dcm`, `UID-3.dcm`, … and
//! somebody has to say which is right. `SAME_CONTENT`: the object was written before in this run;
//! `output` names that file and nothing is written.
//!
//! `reason` is one of
//!
//! | code | why |
//! |---|---|
//! | `FILE_UNREADABLE`, `OUTPUT_FAILED` | the file cannot be read; the clean one cannot be written |
//! | codes of [`DeidError::code`](cloister_deid::DeidError::code) | the tags cannot be cleaned |
//! | codes of `RedactError::code`, in capitals | the pixels cannot be looked through |
//! | `RESIDUAL_IDENTIFIER` | the gate found something |

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use cloister_deid::{DeidError, Deidentifier, HmacPseudonyms, Policy, ProfileOption, gate};
use cloister_log::durable;
use cloister_redact::{FoundBox, RedactError, Redactor};
use cloister_seal::files::read_secret;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use zeroize::Zeroizing;

use super::detect_text::boxes_json;
use crate::detector::DetectorArgs;
use crate::failure::usage;
use crate::output::{Output, write_line};
use crate::picture;

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
    /// Folder for pictures of each film's first frame before and after, with what was found drawn in:
    /// red is blanked, green stays. They show identified pixels (mode 0600 in a folder of mode 0700)
    /// and must not lie inside --out.
    #[arg(long, value_name = "DIR")]
    preview: Option<PathBuf>,
    #[command(flatten)]
    detector: DetectorArgs,
}

/// What became of a file.
struct Cleaned {
    output: PathBuf,
    bytes: Vec<u8>,
    boxes: Vec<FoundBox>,
    /// PNG, if asked for.
    preview: Option<Vec<u8>>,
}

/// What is said of a clean object beside its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flag {
    DuplicateInstance,
    SameContent,
}

impl Flag {
    const fn code(self) -> &'static str {
        match self {
            Self::DuplicateInstance => "DUPLICATE_INSTANCE",
            Self::SameContent => "SAME_CONTENT",
        }
    }
}

/// A line of the report that says "clean".
#[derive(Debug)]
struct Written {
    output: PathBuf,
    boxes: Vec<FoundBox>,
    flag: Option<Flag>,
}

/// What was written in this run: hashes of the objects of one name, in their order.
type Names = HashMap<PathBuf, Vec<[u8; 32]>>;

struct Context {
    deidentifier: Deidentifier,
    pseudonyms: HmacPseudonyms,
    redactor: Redactor,
    issuer: String,
    input: PathBuf,
    output: PathBuf,
    preview: Option<PathBuf>,
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
    if let Some(preview) = &args.preview {
        apart(preview, &args.output)?;
        durable::create_dir_all(preview, 0o700)?;
    }
    let context = Context {
        deidentifier: Deidentifier::new(policy),
        pseudonyms: HmacPseudonyms::new(Zeroizing::new(key)),
        redactor: args.detector.start()?,
        issuer: args.issuer.clone(),
        input: args.input.clone(),
        output: args.output.clone(),
        preview: args.preview.clone(),
    };
    let bar = out.bar(files.len() as u64, "deidentify");
    let mut lines = String::new();
    let (mut clean, mut quarantined) = (0usize, 0usize);
    let shared = &context;
    let mut results = futures_util::stream::iter(&files)
        .map(|file| async move { (file, clean_file(shared, file).await) })
        .buffered(usize::from(args.detector.workers));
    let mut names = Names::new();
    while let Some((file, cleaned)) = results.next().await {
        bar.inc(1);
        // In the order of the inputs, so that each gets the same name every time.
        let written = cleaned.and_then(|cleaned| write(&context, &mut names, cleaned));
        let (line, is_clean) = report_line(&context, file, written);
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

fn report_line(context: &Context, file: &Path, written: Result<Written, String>) -> (Value, bool) {
    let input = file.strip_prefix(&context.input).unwrap_or(file);
    match written {
        Ok(written) => (
            json!({
                "input": input,
                "status": "clean",
                "output": written.output,
                "flags": written.flag.map(Flag::code).into_iter().collect::<Vec<_>>(),
                "boxes": boxes_json(&written.boxes),
            }),
            true,
        ),
        Err(reason) => (
            json!({
                "input": input,
                "status": "quarantined",
                "reason": reason,
                "flags": [],
                "boxes": [],
            }),
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
        .map_err(DeidError::code)?;
    let bytes = deidentified.to_bytes().map_err(DeidError::code)?;
    let unredacted = deidentified.unredacted();
    let failed = |error: RedactError| error.code().to_ascii_uppercase();
    let preview = match &context.preview {
        Some(_) => {
            let preview = context.redactor.preview(bytes.clone(), &known).await;
            let preview = preview.map_err(failed)?;
            Some(picture::with_boxes(&preview).map_err(|_| "OUTPUT_FAILED")?)
        }
        None => None,
    };
    let redacted = context.redactor.redact(bytes, &known).await;
    let (object, _, findings) = redacted.map_err(failed)?.into_parts();
    let stated = unredacted.complete(object).map_err(DeidError::code)?;
    let checked = context
        .redactor
        .check(stated.as_bytes().to_vec().into(), &findings)
        .await;
    checked.map_err(failed)?;
    gate::look(stated.as_bytes(), &known, context.deidentifier.policy())
        .map_err(|_| "RESIDUAL_IDENTIFIER")?;
    // The input's name may itself be an identifier, so the output gets another.
    let output = Path::new(deidentified.study_pseudonym().as_str())
        .join(format!("{}.dcm", deidentified.sop_instance_uid()));
    Ok(Cleaned {
        output,
        bytes: stated.into_bytes(),
        boxes: findings.boxes,
        preview,
    })
}

/// Writes a clean object. Another object of this run under the same SOP Instance UID gets the next
/// free name; nothing is overwritten, and the same content is not written twice.
fn write(context: &Context, names: &mut Names, cleaned: Cleaned) -> Result<Written, String> {
    write_into(&context.output, context.preview.as_deref(), names, cleaned)
}

fn write_into(
    folder: &Path,
    preview: Option<&Path>,
    names: &mut Names,
    cleaned: Cleaned,
) -> Result<Written, String> {
    let hash: [u8; 32] = Sha256::digest(&cleaned.bytes).into();
    let before = names.entry(cleaned.output.clone()).or_default();
    let same = before.iter().position(|one| *one == hash);
    let (place, flag) = match same {
        Some(place) => (place, Some(Flag::SameContent)),
        None if before.is_empty() => (0, None),
        None => (before.len(), Some(Flag::DuplicateInstance)),
    };
    let output = match place {
        0 => cleaned.output,
        // No UID holds the sign, so this is nobody else's name.
        place => {
            let uid = cleaned.output.with_extension("");
            PathBuf::from(format!("{}-{}.dcm", uid.display(), place + 1))
        }
    };
    if same.is_none() {
        let put = |folder: &Path, name: &Path, bytes: &[u8]| {
            let path = folder.join(name);
            durable::create_dir_all(path.parent().unwrap_or(folder), 0o700)?;
            durable::write_atomic(&path, bytes, 0o600)
        };
        put(folder, &output, &cleaned.bytes).map_err(|_| "OUTPUT_FAILED")?;
        if let (Some(folder), Some(png)) = (preview, &cleaned.preview) {
            put(folder, &output.with_extension("png"), png).map_err(|_| "OUTPUT_FAILED")?;
        }
        before.push(hash);
    }
    Ok(Written {
        output,
        boxes: cleaned.boxes,
        flag,
    })
}

/// Pictures of identified pixels never lie among what is clean and may be handed on.
fn apart(preview: &Path, output: &Path) -> Result<()> {
    let (preview, output) = (resolved(preview)?, resolved(output)?);
    if preview.starts_with(&output) {
        return Err(usage("--preview: must not lie inside --out"));
    }
    Ok(())
}

/// A path without links and dots, as far as it exists.
fn resolved(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path)?;
    for there in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (there.canonicalize(), path.strip_prefix(there)) {
            let climbs = |part| part == Component::ParentDir;
            if rest.components().any(climbs) {
                return Err(usage(format!("{}: no such folder", path.display())));
            }
            return Ok(real.join(rest));
        }
    }
    Ok(path)
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
    use super::{Cleaned, Flag, Names, apart, write_into};

    #[test]
    fn objects_under_one_uid_are_all_kept_and_flagged() {
        let folder = tempfile::tempdir().unwrap();
        let pictures = tempfile::tempdir().unwrap();
        let mut names = Names::new();
        let mut put = |bytes: &[u8]| {
            let cleaned = Cleaned {
                output: "study/2.25.1.dcm".into(),
                bytes: bytes.to_vec(),
                boxes: Vec::new(),
                preview: Some(b"picture".to_vec()),
            };
            let preview = Some(pictures.path());
            let written = write_into(folder.path(), preview, &mut names, cleaned).unwrap();
            (written.output.to_str().unwrap().to_owned(), written.flag)
        };
        let (one, two, three) = (
            "study/2.25.1.dcm",
            "study/2.25.1-2.dcm",
            "study/2.25.1-3.dcm",
        );
        let other = Some(Flag::DuplicateInstance);
        assert_eq!(put(b"first"), (one.to_owned(), None));
        assert_eq!(put(b"first"), (one.to_owned(), Some(Flag::SameContent)));
        assert_eq!(put(b"second"), (two.to_owned(), other));
        assert_eq!(put(b"third"), (three.to_owned(), other));
        assert_eq!(put(b"second"), (two.to_owned(), Some(Flag::SameContent)));
        for (name, content) in [(one, "first"), (two, "second"), (three, "third")] {
            let kept = std::fs::read_to_string(folder.path().join(name)).unwrap();
            assert_eq!(kept, content);
            let picture = pictures.path().join(name).with_extension("png");
            let mode = std::os::unix::fs::MetadataExt::mode(&picture.metadata().unwrap());
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn pictures_of_identified_pixels_stay_out_of_the_clean_folder() {
        let folder = tempfile::tempdir().unwrap();
        let clean = folder.path().join("clean");
        let inside = clean.join("pictures");
        let beside = folder.path().join("pictures");
        for dir in [&inside, &beside] {
            std::fs::create_dir_all(dir).unwrap();
        }
        assert!(apart(&inside, &clean).is_err());
        assert!(apart(&clean, &clean).is_err());
        assert!(apart(&beside.join("../clean/pictures"), &clean).is_err());
        assert!(apart(&clean.join("not/yet/there"), &clean).is_err());
        assert!(apart(&beside.join("nowhere/../../clean/pictures"), &clean).is_err());
        assert!(apart(&beside, &clean).is_ok());
        assert!(apart(&folder.path().join("not there yet"), &clean).is_ok());
    }
}
