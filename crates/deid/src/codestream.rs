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
mod tests {
    use proptest::prelude::*;

    use super::{Unfollowed, jpeg, jpeg_xl, jpeg2000, rle};

    fn segment(code: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![0xFF, code];
        out.extend((body.len() as u16 + 2).to_be_bytes());
        out.extend(body);
        out
    }

    fn film(extra: &[u8]) -> Vec<u8> {
        let mut out = vec![0xFF, 0xD8];
        out.extend(segment(0xE0, b"JFIF\0\x01\x02\0\0\x01\0\x01\0\0"));
        out.extend(extra);
        out.extend(segment(0xC0, &[8, 0, 1, 0, 1, 1, 1, 0x11, 0]));
        out.extend(segment(0xDA, &[1, 1, 0, 0, 63, 0]));
        out.extend([1, 2, 0xFF, 0, 3, 0xFF, 0xD0, 4]);
        out.extend([0xFF, 0xD9]);
        out
    }

    #[test]
    fn a_jpeg_loses_comments_exif_and_what_follows_its_end() {
        let clean = film(&[]);
        assert_eq!(jpeg(&clean).unwrap(), clean);
        let mut dirty = film(
            &[
                segment(0xFE, b"DOE^JANE"),
                segment(0xE1, b"Exif\0\0DOE^JANE"),
                segment(0xED, b"Photoshop DOE^JANE"),
            ]
            .concat(),
        );
        dirty.extend(b"DOE^JANE");
        assert_eq!(jpeg(&dirty).unwrap(), clean);
        // A thumbnail, and bytes after what Adobe defined.
        let thumb = segment(0xE0, b"JFIF\0\x01\x02\0\0\x01\0\x01\x01\x01DOE");
        let adobe = segment(0xEE, b"Adobe\0\x64\0\0\0\0\x01DOE^JANE");
        let kept = jpeg(&film(&[thumb, adobe].concat())).unwrap();
        assert!(!kept.windows(3).any(|w| w == b"DOE"));
        assert!(kept.windows(5).any(|w| w == b"Adobe"));
        for end in 0..dirty.len() {
            jpeg(&dirty[..end]).ok();
        }
        assert_eq!(jpeg(&film(&segment(0xDB, b"DOE^JANE"))), Err(Unfollowed));
        assert_eq!(jpeg(&film(&segment(0x02, b"DOE^JANE"))), Err(Unfollowed));
    }

    /// One component; the sizes do not matter here.
    const SIZE: [u8; 39] = {
        let mut body = [0; 39];
        body[35] = 1;
        body
    };

    fn codestream(main: &[u8], tile: &[u8]) -> Vec<u8> {
        let mut out = vec![0xFF, 0x4F];
        out.extend(segment(0x51, &SIZE));
        out.extend(main);
        let length = 12 + tile.len() as u32 + 2 + 4;
        let mut start = vec![0, 0];
        start.extend(length.to_be_bytes());
        start.extend([0, 1]);
        out.extend(segment(0x90, &start));
        out.extend(tile);
        out.extend([0xFF, 0x93, 1, 2, 3, 4, 0xFF, 0xD9]);
        out
    }

    #[test]
    fn a_jpeg2000_loses_comments_in_both_headers_and_its_boxes() {
        let clean = codestream(&[], &[]);
        assert_eq!(jpeg2000(&clean, false).unwrap(), clean);
        let comment = segment(0x64, b"\0\x01DOE^JANE");
        let mut dirty = codestream(&comment, &comment);
        dirty.extend(b"DOE^JANE");
        assert_eq!(jpeg2000(&dirty, false).unwrap(), clean);
        let mut file = b"\0\0\0\x0cjP  \r\n\x87\n".to_vec();
        file.extend(b"\0\0\0\x10xml DOE^JANE");
        file.extend((clean.len() as u32 + 8).to_be_bytes());
        file.extend(b"jp2c");
        file.extend(&clean);
        assert_eq!(jpeg2000(&file, false).unwrap(), clean);
    }

