//! Decodes text by Specific Character Set: single sets, UTF-8, GB18030 and GBK, and sets that change
//! by escape sequences (PS3.5 section 6.1.2.5, PS3.3 section C.12.1.1.2). Reading builds text with
//! it; collection, the cleaner and the gate ask it how else a wrongly declared text may be read.

use dicom_core::dictionary::VirtualVr;
use dicom_core::{DataDictionary, Tag, VR, dictionary::DataDictionaryEntry};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::{InMemDicomObject, mem::InMemElement};
use encoding_rs::{
    BIG5, EUC_JP, EUC_KR, Encoding, GB18030, ISO_8859_2, ISO_8859_3, ISO_8859_4, ISO_8859_5,
    ISO_8859_6, ISO_8859_7, ISO_8859_8, ISO_8859_15, SHIFT_JIS, UTF_8, WINDOWS_874, WINDOWS_1251,
    WINDOWS_1254,
};

use crate::retain::is_text;

/// A reading with more parts is no name.
const MAX_PARTS: usize = 24;

/// The character sets of one data set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Charset {
    /// One encoding for everything; it admits no escape sequences.
    whole: Option<&'static Encoding>,
    /// What bytes above 7FH mean at the start and after each delimiter.
    initial: High,
}

impl Default for Charset {
    fn default() -> Self {
        Self {
            whole: None,
            initial: High::Guess,
        }
    }
}

/// What bytes above 7FH mean: the G1 area of ISO 2022.
#[derive(Debug, Clone, Copy)]
enum High {
    /// Nothing is said: UTF-8 if it is, else Latin-1.
    Guess,
    /// JIS X 0201 katakana (ISO-IR 13).
    Kana,
    /// ISO 8859-1 (ISO-IR 100).
    Latin1,
    /// A part of this encoding.
    Of(&'static Encoding),
}

/// What bytes up to 7FH mean: the G0 area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Low {
    Ascii,
    /// Two bytes a character, as in this encoding without the high bits; the prefix selects
    /// JIS X 0212 in EUC-JP.
    Double(&'static Encoding, Option<u8>),
}

impl Charset {
    /// By the value of (0008,0005).
    pub(crate) fn of(value: &[u8]) -> Self {
        let text: String = value.iter().copied().map(char::from).collect();
        let codes: Vec<String> = text.split('\\').map(trim).collect();
        Self::from_codes(&codes)
    }

