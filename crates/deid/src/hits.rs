//! Asks whether text holds an identifier, also where its character set was declared wrongly or where
//! it is split over several values. The cleaner and the gate ask alike, so that what one lets stay
//! passes at the other.

use cloister_scrub::Searcher;
use dicom_core::VR;

use crate::{charset::also_read_as, retain::has_form};

/// A longer value is not looked through: it counts as a hit, so that it goes.
pub(crate) const MAX_TEXT_BYTES: usize = 1 << 20;

/// One value of this VR. The digits on one side of a decimal point are no number of somebody's; a
/// number as a whole may be.
pub(crate) fn in_value(searcher: &Searcher, text: &str, vr: VR, codes: &[String]) -> bool {
    match text.split_once('.') {
        Some((whole, fraction)) if vr == VR::DS && has_form(VR::DS, text) => {
            let length = text.chars().count();
            let signs = text.chars().take_while(|c| matches!(c, '+' | '-')).count();
            searcher
                .find(text)
                .iter()
                .any(|span| span.start <= signs && span.end >= length)
                || fraction.bytes().all(|byte| byte == b'0') && in_text(searcher, whole, codes)
        }
        _ => in_text(searcher, text, codes),
    }
}

/// One value. A text with control characters that no text has (PS3.5 section 6.1.3) counts as a hit:
/// it is something else, such as UTF-16.
pub(crate) fn in_text(searcher: &Searcher, text: &str, codes: &[String]) -> bool {
    let control = |byte: u8| {
        byte < b' ' && !matches!(byte, b'\t' | b'\n' | 0x0c | b'\r' | 0x1b) || byte == 0x7f
    };
    let read_as = |codes: &[String]| {
        also_read_as(text, codes)
            .iter()
            .any(|reading| !searcher.find(reading).is_empty())
    };
    text.len() > MAX_TEXT_BYTES
        || text.bytes().any(control)
        || !searcher.find(text).is_empty()
        || searcher.find_in_bytes(text.as_bytes())
        || read_as(codes)
        // What leaves is UTF-8: the question that will be asked there.
        || read_as(&[String::from("ISO_IR 192")])
}

/// Several values of one element together. Numbers and UIDs are no parts of a text.
pub(crate) fn across(searcher: &Searcher, values: &[String], vr: VR) -> bool {
    if values.len() < 2 || matches!(vr, VR::DS | VR::IS | VR::UI) {
        return false;
    }
    [values.concat(), values.join(" ")]
        .iter()
        .any(|text| !searcher.find(text).is_empty())
}
