//! A name is known and gone whatever character set it comes in, stands elsewhere in, or is wrongly
//! declared as.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

mod common;

use cloister_deid::{Deidentifier, Policy, gate};
use common::{Film, contains, ids};
use encoding_rs::{
    BIG5, EUC_KR, Encoding, GB18030, GBK, ISO_2022_JP, ISO_8859_2, ISO_8859_3, ISO_8859_4,
    ISO_8859_5, ISO_8859_6, ISO_8859_7, ISO_8859_8, SHIFT_JIS, UTF_8, WINDOWS_874, WINDOWS_1251,
    WINDOWS_1252, WINDOWS_1254,
};

fn encoded(set: &'static Encoding, text: &str) -> Vec<u8> {
    let (bytes, _, unmappable) = set.encode(text);
    assert!(!unmappable, "{text} in {}", set.name());
    bytes.into_owned()
}

/// An escape sequence before each part of the name, as PS3.5 6.1.2.5.3 asks.
fn escaped(escape: &[u8], set: &'static Encoding, name: &str) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = name
        .split('^')
        .map(|part| [escape, &encoded(set, part)].concat())
        .collect();
    parts.join(&b'^')
}

/// Declaration, bytes of the name, family name, given name.
fn cases() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let mut cases = vec![(
        "ISO_IR 6",
        b"Davidson^Douglas".to_vec(),
        "Davidson",
        "Douglas",
    )];
    for (code, escape, set, family, given) in [
        ("100", &b"\x1b-A"[..], WINDOWS_1252, "Müßiggänger", "Jérôme"),
        ("101", b"\x1b-B", ISO_8859_2, "Wałęsawski", "Łukasz"),
        ("109", b"\x1b-C", ISO_8859_3, "Ĉapelisto", "Ĝoĵanto"),
        ("110", b"\x1b-D", ISO_8859_4, "Bērziņš", "Jānišš"),
        ("144", b"\x1b-L", ISO_8859_5, "Люксембург", "Наталья"),
        ("127", b"\x1b-G", ISO_8859_6, "قباني", "لنزار"),
        ("126", b"\x1b-F", ISO_8859_7, "Διονυσίου", "Ελένη"),
        ("138", b"\x1b-H", ISO_8859_8, "שרוני", "דבורה"),
        ("148", b"\x1b-M", WINDOWS_1254, "Şahinoğlu", "Gülşen"),
        ("166", b"\x1b-T", WINDOWS_874, "สมชาย", "ใจดีมาก"),
    ] {
        let name = format!("{family}^{given}");
        let single: &str = Box::leak(format!("ISO_IR {code}").into_boxed_str());
        let several: &str = Box::leak(format!("\\ISO 2022 IR {code}").into_boxed_str());
        cases.push((single, encoded(set, &name), family, given));
        cases.push((several, escaped(escape, set, &name), family, given));
    }
    let korean = "김희중^길동이";
    let chinese = "欧阳小东^王伟明";
    let japanese = "佐々木^左衛門";
    cases.extend([
        (
            "\\ISO 2022 IR 149",
            escaped(b"\x1b$)C", EUC_KR, korean),
            "김희중",
            "길동이",
        ),
        // Not repeated after the delimiter, as some devices do.
        (
            "\\ISO 2022 IR 149",
            [&b"\x1b$)C"[..], &encoded(EUC_KR, korean)].concat(),
            "김희중",
            "길동이",
        ),
        (
            "\\ISO 2022 IR 58",
            escaped(b"\x1b$)A", GBK, chinese),
            "欧阳小东",
            "王伟明",
        ),
        ("GB18030", encoded(GB18030, chinese), "欧阳小东", "王伟明"),
        ("GBK", encoded(GBK, chinese), "欧阳小东", "王伟明"),
        (
            "ISO_IR 192",
            chinese.as_bytes().to_vec(),
            "欧阳小东",
            "王伟明",
        ),
        (
            "\\ISO 2022 IR 87",
            encoded(ISO_2022_JP, japanese),
            "佐々木",
            "左衛門",
        ),
        (
            "ISO_IR 13",
            b"\xd4\xcf\xc0\xde\xbb\xdd^\xc0\xdb\xb3\xbb\xdd".to_vec(),
            "ﾔﾏﾀﾞｻﾝ",
            "ﾀﾛｳｻﾝ",
        ),
        (
            "ISO 2022 IR 13\\ISO 2022 IR 87",
            [
                &b"\xd4\xcf\xc0\xde\xbb\xdd^\xc0\xdb\xb3="[..],
                &encoded(ISO_2022_JP, japanese),
            ]
            .concat(),
            "佐々木",
            "ﾔﾏﾀﾞｻﾝ",
        ),
    ]);
    cases
}

