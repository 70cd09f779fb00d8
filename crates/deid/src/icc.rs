//! Colour profiles (0028,2000): a program for colours (ICC.1:2022) with room for anything between its
//! tables. What computes colours stays; names, dates, makers, texts and private tables go. Like the
//! look-up tables they are judged by the searcher as well.

use std::{collections::BTreeMap, ops::Range};

use form::be32;

mod form;

/// Bytes of the header (section 7.2).
const HEADER: usize = 128;
/// Bytes of an entry of the tag table (section 7.3).
const ENTRY: usize = 12;
/// Beyond this no profile of a device goes.
const MAX_TABLES: usize = 64;
const MAX_BYTES: usize = 4 << 20;

/// Tables that compute colours (section 9.2).
const COLOUR: [&[u8; 4]; 25] = [
    b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2", b"B2D0", b"B2D1", b"B2D2", b"B2D3",
    b"D2B0", b"D2B1", b"D2B2", b"D2B3", b"bTRC", b"bXYZ", b"bkpt", b"chad", b"chrm", b"gTRC",
    b"gXYZ", b"kTRC", b"rTRC", b"rXYZ", b"wtpt",
];

/// Classes of profiles and colour spaces (sections 7.2.5 and 7.2.6); those named by their number of
/// channels are 2CLR to FCLR.
const CLASSES: [&[u8; 4]; 7] = [
    b"abst", b"link", b"mntr", b"nmcl", b"prtr", b"scnr", b"spac",
];
const SPACES: [&[u8; 4]; 11] = [
    b"CMY ", b"CMYK", b"GRAY", b"HLS ", b"HSV ", b"Lab ", b"Luv ", b"RGB ", b"XYZ ", b"YCbr",
    b"Yxy ",
];

/// The profile without what does not compute colours; none if it is no profile. Never much longer
/// than it came: tables lie where one entry or several say, but do not overlap.
pub(crate) fn bounded(profile: &[u8]) -> Option<Vec<u8>> {
    if profile.len() > MAX_BYTES {
        return None;
    }
    let header = header(profile)?;
    let count = be32(profile, HEADER)?;
    if count > MAX_TABLES {
        return None;
    }
    let tables = tables(profile, count)?;
    let mut out = Encoding::new(header, tables.len() + 2)?;
    // Both are required (section 8.2); a version 2 reader takes only its own kind of text.
    let version = *profile.get(8)?;
    for (name, text) in [
        (*b"desc", description(version)),
        (*b"cprt", copyright(version)),
    ] {
        let place = out.put(&text);
        out.enter(name, place)?;
    }
    let mut shared: BTreeMap<usize, Range<usize>> = BTreeMap::new();
    for (name, table) in tables {
        let place = match shared.get(&table.start) {
            Some(place) => place.clone(),
            None => out.put(profile.get(table.clone())?),
        };
        out.enter(name, place.clone())?;
        shared.insert(table.start, place);
    }
    out.end()
}

/// What says how to compute: version, class, colour spaces, signature, intent and illuminant. The
/// other fields name programs, makers, models and the time.
fn header(profile: &[u8]) -> Option<[u8; HEADER]> {
    let listed = |at: usize, names: &[&[u8; 4]]| {
        let name: &[u8; 4] = profile.get(at..at + 4)?.try_into().ok()?;
        let numbered = matches!(name, [b'2'..=b'9' | b'A'..=b'F', b'C', b'L', b'R']);
        (names.contains(&name) || numbered && at > 12).then_some(())
    };
    listed(12, &CLASSES)?;
    listed(16, &SPACES)?;
    listed(20, &SPACES)?;
    let intent = be32(profile, 64)?;
    if profile.get(36..40)? != b"acsp" || intent > 3 {
        return None;
    }
    form::numbers(profile, 68, 3)?;
    let mut out = [0; HEADER];
    for range in [8..10, 12..24, 36..40, 64..80] {
        out.get_mut(range.clone())?
            .copy_from_slice(profile.get(range)?);
    }
    Some(out)
}

