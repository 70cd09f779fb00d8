//! Canaries: a patient's name, number and birth date planted in one place after another, in one
//! encoding after another; none may be left in what comes out, and nearly everything must come out.
//!
//! `CLOISTER_CANARIES=N` sets the number of instances; the acceptance run takes 100000. Long, because
//! the list of placements is what this test is: it is read in one piece.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::semicolon_if_nothing_returned,
    clippy::items_after_statements,
    reason = "test code"
)]

mod common;

use std::{collections::BTreeMap, fs, io::Read as _, num::NonZeroUsize};

use aho_corasick::AhoCorasick;
use cloister_deid::{Deidentifier, Policy, gate};
use common::{
    DEFLATED, EXPLICIT, Film, JPEG, JPEG_2000, JPEG_LS, RLE, element, fragments, ids, item, raw,
    real_files, sequence, undefined_sequence,
};
use encoding_rs::{
    EUC_KR, Encoding, GB18030, ISO_2022_JP, ISO_8859_2, ISO_8859_3, ISO_8859_4, ISO_8859_5,
    ISO_8859_6, ISO_8859_7, ISO_8859_8, UTF_8, WINDOWS_874, WINDOWS_1252, WINDOWS_1254,
};

/// A patient in one character set.
struct Patient {
    code: &'static str,
    /// Before each part of a name.
    escape: &'static [u8],
    set: &'static Encoding,
    family: &'static str,
    given: &'static str,
}

const PATIENTS: [Patient; 18] = {
    const fn p(
        code: &'static str,
        escape: &'static [u8],
        set: &'static Encoding,
        family: &'static str,
        given: &'static str,
    ) -> Patient {
        Patient {
            code,
            escape,
            set,
            family,
            given,
        }
    }
    [
        p("", b"", UTF_8, "Kanarinski", "Zwitscherine"),
        p(
            "ISO_IR 100",
            b"",
            WINDOWS_1252,
            "Kanarienvögelein",
            "Zwitschérine",
        ),
        p(
            "\\ISO 2022 IR 100",
            b"\x1b-A",
            WINDOWS_1252,
            "Kanarienvögelein",
            "Zwitschérine",
        ),
        p("ISO_IR 101", b"", ISO_8859_2, "Kanaręńska", "Świergotka"),
        p("ISO_IR 109", b"", ISO_8859_3, "Kanariĉeto", "Pepantaĵo"),
        p(
            "ISO_IR 110",
            b"",
            ISO_8859_4,
            "Kanārijputniņš",
            "Čivinātāja",
        ),
        p("ISO_IR 144", b"", ISO_8859_5, "Канарейкина", "Щебетунья"),
        p("ISO_IR 127", b"", ISO_8859_6, "كناريون", "تغريدات"),
        p("ISO_IR 126", b"", ISO_8859_7, "Καναρίνου", "Κελαηδίστρα"),
        p("ISO_IR 138", b"", ISO_8859_8, "קנריתוני", "ציוצונית"),
        p("ISO_IR 148", b"", WINDOWS_1254, "Kanaryaoğlu", "Şakıyan"),
        p("ISO_IR 166", b"", WINDOWS_874, "นกขมิ้นทอง", "ร้องเพลง"),
        p("\\ISO 2022 IR 87", b"", ISO_2022_JP, "金糸雀子", "歌鳥小町"),
        p(
            "\\ISO 2022 IR 149",
            b"\x1b$)C",
            EUC_KR,
            "카나리아",
            "노래하는",
        ),
        p(
            "\\ISO 2022 IR 58",
            b"\x1b$)A",
            GB18030,
            "金丝雀鸟",
            "歌唱小鸟",
        ),
        p("GB18030", b"", GB18030, "金丝雀鸟", "歌唱小鸟"),
        p("GBK", b"", GB18030, "金丝雀鸟", "歌唱小鸟"),
        p("ISO_IR 192", b"", UTF_8, "金丝雀鸟", "Kanarienvögelein"),
    ]
};

