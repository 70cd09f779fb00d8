//! Takes out of one compressed frame what its pixels do not need: comments, application segments,
//! boxes of metadata, bytes after the end. Every length is checked against the frame; what cannot
//! be followed is refused. Entropy-coded data stays bit for bit. The caller puts frames together.

use headers::{Header, Lengths};

mod headers;
mod tables;

/// A frame that cannot be followed to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfollowed;

type Stripped = Result<Vec<u8>, Unfollowed>;

/// A JPEG or JPEG-LS frame (ISO/IEC 10918-1 annex B, 14495-1 annex C) without COM and APPn, but
/// with the two that decoders ask about colour: JFIF (its thumbnail goes) and Adobe; in JPEG-LS
/// also HP's colour transform. Of tables those stay that a scan reads.
pub(crate) fn jpeg(frame: &[u8]) -> Stripped {
    let mut out = Vec::with_capacity(frame.len());
    let mut at = 2;
    if frame.get(..2) != Some(&[0xFF, 0xD8]) {
        return Err(Unfollowed);
    }
    let used = tables::used(frame)?;
    out.extend([0xFF, 0xD8]);
    loop {
        // Any marker may be preceded by fill bytes (B.1.1.2).
        let fill = frame.get(at..).ok_or(Unfollowed)?;
        let fill = fill.iter().take_while(|byte| **byte == 0xFF).count();
        let code = *frame.get(at + fill).ok_or(Unfollowed)?;
        if fill == 0 {
            return Err(Unfollowed);
        }
        at += fill + 1;
        if code == 0xD9 {
            out.extend([0xFF, 0xD9]);
            return Ok(out);
        }
        let body = segment(frame, at)?;
        at += body.len() + 2;
        let place = at - body.len();
        match code {
            0xE0 if used.has(place) => {
                let jfif = body.get(..12).ok_or(Unfollowed)?;
                put(&mut out, code, &[jfif, &[0, 0]]);
            }
            0xEE if used.has(place) => {
                // Of version and flags nothing depends; of the transformation the colours do.
                let transformation = body.get(11..12).ok_or(Unfollowed)?;
                put(&mut out, code, &[b"Adobe\0\x64\0\0\0\0", transformation]);
            }
            0xDC | 0xDD | 0xE8 | 0xF8 if used.has(place) => put(&mut out, code, &[body]),
            0xDC | 0xDD | 0xE0..=0xEF | 0xF8 | 0xFE => {}
            0xDA => {
                let parts = usize::from(*body.first().ok_or(Unfollowed)?);
                if body.len() != 2 * parts + 4 {
                    return Err(Unfollowed);
                }
                put(&mut out, code, &[body]);
                let length = entropy(frame.get(at..).ok_or(Unfollowed)?);
                out.extend_from_slice(frame.get(at..at + length).ok_or(Unfollowed)?);
                at += length;
                if at >= frame.len() {
                    // The end marker is missing; nothing else is there.
                    return Ok(out);
                }
            }
            // Frame headers; 10918-1 table B.2, 14495-1 C.2.2.
            0xC0..=0xC3 | 0xF7 => put(&mut out, code, &[body]),
            0xC4 | 0xDB => {
                let tables = used.of(code, body, place);
                if !tables.is_empty() {
                    put(&mut out, code, &tables);
                }
            }
            _ => return Err(Unfollowed),
        }
    }
}

/// The body of a segment whose two length bytes stand at `at`.
fn segment(data: &[u8], at: usize) -> Result<&[u8], Unfollowed> {
    let length = be16(data, at)?;
    length
        .checked_sub(2)
        .and_then(|body| data.get(at + 2..at + 2 + body))
        .ok_or(Unfollowed)
}

fn be16(data: &[u8], at: usize) -> Result<usize, Unfollowed> {
    data.get(at..at + 2)
        .and_then(|bytes| bytes.try_into().ok())
        .map(|bytes| usize::from(u16::from_be_bytes(bytes)))
        .ok_or(Unfollowed)
}

fn be32(data: &[u8], at: usize) -> Result<usize, Unfollowed> {
    data.get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map(|bytes| u32::from_be_bytes(bytes) as usize)
        .ok_or(Unfollowed)
}

