//! In the parent process, while the worker waits: which boxes may stay, and does the film show the
//! patient's own identifiers?
//!
//! The words that a worker read come here and are compared here. The other way round the header's
//! identifiers would have to go into the process that parses hostile bytes, partly in C, and lives on
//! to parse the next patient's; like this a worker never holds more than what is on the film itself.
//! A worker that lies about its words gains nothing: it could as well lie about its boxes. The words
//! are identified data: bounded, wiped on drop, never printed, and only numbers leave this step.

use cloister_scrub::Likeness;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::config::MarkerPolicy;
use crate::error::RedactError;
use crate::markers;
use crate::reading::Reading;
use crate::redacted::{FoundBox, Source};

/// Bytes that a worker's words may have.
const MAX_BYTES: usize = 4 << 20;
/// Characters of one box's text that are compared.
const MAX_CHARS: usize = 400;
/// Mean probability of a marker's characters.
const MARKER_CONFIDENCE: f32 = 0.8;
/// Above this the reading of the whole box counts.
const WHOLE_CONFIDENCE: f32 = 0.6;

/// A box and what it says, on the wire.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    place: Place,
    text: String,
    confidence: f32,
    whole: String,
    whole_confidence: f32,
    alone: bool,
}

impl Drop for Said {
    fn drop(&mut self) {
        self.text.zeroize();
        self.whole.zeroize();
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    frame: u32,
    x: u32,
    y: u32,
    w: u32,
    h: u32,
}

/// What the parent answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verdict {
    /// Of each box, in order: whether it may stay.
    pub(crate) keep: Vec<bool>,
    /// Boxes that hold the patient's own identifiers.
    pub(crate) own: u32,
}

/// The worker's side: boxes and readings as bytes.
pub(crate) fn told(
    boxes: &[FoundBox],
    readings: &[Reading],
) -> Result<Zeroizing<Vec<u8>>, RedactError> {
    let cut = |text: &str| text.chars().take(MAX_CHARS).collect();
    let said: Vec<Said> = boxes
        .iter()
        .zip(readings)
        .map(|(found, reading)| Said {
            place: Place {
                frame: found.frame,
                x: found.x,
                y: found.y,
                w: found.w,
                h: found.h,
            },
            text: cut(&reading.lines.text),
            confidence: reading.lines.confidence,
            whole: cut(&reading.whole.text),
            whole_confidence: reading.whole.confidence,
            alone: reading.alone && found.source == Source::Text,
        })
        .collect();
    let bytes = serde_json::to_vec(&said).map_err(|_| RedactError::Protocol)?;
    Ok(Zeroizing::new(bytes))
}

/// The parent's side.
pub(crate) fn judge(
    told: &[u8],
    known: &Likeness,
    policy: MarkerPolicy,
) -> Result<Verdict, RedactError> {
    if told.len() > MAX_BYTES {
        return Err(RedactError::Protocol);
    }
    let said: Vec<Said> = serde_json::from_slice(told).map_err(|_| RedactError::Protocol)?;
    let markers: Vec<bool> = said.iter().map(|one| is_marker(one, known)).collect();
    let keep = said
        .iter()
        .zip(&markers)
        .map(|(one, &marker)| {
            let alone = || {
                said.iter()
                    .zip(&markers)
                    .all(|(other, &marker)| marker || !is_beside(one.place, other.place))
            };
            policy == MarkerPolicy::Keep && marker && alone()
        })
        .collect();
    let own = said
        .iter()
        .filter(|one| known.is_in(&one.text) || known.is_in(&one.whole))
        .count();
    Ok(Verdict {
        keep,
        own: u32::try_from(own).unwrap_or(u32::MAX),
    })
}

/// A marker is read with confidence at least one way, and the other way says nothing else. Cut closely,
/// letters on a bright ground can be missing; with the whole box around them, small ones can.
fn is_marker(one: &Said, known: &Likeness) -> bool {
    let (close, whole) = (markers::words(&one.text), markers::words(&one.whole));
    let is_said = |text: &str, confidence: f32| {
        confidence >= WHOLE_CONFIDENCE && text.chars().any(char::is_alphanumeric)
    };
    let sure = |confidence: f32| confidence >= MARKER_CONFIDENCE;
    let words = match (close, whole) {
        (Some(close), Some(whole)) if close == whole => {
            (sure(one.confidence) || sure(one.whole_confidence)).then_some(close)
        }
        (Some(close), _) if !is_said(&one.whole, one.whole_confidence) => {
            sure(one.confidence).then_some(close)
        }
        (_, Some(whole)) if sure(one.whole_confidence) && whole.concat().len() > 1 => {
            let close: String = one.text.split_whitespace().collect();
            let part = whole.concat().contains(close.to_uppercase().as_str());
            (part || !is_said(&one.text, one.confidence)).then_some(whole)
        }
        _ => None,
    };
    one.alone
        && words.is_some_and(|words| !words.iter().any(|word| known.is_own_word(word)))
        && ![&one.text, &one.whole]
            .into_iter()
            .any(|text| known.is_own_word(text) || known.is_in(text))
}

/// Whether two boxes are parts of one line or block: they overlap, or nearly touch for their size.
fn is_beside(one: Place, other: Place) -> bool {
    let reach = one.h.min(one.w).min(other.h.min(other.w)) / 3;
    let near = |from: u32, size: u32, other: u32, other_size: u32| {
        let (end, other_end) = (
            from.saturating_add(size).saturating_add(reach),
            other.saturating_add(other_size).saturating_add(reach),
        );
        from < other_end && other < end
    };
    one.frame == other.frame
        && near(one.x, one.w, other.x, other.w)
        && near(one.y, one.h, other.y, other.h)
}