const ID: &str = "KV4815162342";
const NUMBER: &str = "481516234211";
const BORN: &str = "19471103";

impl Patient {
    fn bytes(&self, text: &str) -> Vec<u8> {
        text.split(['^', ' ', ','])
            .map(|part| [self.escape, self.set.encode(part).0.as_ref()].concat())
            .collect::<Vec<_>>()
            .join(&b'^')
    }

    fn name(&self) -> Vec<u8> {
        self.bytes(&format!("{}^{}", self.family, self.given))
    }
}

/// A place where a canary is planted.
type Place = (&'static str, fn(&mut Film, &Patient));

fn text(film: &mut Film, tag: common::Tag, vr: &str, value: &str) {
    film.put(tag, vr, value.as_bytes());
}

fn name_in(film: &mut Film, tag: common::Tag, vr: &str, patient: &Patient) {
    film.put(tag, vr, &patient.name());
}

fn nested(film: &mut Film, patient: &Patient, depth: usize, undefined: bool) {
    let tag = (0x0008, 0x2218);
    let leaf = element((0x0010, 0x0010), "PN", &patient.name());
    let wrapped = (0..depth).fold(leaf, |inner, _| {
        if undefined {
            undefined_sequence(tag, &inner)
        } else {
            sequence(tag, &inner)
        }
    });
    film.elements.insert(tag, wrapped);
}

/// A sequence whose one item holds one element.
fn inside(film: &mut Film, tag: common::Tag, inner: Vec<u8>) {
    film.elements.insert(tag, sequence(tag, &inner));
}

fn is_native(film: &Film) -> bool {
    film.elements.contains_key(&(0x7FE0, 0x0010))
        && (film.syntax == EXPLICIT || film.syntax == DEFLATED)
}

/// Where the bytes of one-frame JPEG, JPEG-LS or JPEG 2000 go: after the first marker.
fn into_frame(film: &mut Film, syntax: &str, segment: Vec<u8>, after: &[u8]) {
    if !is_native(film) {
        return;
    }
    film.syntax = syntax.into();
    let mut frame = match syntax {
        JPEG_2000 => vec![0xFF, 0x4F, 0xFF, 0x51, 0, 41],
        _ => vec![0xFF, 0xD8],
    };
    if syntax == JPEG_2000 {
        frame.extend([&[0; 35][..], &[1, 7, 1, 1]].concat());
    }
    frame.extend(segment);
    frame.extend(match syntax {
        JPEG_2000 => [
            &[0xFF, 0x90, 0, 10, 0, 0, 0, 0, 0, 16, 0, 1][..],
            &[0xFF, 0x93, 1, 2, 0xFF, 0xD9],
        ]
        .concat(),
        JPEG_LS => [
            &[0xFF, 0xF7, 0, 11, 8, 0, 4, 0, 4, 1, 1, 0x11, 0][..],
            &[0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 0, 0, 1, 2, 3, 0xFF, 0xD9],
        ]
        .concat(),
        _ => [
            &[0xFF, 0xC0, 0, 11, 8, 0, 4, 0, 4, 1, 1, 0x11, 0][..],
            &[0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 1, 2, 3, 0xFF, 0xD9],
        ]
        .concat(),
    });
    frame.extend(after);
    film.put((0x0028, 0x0010), "US", &[4, 0]);
    film.put((0x0028, 0x0011), "US", &[4, 0]);
    film.put((0x0028, 0x0008), "IS", b"1");
    film.elements.remove(&(0x7FE0, 0x0001));
    film.elements.remove(&(0x7FE0, 0x0002));
    film.elements
        .insert((0x7FE0, 0x0010), fragments(&[], &[&frame]));
}

fn marker(code: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0xFF, code];
    out.extend((body.len() as u16 + 2).to_be_bytes());
    out.extend(body);
    out
}

