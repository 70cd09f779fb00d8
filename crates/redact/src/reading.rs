//! After `find`, before `judge`: what is written in the boxes? Each box is turned until its text runs
//! from left to right, its lines are cut out closely and read. What cannot be read stays unread, and
//! what is unread is blanked.

use zeroize::Zeroizing;

use crate::error::RedactError;
use crate::ink::{Ink, Rectangle, ink};
use crate::recognise::{Line, Recogniser};
use crate::redacted::{FoundBox, Source};
use crate::render::{Grey, Views};

/// A line read with this confidence is hardly wrong.
const SURE: f32 = 0.85;
/// Above this confidence a reading may dispute another.
const CLEAR: f32 = 0.6;
/// Text of so many letters is not mistaken for a part of it.
const LONG: usize = 4;
/// Lines that are read of one object: the rest of a film full of text is blanked unread.
const READS_AT_MOST: usize = 96;
/// Boxes beyond which nobody looks for markers.
const BOXES_AT_MOST: usize = 1024;
/// Smallest letters of a marker, in pixels, and largest as a part of the film's long side.
const SMALLEST_MARKER: usize = 6;
const LARGEST_MARKER: usize = 8;

/// What one box says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    /// Its lines, cut out closely.
    pub(crate) lines: Line,
    /// The box with everything in it, read as one line.
    pub(crate) whole: Line,
    /// One line of plausible size, wholly inside the box, nothing written beside it.
    pub(crate) alone: bool,
}

/// Reads the boxes with text in them, in their order; an unread one is empty.
pub(crate) fn read(
    views: &mut Views<'_>,
    boxes: &[FoundBox],
    recogniser: &mut Recogniser,
) -> Result<Vec<Reading>, RedactError> {
    let mut readings = vec![Reading::default(); boxes.len()];
    let mut left = READS_AT_MOST;
    if boxes.len() > BOXES_AT_MOST {
        return Ok(readings);
    }
    for frame in 0..views.film().frames {
        let here = |found: &FoundBox| found.frame as usize == frame && found.source == Source::Text;
        if left == 0 || !boxes.iter().any(here) {
            continue;
        }
        for (found, reading) in boxes.iter().zip(&mut readings).filter(|(b, _)| here(b)) {
            for view in views.frame(frame) {
                let next = read_box(view, found, recogniser, &mut left)?;
                let undisputed = agree(reading, &next);
                if worth(&next) > worth(reading) {
                    *reading = next;
                }
                // A marker is looked at in every view: another may show what is written beside it.
                reading.alone &= undisputed && left > 0;
                if worth(reading) > 1.0 && !reading.alone {
                    break;
                }
            }
        }
    }
    Ok(readings)
}

/// Quarter turns to the right after which the text may run from left to right, likeliest first.
const fn turns(width: usize, height: usize) -> &'static [u8] {
    if width * 5 >= height * 7 {
        &[0, 2]
    } else if height * 5 >= width * 7 {
        &[1, 3, 0]
    } else {
        &[0, 1, 3, 2]
    }
}

fn read_box(
    view: &Grey,
    found: &FoundBox,
    recogniser: &mut Recogniser,
    left: &mut usize,
) -> Result<Reading, RedactError> {
    let part = cut(
        view,
        Rectangle {
            left: found.x as usize,
            top: found.y as usize,
            right: (found.x + found.w) as usize,
            bottom: (found.y + found.h) as usize,
        },
    );
    let long = view.width.max(view.height);
    let mut best = Reading::default();
    for &quarters in turns(part.width, part.height) {
        if *left == 0 {
            break;
        }
        let upright = turned(&part, quarters);
        let ink = ink(&upright);
        let nothing_stands_out = ink.is_none();
        let lines = read_lines(&upright, ink.as_ref(), recogniser, left)?;
        let whole = match &ink {
            Some(_) if *left > 0 => {
                *left -= 1;
                recogniser.read(&upright)?
            }
            // The lines are the whole box.
            _ => Line::default(),
        };
        let alone = ink.is_some_and(|ink| {
            // Of short text that lies on its side a letter is easily lost.
            let read = letters(&lines).max(letters(&whole));
            ink.alone
                && (SMALLEST_MARKER..=long / LARGEST_MARKER).contains(&ink.letter_height)
                && (read >= LONG || ink.pieces <= read)
        });
        let reading = Reading {
            lines,
            whole,
            alone,
        };
        if worth(&reading) > worth(&best) {
            best = reading;
        }
        let sure = worth(&best) > 2.0 && letters(&best.lines) >= 2;
        // Turning does not help where nothing stands out.
        if sure || nothing_stands_out {
            break;
        }
    }
    Ok(best)
}

/// Letters and digits that were read.
fn letters(line: &Line) -> usize {
    line.text.chars().filter(|c| c.is_alphanumeric()).count()
}

