//! Colour profiles (0028,2000): a program for colours (ICC.1:2022) with room for anything between its
//! tables. What computes colours stays; names, dates, makers, texts and private tables go. Like the
//! look-up tables they are judged by the searcher as well.

/// Bytes of the header (ICC.1 section 7.2).
const HEADER: usize = 128;
/// Bytes of an entry of the tag table (section 7.3).
const ENTRY: usize = 12;
/// Beyond this no profile of a device goes.
const MAX_TABLES: usize = 64;
const MAX_BYTES: usize = 4 << 20;

/// Tables that compute colours (section 9.2), with the types that they may have (section 10).
const COLOUR: [&[u8; 4]; 26] = [
    b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2", b"B2D0", b"B2D1", b"B2D2", b"B2D3",
    b"D2B0", b"D2B1", b"D2B2", b"D2B3", b"bTRC", b"bXYZ", b"chad", b"chrm", b"gTRC", b"gXYZ",
    b"kTRC", b"lumi", b"rTRC", b"rXYZ", b"wtpt", b"bkpt",
];
const NUMBERS: [&[u8; 4]; 9] = [
    b"XYZ ", b"chrm", b"curv", b"mAB ", b"mBA ", b"mft1", b"mft2", b"para", b"sf32",
];

/// Header fields that say how to compute: version, class, colour spaces, signature, intent and
/// illuminant. The others name programs, makers, models and the time.
const SAYS_HOW: [std::ops::Range<usize>; 3] = [8..24, 36..40, 64..80];

/// The profile without what does not compute colours; none if it is no profile.
pub(crate) fn bounded(profile: &[u8]) -> Option<Vec<u8>> {
    if profile.len() > MAX_BYTES || profile.get(36..40)? != b"acsp" {
        return None;
    }
    let count = number(profile, HEADER)?;
    if count > MAX_TABLES {
        return None;
    }
    let mut tables = vec![
        // Both are required (section 8.2); a version 2 reader takes only its own kind of text.
        (*b"desc", description(*profile.get(8)?)),
        (*b"cprt", copyright(*profile.get(8)?)),
    ];
    for entry in 0..count {
        let at = HEADER + 4 + entry * ENTRY;
        let name: [u8; 4] = profile.get(at..at + 4)?.try_into().ok()?;
        if !COLOUR.contains(&&name) {
            continue;
        }
        let (from, length) = (number(profile, at + 4)?, number(profile, at + 8)?);
        let table = profile.get(from..from.checked_add(length)?)?;
        let kind: &[u8; 4] = table.get(..4)?.try_into().ok()?;
        if !NUMBERS.contains(&kind) {
            return None;
        }
        tables.push((name, table.to_vec()));
    }
    encode(profile, &tables)
}

fn number(profile: &[u8], at: usize) -> Option<usize> {
    let bytes: [u8; 4] = profile.get(at..at.checked_add(4)?)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(bytes)).ok()
}

fn encode(profile: &[u8], tables: &[([u8; 4], Vec<u8>)]) -> Option<Vec<u8>> {
    let mut out = vec![0; HEADER];
    for range in SAYS_HOW {
        out.get_mut(range.clone())?
            .copy_from_slice(profile.get(range)?);
    }
    let big = |number: usize| u32::try_from(number).ok().map(u32::to_be_bytes);
    out.extend(big(tables.len())?);
    let mut at = HEADER + 4 + tables.len() * ENTRY;
    for (name, table) in tables {
        out.extend(name);
        out.extend(big(at)?);
        out.extend(big(table.len())?);
        at += table.len().next_multiple_of(4);
    }
    for (_, table) in tables {
        out.extend(table);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    let length = big(out.len())?;
    out.get_mut(..4)?.copy_from_slice(&length);
    Some(out)
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