/// The tables that stay, in the order of their entries.
fn tables(profile: &[u8], count: usize) -> Option<Vec<([u8; 4], Range<usize>)>> {
    let mut tables: Vec<([u8; 4], Range<usize>)> = Vec::new();
    for entry in 0..count {
        let at = HEADER + 4 + entry * ENTRY;
        let name: [u8; 4] = profile.get(at..at + 4)?.try_into().ok()?;
        if !COLOUR.contains(&&name) {
            continue;
        }
        let (from, length) = (be32(profile, at + 4)?, be32(profile, at + 8)?);
        let data = profile.get(from..from.checked_add(length)?)?;
        let used = form::length(data)?;
        if from < HEADER + 4 + count * ENTRY || tables.iter().any(|(other, _)| *other == name) {
            return None;
        }
        tables.push((name, from..from + used));
    }
    // Several entries may have one table (section 7.3.1), but tables do not overlap.
    let mut places: Vec<_> = tables.iter().map(|(_, table)| table.clone()).collect();
    places.sort_by_key(|table| (table.start, table.end));
    places.dedup();
    let apart = places
        .windows(2)
        .all(|pair| matches!(pair, [one, next] if one.end <= next.start));
    apart.then_some(tables)
}

/// A profile as it is written: header, entries, tables.
struct Encoding {
    header: [u8; HEADER],
    entries: Vec<u8>,
    tables: Vec<u8>,
    /// Bytes before the tables.
    before: usize,
}

impl Encoding {
    fn new(header: [u8; HEADER], count: usize) -> Option<Self> {
        Some(Self {
            header,
            entries: big(count)?.to_vec(),
            tables: Vec::new(),
            before: HEADER + 4 + count * ENTRY,
        })
    }

    /// Where the table stands from now on.
    fn put(&mut self, table: &[u8]) -> Range<usize> {
        let begin = self.before + self.tables.len();
        self.tables.extend(table);
        self.tables.resize(self.tables.len().next_multiple_of(4), 0);
        begin..begin + table.len()
    }

    fn enter(&mut self, name: [u8; 4], table: Range<usize>) -> Option<()> {
        self.entries.extend(name);
        self.entries.extend(big(table.start)?);
        self.entries.extend(big(table.len())?);
        Some(())
    }

    fn end(self) -> Option<Vec<u8>> {
        let mut out = [&self.header[..], &self.entries, &self.tables].concat();
        let length = big(out.len())?;
        out.get_mut(..4)?.copy_from_slice(&length);
        Some(out)
    }
}

fn big(number: usize) -> Option<[u8; 4]> {
    u32::try_from(number).ok().map(u32::to_be_bytes)
}

const TEXT: &[u8] = b"REMOVED";

/// `desc` of version 2 (ICC.1:2001 section 6.5.17), `mluc` from version 4 on.
fn description(version: u8) -> Vec<u8> {
    if version >= 4 {
        return localized();
    }
    let mut out = b"desc\0\0\0\0\0\0\0\x08".to_vec();
    out.extend(TEXT);
    // The end of the text; no Unicode (8 bytes), no Macintosh script (3 bytes and 67).
    out.resize(out.len() + 1 + 8 + 3 + 67, 0);
    out
}

fn copyright(version: u8) -> Vec<u8> {
    if version >= 4 {
        return localized();
    }
    [b"text\0\0\0\0", TEXT, b"\0"].concat()
}

/// One text in one language (ICC.1:2022 section 10.15).
fn localized() -> Vec<u8> {
    let text: Vec<u8> = TEXT.iter().flat_map(|byte| [0, *byte]).collect();
    let mut out = b"mluc\0\0\0\0\0\0\0\x01\0\0\0\x0cenUS\0\0\0\x0e\0\0\0\x1c".to_vec();
    out.extend(text);
    out
}

#[cfg(test)]
mod tests {
    use super::{HEADER, bounded};

    fn profile(version: u8, tables: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        out[8] = version;
        out[12..24].copy_from_slice(b"mntrRGB XYZ ");
        out[24..36].fill(7);
        out[36..40].copy_from_slice(b"acsp");
        out[48..56].copy_from_slice(b"DoeWorks");
        out.extend((tables.len() as u32).to_be_bytes());
        let mut at = HEADER + 4 + 12 * tables.len();
        for (name, table) in tables {
            out.extend(*name);
            out.extend((at as u32).to_be_bytes());
            out.extend((table.len() as u32).to_be_bytes());
            at += table.len();
        }
        for (_, table) in tables {
            out.extend(*table);
        }
        out.extend(b"Jane Doe after the end");
        out
    }