fn places() -> Vec<Place> {
    let mut all: Vec<Place> = vec![
        ("sequence, depth 1", |f, p| nested(f, p, 1, false)),
        ("sequence, depth 2", |f, p| nested(f, p, 2, true)),
        ("sequence, depth 3", |f, p| nested(f, p, 3, false)),
        ("sequence, depth 4", |f, p| nested(f, p, 4, true)),
        ("sequence, depth 5", |f, p| nested(f, p, 5, false)),
        ("sequence, depth 6", |f, p| nested(f, p, 6, true)),
        ("sequence, depth 7", |f, p| nested(f, p, 7, false)),
        ("sequence, depth 8", |f, p| nested(f, p, 8, true)),
        ("original attributes", |f, p| {
            let inner = sequence(
                (0x0400, 0x0550),
                &element((0x0010, 0x0010), "PN", &p.name()),
            );
            inside(f, (0x0400, 0x0561), inner);
        }),
        ("request attributes", |f, p| {
            inside(
                f,
                (0x0040, 0x0275),
                element((0x0032, 0x1060), "LO", &p.name()),
            );
        }),
        ("referenced patient", |f, _| {
            inside(
                f,
                (0x0008, 0x1120),
                element((0x0008, 0x1155), "UI", b"1.2.3.481516234211"),
            );
        }),
        ("UID root", |f, _| {
            text(f, (0x0020, 0x000E), "UI", "1.2.481516234211.19471103")
        }),
        ("file meta AE", |f, _| {
            f.meta = element((2, 0x16), "AE", b"KANARINSKI")
        }),
        ("file meta private", |f, p| {
            f.meta = element((2, 0x100), "UI", b"1.2.481516234211");
            f.meta.extend(element((2, 0x102), "OB", &p.name()));
        }),
        ("preamble", |f, p| {
            let name = p.name();
            f.preamble
                .iter_mut()
                .zip(&name)
                .for_each(|(to, from)| *to = *from);
        }),
        ("private LO", |f, p| {
            text(f, (0x0019, 0x0010), "LO", "ACME");
            name_in(f, (0x0019, 0x1001), "LO", p);
        }),
        ("private UN", |f, p| name_in(f, (0x0019, 0x1001), "UN", p)),
        ("private OB", |f, p| name_in(f, (0x0019, 0x1001), "OB", p)),
        ("private creator", |f, p| {
            name_in(f, (0x0019, 0x0010), "LO", p)
        }),
        ("private UN sequence", |f, p| {
            let mut value = item(0xE000, u32::MAX);
            value.extend([0x10, 0, 0x10, 0]);
            let name = p.name();
            value.extend((name.len() as u32).to_le_bytes());
            value.extend(name);
            value.extend(item(0xE00D, 0));
            value.extend(item(0xE0DD, 0));
            f.elements.insert(
                (0x0019, 0x1001),
                raw((0x0019, 0x1001), "UN", u32::MAX, &value),
            );
        }),
        ("study description", |f, p| {
            name_in(f, (0x0008, 0x1030), "LO", p)
        }),
        ("study description, number", |f, _| {
            text(f, (0x0008, 0x1030), "LO", "CHEST AP ACC481516234211");
        }),
        ("series description", |f, p| {
            name_in(f, (0x0008, 0x103E), "LO", p)
        }),
        ("protocol name", |f, p| {
            name_in(f, (0x0018, 0x1030), "LO", p)
        }),
        ("manufacturer", |f, p| name_in(f, (0x0008, 0x0070), "LO", p)),
        ("software versions", |f, _| {
            text(f, (0x0018, 0x1020), "LO", "v3 for KV-4815162342")
        }),
        ("date in a comment", |f, _| {
            text(f, (0x0020, 0x4000), "LT", "born 3 November 1947")
        }),
        ("date in text", |f, _| {
            text(f, (0x0040, 0xA160), "UT", "DOB 03.11.1947")
        }),
        ("patient comments", |f, p| {
            name_in(f, (0x0010, 0x4000), "LT", p)
        }),
        ("other patient names", |f, p| {
            name_in(f, (0x0010, 0x1001), "PN", p)
        }),
        ("operator", |f, p| name_in(f, (0x0008, 0x1070), "PN", p)),
        ("structured report text", |f, p| {
            inside(
                f,
                (0x0040, 0xA730),
                element((0x0040, 0xA160), "UT", &p.name()),
            );
        }),
        ("structured report name", |f, p| {
            inside(
                f,
                (0x0040, 0xA730),
                element((0x0040, 0xA123), "PN", &p.name()),
            );
        }),
        ("presentation state text", |f, p| {
            let text = sequence(
                (0x0070, 0x0008),
                &element((0x0070, 0x0006), "ST", &p.name()),
            );
            inside(f, (0x0070, 0x0001), text);
        }),
        ("content label", |f, _| {
            text(f, (0x0070, 0x0080), "CS", "KANARINSKI")
        }),
        ("overlay data", |f, p| name_in(f, (0x6000, 0x3000), "OW", p)),
        ("overlay description", |f, p| {
            name_in(f, (0x6000, 0x0022), "LO", p)
        }),
        ("overlay label", |f, p| {
            name_in(f, (0x6002, 0x1500), "LO", p)
        }),
        ("overlay comments", |f, p| {
            name_in(f, (0x6000, 0x4000), "LT", p)
        }),
        ("curve data", |f, p| name_in(f, (0x5000, 0x3000), "OW", p)),
        ("curve description", |f, p| {
            name_in(f, (0x5000, 0x0022), "LO", p)
        }),
        ("icon image", |f, p| {
            inside(
                f,
                (0x0088, 0x0200),
                element((0x7FE0, 0x0010), "OB", &p.name()),
            );
        }),
        ("ICC profile", |f, p| name_in(f, (0x0028, 0x2000), "OB", p)),
        ("encapsulated document", |f, p| {
            name_in(f, (0x0042, 0x0011), "OB", p)
        }),
        ("document title", |f, p| {
            name_in(f, (0x0042, 0x0010), "ST", p)
        }),
        ("waveform annotation", |f, p| {
            inside(
                f,
                (0x0040, 0xB020),
                element((0x0070, 0x0006), "ST", &p.name()),
            );
        }),
        ("waveform data", |f, p| {
            inside(
                f,
                (0x5400, 0x0100),
                element((0x5400, 0x1010), "OW", &p.name()),
            );
        }),
        ("audio", |f, p| name_in(f, (0x5000, 0x200C), "OW", p)),
        ("palette", |f, p| name_in(f, (0x0028, 0x1201), "OW", p)),
        ("LUT data", |f, p| {
            inside(
                f,
                (0x0028, 0x3010),
                element((0x0028, 0x3006), "OW", &p.name()),
            );
        }),
        ("LUT explanation", |f, p| {
            inside(
                f,
                (0x0028, 0x3010),
                element((0x0028, 0x3003), "LO", &p.name()),
            );
        }),
        ("digital signature", |f, p| {
            inside(
                f,
                (0xFFFA, 0xFFFA),
                element((0x0400, 0x0115), "OB", &p.name()),
            );
        }),
        ("encrypted attributes", |f, p| {
            inside(
                f,
                (0x0400, 0x0500),
                element((0x0400, 0x0520), "OB", &p.name()),
            );
        }),
        ("trailing padding", |f, p| {
            name_in(f, (0xFFFC, 0xFFFC), "OB", p)
        }),
        ("bytes after the end", |f, p| {
            f.after = [b"\0\0\0\0".to_vec(), p.name(), ID.into()].concat();
        }),
        ("pixels after the last frame", |f, p| {
            if is_native(f)
                && let Some(pixels) = f.elements.get(&(0x7FE0, 0x0010))
                && &pixels[4..6] != b"UN"
            {
                let mut value = pixels[12..].to_vec();
                let vr = String::from_utf8(pixels[4..6].to_vec()).unwrap();
                value.extend(p.name());
                f.put((0x7FE0, 0x0010), &vr, &value);
            }
        }),
        ("unused high bits", |f, p| {
            if is_native(f) {
                let name = p.name();
                f.shape(1, name.len() as u16 * 2, 16, 12);
                f.put((0x0028, 0x0008), "IS", b"1");
                f.put((0x0028, 0x0002), "US", &[1, 0]);
                f.put((0x0028, 0x0004), "CS", b"MONOCHROME2");
                let pixels: Vec<u8> = name
                    .iter()
                    .flat_map(|b| [[0, b & 0xF0], [0, b << 4]].concat())
                    .collect();
                f.put((0x7FE0, 0x0010), "OW", &pixels);
            }
        }),
        ("offset table", |f, p| {
            let native = is_native(f);
            into_frame(f, JPEG, vec![], b"");
            if native && let Some(bytes) = f.elements.get_mut(&(0x7FE0, 0x0010)) {
                let mut name = p.name();
                name.resize(name.len().div_ceil(4) * 4, 0);
                bytes.splice(12..20, [item(0xE000, name.len() as u32), name].concat());
            }
        }),
        ("EXIF", |f, p| {
            let body = [b"Exif\0\0".to_vec(), p.name()].concat();
            into_frame(f, JPEG, marker(0xE1, &body), b"");
        }),
        ("JPEG comment", |f, p| {
            into_frame(f, JPEG, marker(0xFE, &p.name()), b"")
        }),
        ("after the end of a JPEG", |f, p| {
            into_frame(f, JPEG, vec![], &p.name())
        }),
        ("JPEG-LS comment", |f, p| {
            into_frame(f, JPEG_LS, marker(0xFE, &p.name()), b"")
        }),
        ("JPEG 2000 comment", |f, p| {
            into_frame(
                f,
                JPEG_2000,
                marker(0x64, &[vec![0, 1], p.name()].concat()),
                b"",
            );
        }),
        ("RLE gap", |f, p| {
            if is_native(f) {
                f.syntax = RLE.into();
                f.shape(4, 4, 8, 8);
                f.put((0x0028, 0x0002), "US", &[1, 0]);
                f.put((0x0028, 0x0008), "IS", b"1");
                let mut frame = [vec![1, 0, 0, 0, 64, 0, 0, 0], vec![0; 56]].concat();
                frame.extend([241, 7]);
                frame.extend(p.name());
                f.elements
                    .insert((0x7FE0, 0x0010), fragments(&[], &[&frame]));
            }
        }),
        ("name over two values", |f, p| {
            let (a, b) = (p.bytes(p.family), p.bytes(p.given));
            f.put((0x0018, 0x1020), "LO", &[a, b].join(&b'\\'));
        }),
        ("number over values", |f, _| {
            text(f, (0x0018, 0x1020), "LO", "KV4815\\162342")
        }),
        ("upper case", |f, p| {
            let upper = format!("{} {}", p.given.to_uppercase(), p.family.to_uppercase());
            f.put((0x0018, 0x1030), "LO", &p.bytes(&upper));
        }),
        ("UTF-8 whatever is declared", |f, p| {
            text(f, (0x0018, 0x1030), "LO", p.family);
        }),
        ("UTF-16", |f, p| {
            let wide: Vec<u8> = p.family.encode_utf16().flat_map(u16::to_le_bytes).collect();
            f.put((0x0018, 0x1030), "LO", &wide);
        }),
        ("number with dashes", |f, _| {
            text(f, (0x0018, 0x1000), "LO", "KV-4815-1623-42")
        }),
        ("VR of another kind", |f, p| {
            name_in(f, (0x0028, 0x1050), "DS", p)
        }),
        ("coded text", |f, _| {
            text(f, (0x0008, 0x0008), "CS", "KANARINSKI")
        }),
        ("retrieve URL", |f, _| {
            text(f, (0x0008, 0x1190), "UR", "http://x/KV4815162342")
        }),
        ("institution", |f, p| name_in(f, (0x0008, 0x0080), "LO", p)),
    ];
    all.sort_by_key(|(name, _)| *name);
    all
}