    /// By the codes of (0008,0005). A code that says nothing is like none.
    pub(crate) fn from_codes(codes: &[String]) -> Self {
        let first = codes.first().map(String::as_str).unwrap_or_default();
        let upper = first.trim().to_ascii_uppercase();
        let whole = |encoding| Self {
            whole: Some(encoding),
            initial: High::Guess,
        };
        let number = upper
            .rsplit(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap_or_default();
        let initial = match upper.as_str() {
            "GB18030" | "GBK" | "GB2312" => return whole(GB18030),
            "UTF-8" | "UTF8" => return whole(UTF_8),
            _ if !upper.contains("IR") => High::Guess,
            _ => match number {
                "192" => return whole(UTF_8),
                "100" => High::Latin1,
                "101" => High::Of(ISO_8859_2),
                "109" => High::Of(ISO_8859_3),
                "110" => High::Of(ISO_8859_4),
                "144" => High::Of(ISO_8859_5),
                "127" => High::Of(ISO_8859_6),
                "126" => High::Of(ISO_8859_7),
                "138" => High::Of(ISO_8859_8),
                "148" => High::Of(WINDOWS_1254),
                "203" => High::Of(ISO_8859_15),
                "166" => High::Of(WINDOWS_874),
                "149" => High::Of(EUC_KR),
                "58" => High::Of(GB18030),
                "13" => High::Kana,
                _ => High::Guess,
            },
        };
        Self {
            whole: None,
            initial,
        }
    }

    /// The text of a value that cannot hold several. Never fails: bytes that mean nothing come out
    /// as their Latin-1 characters or as U+FFFD.
    pub(crate) fn decode(self, bytes: &[u8], vr: VR) -> String {
        self.run(bytes, vr, false).concat()
    }

    /// The values of an element that may hold several.
    pub(crate) fn decode_values(self, bytes: &[u8], vr: VR) -> Vec<String> {
        self.run(bytes, vr, true)
    }

    fn run(self, bytes: &[u8], vr: VR, several: bool) -> Vec<String> {
        if bytes.is_ascii() && !bytes.contains(&0x1b) {
            let text: String = bytes.iter().copied().map(char::from).collect();
            return if several { cut(&text) } else { vec![text] };
        }
        if let Some(encoding) = self.whole
            && !bytes.contains(&0x1b)
            && let Some(text) = encoding.decode_without_bom_handling_and_without_replacement(bytes)
        {
            return if several {
                cut(&text)
            } else {
                vec![text.into_owned()]
            };
        }
        let mut machine = Machine {
            initial: self.initial,
            low: Low::Ascii,
            high: self.initial,
            designated: None,
            values: vec![String::new()],
        };
        machine.feed(bytes, vr, several);
        machine.values
    }
}

fn cut(text: &str) -> Vec<String> {
    text.split('\\').map(str::to_owned).collect()
}

/// Code extension (PS3.5 section 6.1.2.5.3): sets are designated by escape sequences and fall back
/// at line ends, at value delimiters, and in names at `^` and `=`.
struct Machine {
    initial: High,
    low: Low,
    high: High,
    /// The last set that this value designated for high bytes. Senders that do not repeat the
    /// escape sequence after a delimiter mean it still, where nothing else is declared.
    designated: Option<High>,
    values: Vec<String>,
}

impl Machine {
    fn feed(&mut self, bytes: &[u8], vr: VR, several: bool) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if byte == 0x1b {
                rest = self.escape(after);
                continue;
            }
            if byte >= 0x80 {
                let length = rest.iter().take_while(|byte| **byte >= 0x80).count();
                let (run, after) = rest.split_at(length);
                self.high_run(run);
                rest = after;
                continue;
            }
            if let (Low::Double(encoding, prefix), Some(&second)) = (self.low, after.first())
                && (0x21..0x7f).contains(&byte)
                && (0x21..0x7f).contains(&second)
            {
                let mut pair = Vec::with_capacity(3);
                pair.extend(prefix);
                pair.extend([byte | 0x80, second | 0x80]);
                let (text, _) = encoding.decode_without_bom_handling(&pair);
                self.push(&text);
                rest = after.get(1..).unwrap_or_default();
                continue;
            }
            rest = after;
            let line = matches!(byte, b'\t' | b'\n' | 0x0c | b'\r');
            let part = vr == VR::PN && matches!(byte, b'^' | b'=');
            if several && byte == b'\\' {
                self.values.push(String::new());
                self.reset();
                continue;
            }
            if line || part {
                self.reset();
            }
            self.push(char::from(byte).encode_utf8(&mut [0; 4]));
        }
    }

    fn reset(&mut self) {
        self.low = Low::Ascii;
        self.high = self.initial;
    }

    fn push(&mut self, text: &str) {
        if let Some(last) = self.values.last_mut() {
            last.push_str(text);
        }
    }

    fn high_run(&mut self, run: &[u8]) {
        let high = match (self.high, self.designated) {
            (High::Guess, Some(designated)) => designated,
            (high, _) => high,
        };
        let latin1 = || run.iter().copied().map(char::from).collect::<String>();
        let text = match high {
            High::Latin1 => latin1(),
            High::Guess => std::str::from_utf8(run).map_or_else(|_| latin1(), str::to_owned),
            High::Kana => run
                .iter()
                .map(|byte| match byte {
                    0xa1..=0xdf => {
                        char::from_u32(0xff61 + u32::from(byte - 0xa1)).unwrap_or('\u{fffd}')
                    }
                    other => char::from(*other),
                })
                .collect(),
            High::Of(encoding) => encoding.decode_without_bom_handling(run).0.into_owned(),
        };
        self.push(&text);
    }

