//! The other side of the pool: this process parses hostile bytes. It limits itself before it reads a
//! byte, opens nothing but bundle and library, and says nothing on stderr.

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use dicom_object::DefaultDicomObject;
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use serde::Serialize;

use crate::config::Outside;
use crate::decode::MAX_SAMPLE_BYTES;
use crate::error::{RedactError, Undecodable};
use crate::film::Film;
use crate::judge;
use crate::look::{self, Judge, Tools};
use crate::masks::Masks;
use crate::model::Detector;
use crate::presence::Presence;
use crate::reading::Reading;
use crate::redacted::{FoundBox, Spent};
use crate::wire::{self, Ask, Begin};
use crate::{again, blank, decode, encode, picture, rendition};

/// The hidden argument.
pub(crate) const ARGUMENT: &str = "__worker";
/// Largest first message.
const MAX_BEGIN_BYTES: u64 = 64 << 10;
/// Largest answer to what the boxes say.
const MAX_VERDICT_BYTES: u64 = 16 << 20;
/// Looks after a blanking, at most: each sees what the one before uncovered, and nearly always that is
/// nothing. A film on which it never ends is held back by the last look.
const LOOKS_AFTER: usize = 8;
/// Files a worker may have open: three pipes, bundle, library and what loading it needs.
const MAX_FILES: u64 = 32;

