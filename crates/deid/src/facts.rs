//! Takes age band, sex and view from the tags before they are removed: what a model may know.

use cloister_phi::{AgeBand, Sex, View};
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

/// What a model may know about patient and film.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Facts {
    pub(crate) age_band: AgeBand,
    pub(crate) sex: Sex,
    pub(crate) view: View,
}

impl Facts {
    pub(crate) fn of(object: &InMemDicomObject) -> Self {
        let sex = match text(object, tags::PATIENT_SEX).as_str() {
            "F" | "FEMALE" => Sex::Female,
            "M" | "MALE" => Sex::Male,
            "O" => Sex::Other,
            _ => Sex::Unknown,
        };
        Self {
            age_band: age(object).map_or(AgeBand::Unknown, AgeBand::of_years),
            sex,
            view: view(object),
        }
    }
}

fn text(object: &InMemDicomObject, tag: Tag) -> String {
    object
        .get(tag)
        .and_then(|element| element.to_str().ok())
        .map(|text| text.trim_matches(['\0', ' ']).to_uppercase())
        .unwrap_or_default()
}

/// Whole years from Patient's Age (`nnnY`, also bare digits), else from the two dates.
fn age(object: &InMemDicomObject) -> Option<u32> {
    let stated = text(object, tags::PATIENT_AGE);
    let number: String = stated.chars().take_while(char::is_ascii_digit).collect();
    if let Ok(number) = number.parse::<u32>() {
        let unit = stated.get(number_len(&stated)..).unwrap_or_default();
        // Some devices write 000Y for "unknown".
        match unit {
            "Y" | "" if (1..=130).contains(&number) => return Some(number),
            "M" => return Some(number / 12),
            "W" => return Some(number / 52),
            "D" => return Some(number / 365),
            _ => {}
        }
    }
    let born = date(object, tags::PATIENT_BIRTH_DATE)?;
    let taken = [tags::STUDY_DATE, tags::ACQUISITION_DATE, tags::CONTENT_DATE]
        .into_iter()
        .find_map(|tag| date(object, tag))?;
    let birthday_to_come = u32::from(taken % 10_000 < born % 10_000);
    (taken / 10_000)
        .checked_sub(born / 10_000 + birthday_to_come)
        .filter(|years| *years <= 130)
}

fn number_len(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// `YYYYMMDD` as a number.
fn date(object: &InMemDicomObject, tag: Tag) -> Option<u32> {
    let digits: String = text(object, tag)
        .chars()
        .filter(char::is_ascii_digit)
        .take(8)
        .collect();
    let number = digits.parse::<u32>().ok().filter(|_| digits.len() == 8)?;
    // The usual placeholders are no birth dates.
    (!matches!(number, 19_000_101 | 11_111_111 | 10_101)).then_some(number)
}

/// The view: View Position, else the coded view, else the orientation, else a description that
/// names exactly one.
fn view(object: &InMemDicomObject) -> View {
    let position = named(&text(object, tags::VIEW_POSITION));
    if position != View::Unknown {
        return position;
    }
    let coded = object
        .get(tags::VIEW_CODE_SEQUENCE)
        .and_then(|sequence| sequence.items())
        .and_then(|items| items.first());
    if let Some(code) = coded {
        // SRT codes and their SNOMED CT successors (PS3.16 CID 4010).
        match text(code, tags::CODE_VALUE).as_str() {
            "R-10206" | "399348003" => return View::Ap,
            "R-10214" | "272479007" => return View::Pa,
            "R-10232" | "R-10236" | "399198007" | "399173006" => return View::Lateral,
            _ => {}
        }
    }
    if matches!(
        text(object, tags::PATIENT_ORIENTATION).as_str(),
        "A\\F" | "P\\F"
    ) {
        return View::Lateral;
    }
    [
        tags::SERIES_DESCRIPTION,
        tags::ACQUISITION_DEVICE_PROCESSING_DESCRIPTION,
        tags::PROTOCOL_NAME,
        tags::STUDY_DESCRIPTION,
    ]
    .into_iter()
    .map(|tag| named(&text(object, tag)))
    .find(|view| *view != View::Unknown)
    .unwrap_or_default()
}

fn named(text: &str) -> View {
    let mut found = View::Unknown;
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        let view = match word {
            "PA" => View::Pa,
            "AP" => View::Ap,
            "LAT" | "LATERAL" | "LL" | "RL" | "LLAT" | "RLAT" => View::Lateral,
            _ => continue,
        };
        // "PA AND LATERAL" describes a study, not this film.
        if found != View::Unknown && found != view {
            return View::Unknown;
        }
        found = view;
    }
    found
}

#[cfg(test)]
mod tests {
    use cloister_phi::{AgeBand, Sex, View};
    use dicom_core::{DataElement, VR};
    use dicom_dictionary_std::tags;
    use dicom_object::InMemDicomObject;

    use super::Facts;

    fn facts(elements: &[(dicom_core::Tag, VR, &str)]) -> Facts {
        let elements = elements
            .iter()
            .map(|(tag, vr, text)| DataElement::new(*tag, *vr, *text));
        Facts::of(&InMemDicomObject::from_element_iter(elements))
    }

    #[test]
    fn age_comes_from_the_age_or_the_dates() {
        let band = |elements| facts(elements).age_band;
        assert_eq!(
            band(&[(tags::PATIENT_AGE, VR::AS, "037Y")]),
            AgeBand::From18To39
        );
        assert_eq!(
            band(&[(tags::PATIENT_AGE, VR::AS, "62")]),
            AgeBand::From40To64
        );
        assert_eq!(
            band(&[(tags::PATIENT_AGE, VR::AS, "008M")]),
            AgeBand::Under18
        );
        assert_eq!(
            band(&[(tags::PATIENT_AGE, VR::AS, "000Y")]),
            AgeBand::Unknown
        );
        let dates = [
            (tags::PATIENT_BIRTH_DATE, VR::DA, "19760616"),
            (tags::STUDY_DATE, VR::DA, "20160615"),
        ];
        assert_eq!(band(&dates), AgeBand::From18To39);
    }

    #[test]
    fn view_comes_from_the_position_or_one_clear_description() {
        let view = |elements| facts(elements).view;
        assert_eq!(view(&[(tags::VIEW_POSITION, VR::CS, "PA")]), View::Pa);
        assert_eq!(view(&[(tags::VIEW_POSITION, VR::CS, "LL")]), View::Lateral);
        assert_eq!(
            view(&[(tags::STUDY_DESCRIPTION, VR::LO, "XR CHEST AP PORTABLE")]),
            View::Ap
        );
        assert_eq!(
            view(&[(tags::STUDY_DESCRIPTION, VR::LO, "CHEST PA AND LATERAL")]),
            View::Unknown
        );
        assert_eq!(facts(&[(tags::PATIENT_SEX, VR::CS, "F ")]).sex, Sex::Female);
    }
}
