//! Values that an option keeps: as they are, shifted, or with their text cleaned. The cleaner asks;
//! no answer means that the value is not safe to keep and the Basic profile applies.

use cloister_phi::Uid;
use cloister_scrub::scrub_with;
use dicom_core::{DataElement, PrimitiveValue, VR, value::Value};
use dicom_dictionary_std::tags;
use dicom_object::mem::InMemElement;

use crate::{
    PseudonymError,
    charset::{dictionary_vr, values},
    clean::Cleaner,
    dates, hits,
    required::Place,
};

/// Opaque bytes that an option keeps (time stamps) are no longer than this; more could hide
/// anything.
const MAX_OPAQUE_BYTES: usize = 16;

/// Digits in one word of cleaned text that no detector took for a number of somebody's.
const MAX_DIGITS: usize = 4;

impl Cleaner<'_> {
    /// `K`: the value as it is, if it has the form of its VR and holds none of the patient's
    /// identifiers. Sequences are cleaned item by item.
    pub(crate) fn retained(
        &self,
        element: &InMemElement,
        codes: &[String],
        place: Place,
    ) -> Result<Option<InMemElement>, PseudonymError> {
        let tag = element.header().tag;
        match dictionary_vr(tag) {
            None => Ok(None),
            Some(VR::SQ) => self.items(element, codes, place),
            Some(vr) => Ok(self.retained_as(element, vr, codes)),
        }
    }

    /// The same for a value of a VR that the dictionary does not know.
    pub(crate) fn retained_as(
        &self,
        element: &InMemElement,
        vr: VR,
        codes: &[String],
    ) -> Option<InMemElement> {
        let tag = element.header().tag;
        let Value::Primitive(value) = element.value() else {
            return None;
        };
        if !is_text(vr) {
            let bytes = value.to_bytes();
            let opaque = matches!(vr, VR::OB | VR::OW | VR::UN) && bytes.len() > MAX_OPAQUE_BYTES;
            let numbers = element.vr() == vr || element.vr() == VR::UN;
            let safe = numbers && !opaque && !self.searcher.find_in_bytes(&bytes);
            return safe.then(|| element.clone());
        }
        if !is_text(element.vr()) && !matches!(element.vr(), VR::UN | VR::OB) {
            return None;
        }
        let texts = values(element, codes);
        let safe = texts
            .iter()
            .all(|text| has_form(vr, text) && !hits::in_value(&self.searcher, text, vr, &[]))
            && !hits::across(&self.searcher, &texts, vr);
        safe.then(|| DataElement::new(tag, vr, PrimitiveValue::Strs(texts.into())))
    }

    /// `C` of the option on modified dates: dates move, times of day and the time zone stay.
    pub(crate) fn shifted(&self, element: &InMemElement, codes: &[String]) -> Option<InMemElement> {
        let shift = self.shift?;
        let tag = element.header().tag;
        let vr = dictionary_vr(tag)?;
        let mut moved = Vec::new();
        for value in values(element, codes) {
            moved.push(match vr {
                VR::DA | VR::DT | VR::TM | VR::SH if value.is_empty() => value,
                VR::DA => shift.date(&value)?,
                VR::DT => shift.date_time(&value)?,
                VR::TM if dates::is_time(&value) => value,
                VR::SH if tag == tags::TIMEZONE_OFFSET_FROM_UTC && dates::is_offset(&value) => {
                    value
                }
                _ => return None,
            });
        }
        // By chance a moved date is another date of this object, which the gate looks for.
        let safe = !moved.iter().any(|value| self.hit(value));
        safe.then(|| DataElement::new(tag, vr, PrimitiveValue::Strs(moved.into())))
    }

    /// `C` of the options on descriptors, device and patient: free text loses known identifiers and
    /// what the detectors find; other text stays only if nothing is found. Sequences are cleaned
    /// item by item.
    pub(crate) fn cleaned_text(
        &self,
        element: &InMemElement,
        codes: &[String],
        place: Place,
    ) -> Result<Option<InMemElement>, PseudonymError> {
        let tag = element.header().tag;
        let Some(vr) = dictionary_vr(tag) else {
            return Ok(None);
        };
        Ok(match vr {
            VR::SQ => return self.items(element, codes, place),
            VR::LO | VR::SH | VR::ST | VR::LT | VR::UT | VR::UC => {
                self.scrubbed(element, vr, codes)
            }
            VR::AE | VR::CS => self.retained_as(element, vr, codes).filter(|_| {
                values(element, codes)
                    .iter()
                    .all(|text| self.says_nothing(text))
            }),
            _ => None,
        })
    }

    fn scrubbed(&self, element: &InMemElement, vr: VR, codes: &[String]) -> Option<InMemElement> {
        if !is_text(element.vr()) && !matches!(element.vr(), VR::UN | VR::OB) {
            return None;
        }
        let mut cleaned = Vec::new();
        for value in values(element, codes) {
            if value.len() > hits::MAX_TEXT_BYTES {
                return None;
            }
            let mut text = scrub_with(&value, &self.searcher).text;
            if self.hit(&text) || in_doubt(&text) {
                return None;
            }
            if let Some(limit) = limit(vr) {
                text = text.chars().take(limit).collect();
            }
            cleaned.push(text);
        }
        // A name spread over two values.
        if hits::across(&self.searcher, &cleaned, vr) {
            return None;
        }
        let value = PrimitiveValue::Strs(cleaned.into());
        Some(DataElement::new(element.header().tag, vr, value))
    }

    /// Whether neither a known identifier nor any detector speaks up.
    pub(crate) fn says_nothing(&self, text: &str) -> bool {
        text.len() <= hits::MAX_TEXT_BYTES
            && scrub_with(text, &self.searcher).spans.is_empty()
            && !in_doubt(text)
    }

    /// The gate's own question, so that what stays here passes there.
    pub(crate) fn hit(&self, text: &str) -> bool {
        hits::in_text(&self.searcher, text, &[])
    }
}

