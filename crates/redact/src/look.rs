//! Between `decode` and `blank`: finds what does not belong on the film, reads it, and has the parent
//! judge it. A film that shows the patient's own identifiers is looked at a second time with lower
//! thresholds: where one name was burned in, more is to be expected.

use crate::again::Before;
use crate::config::{Fill, Outside};
use crate::error::RedactError;
use crate::film::Film;
use crate::judge::Verdict;
use crate::masks::Masks;
use crate::model::Detector;
use crate::presence::Presence;
use crate::reading::{self, Reading};
use crate::recognise::Recogniser;
use crate::redacted::{Action, Findings, FoundBox};
use crate::render::Views;
use crate::{codes, find};

/// Asks the parent, which alone knows the patient, what the boxes mean.
pub(crate) type Judge<'a> = dyn FnMut(&[FoundBox], &[Reading]) -> Result<Verdict, RedactError> + 'a;

/// What a worker looks with.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) detector: Detector,
    /// Without it the detector looks at everything itself.
    pub(crate) presence: Option<Presence>,
    /// Without it nothing is read, and so nothing stays.
    pub(crate) recogniser: Option<Recogniser>,
    pub(crate) masks: Masks,
    pub(crate) fill: Fill,
    pub(crate) outside: Outside,
}

impl Tools {
    /// Both nets alert, or not any more.
    pub(crate) const fn alert(&mut self, is_alert: bool) {
        self.detector.alert(is_alert);
        if let Some(presence) = &mut self.presence {
            presence.alert(is_alert);
        }
    }
}

/// Finds, reads and has judged; and tells how the film looked, for the looks after it. `masked` are the places where the device is known to write.
pub(crate) fn look(
    film: &Film,
    masked: Vec<FoundBox>,
    tools: &mut Tools,
    judge: &mut Judge<'_>,
) -> Result<(Findings, Before), RedactError> {
    // A panic on the object before may have left it alert.
    tools.alert(false);
    let views = &mut Views::of(film);
    let mut boxes = find::find(views, &mut tools.detector, tools.presence.as_mut())?;
    for frame in 0..film.frames {
        for view in views.frame(frame) {
            boxes.extend(codes::codes(view, frame));
        }
    }
    boxes.extend(masked);
    let mut readings = read(views, &boxes, tools);
    let mut verdict = judge(&boxes, &readings)?;
    if verdict.own > 0 {
        tools.alert(true);
        let mut fresh = find::find(views, &mut tools.detector, tools.presence.as_mut())?;
        tools.alert(false);
        fresh.retain(|found| !boxes.iter().any(|known| holds(known, found)));
        if !fresh.is_empty() {
            readings.extend(read(views, &fresh, tools));
            boxes.extend(fresh);
            verdict = judge(&boxes, &readings)?;
        }
    }
    // The parent speaks of every box or of none.
    if verdict.keep.len() != boxes.len() {
        return Err(RedactError::Protocol);
    }
    let mut kept = Vec::new();
    let mut redacted = Vec::new();
    for (found, keep) in boxes.into_iter().zip(verdict.keep) {
        if keep {
            kept.push(FoundBox {
                action: Action::Keep,
                ..found
            });
        } else {
            redacted.push(FoundBox {
                action: Action::Redact,
                ..found
            });
        }
    }
    let mut boxes = film.snapped(redacted);
    boxes.extend(kept);
    boxes.sort_by_key(|found| (found.frame, found.y, found.x));
    let findings = Findings {
        boxes,
        own_identifiers: verdict.own,
        ..Findings::default()
    };
    let before = Before::of(views, &findings.boxes);
    Ok((findings, before))
}

/// What cannot be read, for want of memory too, is unread: it is blanked, and no reason to hold the
/// film back.
fn read(views: &mut Views<'_>, boxes: &[FoundBox], tools: &mut Tools) -> Vec<Reading> {
    let read = match &mut tools.recogniser {
        Some(recogniser) => reading::read(views, boxes, recogniser).ok(),
        None => None,
    };
    read.unwrap_or_else(|| vec![Reading::default(); boxes.len()])
}

pub(crate) fn holds(outer: &FoundBox, inner: &FoundBox) -> bool {
    outer.frame == inner.frame
        && outer.x <= inner.x
        && outer.y <= inner.y
        && outer.x + outer.w >= inner.x + inner.w
        && outer.y + outer.h >= inner.y + inner.h
}