/// First line of every `main`: if the hidden argument is there, this process becomes a worker and
/// ends with the returned code.
pub fn dispatch_worker() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let mut limit = || arguments.next()?.to_str()?.parse::<u64>().ok();
    let (memory_bytes, cpu_seconds) = (limit(), limit());
    let ended = match (memory_bytes, cpu_seconds) {
        (Some(memory_bytes), Some(cpu_seconds)) => work(memory_bytes, cpu_seconds),
        _ => Err(RedactError::StartFailed),
    };
    Some(if ended.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A limit that cannot be set stops the worker: unbounded is worse than absent.
fn limit_self(memory_bytes: u64, cpu_seconds: u64) -> rustix::io::Result<()> {
    let fixed = |value| Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    setrlimit(Resource::As, fixed(memory_bytes))?;
    setrlimit(Resource::Cpu, fixed(cpu_seconds))?;
    setrlimit(Resource::Core, fixed(0))?;
    // No byte is written to any file: also not by a library that would like to keep statistics.
    setrlimit(Resource::Fsize, fixed(0))?;
    setrlimit(Resource::Nofile, fixed(MAX_FILES))?;
    // A worker never outlives its room.
    set_parent_process_death_signal(Some(Signal::KILL))
}

fn work(memory_bytes: u64, cpu_seconds: u64) -> Result<(), RedactError> {
    limit_self(memory_bytes, cpu_seconds).map_err(|_| RedactError::StartFailed)?;
    // Panic messages can quote what was parsed.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let broken = |_| RedactError::Protocol;
    let (kind, payload) = wire::read(&mut input, MAX_BEGIN_BYTES).map_err(broken)?;
    let begin: Begin = serde_json::from_slice(&payload).map_err(|_| RedactError::Protocol)?;
    if Ask::of(kind) != Some(Ask::Begin) {
        return Err(RedactError::Protocol);
    }
    let loaded = Detector::load(&begin.detector_bundle, &begin.runtime_library)
        .and_then(|nets| Ok((nets, Masks::load()?)));
    let mut tools = match loaded {
        Ok(((detector, recogniser), masks)) => {
            // Without this net every tile goes to the other detector: slower, and said.
            let presence = Presence::load(&begin.presence_bundle, &begin.runtime_library).ok();
            wire::write(&mut output, wire::DONE, &[u8::from(presence.is_some())])
                .map_err(broken)?;
            Tools {
                detector,
                presence,
                recogniser,
                masks,
                fill: begin.fill,
                outside: begin.outside,
            }
        }
        Err(error) => {
            wire::write(&mut output, wire::error_to_kind(error), &[]).map_err(broken)?;
            return Err(error);
        }
    };
    serve(&mut input, &mut output, &mut tools, begin.max_object_bytes)
}

fn serve(
    input: &mut impl Read,
    output: &mut impl Write,
    tools: &mut Tools,
    max_bytes: u64,
) -> Result<(), RedactError> {
    loop {
        // The pool closing our input is the normal end.
        let Ok((kind, payload)) = wire::read(input, max_bytes) else {
            return Ok(());
        };
        let mut judge = |boxes: &[FoundBox], readings: &[Reading]| {
            let told = judge::told(boxes, readings)?;
            wire::write(output, wire::READ, &told).map_err(|_| RedactError::Protocol)?;
            let (kind, verdict) =
                wire::read(input, MAX_VERDICT_BYTES).map_err(|_| RedactError::Protocol)?;
            if Ask::of(kind) != Some(Ask::Judged) {
                return Err(RedactError::Protocol);
            }
            serde_json::from_slice(&verdict).map_err(|_| RedactError::Protocol)
        };
        let answer = match Ask::of(kind) {
            // Codecs and parsers panic on some malformed data: that is an answer, not the end.
            Some(ask) => catch_unwind(AssertUnwindSafe(|| answer(ask, payload, tools, &mut judge)))
                .unwrap_or(Err(RedactError::Undecodable(Undecodable::Codec))),
            None => Err(RedactError::Protocol),
        };
        let written = match answer {
            Ok(bytes) => wire::write(output, wire::DONE, &bytes),
            Err(error) => wire::write(output, wire::error_to_kind(error), &[]),
        };
        written.map_err(|_| RedactError::Protocol)?;
    }
}

/// Bytes an answer can have at most.
pub(crate) const fn max_answer_bytes(max_object_bytes: u64) -> u64 {
    max_object_bytes + MAX_SAMPLE_BYTES as u64 + (64 << 20)
}

/// The steps in order.
fn answer(
    ask: Ask,
    bytes: Vec<u8>,
    tools: &mut Tools,
    judge: &mut Judge<'_>,
) -> Result<Vec<u8>, RedactError> {
    if ask == Ask::Check {
        return check(bytes, tools);
    }
    let mut clock = Clock::start();
    let (object, mut film) = open(ask, &bytes)?;
    let masked = object
        .as_ref()
        .map(|object| tools.masks.places(object, &film))
        .unwrap_or_default();
    // From here on the samples are what is held, and a compressed object's own frames.
    drop(bytes);
    clock.codec();
    let before = if ask == Ask::Preview {
        rendition::rendition(&film, &[], Outside::Keep)?
    } else {
        Vec::new()
    };
    // Every frame, every view: a name on frame 7 is a name.
    let (mut findings, as_it_was) = look::look(&film, masked, tools, judge)?;
    let mut boxes = findings.boxes.clone();
    boxes.retain(FoundBox::is_redacted);
    blank::blank(&mut film, &boxes, tools.fill);
    // A name may have hidden under the shine of another, or have been cut in two by its box.
    for _ in 0..LOOKS_AFTER {
        let more = again::beside(&film, &as_it_was, &findings.boxes, tools)?;
        if more.is_empty() {
            break;
        }
        blank::blank(&mut film, &more, tools.fill);
        boxes.extend(&more);
        findings.boxes.extend(more);
    }
    clock.look();
    let (object, encoded) = match (ask, object) {
        (Ask::Redact, Some(object)) => (None, encode::encode(object, &mut film, &boxes)?),
        (_, object) => (object, Vec::new()),
    };
    clock.codec();
    let after = if ask == Ask::Detect {
        Vec::new()
    } else {
        // From the blanked samples, never from the original ones.
        rendition::rendition(&film, &findings.boxes, tools.outside)?
    };
    clock.codec();
    findings.spent = clock.spent;
    let listed = json(&findings)?;
    match (ask, object) {
        (Ask::Detect, _) => Ok(wire::join(&[&listed])),
        (Ask::Redact, None) => Ok(wire::join(&[&listed, &after, &encoded])),
        (Ask::RedactPicture, None) => Ok(wire::join(&[&listed, &after])),
        (Ask::Preview, _) => {
            let size = [film.width as u32, film.height as u32].map(u32::to_le_bytes);
            Ok(wire::join(&[&listed, &before, &after, &size.concat()]))
        }
        _ => Err(RedactError::Protocol),
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, RedactError> {
    serde_json::to_vec(value).map_err(|_| RedactError::EncodeFailed)
}

/// Tells codecs from looking.
struct Clock {
    last: Instant,
    spent: Spent,
}

impl Clock {
    fn start() -> Self {
        Self {
            last: Instant::now(),
            spent: Spent::default(),
        }
    }

    fn lap(&mut self) -> u64 {
        let now = Instant::now();
        let lap = now.duration_since(self.last);
        self.last = now;
        u64::try_from(lap.as_micros()).unwrap_or(u64::MAX)
    }

    fn codec(&mut self) {
        self.spent.codec += self.lap();
    }

    fn look(&mut self) {
        self.spent.look += self.lap();
    }
}

/// The last look: at what will leave, as if nobody had looked before.
fn check(payload: Vec<u8>, tools: &mut Tools) -> Result<Vec<u8>, RedactError> {
    let mut clock = Clock::start();
    let [expected, bytes] = wire::split(payload).ok_or(RedactError::Protocol)?;
    let expected: Vec<FoundBox> =
        serde_json::from_slice(&expected).map_err(|_| RedactError::Protocol)?;
    let (_, film) = open(Ask::Redact, &bytes)?;
    drop(bytes);
    clock.codec();
    if !again::is_clean(&film, &expected, tools)? {
        return Err(RedactError::TextLeft);
    }
    clock.look();
    Ok(wire::join(&[&json(&clock.spent)?]))
}

fn open(ask: Ask, bytes: &[u8]) -> Result<(Option<DefaultDicomObject>, Film), RedactError> {
    let is_picture = picture::format_of(bytes).is_some();
    match ask {
        Ask::Begin | Ask::Judged | Ask::Check => Err(RedactError::Protocol),
        Ask::RedactPicture => Ok((None, picture::decode(bytes)?)),
        Ask::Detect | Ask::Preview if is_picture => Ok((None, picture::decode(bytes)?)),
        Ask::Redact | Ask::Detect | Ask::Preview => {
            let mut object = decode::parse(bytes)?;
            let film = decode::decode(&object)?;
            decode::forget_samples(&mut object, &film);
            Ok((Some(object), film))
        }
    }
}
