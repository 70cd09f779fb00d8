//! Which segments of a JPEG frame its scans use (ISO/IEC 10918-1 annex B). A table that nothing reads
//! could hold anything, as could one that is no table.

use std::collections::{BTreeMap, BTreeSet};

use super::{Unfollowed, be16, entropy, segment};

/// Places in the frame of the definitions that some scan uses.
#[derive(Debug, Default)]
pub(super) struct Used(BTreeSet<usize>);

impl Used {
    pub(super) fn has(&self, place: usize) -> bool {
        self.0.contains(&place)
    }

    /// The tables of a segment whose body stands at `place` that are used.
    pub(super) fn of<'a>(&self, code: u8, body: &'a [u8], place: usize) -> Vec<&'a [u8]> {
        let mut rest = body;
        let mut used = Vec::new();
        while !rest.is_empty() {
            let at = place + body.len() - rest.len();
            let Some((table, after)) = table(code, rest).and_then(|end| rest.split_at_checked(end))
            else {
                break;
            };
            if self.has(at) {
                used.push(table);
            }
            rest = after;
        }
        used
    }
}

/// What the frame header says of a component.
struct Part {
    id: u8,
    quantization: u8,
}

struct Frame {
    code: u8,
    parts: Vec<Part>,
}

/// What a scan asks for: the last definition before it, by marker and slot.
type Slot = (u8, u8);

/// Follows the frame from segment to segment.
///
/// # Errors
/// [`Unfollowed`] for tables that are none, a second frame header, arithmetic coding (in no syntax of
/// DICOM that is read here), and scans of components that the frame does not have.
pub(super) fn used(frame: &[u8]) -> Result<Used, Unfollowed> {
    let mut used = Used::default();
    let mut defined: BTreeMap<Slot, usize> = BTreeMap::new();
    let mut header: Option<Frame> = None;
    let mut scans = 0_usize;
    let mut at = 2;
    // Without its end marker a frame ends with its last scan.
    while at < frame.len() {
        let fill = frame.get(at..).ok_or(Unfollowed)?;
        let fill = fill.iter().take_while(|byte| **byte == 0xFF).count();
        let code = *frame.get(at + fill).ok_or(Unfollowed)?;
        at += fill + 1;
        if code == 0xD9 {
            break;
        }
        let body = segment(frame, at)?;
        let place = at + 2;
        at = place + body.len();
        match code {
            0xC0..=0xC3 | 0xF7 => {
                let read = Frame::of(code, body).ok_or(Unfollowed)?;
                if header.replace(read).is_some() {
                    return Err(Unfollowed);
                }
            }
            0xC4 | 0xDB => {
                let mut rest = body;
                while !rest.is_empty() {
                    let end = table(code, rest).ok_or(Unfollowed)?;
                    let slot = rest.first().copied().ok_or(Unfollowed)?;
                    // The upper half of a quantization table's slot is its width.
                    let slot = if code == 0xDB { slot & 0x0F } else { slot };
                    defined.insert((code, slot), place + body.len() - rest.len());
                    rest = rest.get(end..).ok_or(Unfollowed)?;
                }
            }
            0xDD if body.len() == 2 => {
                defined.insert((code, 0), place);
            }
            0xF8 if preset(body) => {
                defined.insert((code, 0), place);
            }
            // The number of lines, once, behind the first scan (B.2.5).
            0xDC if body.len() == 2 && scans == 1 && !defined.contains_key(&(code, 0)) => {
                defined.insert((code, 0), place);
                used.0.insert(place);
            }
            0xE0 | 0xE8 | 0xEE if scans == 0 && says_colour(code, body) => {
                defined.insert((code, 0), place);
            }
            0xDA => {
                let header = header.as_ref().ok_or(Unfollowed)?;
                let mut wanted = header.wanted(body).ok_or(Unfollowed)?;
                wanted.extend([(0xDD, 0), (0xE0, 0), (0xE8, 0), (0xEE, 0), (0xF8, 0)]);
                used.0
                    .extend(wanted.iter().filter_map(|slot| defined.get(slot)));
                scans += 1;
                at += entropy(frame.get(at..).ok_or(Unfollowed)?);
            }
            0xE0..=0xEF | 0xFE => {}
            _ => return Err(Unfollowed),
        }
    }
    Ok(used)
}

