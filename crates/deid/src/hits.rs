//! Asks whether text holds an identifier, also where its character set was declared wrongly or where
//! it is split over several values. The cleaner and the gate ask alike, so that what one lets stay
//! passes at the other.

use cloister_scrub::Searcher;
use dicom_core::VR;

use crate::charset::also_read_as;

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
    text.bytes().any(control)
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