/// Every way in which the text may stand somewhere else.
fn writings(text: &str) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = vec![
        text.as_bytes().to_vec(),
        text.to_lowercase().into_bytes(),
        text.to_uppercase().into_bytes(),
        text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
    ];
    for set in [
        UTF_8,
        WINDOWS_1252,
        ISO_8859_2,
        ISO_8859_3,
        ISO_8859_4,
        ISO_8859_5,
        ISO_8859_6,
        ISO_8859_7,
        ISO_8859_8,
        WINDOWS_1254,
        WINDOWS_874,
        WINDOWS_1251,
        SHIFT_JIS,
        EUC_KR,
        GB18030,
        BIG5,
        ISO_2022_JP,
    ] {
        let (bytes, _, unmappable) = set.encode(text);
        if !unmappable {
            all.push(bytes.into_owned());
        }
    }
    all
}

#[test]
fn a_name_is_known_and_found_in_every_encoding() {
    for (code, name, family, given) in cases() {
        let mut film = Film::new(code, &name, "292821506");
        // The same bytes in free text and in a description.
        film.put((0x0008, 0x1030), "LO", &name);
        film.put((0x0010, 0x4000), "LT", &name);
        film.put((0x0018, 0x1030), "LO", &name);
        let (clean, known) = Deidentifier::default()
            .deidentify(&film.encode(), "", &ids())
            .unwrap();
        let said = &clean.identity().expose().patient_name;
        assert!(
            said.contains(family) && said.contains(given),
            "{code}: {said}"
        );
        let bytes = clean.to_bytes().unwrap();
        gate::look(&bytes, &known, Policy::basic()).unwrap();
        let searcher = known.searcher();
        for part in [family, given] {
            assert!(known.is_hit(part), "{code}: {part}");
            for writing in writings(part) {
                if writing.len() < 4 {
                    continue;
                }
                assert!(!contains(&bytes, &writing), "{code}: {part} is left");
                let planted = [&[0x80, 0, 1], writing.as_slice(), &[0, 0x80]].concat();
                assert!(
                    searcher.find_in_bytes(&planted),
                    "{code}: {part} as {writing:02x?}"
                );
            }
        }
    }
}

#[test]
fn a_name_is_found_where_its_set_is_declared_wrongly() {
    for (declared, set, family) in [
        ("", UTF_8, "Müßiggänger"),
        ("ISO_IR 100", UTF_8, "Müßiggänger"),
        ("ISO_IR 100", UTF_8, "欧阳小东"),
        ("ISO_IR 192", WINDOWS_1252, "Müßiggänger"),
        ("ISO_IR 100", ISO_8859_5, "Люксембург"),
        ("ISO_IR 100", WINDOWS_1251, "Люксембург"),
        ("", GB18030, "欧阳小东"),
        ("ISO_IR 192", EUC_KR, "김희중김"),
        ("ISO_IR 144", ISO_8859_7, "Διονυσίου"),
        ("ISO_IR 999", ISO_8859_7, "Διονυσίου"),
    ] {
        let name = encoded(set, &format!("{family}^Xaver"));
        let mut film = Film::new(declared, &name, "292821506");
        // Right elsewhere: in a private attribute, and as it was in a description.
        film.put((0x0009, 0x1001), "UN", family.as_bytes());
        film.put((0x0018, 0x1030), "LO", &encoded(set, family));
        let (clean, known) = Deidentifier::default()
            .deidentify(&film.encode(), "", &ids())
            .unwrap();
        let bytes = clean.to_bytes().unwrap();
        gate::look(&bytes, &known, Policy::basic()).unwrap();
        assert!(!contains(&bytes, family.as_bytes()), "{declared}: {family}");
        assert!(
            !contains(&bytes, &encoded(set, family)),
            "{declared}: {family}"
        );
        assert!(known.is_hit(family), "{declared}: {family}");
    }
}