    #[test]
    fn colours_stay_and_words_go() {
        let white = b"XYZ \0\0\0\0\0\0\xf6\xd6\0\x01\0\0\0\0\xd3\x2d";
        let curve = b"curv\0\0\0\0\0\0\0\x01\x02\x33";
        for version in [2, 4] {
            let whole = profile(
                version,
                &[
                    (b"desc", b"desc\0\0\0\0\0\0\0\x09Jane Doe\0"),
                    (b"wtpt", white),
                    (b"rTRC", curve),
                    (b"Jane", b"text\0\0\0\0Doe"),
                ],
            );
            let kept = bounded(&whole).unwrap();
            let has = |needle: &[u8]| kept.windows(needle.len()).any(|window| window == needle);
            assert!(has(white) && has(curve));
            assert!(has(b"REMOVED") || has(b"R\0E\0M"));
            assert!(!has(b"Jane") && !has(b"Doe") && !has(&[7; 4]));
            assert_eq!(kept.len() % 4, 0);
            assert_eq!(kept[..4], (kept.len() as u32).to_be_bytes());
            // Done twice is done once.
            assert_eq!(bounded(&kept).unwrap(), kept);
        }
    }

    const WHITE: &[u8] = b"XYZ \0\0\0\0\0\0\xf6\xd6\0\x01\0\0\0\0\xd3\x2d";

    /// Points the entry at `index` somewhere else.
    fn point(profile: &mut [u8], index: usize, from: u32, length: u32) {
        let at = HEADER + 4 + 12 * index + 4;
        profile[at..at + 4].copy_from_slice(&from.to_be_bytes());
        profile[at + 4..at + 8].copy_from_slice(&length.to_be_bytes());
    }

    #[test]
    fn shared_tables_stay_shared_and_a_profile_does_not_grow() {
        let names = [b"rTRC", b"gTRC", b"bTRC", b"kTRC"];
        let curve = [&b"curv\0\0\0\0\0\0\x10\0"[..], &[7; 1 << 13]].concat();
        let mut whole = profile(4, &names.map(|name| (name, &curve[..])));
        let first = HEADER + 4 + 12 * names.len();
        for index in 1..names.len() {
            point(&mut whole, index, first as u32, curve.len() as u32);
        }
        let kept = bounded(&whole).unwrap();
        assert!(kept.len() < curve.len() + 600);
        assert_eq!(bounded(&kept).unwrap(), kept);
        // Tables that overlap, and one name again and again.
        point(&mut whole, 1, first as u32 + 2, curve.len() as u32);
        assert_eq!(bounded(&whole), None);
        assert_eq!(bounded(&profile(4, &[(b"wtpt", WHITE); 2])), None);
    }

    #[test]
    fn words_are_no_numbers() {
        let kept = |table: &[u8]| bounded(&profile(2, &[(b"wtpt", table)]));
        let clean = kept(WHITE).unwrap();
        assert_eq!(kept(b"XYZ \0\0\0\0Owner Jane Smith, born 3 November"), None);
        assert_eq!(kept(b"XYZ \0\0\0\0Jane Smith  "), None);
        assert_eq!(kept(&[WHITE, b"Doe"].concat()).unwrap(), clean);
        // A table that goes on over its neighbour, and one that begins within the header.
        let text = b"text\0\0\0\0Jane Doe";
        let mut long = profile(2, &[(b"wtpt", WHITE), (b"cprt", text)]);
        point(&mut long, 0, HEADER as u32 + 28, 36);
        assert_eq!(bounded(&long).unwrap(), clean);
        let mut early = profile(2, &[(b"wtpt", WHITE)]);
        early[44..64].copy_from_slice(WHITE);
        point(&mut early, 0, 44, 20);
        assert_eq!(bounded(&early), None);
        // Words in the header where only some may stand.
        for (at, word) in [
            (12, b"Jane"),
            (16, b"Jane"),
            (20, b"Doe "),
            (64, b"Jane"),
            (68, b"Jane"),
        ] {
            let mut named = profile(2, &[(b"wtpt", WHITE)]);
            named[at..at + 4].copy_from_slice(word);
            assert_eq!(bounded(&named), None);
        }
        let mut reserved = profile(2, &[(b"wtpt", WHITE)]);
        reserved[10..12].copy_from_slice(b"JD");
        assert_eq!(bounded(&reserved).unwrap(), clean);
    }

    #[test]
    fn what_is_no_profile_is_not_kept() {
        assert_eq!(bounded(b"Jane Doe"), None);
        // A table of colours that holds text, and one that ends outside.
        assert_eq!(
            bounded(&profile(4, &[(b"wtpt", b"text\0\0\0\0Jane")])),
            None
        );
        let mut cut = profile(4, &[(b"wtpt", b"XYZ \0\0\0\0Jane")]);
        cut.truncate(150);
        assert_eq!(bounded(&cut), None);
        let mut wide = profile(4, &[]);
        wide[HEADER..HEADER + 4].fill(0xFF);
        assert_eq!(bounded(&wide), None);
    }
}