fn put(out: &mut Vec<u8>, code: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend([0xFF, code]);
    out.extend(u16::try_from(length + 2).unwrap_or(u16::MAX).to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Length of the entropy-coded data: up to a marker that is no restart. In JPEG a zero byte
/// follows FFH, in JPEG-LS a zero bit (14495-1 A.1); in both a marker's second byte is 80H or more.
fn entropy(data: &[u8]) -> usize {
    let mut at = 0;
    while let Some(next) = data.get(at..).and_then(find_ff) {
        let place = at + next;
        match data.get(place + 1) {
            Some(0..=0x7F | 0xD0..=0xD7) => at = place + 2,
            // Fill before a marker.
            Some(0xFF) => at = place + 1,
            Some(_) => return place,
            None => return data.len(),
        }
    }
    data.len()
}

fn find_ff(data: &[u8]) -> Option<usize> {
    data.iter().position(|byte| *byte == 0xFF)
}

/// A JPEG 2000 or HTJ2K codestream (ISO/IEC 15444-1 annex A) with only the segments that decoding
/// needs; `extended`: those of part 2 as well. Of a JP2 file the codestream is what stays: DICOM says
/// the rest in attributes (PS3.5 section A.4.4).
pub(crate) fn jpeg2000(frame: &[u8], extended: bool) -> Stripped {
    if frame.get(4..8) == Some(b"jP  ") {
        return jpeg2000_codestream(only_box(frame, *b"jp2c")?, extended);
    }
    jpeg2000_codestream(frame, extended)
}

fn jpeg2000_codestream(frame: &[u8], extended: bool) -> Stripped {
    if frame.get(..2) != Some(&[0xFF, 0x4F]) {
        return Err(Unfollowed);
    }
    let mut out = vec![0xFF, 0x4F];
    let mut at = 2;
    let mut lengths = Lengths::default();
    let mut main = Header::main(extended);
    loop {
        let code = marker(frame, at)?;
        if code == 0x90 {
            break;
        }
        let body = segment(frame, at + 2)?;
        at += body.len() + 4;
        if code == 0x55 {
            lengths.add(body, out.len() + 4)?;
            put(&mut out, code, &[body]);
        } else if main.keeps(code, body)? {
            put(&mut out, code, &[body]);
        }
    }
    if !main.ends() {
        return Err(Unfollowed);
    }
    // Tile-parts.
    loop {
        match marker(frame, at) {
            Ok(0x90) => {}
            Ok(0xD9) => {
                lengths.end()?;
                out.extend([0xFF, 0xD9]);
                return Ok(out);
            }
            // The end marker is missing; nothing else is there.
            Err(_) if at == frame.len() => {
                lengths.end()?;
                return Ok(out);
            }
            _ => return Err(Unfollowed),
        }
        let start = segment(frame, at + 2)?;
        if start.len() != 8 {
            return Err(Unfollowed);
        }
        let total = be32(start, 2)?;
        let end = if total == 0 {
            // The last tile-part, up to the end marker.
            let rest = frame.get(at..).ok_or(Unfollowed)?;
            let begin = tile_part(rest, &main)?.read;
            let data = rest.get(begin..).ok_or(Unfollowed)?;
            at + begin + packets(data)
        } else {
            at.checked_add(total).ok_or(Unfollowed)?
        };
        let part = frame.get(at..end).ok_or(Unfollowed)?;
        let header = tile_part(part, &main)?;
        let data = part.get(header.read..).ok_or(Unfollowed)?;
        let length = header.kept.len() + data.len();
        lengths.next(&mut out, be16(start, 0)?, part.len(), length)?;
        let begun = out.len();
        out.extend_from_slice(&header.kept);
        out.extend_from_slice(data);
        if total != 0 {
            let length = u32::try_from(length).map_err(|_| Unfollowed)?;
            if let Some(slot) = out.get_mut(begun + 6..begun + 10) {
                slot.copy_from_slice(&length.to_be_bytes());
            }
        }
        at = end;
    }
}

/// Bytes of packets before the end marker. No packet holds FFH before a byte above 8FH (15444-1
/// B.10.1), but the number in a start-of-packet segment (A.8.1) may be anything.
fn packets(data: &[u8]) -> usize {
    let mut at = 0;
    while let Some(pair) = data.get(at..at + 2) {
        match pair {
            [0xFF, 0x91] if data.get(at + 2..at + 4) == Some(&[0, 4]) => at += 6,
            [0xFF, 0xD9] => return at,
            _ => at += 1,
        }
    }
    data.len()
}

struct TilePart {
    /// The header as it stays, SOT to SOD.
    kept: Vec<u8>,
    /// Bytes of the header as it came.
    read: usize,
}

fn tile_part(part: &[u8], main: &Header) -> Result<TilePart, Unfollowed> {
    let mut kept = part.get(..12).ok_or(Unfollowed)?.to_vec();
    let mut header = main.of_tile_part();
    let mut at = 12;
    loop {
        let code = marker(part, at)?;
        if code == 0x93 && header.ends() {
            kept.extend([0xFF, 0x93]);
            return Ok(TilePart { kept, read: at + 2 });
        }
        let body = segment(part, at + 2)?;
        at += body.len() + 4;
        // Capabilities are those of the whole codestream.
        if code == 0x50 {
            return Err(Unfollowed);
        }
        if header.keeps(code, body)? {
            put(&mut kept, code, &[body]);
        }
    }
}

fn marker(data: &[u8], at: usize) -> Result<u8, Unfollowed> {
    match data.get(at..at + 2) {
        Some([0xFF, code]) => Ok(*code),
        _ => Err(Unfollowed),
    }
}

/// The contents of the one box of this type at the top level of a file of boxes.
fn only_box(file: &[u8], wanted: [u8; 4]) -> Result<&[u8], Unfollowed> {
    let mut found = None;
    let mut at = 0;
    // What is shorter than a header pads the fragment.
    while at + 8 <= file.len() {
        let (kind, body, end) = next_box(file, at)?;
        if kind == wanted && found.replace(body).is_some() {
            return Err(Unfollowed);
        }
        at = end;
    }
    found.ok_or(Unfollowed)
}

/// Type, contents and end of the box at `at` (15444-1 annex I.4).
fn next_box(file: &[u8], at: usize) -> Result<([u8; 4], &[u8], usize), Unfollowed> {
    let kind = file
        .get(at + 4..at + 8)
        .and_then(|kind| kind.try_into().ok())
        .ok_or(Unfollowed)?;
    let (begin, end) = match be32(file, at)? {
        0 => (at + 8, file.len()),
        1 if be32(file, at + 8)? == 0 => {
            let length = be32(file, at + 12)?;
            (at + 16, at.checked_add(length).ok_or(Unfollowed)?)
        }
        1 => return Err(Unfollowed),
        length => (at + 8, at.checked_add(length).ok_or(Unfollowed)?),
    };
    let body = file.get(begin..end).ok_or(Unfollowed)?;
    Ok((kind, body, end))
}

/// JPEG XL: a bare codestream stays; of a file (ISO/IEC 18181-2) the boxes that hold it stay.
pub(crate) fn jpeg_xl(frame: &[u8]) -> Stripped {
    if frame.starts_with(&[0xFF, 0x0A]) {
        return Ok(frame.to_vec());
    }
    if frame.get(4..8) != Some(b"JXL ") {
        return Err(Unfollowed);
    }
    let mut out = Vec::with_capacity(frame.len());
    let mut at = 0;
    let mut coded = false;
    while at < frame.len() {
        // An even length may need one byte more.
        if frame.len() - at == 1 && frame.last() == Some(&0) {
            break;
        }
        let (kind, _, end) = next_box(frame, at)?;
        if matches!(&kind, b"JXL " | b"ftyp" | b"jxlc" | b"jxlp" | b"jxll") {
            out.extend_from_slice(frame.get(at..end).ok_or(Unfollowed)?);
        }
        coded |= matches!(&kind, b"jxlc" | b"jxlp");
        at = end;
    }
    if coded { Ok(out) } else { Err(Unfollowed) }
}

/// RLE (PS3.5 annex G): the segments, each cut where its rows end, and the header made anew.
/// `samples` is the number of bytes in a segment when unpacked.
pub(crate) fn rle(frame: &[u8], samples: usize) -> Stripped {
    let word = |index: usize| -> Result<usize, Unfollowed> {
        frame
            .get(index * 4..index * 4 + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .map(|bytes| u32::from_le_bytes(bytes) as usize)
            .ok_or(Unfollowed)
    };
    let count = word(0)?;
    if !(1..=15).contains(&count) {
        return Err(Unfollowed);
    }
    let mut header = vec![u32::try_from(count).map_err(|_| Unfollowed)?];
    let mut body = Vec::with_capacity(frame.len());
    for index in 1..=count {
        let begin = word(index)?;
        let end = if index < count {
            word(index + 1)?
        } else {
            frame.len()
        };
        let segment = frame
            .get(begin..end)
            .filter(|_| begin >= 64)
            .ok_or(Unfollowed)?;
        let (used, excess) = packed(segment, samples)?;
        header.push(u32::try_from(64 + body.len()).map_err(|_| Unfollowed)?);
        let begun = body.len();
        body.extend_from_slice(segment.get(..used).ok_or(Unfollowed)?);
        if let Some((at, excess)) = excess {
            // The last run of literals goes on behind the last sample.
            let control = body.get_mut(begun + at).ok_or(Unfollowed)?;
            *control = control.saturating_sub(excess);
            body.truncate(body.len() - usize::from(excess));
        }
        if body.len() % 2 == 1 {
            body.push(0);
        }
    }
    header.resize(16, 0);
    let mut out: Vec<u8> = header.into_iter().flat_map(u32::to_le_bytes).collect();
    out.append(&mut body);
    Ok(out)
}

/// A run of literals that is too long: where its control byte stands, and by how much.
type Excess = Option<(usize, u8)>;

/// Bytes of a packed segment up to where `samples` bytes are unpacked.
fn packed(segment: &[u8], samples: usize) -> Result<(usize, Excess), Unfollowed> {
    let mut at = 0;
    let mut unpacked = 0;
    let mut excess = None;
    while unpacked < samples {
        let control = *segment.get(at).ok_or(Unfollowed)?;
        match control {
            0..=127 => {
                unpacked += usize::from(control) + 1;
                excess = unpacked
                    .checked_sub(samples)
                    .filter(|excess| *excess > 0)
                    .and_then(|excess| u8::try_from(excess).ok())
                    .map(|excess| (at, excess));
                at += usize::from(control) + 2;
            }
            128 => at += 1,
            129..=255 => {
                unpacked += 257 - usize::from(control);
                at += 2;
            }
        }
    }
    if at > segment.len() {
        return Err(Unfollowed);
    }
    Ok((at, excess))
}

#[cfg(test)]
mod tests;
