//! `cloister generate`: the server's own pipeline in this process, for measuring a model and its
//! guards. JSON Lines `{id,image,query?,view?,sex?,age?,priors?}` in, one draft a line out. Nothing
//! is sealed and nothing is recorded: films of real patients go through `submit`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use clap::ValueEnum;
use cloister_onnx::ExecutionProvider;
use cloister_phi::AgeBand;
use cloister_proto::v1;
use cloister_redact::RedactConfig;
use cloister_server::local::{Local, LocalConfig};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::bundle::TrustArgs;
use crate::detector::{library, models_dir};
use crate::failure::usage;
use crate::jsonl::Input;
use crate::output::write_line;
use crate::wording;

/// Tables of films hold ages of 400 years: slips, which say nothing. The same bound as for Patient's
/// Age in `cloister-deid`.
const OLDEST: u32 = 130;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,
    /// Folder with the reference bundles.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Folder of the report bundle; `cxr-report-ref` of the models folder by default.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
    /// ONNX Runtime library; the pinned one in the cache by default.
    #[arg(long, value_name = "FILE")]
    runtime_library: Option<PathBuf>,
    /// Where the graphs run.
    #[arg(long, value_enum, default_value_t = Provider::Cpu)]
    execution_provider: Provider,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Provider {
    Cpu,
    Cuda,
    Auto,
}

impl From<Provider> for ExecutionProvider {
    fn from(provider: Provider) -> Self {
        match provider {
            Provider::Cpu => Self::Cpu,
            Provider::Cuda => Self::Cuda,
            Provider::Auto => Self::Auto,
        }
    }
}

#[derive(Deserialize)]
struct Line {
    id: Value,
    image: PathBuf,
    #[serde(default)]
    query: String,
    view: Option<String>,
    sex: Option<String>,
    age: Option<u32>,
    priors: Option<Vec<String>>,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let models = models_dir(args.models.as_deref())?;
    let library = library(args.runtime_library.as_deref())?;
    let exe = std::env::current_exe()?;
    let local = Local::start(LocalConfig {
        bundle: args
            .bundle
            .clone()
            .unwrap_or_else(|| models.join("cxr-report-ref")),
        trust: args.trust.trusted()?,
        runtime_library: Some(library.clone()),
        provider: args.execution_provider.into(),
        redact: RedactConfig::at(exe, models.join("text-ppocr"), library),
    })
    .await?;
    let mut unanswered = 0usize;
    for line in args.input.lines::<Line>()? {
        let (answer, answered) = one(&local, line?).await?;
        unanswered += usize::from(!answered);
        write_line(&answer.to_string())?;
    }
    if unanswered > 0 {
        bail!("{unanswered} line(s) could not be answered");
    }
    Ok(())
}

async fn one(local: &Local, line: Line) -> Result<(Value, bool)> {
    let started = Instant::now();
    let Ok(film) = read(&line.image) else {
        return Ok((json!({ "id": line.id, "error": "file_unreadable" }), false));
    };
    if film.data.is_empty() {
        // For the server that is a malformed request; here it is one more file that is no film.
        return Ok((answer(line.id, &unreadable(), started), true));
    }
    let request = v1::GenerateRequest {
        films: vec![film],
        query: line.query.clone(),
        urgency: v1::Urgency::Routine.into(),
        patient: Some(v1::PatientContext {
            age_band: line.age.map_or(v1::AgeBand::Unspecified, age_band).into(),
            sex: sex(line.sex.as_deref())?.into(),
        }),
        imaging: Some(v1::ImagingContext {
            view: view(line.view.as_deref())?.into(),
            has_priors: line.priors.as_ref().map(|priors| !priors.is_empty()),
        }),
        capsule: Vec::new(),
    };
    match local.generate(request).await {
        Ok(report) => Ok((answer(line.id, &report, started), true)),
        Err(error) => Ok((json!({ "id": line.id, "error": error.to_string() }), false)),
    }
}

fn read(path: &Path) -> std::io::Result<v1::Film> {
    Ok(v1::Film {
        data: std::fs::read(path)?.into(),
        media_type: String::new(),
    })
}

fn unreadable() -> v1::Report {
    let assessment = v1::Assessment {
        outcome: v1::Outcome::Refused.into(),
        reasons: vec![v1::ReasonCode::FilmUnreadable.into()],
        risk: 1.0,
        ..Default::default()
    };
    v1::Report {
        assessment: Some(assessment),
        ..Default::default()
    }
}

fn answer(id: Value, report: &v1::Report, started: Instant) -> Value {
    let assessment = report.assessment.clone().unwrap_or_default();
    let labels: Map<String, Value> = report
        .labels
        .iter()
        .map(|label| (label.label.clone(), json!(label.probability)))
        .collect();
    let mut timings: Map<String, Value> = assessment
        .verdicts
        .iter()
        .map(|verdict| (verdict.step.clone(), json!(verdict.duration_us)))
        .collect();
    let total = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    timings.insert("total".to_owned(), json!(total));
    json!({
        "id": id,
        "outcome": wording::outcome(assessment.outcome),
        "findings": report.findings,
        "impression": report.impression,
        "confidence": assessment.confidence,
        "risk": {
            "value": assessment.risk,
            "acr_category": wording::acr(assessment.acr_category),
        },
        "citations": [],
        "reasons": assessment.reasons.iter().map(|r| wording::reason(*r)).collect::<Vec<_>>(),
        "labels": labels,
        "image_guard": Value::Null,
        "timings_us": timings,
    })
}

fn age_band(years: u32) -> v1::AgeBand {
    if years > OLDEST {
        return v1::AgeBand::Unspecified;
    }
    match AgeBand::of_years(years) {
        AgeBand::Unknown => v1::AgeBand::Unspecified,
        AgeBand::Under18 => v1::AgeBand::Under18,
        AgeBand::From18To39 => v1::AgeBand::AgeBand1839,
        AgeBand::From40To64 => v1::AgeBand::AgeBand4064,
        AgeBand::From65To89 => v1::AgeBand::AgeBand6589,
        AgeBand::From90 => v1::AgeBand::AgeBand90AndOver,
    }
}

fn sex(text: Option<&str>) -> Result<v1::Sex> {
    match text {
        None => Ok(v1::Sex::Unspecified),
        Some("F") => Ok(v1::Sex::Female),
        Some("M") => Ok(v1::Sex::Male),
        Some("O") => Ok(v1::Sex::Other),
        Some(_) => Err(usage("sex is F, M or O")),
    }
}

fn view(text: Option<&str>) -> Result<v1::View> {
    match text {
        None => Ok(v1::View::Unspecified),
        Some("PA") => Ok(v1::View::Pa),
        Some("AP") => Ok(v1::View::Ap),
        Some("LATERAL") => Ok(v1::View::Lateral),
        Some(_) => Err(usage("view is PA, AP or LATERAL")),
    }
}

#[cfg(test)]
mod tests {
    use cloister_proto::v1::AgeBand;

    use super::age_band;

    #[test]
    fn an_age_that_nobody_reaches_is_no_age() {
        assert_eq!(age_band(61), AgeBand::AgeBand4064);
        assert_eq!(age_band(130), AgeBand::AgeBand90AndOver);
        assert_eq!(age_band(411), AgeBand::Unspecified);
    }
}