/// What may still identify somebody after the detectors: longer numbers, name components, addresses,
/// escape sequences and characters that did not decode.
fn in_doubt(text: &str) -> bool {
    let odd = |c: char| {
        c.is_control() && !matches!(c, '\r' | '\n' | '\t' | '\u{c}')
            || matches!(c, '^' | '@' | char::REPLACEMENT_CHARACTER)
    };
    text.contains(odd)
        || text
            .split(char::is_whitespace)
            .any(|word| word.chars().filter(char::is_ascii_digit).count() > MAX_DIGITS)
}

/// Whether a value has the form of its VR (PS3.5 Table 6.2-1); an empty one has.
pub(crate) fn has_form(vr: VR, text: &str) -> bool {
    if text.is_empty() {
        return true;
    }
    // Many writers give a decimal number more digits than the 16 it may have.
    if vr == VR::DS {
        return text.len() <= 32 && text.parse::<f64>().is_ok_and(f64::is_finite);
    }
    let length = limit(vr).is_none_or(|limit| text.chars().count() <= limit);
    length
        && match vr {
            VR::DA => dates::is_date(text),
            VR::DT => dates::is_date_time(text),
            VR::TM => dates::is_time(text),
            VR::UI => Uid::parse(text).is_ok(),
            VR::IS => text.parse::<i32>().is_ok(),
            VR::AS => {
                let (number, unit) = text.split_at_checked(3).unwrap_or_default();
                number.bytes().all(|b| b.is_ascii_digit()) && matches!(unit, "D" | "W" | "M" | "Y")
            }
            _ => !text.contains(|c: char| {
                c.is_control() && !matches!(c, '\r' | '\n' | '\t' | '\u{c}')
                    || c == char::REPLACEMENT_CHARACTER
            }),
        }
}

/// Most characters of a value.
const fn limit(vr: VR) -> Option<usize> {
    Some(match vr {
        VR::SH | VR::AE | VR::CS | VR::DS => 16,
        VR::LO | VR::UI => 64,
        VR::ST => 1024,
        VR::LT => 10_240,
        _ => return None,
    })
}

/// Whether values of this VR are characters.
pub(crate) const fn is_text(vr: VR) -> bool {
    matches!(
        vr,
        VR::AE
            | VR::AS
            | VR::CS
            | VR::DA
            | VR::DS
            | VR::DT
            | VR::IS
            | VR::LO
            | VR::LT
            | VR::PN
            | VR::SH
            | VR::ST
            | VR::TM
            | VR::UC
            | VR::UI
            | VR::UR
            | VR::UT
    )
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;

    use super::{has_form, in_doubt};

    #[test]
    fn text_in_doubt_is_told_from_a_description() {
        for clean in [
            "XR CHEST AP PORTABLE",
            "2 views, 120 kVp",
            "for [NAME] on [DATE]",
        ] {
            assert!(!in_doubt(clean), "{clean}");
        }
        for doubtful in [
            "room 12345",
            "A1B2C3D4E5",
            "DOE^J",
            "a@b",
            "\u{1b}$B;3",
            "caf\u{fffd}",
        ] {
            assert!(in_doubt(doubtful), "{doubtful}");
        }
    }

    #[test]
    fn values_must_have_the_form_of_their_vr() {
        for (vr, good, bad) in [
            (VR::AS, "042Y", "JANE"),
            (VR::DS, "71.5", "71.5 Jane"),
            (VR::IS, "12", "twelve"),
            (VR::UI, "1.2.3", "Jane"),
            (VR::DA, "20160705", "Jane"),
            (VR::SH, "ward 3", "seventeen letters"),
        ] {
            assert!(has_form(vr, good) && has_form(vr, ""), "{good}");
            assert!(!has_form(vr, bad), "{bad}");
        }
    }
}