    /// Escape sequences of PS3.3 tables C.12-3 and C.12-4, also in their 94-set forms for G0.
    fn escape<'a>(&mut self, after: &'a [u8]) -> &'a [u8] {
        enum To {
            Low(Low),
            High(High),
        }
        use To::{High as H, Low as L};
        let table: [(&[u8], To); 23] = [
            (b"(B", L(Low::Ascii)),
            (b"(J", L(Low::Ascii)),
            (b"$B", L(Low::Double(EUC_JP, None))),
            (b"$@", L(Low::Double(EUC_JP, None))),
            (b"$(B", L(Low::Double(EUC_JP, None))),
            (b"$(D", L(Low::Double(EUC_JP, Some(0x8f)))),
            (b"$(C", L(Low::Double(EUC_KR, None))),
            (b"$(A", L(Low::Double(GB18030, None))),
            (b"$A", L(Low::Double(GB18030, None))),
            (b")I", H(High::Kana)),
            (b"$)C", H(High::Of(EUC_KR))),
            (b"$)A", H(High::Of(GB18030))),
            (b"-A", H(High::Latin1)),
            (b"-B", H(High::Of(ISO_8859_2))),
            (b"-C", H(High::Of(ISO_8859_3))),
            (b"-D", H(High::Of(ISO_8859_4))),
            (b"-L", H(High::Of(ISO_8859_5))),
            (b"-G", H(High::Of(ISO_8859_6))),
            (b"-F", H(High::Of(ISO_8859_7))),
            (b"-H", H(High::Of(ISO_8859_8))),
            (b"-M", H(High::Of(WINDOWS_1254))),
            (b"-T", H(High::Of(WINDOWS_874))),
            (b"-b", H(High::Of(ISO_8859_15))),
        ];
        for (code, to) in table {
            if let Some(rest) = after.strip_prefix(code) {
                match to {
                    L(low) => self.low = low,
                    H(high) => {
                        self.high = high;
                        self.designated = Some(high);
                    }
                }
                return rest;
            }
        }
        after
    }
}

/// How else a name may have been meant: readings made of letters and what stands between them.
pub(crate) fn also_named(name: &str, codes: &[String]) -> Vec<String> {
    let of_names = |c: char| {
        c.is_alphabetic()
            || c.is_whitespace()
            || matches!(c, '^' | '=' | '-' | '\'' | '.' | ',' | '\u{300}'..='\u{36f}' | '\u{e47}'..='\u{e4e}')
    };
    let mut readings = also_read_as(name, codes);
    readings.retain(|reading| {
        reading.chars().all(of_names)
            && reading.split(|c: char| !c.is_alphanumeric()).count() <= MAX_PARTS
    });
    readings
}

/// How else the bytes of a text may have been meant: readings by other character sets than the
/// declared one, without those that make no sense. Empty for ASCII.
pub(crate) fn also_read_as(text: &str, codes: &[String]) -> Vec<String> {
    if text.is_ascii() {
        return Vec::new();
    }
    let mut sources: Vec<Vec<u8>> = Vec::new();
    let latin1: Option<Vec<u8>> = text
        .chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect();
    sources.extend(latin1);
    let charset = Charset::from_codes(codes);
    let declared = match charset.initial {
        High::Of(encoding) => Some(encoding),
        _ => charset.whole,
    };
    if let Some(encoding) = declared {
        let (bytes, _, unmappable) = encoding.encode(text);
        if !unmappable && encoding.output_encoding() == encoding {
            sources.push(bytes.into_owned());
        }
    }
    let mut readings: Vec<String> = Vec::new();
    for bytes in sources {
        for encoding in [
            UTF_8,
            ISO_8859_2,
            ISO_8859_5,
            ISO_8859_7,
            WINDOWS_1251,
            SHIFT_JIS,
            EUC_JP,
            EUC_KR,
            GB18030,
            BIG5,
        ] {
            if let Some(reading) =
                encoding.decode_without_bom_handling_and_without_replacement(&bytes)
                && reading != text
                && reading.chars().all(|c| !c.is_control())
                && !readings.iter().any(|known| *known == reading)
            {
                readings.push(reading.into_owned());
            }
        }
    }
    readings
}

/// The VR that the dictionary gives a tag.
pub(crate) fn dictionary_vr(tag: Tag) -> Option<VR> {
    StandardDataDictionary
        .by_tag(tag)
        .map(|entry| match entry.vr() {
            VirtualVr::Exact(vr) => vr,
            other => other.relaxed(),
        })
}

