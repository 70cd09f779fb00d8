//! What the pool needs to know: which executable to re-run, which bundle and library it may open,
//! and how much a worker may use.

use std::str::FromStr;
use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// What happens to laterality markers and view labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MarkerPolicy {
    /// A marker that is surely one, alone in its place and none of the patient's own words stays.
    #[default]
    Keep,
    /// Everything found is blanked.
    Redact,
}

impl FromStr for MarkerPolicy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "keep" => Ok(Self::Keep),
            "redact" => Ok(Self::Redact),
            _ => Err("keep or redact"),
        }
    }
}

/// What stands where something was blanked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fill {
    /// The median of the samples around the box, so that a model sees no black bars.
    #[default]
    Background,
    /// Black as displayed, so that a person sees what was blanked.
    Solid,
}

impl FromStr for Fill {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "background" => Ok(Self::Background),
            "solid" => Ok(Self::Solid),
            _ => Err("background or solid"),
        }
    }
}

/// What happens on the rendition, which the model sees, to what shows no patient: margins and what lies in
/// them. The object itself keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outside {
    /// It gets the grey of its margin.
    #[default]
    Blank,
    /// It is cut off.
    Crop,
    /// Nothing.
    Keep,
}

impl FromStr for Outside {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "blank" => Ok(Self::Blank),
            "crop" => Ok(Self::Crop),
            "keep" => Ok(Self::Keep),
            _ => Err("blank, crop or keep"),
        }
    }
}

/// Settings of the worker pool.
#[derive(Debug, Clone)]
pub struct RedactConfig {
    /// Executable re-run with `__worker`; usually `std::env::current_exe()`.
    pub worker_exe: PathBuf,
    /// Number of worker processes.
    pub workers: usize,
    /// Folder of the `text-detector` bundle.
    pub detector_bundle: PathBuf,
    /// Folder of the bundle with the text-presence net. Where it cannot be loaded, the detector looks at
    /// every pixel itself.
    pub presence_bundle: PathBuf,
    /// ONNX Runtime shared library.
    pub runtime_library: PathBuf,
    /// Address space a worker may use, in bytes. Decoding, blanking and encoding a film of 15 million
    /// pixels of 16 bits fit in half a gigabyte beside the detector's net.
    pub memory_bytes: u64,
    /// Time one object may take; the worker is killed after it.
    pub timeout: Duration,
    /// What happens to laterality markers and view labels.
    pub markers: MarkerPolicy,
    /// What stands where something was blanked.
    pub fill: Fill,
    /// What the rendition shows of what is no patient.
    pub outside: Outside,
    /// Largest object that is read.
    pub max_object_bytes: u64,
}

impl RedactConfig {
    /// Sensible limits around the three paths that every installation must name. The presence net is looked
    /// for beside the detector, in `text-presence`.
    pub fn at(
        worker_exe: impl Into<PathBuf>,
        detector_bundle: impl Into<PathBuf>,
        runtime_library: impl Into<PathBuf>,
    ) -> Self {
        let detector_bundle = detector_bundle.into();
        Self {
            worker_exe: worker_exe.into(),
            workers: 1,
            presence_bundle: detector_bundle.with_file_name("text-presence"),
            detector_bundle,
            runtime_library: runtime_library.into(),
            memory_bytes: 512 << 20,
            timeout: Duration::from_mins(2),
            markers: MarkerPolicy::default(),
            fill: Fill::default(),
            outside: Outside::default(),
            max_object_bytes: 512 << 20,
        }
    }
}