/// Whether neither of two readings of a box says a word clearly that the other does not.
fn agree(one: &Reading, other: &Reading) -> bool {
    let said = |reading: &Reading| -> Vec<Zeroizing<String>> {
        let lines = [&reading.lines, &reading.whole].into_iter();
        let lines = lines.filter(|line| letters(line) > 0 && line.confidence >= CLEAR);
        lines.map(solid).collect()
    };
    // Further views are dark but for a part: of a marker they may show a stroke.
    let is_word = |text: &str| text.chars().count() >= 3;
    let same = |one: &str, other: &str| {
        let long = if one.len() < other.len() { other } else { one };
        let short = if one.len() < other.len() { one } else { other };
        short == long || !is_word(long) || (short.len() >= LONG && long.contains(short))
    };
    let heard = said(other);
    said(one)
        .iter()
        .all(|said| heard.iter().all(|heard| same(said, heard)))
}

/// Letters and digits only.
fn solid(line: &Line) -> Zeroizing<String> {
    Zeroizing::new(line.text.chars().filter(|c| c.is_alphanumeric()).collect())
}

/// How likely this is the right way up, 3 at most. Text on its side is sometimes read with confidence,
/// but not the same twice: once closely cut and once with the whole box around it.
fn worth(reading: &Reading) -> f32 {
    let (lines, whole) = (&reading.lines, &reading.whole);
    let (close, wide) = (solid(lines), solid(whole));
    let agree = !close.is_empty()
        && !wide.is_empty()
        && (close.contains(wide.as_str()) || wide.contains(close.as_str()));
    let surest = lines.confidence.max(whole.confidence);
    if agree && surest >= SURE {
        2.0 + surest
    } else if agree {
        1.0 + surest
    } else {
        surest
    }
}

/// The lines of a box, joined by spaces; the whole box where no ink stands out.
fn read_lines(
    upright: &Grey,
    ink: Option<&Ink>,
    recogniser: &mut Recogniser,
    left: &mut usize,
) -> Result<Line, RedactError> {
    let mut all = Line::default();
    let mut read = 0.0;
    let places = match ink {
        Some(ink) => ink.lines.iter().map(|&line| cut(upright, line)).collect(),
        None => vec![upright.clone()],
    };
    for place in places {
        if *left == 0 {
            break;
        }
        *left -= 1;
        let line = recogniser.read(&place)?;
        if !all.text.is_empty() {
            all.text.push(' ');
        }
        all.text.push_str(&line.text);
        all.confidence += line.confidence;
        read += 1.0;
    }
    all.confidence /= f32::max(read, 1.0);
    Ok(all)
}

/// A part of a picture, cut off at its edges.
fn cut(from: &Grey, place: Rectangle) -> Grey {
    let (right, bottom) = (place.right.min(from.width), place.bottom.min(from.height));
    let (left, top) = (place.left.min(right), place.top.min(bottom));
    let rows = (top..bottom).flat_map(|row| {
        from.pixels
            .get(row * from.width + left..row * from.width + right)
            .unwrap_or_default()
    });
    Grey {
        width: right - left,
        height: bottom - top,
        pixels: rows.copied().collect(),
    }
}

/// A picture after quarter turns to the right: what ran upwards then runs from left to right after
/// one of them.
fn turned(from: &Grey, quarters: u8) -> Grey {
    let (width, height) = if quarters.is_multiple_of(2) {
        (from.width, from.height)
    } else {
        (from.height, from.width)
    };
    let at = |x: usize, y: usize| {
        let (x, y) = match quarters % 4 {
            0 => (x, y),
            1 => (y, from.height - 1 - x),
            2 => (from.width - 1 - x, from.height - 1 - y),
            _ => (from.width - 1 - y, x),
        };
        from.pixels.get(y * from.width + x).copied().unwrap_or(0)
    };
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    Grey {
        width,
        height,
        pixels: places.map(|(x, y)| at(x, y)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::{Reading, agree, turned};
    use crate::recognise::Line;
    use crate::render::Grey;

    #[test]
    fn a_view_that_shows_more_disputes_one_that_shows_less_only_when_it_is_clear() {
        let reading = |text: &str, confidence: f32| Reading {
            lines: Line {
                text: Zeroizing::new(text.to_owned()),
                confidence,
            },
            ..Reading::default()
        };
        let marker = reading("R", 0.95);
        assert!(agree(&Reading::default(), &marker));
        assert!(agree(&marker, &reading("R", 0.9)));
        assert!(agree(&marker, &reading("MEIER", 0.3)));
        assert!(!agree(&marker, &reading("DOE", 0.9)));
        assert!(!agree(&marker, &reading("ERIC", 0.9)));
    }

    #[test]
    fn four_quarter_turns_are_none_and_text_upwards_comes_to_lie() {
        // "ab" written upwards: b over a.
        let upwards = Grey {
            width: 1,
            height: 2,
            pixels: vec![b'b', b'a'],
        };
        let lying = turned(&upwards, 1);
        assert_eq!(
            (lying.width, lying.pixels.as_slice()),
            (2, b"ab".as_slice())
        );
        let picture = Grey {
            width: 3,
            height: 2,
            pixels: (0..6).collect(),
        };
        let back = turned(&turned(&picture, 1), 3);
        assert_eq!(back.pixels, picture.pixels);
        assert_eq!(turned(&turned(&picture, 2), 2).pixels, picture.pixels);
    }
}