#[cfg(test)]
mod tests {
    use cloister_scrub::{Kind, KnownIdentifiers};
    use zeroize::Zeroizing;

    use super::{Verdict, judge, told};
    use crate::config::MarkerPolicy;
    use crate::reading::Reading;
    use crate::recognise::Line;
    use crate::redacted::{FoundBox, Source};

    fn line(text: &str, confidence: f32) -> Line {
        Line {
            text: Zeroizing::new(text.to_owned()),
            confidence,
        }
    }

    /// A box of 40 × 20 at a place, and what was read in it.
    fn said(x: u32, y: u32, text: &str, confidence: f32, whole: &str) -> (FoundBox, Reading) {
        let found = FoundBox {
            x,
            y,
            w: 40,
            h: 20,
            ..FoundBox::default()
        };
        let reading = Reading {
            lines: line(text, confidence),
            whole: line(whole, 0.9),
            alone: true,
        };
        (found, reading)
    }

    fn verdict(said: &[(FoundBox, Reading)], name: &str) -> Verdict {
        let mut known = KnownIdentifiers::new();
        known.add(Kind::Name, name);
        let (boxes, readings): (Vec<_>, Vec<_>) = said.iter().cloned().unzip();
        let told = told(&boxes, &readings).unwrap();
        judge(&told, &known.likeness(), MarkerPolicy::Keep).unwrap()
    }

    #[test]
    fn a_lone_marker_stays_and_names_go() {
        let found = verdict(
            &[
                said(10, 10, "R", 0.95, "R"),
                said(200, 10, "LINDQVIST", 0.99, ""),
                said(400, 10, "AP ERECT", 0.95, " AP ERECT "),
                said(600, 10, "KOWALSKI", 0.99, ""),
            ],
            "Lindqvist^Brigitte",
        );
        assert_eq!(found.keep, [true, false, true, false]);
        assert_eq!(found.own, 1);
    }

    #[test]
    fn a_marker_that_is_not_alone_or_not_sure_goes() {
        for other in [
            // A name in the same line, or under it.
            said(55, 10, "SMITH", 0.99, ""),
            said(12, 33, "1234", 0.99, ""),
        ] {
            let found = verdict(&[said(10, 10, "R", 0.99, "R"), other], "Doe^Jane");
            assert_eq!(found.keep, [false, false]);
        }
        let two = [said(10, 10, "R", 0.99, "R"), said(55, 10, "PA", 0.99, "PA")];
        assert_eq!(verdict(&two, "Doe^Jane").keep, [true, true]);
        let mut faint = said(10, 10, "R", 0.7, "R");
        faint.1.whole.confidence = 0.7;
        assert_eq!(verdict(&[faint], "Doe^Jane").keep, [false]);
        // Closely cut, the marker on a bright ground lost a letter, or the name beside it.
        let lost = [said(10, 10, "RECT", 0.98, "AP ERECT")];
        assert_eq!(verdict(&lost, "Doe^Jane").keep, [true]);
        let lost = [said(10, 10, "R", 0.98, "SMITH R")];
        assert_eq!(verdict(&lost, "Doe^Jane").keep, [false]);
        let other = [said(10, 10, "SMITH", 0.98, "AP")];
        assert_eq!(verdict(&other, "Doe^Jane").keep, [false]);
        let more = [said(10, 10, "R", 0.99, "R 12")];
        assert_eq!(verdict(&more, "Doe^Jane").keep, [false]);
        let mut crowded = said(10, 10, "R", 0.99, "R");
        crowded.1.alone = false;
        assert_eq!(verdict(&[crowded], "Doe^Jane").keep, [false]);
    }

    #[test]
    fn a_patient_with_the_name_of_a_marker_loses_it() {
        let sitting = [said(10, 10, "SITTING", 0.99, "SITTING")];
        assert_eq!(verdict(&sitting, "Sitting^Bull").keep, [false]);
        assert_eq!(verdict(&sitting, "Siting^Bull").keep, [false]);
        assert_eq!(verdict(&sitting, "Doe^Jane").keep, [true]);
        let l = [said(10, 10, "L", 0.99, "L")];
        assert_eq!(verdict(&l, "L^Jane").keep, [false]);
        assert_eq!(verdict(&l, "Doe^Jane^L").keep, [true]);
    }

    #[test]
    fn by_policy_nothing_stays_and_codes_never_do() {
        let one = said(10, 10, "R", 0.99, "R");
        let known = KnownIdentifiers::new().likeness();
        let bytes = told(&[one.0], std::slice::from_ref(&one.1)).unwrap();
        let redact = judge(&bytes, &known, MarkerPolicy::Redact).unwrap();
        assert_eq!(redact.keep, [false]);
        let code = FoundBox {
            source: Source::Code,
            ..one.0
        };
        let bytes = told(&[code], &[one.1]).unwrap();
        let kept = judge(&bytes, &known, MarkerPolicy::Keep).unwrap();
        assert_eq!(kept.keep, [false]);
    }

    #[test]
    fn nonsense_is_refused() {
        let known = KnownIdentifiers::new().likeness();
        for bytes in [&b""[..], b"{}", b"[{\"x\":1}]", &vec![b'['; 5 << 20]] {
            assert!(judge(bytes, &known, MarkerPolicy::Keep).is_err());
        }
    }
}