    #[test]
    fn a_file_within_a_file_is_refused_and_the_last_tile_ends_at_its_marker() {
        let mut nested = b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\0jp2c".to_vec();
        nested = nested.repeat(20_000);
        assert_eq!(jpeg2000(&nested, false), Err(Unfollowed));
        // Psot = 0: up to the end marker, and a second one behind the name.
        let mut open = codestream(&[], &[]);
        let start = open.len() - 20;
        assert_eq!(open[start..start + 2], [0xFF, 0x90]);
        open[start + 6..start + 10].fill(0);
        let clean = open.clone();
        assert_eq!(jpeg2000(&open, false).unwrap(), clean);
        open.extend(b"DOE^JANE\xff\xd9");
        assert_eq!(jpeg2000(&open, false).unwrap(), clean);
        // Packet number FFD9H is no end, nor is FFH before a packet that begins with D9H.
        let packets = b"\xff\x91\0\x04\xff\xd9\x01\xff\x91\0\x04\0\xff\xd9\x02";
        let mut numbered = clean.clone();
        numbered.splice(clean.len() - 2..clean.len() - 2, packets.iter().copied());
        let whole = numbered.clone();
        numbered.extend(b"DOE^JANE\xff\xd9");
        assert_eq!(jpeg2000(&numbered, false).unwrap(), whole);
    }

    #[test]
    fn mapping_tables_are_refused_and_a_run_ends_with_the_samples() {
        let preset = segment(0xF8, &[1, 0, 255, 0, 3, 0, 7, 0, 21, 0, 64]);
        assert!(jpeg(&film(&preset)).is_ok());
        let mapping = segment(0xF8, b"\x02\x01\x01DOE^JANE");
        assert_eq!(jpeg(&film(&mapping)), Err(Unfollowed));
        let mut frame = vec![0_u8; 64];
        frame[0] = 1;
        frame[4] = 64;
        frame.extend([254, 9, 8]);
        frame.extend(b"12DOE^JAN");
        let kept = rle(&frame, 5).unwrap();
        assert_eq!(kept[64..], [254, 9, 1, b'1', b'2', 0]);
    }

    #[test]
    fn jpeg_xl_boxes_and_rle_gaps_go() {
        let mut file = b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x10Exif DOE^JAN".to_vec();
        file.truncate(12);
        file.extend(b"\0\0\0\x10ExifDOE^JANE");
        file.extend(b"\0\0\0\x0cjxlc\xff\x0a12");
        let kept = jpeg_xl(&file).unwrap();
        assert_eq!(kept.len(), 24);
        let mut frame = vec![0_u8; 64];
        frame[0] = 1;
        frame[4] = 72;
        frame[60] = b'D';
        frame.extend(b"DOE^JANE");
        frame.extend([1, 7, 7, 254, 9, 0]);
        frame.extend(b"DOE^JANE");
        let kept = rle(&frame, 5).unwrap();
        assert_eq!(kept[64..], [1, 7, 7, 254, 9, 0]);
        assert_eq!(
            kept[..64].iter().map(|b| usize::from(*b)).sum::<usize>(),
            65
        );
        assert_eq!(rle(&frame, 500), Err(Unfollowed));
    }

    /// A Huffman table for differences, all of its codes of eight bits.
    fn dc(symbols: &[u8]) -> Vec<u8> {
        let mut body = vec![0; 17];
        body[8] = symbols.len() as u8;
        body.extend(symbols);
        body
    }

    #[test]
    fn tables_of_a_jpeg_are_tables_and_a_scan_reads_them() {
        let table = segment(0xC4, &dc(&[0, 1, 2, 3]));
        let quantization = segment(0xDB, &[&[0; 1][..], &[16; 64]].concat());
        let interval = segment(0xDD, &[0, 2]);
        let needed = [table.clone(), quantization.clone(), interval].concat();
        let clean = film(&needed);
        assert_eq!(jpeg(&clean).unwrap(), clean);
        // What is defined again before a scan, and slots that no scan names.
        let mut words = [&[1; 1][..], &b"DOE^JANE".repeat(8)].concat();
        let unused = segment(0xDB, &words);
        words[0] = 0;
        let again = [segment(0xDB, &words), segment(0xDD, b"DO")].concat();
        assert_eq!(
            jpeg(&film(&[again, unused, needed].concat())).unwrap(),
            clean
        );
        let mut both = dc(&[5, 4]);
        both[0] = 3;
        both.extend(dc(&[0, 1, 2, 3]));
        let kept = jpeg(&film(&segment(0xC4, &both))).unwrap();
        assert_eq!(kept, film(&table));
        // Too many symbols, one again and again, and more codes than their length has.
        let mut acs = dc(b"DOE^JANE");
        acs[0] = 0x10;
        let mut crowded = dc(&[1, 2, 3]);
        crowded.swap(1, 8);
        for body in [dc(b"DOEJANE"), dc(&[7, 7]), dc(&[0; 200]), acs, crowded] {
            assert_eq!(jpeg(&film(&segment(0xC4, &body))), Err(Unfollowed));
        }
        // Arithmetic coding, a second frame, a preset of words, and larger sizes.
        let second = segment(0xC0, &[8, 0, 1, 0, 1, 1, 1, 0x11, 0]);
        let coding = segment(0xCC, b"DOE^JANE");
        let preset = segment(0xF8, b"\x01\0\xffDOE^JANE");
        let sizes = segment(0xF8, b"\x04\x04DOE^JANE");
        for refused in [second, coding, preset, sizes] {
            assert_eq!(jpeg(&film(&refused)), Err(Unfollowed));
        }
    }