impl Frame {
    /// B.2.2; 14495-1 C.2.2.
    fn of(code: u8, body: &[u8]) -> Option<Self> {
        let count = usize::from(*body.get(5)?);
        let (parts, rest) = body.get(6..)?.as_chunks::<3>();
        let mut ids = BTreeSet::new();
        let sound = parts.iter().all(|[id, sampling, quantization]| {
            let sampled = |factor: u8| (1..=4).contains(&factor);
            ids.insert(*id)
                && sampled(sampling >> 4)
                && sampled(sampling & 0x0F)
                && *quantization < 4
        });
        let parts = parts.iter().map(|[id, _, quantization]| Part {
            id: *id,
            quantization: *quantization,
        });
        let counted = (1..=4).contains(&count) && parts.len() == count && rest.is_empty();
        (counted && sound && (2..=16).contains(body.first()?)).then(|| Self {
            code,
            parts: parts.collect(),
        })
    }

    /// The tables that a scan with this header reads (B.2.3).
    fn wanted(&self, body: &[u8]) -> Option<BTreeSet<Slot>> {
        let count = usize::from(*body.first()?);
        let (parts, rest) = body.get(1..)?.split_at_checked(2 * count)?;
        let [first, last, _] = <[u8; 3]>::try_from(rest).ok()?;
        let mut wanted = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for [id, tables] in parts.as_chunks::<2>().0 {
            let part = self.parts.iter().find(|part| part.id == *id)?;
            let (dc, ac) = (tables >> 4, tables & 0x0F);
            if !ids.insert(*id) || self.code != 0xF7 && (dc > 3 || ac > 3) {
                return None;
            }
            // The lower half of a Huffman table's slot is its number, the upper its class.
            let (dc, ac) = ((0xC4, dc), (0xC4, 0x10 | ac));
            let quantization = (0xDB, part.quantization);
            match self.code {
                0xC0 | 0xC1 => wanted.extend([dc, ac, quantization]),
                0xC2 if first > 0 => wanted.extend([ac, quantization]),
                0xC2 if last > 0 => wanted.extend([dc, ac, quantization]),
                0xC2 => wanted.extend([dc, quantization]),
                0xC3 => wanted.extend([dc]),
                _ => {}
            }
        }
        let sound = self.code == 0xF7 || first < 64 && last < 64;
        ((1..=4).contains(&count) && sound).then_some(wanted)
    }
}

/// Length of the table at the start of `data`; none if it is no table.
fn table(code: u8, data: &[u8]) -> Option<usize> {
    let (upper, slot) = (data.first()? >> 4, data.first()? & 0x0F);
    if upper > 1 || slot > 3 {
        return None;
    }
    let length = if code == 0xDB {
        // B.2.4.1
        if upper == 0 { 65 } else { 129 }
    } else {
        17 + symbols(data, upper == 1)?
    };
    (length <= data.len()).then_some(length)
}

/// Symbols of a Huffman table (B.2.4.2): each once, with as many codes as their lengths allow.
fn symbols(data: &[u8], ac: bool) -> Option<usize> {
    let counts = data.get(1..17)?.iter().copied().map(usize::from);
    let count = counts.clone().sum::<usize>();
    let taken: usize = counts
        .zip((0..16).rev())
        .map(|(count, free)| count << free)
        .sum();
    let mut seen = BTreeSet::new();
    let sound = data.get(17..17 + count)?.iter().all(|symbol| {
        // A difference has up to 16 bits, a coefficient up to 14 (F.1.2, H.1.2).
        let known = if ac {
            symbol & 0x0F < 15
        } else {
            *symbol <= 16
        };
        known && seen.insert(*symbol)
    });
    (sound && taken <= 1 << 16).then_some(count)
}

/// Thresholds of JPEG-LS (14495-1 C.2.4.1.1). Mapping tables could hold anything, and larger sizes
/// than a frame header has DICOM does not have either.
fn preset(body: &[u8]) -> bool {
    let number = |at: usize| be16(body, at).ok();
    let (Some(1), Some(highest)) = (body.first(), number(1)) else {
        return false;
    };
    // 0 stands for the default.
    let below = |at| number(at).is_some_and(|limit| highest == 0 || limit <= highest);
    let reset = number(9).is_some_and(|reset| highest == 0 || reset <= highest.max(255));
    body.len() == 11 && below(3) && below(5) && below(7) && reset
}

/// The application segments that decoders ask about colour.
fn says_colour(code: u8, body: &[u8]) -> bool {
    match code {
        // Version 1; densities without a unit, in inches or in centimetres.
        0xE0 => {
            body.len() >= 14
                && body.starts_with(b"JFIF\0\x01")
                && matches!(body.get(6..8), Some([0..=2, 0..=2]))
        }
        0xE8 => matches!(body, [b'm', b'r', b'f', b'x', 0..=5]),
        _ => body.len() >= 12 && body.starts_with(b"Adobe"),
    }
}
