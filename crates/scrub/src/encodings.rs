//! Writes a literal in every encoding that its bytes may have. Needles come before, the search after.

use data_encoding::{BASE64, HEXLOWER};
use encoding_rs::{
    BIG5, EUC_JP, EUC_KR, Encoding, GB18030, ISO_2022_JP, ISO_8859_2, ISO_8859_3, ISO_8859_4,
    ISO_8859_5, ISO_8859_6, ISO_8859_7, ISO_8859_8, ISO_8859_15, SHIFT_JIS, WINDOWS_874,
    WINDOWS_1251, WINDOWS_1252, WINDOWS_1254,
};

use crate::needle::Literal;

/// Those of PS3.3 section C.12.1.1.2, and what the same names have in other systems. Latin-1 and
/// UTF-8 are treated apart.
static SETS: [&Encoding; 17] = [
    ISO_8859_2,
    ISO_8859_3,
    ISO_8859_4,
    ISO_8859_5,
    ISO_8859_6,
    ISO_8859_7,
    ISO_8859_8,
    ISO_8859_15,
    WINDOWS_874,
    WINDOWS_1251,
    WINDOWS_1252,
    WINDOWS_1254,
    SHIFT_JIS,
    EUC_JP,
    EUC_KR,
    GB18030,
    BIG5,
];

/// A literal in each encoding, with its bytes per character; none (0) where characters share bytes.
pub(crate) fn encodings(literal: &Literal) -> Vec<(Vec<u8>, usize)> {
    let text = literal.text.as_str();
    let mut forms = vec![text.to_owned()];
    // The automaton folds ASCII case only.
    if !text.is_ascii() {
        forms.extend([text.to_lowercase(), text.to_uppercase()]);
        forms.sort();
        forms.dedup();
    }
    let mut all = Vec::new();
    for form in forms {
        all.push((form.as_bytes().to_vec(), 1));
        let wide: Vec<u16> = form.encode_utf16().collect();
        all.push((wide.iter().flat_map(|unit| unit.to_le_bytes()).collect(), 2));
        all.push((wide.iter().flat_map(|unit| unit.to_be_bytes()).collect(), 2));
        if !form.is_ascii() {
            other_sets(&form, &mut all);
        }
        if literal.coded {
            coded(form.as_bytes(), &mut all);
        }
    }
    all
}

fn other_sets(form: &str, all: &mut Vec<(Vec<u8>, usize)>) {
    let mut push = |bytes: Vec<u8>| {
        if !all.iter().any(|(known, _)| *known == bytes) {
            all.push((bytes, 1));
        }
    };
    let latin: Option<Vec<u8>> = form
        .chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect();
    if let Some(latin) = latin {
        push(latin);
    }
    // UTF-8 that was taken for Latin-1 and written as UTF-8 again.
    let twice: String = form.bytes().map(char::from).collect();
    push(twice.into_bytes());
    for set in SETS {
        let (bytes, _, unmappable) = set.encode(form);
        if !unmappable {
            push(bytes.into_owned());
        }
    }
    let (bytes, _, unmappable) = ISO_2022_JP.encode(form);
    // ESC $ B, the characters in two 7-bit bytes each, ESC ( B.
    let inner = bytes
        .strip_prefix(b"\x1b$B")
        .and_then(|rest| rest.strip_suffix(b"\x1b(B"))
        .filter(|inner| !unmappable && !inner.contains(&0x1b));
    if let Some(inner) = inner {
        push([b"\x1b$B", inner].concat());
        if inner.len() >= 6 {
            push(inner.to_vec());
        }
    }
}

fn coded(bytes: &[u8], all: &mut Vec<(Vec<u8>, usize)>) {
    all.push((HEXLOWER.encode(bytes).into_bytes(), 0));
    // A text may begin at any of three places in a group of base64; the characters that depend on
    // its neighbours are left out.
    for before in 0..3_usize {
        let padded = [&[0; 3][..before], bytes].concat();
        let text = BASE64.encode(&padded);
        let from = (before * 8).div_ceil(6);
        let to = padded.len() * 8 / 6;
        if let Some(inner) = text
            .as_bytes()
            .get(from..to)
            .filter(|inner| inner.len() >= 7)
        {
            all.push((inner.to_vec(), 0));
        }
    }
}