/// The canaries of a patient in every encoding, long enough to be none by chance.
fn needles(patient: &Patient) -> AhoCorasick {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for text in [
        patient.family,
        patient.given,
        &patient.family.to_uppercase(),
        &patient.given.to_uppercase(),
        "KANARINSKI",
        ID,
        "KV-4815162342",
        "KV-4815-1623-42",
        NUMBER,
        BORN,
        "03.11.1947",
        "3 November 1947",
        "1947-11-03",
    ] {
        all.push(text.as_bytes().to_vec());
        all.push(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
        all.push(text.encode_utf16().flat_map(u16::to_be_bytes).collect());
        all.push(
            text.bytes()
                .map(char::from)
                .collect::<String>()
                .into_bytes(),
        );
        for set in [
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
            ISO_2022_JP,
            EUC_KR,
            GB18030,
        ] {
            let (bytes, _, unmappable) = set.encode(text);
            if !unmappable {
                let bytes = bytes.strip_prefix(b"\x1b$B").unwrap_or(&bytes);
                all.push(bytes.strip_suffix(b"\x1b(B").unwrap_or(bytes).to_vec());
            }
        }
    }
    all.retain(|needle| needle.len() >= 6);
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build(all)
        .unwrap()
}

/// Files to plant in: phantoms in several syntaxes, and real ones that come out clean untouched.
fn bases() -> Vec<Base> {
    let mut bases: Vec<Base> = [EXPLICIT, DEFLATED]
        .into_iter()
        .map(|syntax| Base {
            name: "phantom".into(),
            syntax: syntax.into(),
            elements: Film::new("", b"", "").elements,
        })
        .collect();
    let mut outcomes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in real_files() {
        let bytes = fs::read(&path).unwrap();
        let outcome = Deidentifier::default()
            .deidentify(&bytes, "", &ids())
            .map_err(|error| error.to_string())
            .and_then(|(clean, known)| {
                let bytes = clean.to_bytes().map_err(|error| error.to_string())?;
                gate::look(&bytes, &known, Policy::basic())
                    .map_err(|error| format!("gate: {error}"))
            });
        // Large files take long and show nothing more.
        if outcome.is_ok() && bytes.len() < 300_000 {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            bases.extend(Base::of(name, &bytes));
        }
        outcomes
            .entry(outcome.err().unwrap_or_else(|| "clean".into()))
            .or_default()
            .push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    for (outcome, files) in outcomes {
        let names = if outcome == "clean" {
            String::new()
        } else {
            files.join(", ")
        };
        println!("real files, {outcome}: {} {names}", files.len());
    }
    bases
}

struct Base {
    name: String,
    syntax: String,
    elements: BTreeMap<common::Tag, Vec<u8>>,
}

impl Base {
    /// The elements of a real file in explicit VR little endian, as its writer encoded them.
    fn of(name: String, bytes: &[u8]) -> Option<Self> {
        let object = cloister_deid::read(bytes).ok()?;
        let syntax = object.meta().transfer_syntax().to_owned();
        if syntax == common::IMPLICIT || syntax == common::BIG_ENDIAN {
            return None;
        }
        let mut elements = BTreeMap::new();
        for part in object.iter() {
            use dicom_object::InMemDicomObject;
            let tag = part.header().tag;
            let mut encoded = Vec::new();
            InMemDicomObject::from_element_iter([part.clone()])
                .write_dataset_with_ts_cs(
                    &mut encoded,
                    &dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN.erased(),
                    dicom_encoding::text::SpecificCharacterSet::ISO_IR_192,
                )
                .ok()?;
            elements.insert((tag.group(), tag.element()), encoded);
        }
        Some(Self {
            name,
            syntax,
            elements,
        })
    }

    fn film(&self, patient: &Patient) -> Film {
        let mut film = Film::new(patient.code, &patient.name(), ID);
        let own = film.elements.clone();
        film.syntax.clone_from(&self.syntax);
        film.elements.clone_from(&self.elements);
        for tag in [(0x0008, 0x0005), (0x0010, 0x0010), (0x0010, 0x0020)] {
            film.elements.insert(tag, own.get(&tag).unwrap().clone());
        }
        film.elements
            .entry((0x0008, 0x0018))
            .or_insert_with(|| element((8, 0x18), "UI", b"1.2.276.5.20160705.1001"));
        film.put((0x0010, 0x0030), "DA", BORN.as_bytes());
        film.put((0x0010, 0x1000), "LO", NUMBER.as_bytes());
        film.put((0x0010, 0x1001), "PN", b"Kanarinski^Zwitscherine");
        film
    }
}

/// The bytes that came out, and those of its data set where they were deflated.
fn looked_through(bytes: &[u8], syntax: &str) -> Vec<Vec<u8>> {
    let mut all = vec![bytes.to_vec()];
    if syntax == DEFLATED {
        let length = u32::from_le_bytes(bytes[140..144].try_into().unwrap()) as usize;
        let mut inflated = Vec::new();
        flate2::read::DeflateDecoder::new(&bytes[144 + length..])
            .read_to_end(&mut inflated)
            .unwrap();
        all.push(inflated);
    }
    all
}

/// De-identifies some of the instances: what was withheld, by reason, and what leaked.
fn some(
    instances: impl Iterator<Item = usize>,
    places: &[Place],
    bases: &[Base],
) -> (BTreeMap<String, usize>, Vec<String>) {
    let searches: Vec<AhoCorasick> = PATIENTS.iter().map(needles).collect();
    let deidentifier = Deidentifier::default();
    let mut withheld: BTreeMap<String, usize> = BTreeMap::new();
    let mut leaks = Vec::new();
    for instance in instances {
        // Every place before any comes twice; patients and files move on by other steps.
        let (place, plant) = &places[instance % places.len()];
        let round = instance / places.len();
        let which = (instance + round * 5) % PATIENTS.len();
        let patient = &PATIENTS[which];
        let base = &bases[(instance + round * 7) % bases.len()];
        let mut film = base.film(patient);
        plant(&mut film, patient);
        let outcome = deidentifier
            .deidentify(&film.encode(), "SITE", &ids())
            .map_err(|error| format!("{error}"))
            .and_then(|(clean, known)| {
                let bytes = clean.to_bytes().map_err(|error| format!("{error}"))?;
                gate::look(&bytes, &known, Policy::basic())
                    .map_err(|error| format!("gate: {error}"))?;
                Ok((bytes, clean.object().meta().transfer_syntax().to_owned()))
            });
        match outcome {
            Ok((bytes, syntax)) => {
                let hit = looked_through(&bytes, &syntax)
                    .iter()
                    .any(|bytes| searches[which].is_match(bytes));
                if hit {
                    leaks.push(format!("{place}, {}, {}", patient.code, film.syntax));
                }
            }
            Err(reason) => {
                *withheld
                    .entry(format!(
                        "{reason}: {place}, {}, {}",
                        patient.code, base.name
                    ))
                    .or_default() += 1;
            }
        }
    }
    (withheld, leaks)
}

#[test]
fn no_canary_comes_out_and_nearly_every_instance_does() {
    let places = places();
    assert!(places.len() >= 60);
    let bases = bases();
    let wanted = std::env::var("CLOISTER_CANARIES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(places.len() * 3);
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let (places, bases) = (&places, &bases);
    let parts = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || some((first..wanted).step_by(threads), places, bases)))
            .collect();
        parts
            .into_iter()
            .map(|part| part.join().unwrap())
            .collect::<Vec<_>>()
    });
    let (mut withheld, mut leaks) = (BTreeMap::new(), Vec::new());
    for (held, leaked) in parts {
        for (reason, count) in held {
            *withheld.entry(reason).or_insert(0_usize) += count;
        }
        leaks.extend(leaked);
    }
    let held: usize = withheld.values().sum();
    println!(
        "{wanted} instances of {} files, {held} withheld: {withheld:#?}",
        bases.len()
    );
    assert!(leaks.is_empty(), "{} leaks: {leaks:#?}", leaks.len());
    assert!(held * 50 <= wanted, "{held} of {wanted} withheld");
}