/// Specific Character Set of an object, or of the one around it.
pub fn codes_of(object: &InMemDicomObject, outer: &[String]) -> Vec<String> {
    object
        .get(tags::SPECIFIC_CHARACTER_SET)
        .and_then(|element| {
            element
                .to_multi_str()
                .ok()
                .map(std::borrow::Cow::into_owned)
        })
        .map_or_else(
            || outer.to_vec(),
            |codes| codes.iter().map(|code| code.trim().to_owned()).collect(),
        )
}

/// All values of an element as text, decoded with the object's character sets. Elements that a
/// sender wrote as UN, as bytes or as numbers although the dictionary knows them as text are decoded
/// as well.
/// Never fails: what cannot be decoded comes out as its Latin-1 characters.
pub fn values(element: &InMemElement, codes: &[String]) -> Vec<String> {
    let opaque = matches!(element.vr(), VR::UN | VR::OB | VR::OW);
    if opaque || is_text_as_numbers(element) {
        let Ok(bytes) = element.to_bytes() else {
            return Vec::new();
        };
        let vr = dictionary_vr(element.header().tag).unwrap_or(VR::LO);
        let text = Charset::from_codes(codes).decode_values(&bytes, vr);
        return text.iter().map(|part| trim(part)).collect();
    }
    let Ok(parts) = element.to_multi_str() else {
        return Vec::new();
    };
    if codes.len() > 1 && parts.iter().any(|part| part.contains('\u{1b}')) {
        // An object that another parser read: a backslash may have been the second byte of a
        // character.
        split(&decode(&parts.join("\\"), codes))
    } else {
        parts.iter().map(|part| trim(part)).collect()
    }
}

/// Whether the dictionary knows an element as text and its sender wrote numbers.
pub(crate) fn is_text_as_numbers(element: &InMemElement) -> bool {
    let known = dictionary_vr(element.header().tag);
    !is_text(element.vr()) && element.vr() != VR::SQ && known.is_some_and(is_text)
}

fn split(text: &str) -> Vec<String> {
    text.split('\\').map(trim).collect()
}

fn trim(text: &str) -> String {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
        .to_owned()
}