    #[test]
    fn a_jpeg_says_once_what_colours_it_has() {
        let jfif = |words: &[u8]| segment(0xE0, &[b"JFIF\0\x01", words, b"\0\0"].concat());
        let clean = film(&[]);
        assert_eq!(jpeg(&film(&jfif(b"Jane D"))).unwrap(), clean);
        let adobe = |words: &[u8]| film(&segment(0xEE, &[b"Adobe\0", words, b"\x01"].concat()));
        let kept = jpeg(&adobe(b"Smith")).unwrap();
        assert_eq!(kept, adobe(b"\x64\0\0\0\0"));
    }

    #[test]
    fn a_jpeg2000_keeps_what_decoding_needs_and_no_longer() {
        let coding = segment(0x52, &[0, 0, 0, 1, 0, 1, 4, 4, 0, 1]);
        let steps = segment(0x5C, &[0x20, 8, 9, 9, 10]);
        let clean = codestream(&[coding.clone(), steps.clone()].concat(), &[]);
        assert_eq!(jpeg2000(&clean, false).unwrap(), clean);
        // Places of components, lengths of packets, profiles.
        let helpful = [0x63, 0x57, 0x59].map(|code| segment(code, b"DOE^JANE"));
        let dirty = codestream(
            &[coding.clone(), steps.clone(), helpful.concat()].concat(),
            &segment(0x58, b"DOE^JANE"),
        );
        assert_eq!(jpeg2000(&dirty, false).unwrap(), clean);
        let long = segment(0x5C, &[&[0x20][..], b"DOE^JANE"].concat());
        for main in [
            segment(0x60, b"DOE^JANE"),
            segment(0x50, b"DOE^JANE"),
            segment(0x52, b"DOE^JANE^^^"),
            segment(0x5F, b"DOE^JAN"),
            segment(0x51, &SIZE),
            [coding.clone(), long].concat(),
            [coding.clone(), coding].concat(),
            [steps.clone(), steps].concat(),
        ] {
            assert_eq!(jpeg2000(&codestream(&main, &[]), false), Err(Unfollowed));
        }
        let packed = codestream(&[], &segment(0x61, b"DOE^JANE"));
        assert_eq!(jpeg2000(&packed, false), Err(Unfollowed));
        for code in 0x70..=0x79 {
            let extended = codestream(&segment(code, b"DOE^JANE"), &[]);
            assert_eq!(jpeg2000(&extended, false), Err(Unfollowed));
            assert_eq!(jpeg2000(&extended, true).unwrap(), extended);
        }
    }

    #[test]
    fn listed_lengths_of_tile_parts_stay_true() {
        let listed =
            |length: u8, tile: &[u8]| codestream(&segment(0x55, &[0, 0x10, 0, 0, length]), tile);
        let clean = listed(18, &[]);
        assert_eq!(jpeg2000(&clean, false).unwrap(), clean);
        let comment = segment(0x64, b"\0\x01DOE^JANE");
        let dirty = listed(32, &comment);
        assert_eq!(jpeg2000(&dirty, false).unwrap(), clean);
        assert_eq!(jpeg2000(&listed(31, &comment), false), Err(Unfollowed));
        let words = codestream(&segment(0x55, b"\0\x40DOE^JANE"), &[]);
        assert_eq!(jpeg2000(&words, false), Err(Unfollowed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_followed_or_refused(
            data in prop::collection::vec(any::<u8>(), 0..300),
            head in 0..5_usize,
        ) {
            let heads: [&[u8]; 5] = [&[], &[0xFF, 0xD8, 0xFF], &[0xFF, 0x4F, 0xFF], b"\0\0\0\x0cjP  ", &[1, 0, 0, 0, 64]];
            let data = [heads[head], &data].concat();
            jpeg(&data).ok();
            jpeg2000(&data, head == 2).ok();
            jpeg_xl(&data).ok();
            rle(&data, 100).ok();
        }
    }
}