/// Resolves ISO 2022 escape sequences left in `text` by a decoder that knew the first set only.
pub fn decode(text: &str, codes: &[String]) -> String {
    let mut parts = text.split('\u{1b}');
    let mut out = parts.next().unwrap_or_default().to_owned();
    let charset = Charset::from_codes(codes);
    for part in parts {
        // Characters go back to the bytes they came from, where they can.
        let bytes: Option<Vec<u8>> = part
            .chars()
            .map(|c| u8::try_from(u32::from(c)).ok())
            .collect();
        match bytes {
            Some(bytes) => {
                let escaped = [&[0x1b], bytes.as_slice()].concat();
                out.push_str(&charset.decode(&escaped, VR::LO));
            }
            None => out.push_str(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use proptest::prelude::*;

    use super::{Charset, also_read_as, decode};

    fn charset(codes: &str) -> Charset {
        Charset::of(codes.as_bytes())
    }

    #[test]
    fn resolves_japanese_korean_and_greek_escapes() {
        let codes = [String::new(), String::from("ISO 2022 IR 87")];
        assert_eq!(
            decode(
                "Yamada^Tarou=\u{1b}$B;3ED\u{1b}(B^\u{1b}$BB@O:\u{1b}(B",
                &codes
            ),
            "Yamada^Tarou=山田^太郎"
        );
        let korean: String = [0x1b, b'$', b')', b'C', 0xfb, 0xf3]
            .map(char::from)
            .into_iter()
            .collect();
        assert_eq!(decode(&korean, &codes), "洪");
        let greek: String = [0x1b, b'-', b'F', 0xc4]
            .map(char::from)
            .into_iter()
            .collect();
        assert_eq!(decode(&greek, &codes), "Δ");
    }

    #[test]
    fn leaves_unknown_escapes_readable() {
        assert_eq!(decode("a\u{1b}", &[]), "a");
        assert_eq!(decode("a\u{1b}%Xb", &[]), "a%Xb");
    }

    /// PS3.5 annexes H, I, J and K.
    #[test]
    fn names_of_the_standard_s_annexes_are_read() {
        let cases: [(&str, &[u8], &str); 7] = [
            (
                "\\ISO 2022 IR 87",
                b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
                "Yamada^Tarou=山田^太郎=やまだ^たろう",
            ),
            (
                "ISO 2022 IR 13\\ISO 2022 IR 87",
                b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
                "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
            ),
            (
                "\\ISO 2022 IR 149",
                b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
                "Hong^Gildong=洪^吉洞",
            ),
            (
                "\\ISO 2022 IR 58",
                b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
                "Zhang^XiaoDong=张^小东=",
            ),
            ("GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东="),
            ("ISO_IR 192", "Wang^XiaoDong=王^小東=".as_bytes(), "Wang^XiaoDong=王^小東="),
            ("ISO_IR 148", b"\xdeahin^\xddbrahim", "Şahin^İbrahim"),
        ];
        for (codes, bytes, text) in cases {
            assert_eq!(charset(codes).decode(bytes, VR::PN), text, "{codes}");
        }
    }

    #[test]
    fn sets_fall_back_at_delimiters_and_backslashes_inside_characters_are_none() {
        // After ^ the initial set holds again: Latin-1, not Greek.
        let mixed = charset("ISO 2022 IR 100\\ISO 2022 IR 126");
        assert_eq!(mixed.decode(b"\x1b-F\xc4^\xc4", VR::PN), "Δ^Ä");
        assert_eq!(mixed.decode(b"\x1b-F\xc4^\xc4", VR::LO), "Δ^Δ");
        assert_eq!(mixed.decode(b"\x1b-F\xc4\r\n\xc4", VR::LT), "Δ\r\nÄ");
        assert_eq!(mixed.decode_values(b"\x1b-F\xc4\\\xc4", VR::LO), ["Δ", "Ä"]);
        // No escape sequence after ^, and no initial set: the designated one is meant.
        let korean = charset("\\ISO 2022 IR 149");
        assert_eq!(korean.decode(b"\x1b$)C\xfb\xf3^\xd1\xce", VR::PN), "洪^吉");
        // 5CH as the second byte of a character.
        assert_eq!(
            charset("GBK").decode_values(b"\x81\x5c\\x", VR::LO).len(),
            2
        );
        let jis = charset("\\ISO 2022 IR 87");
        assert_eq!(jis.decode_values(b"\x1b$B!\\\x1b(B", VR::LO), ["＋"]);
        // JIS X 0212.
        assert_eq!(
            charset("\\ISO 2022 IR 159").decode(b"\x1b$(D0!\x1b(B", VR::LO),
            "丂"
        );
    }

    #[test]
    fn a_wrong_declaration_has_other_readings() {
        let declared = charset("ISO_IR 100").decode("Rüdiger".as_bytes(), VR::PN);
        let codes = [String::from("ISO_IR 100")];
        assert!(also_read_as(&declared, &codes).contains(&"Rüdiger".to_owned()));
        // Declared as nothing or as UTF-8, and neither.
        for codes in ["", "ISO_IR 192"] {
            let text = charset(codes).decode(b"\xb8\xc0\xba\xb4\xdb", VR::PN);
            let codes = [codes.to_owned()];
            assert!(also_read_as(&text, &codes).contains(&"면볶".to_owned()) || text.len() > 2);
        }
        assert_eq!(charset("").decode("Jérôme".as_bytes(), VR::PN), "Jérôme");
        assert_eq!(
            charset("ISO_IR 192").decode(b"J\xe9r\xf4me", VR::PN),
            "Jérôme"
        );
        let greek = charset("ISO_IR 144").decode(b"\xc4\xe9\xef\xed", VR::PN);
        let codes = [String::from("ISO_IR 144")];
        assert!(also_read_as(&greek, &codes).contains(&"Διον".to_owned()));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_under_any_declaration(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            code in 0..14_usize,
        ) {
            let code = [
                "", "ISO_IR 100", "ISO_IR 192", "GB18030", "GBK", "ISO_IR 13", "ISO 2022 IR 87",
                "\\ISO 2022 IR 149", "\\ISO 2022 IR 58", "\\ISO 2022 IR 159", "ISO_IR 166",
                "ISO_IR 148", "nonsense", "ISO_IR 138",
            ][code];
            let set = charset(code);
            let whole = set.decode(&bytes, VR::LT);
            let values = set.decode_values(&bytes, VR::LO);
            prop_assert!(values.len() <= bytes.split(|b| *b == b'\\').count());
            also_read_as(&whole, &[code.to_owned()]);
        }
    }
}
