//! Decides from the tags whether an object is a chest film. Stands before de-identification, which
//! removes some of what it reads.

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

/// Why an object is not a chest film.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotChest {
    /// Another part of the body is named.
    #[error("another part of the body was examined")]
    BodyPart,
    /// The modality is not projection radiography.
    #[error("the modality is not projection radiography")]
    Modality,
    /// The SOP class holds neither projection radiography nor a secondary capture of it.
    #[error("the SOP class is not one of projection radiography")]
    SopClass,
}

/// SOP classes that are radiography by themselves, so Modality may be empty.
const RADIOGRAPHY: [&str; 3] = [
    uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
    uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
    uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PROCESSING,
];

/// SOP classes that may carry anything; Modality must say that it is radiography.
const CAPTURE: [&str; 3] = [
    uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE,
];

/// Computed, digital, conventional radiography, and the retired code for digital radiography.
const MODALITIES: [&str; 4] = ["CR", "DX", "RG", "DR"];

/// Whether the object is a chest film by SOP class, Modality and Body Part Examined.
///
/// An empty Body Part Examined passes unless the Anatomic Region Sequence names another part.
///
/// # Errors
/// [`NotChest`] names the first attribute that speaks against it.
pub fn is_chest(object: &InMemDicomObject) -> Result<(), NotChest> {
    let class = text(object, tags::SOP_CLASS_UID);
    let modality = text(object, tags::MODALITY);
    let radiography = RADIOGRAPHY.contains(&class.as_str());
    if !radiography && !CAPTURE.contains(&class.as_str()) {
        return Err(NotChest::SopClass);
    }
    if !(MODALITIES.contains(&modality.as_str()) || radiography && modality.is_empty()) {
        return Err(NotChest::Modality);
    }
    let mut part = text(object, tags::BODY_PART_EXAMINED);
    if part.is_empty() {
        part = object
            .get(tags::ANATOMIC_REGION_SEQUENCE)
            .and_then(|sequence| sequence.items())
            .and_then(|items| items.first())
            .map(|item| text(item, tags::CODE_MEANING))
            .unwrap_or_default();
    }
    let part: String = part.chars().filter(|c| c.is_alphanumeric()).collect();
    let thorax = ["CHEST", "THORA", "TORAX", "LUNG", "PULMON", "CARDIOTHOR"];
    let named = thorax.iter().any(|word| part.contains(word)) && !part.contains("SPINE");
    if part.is_empty() || named {
        Ok(())
    } else {
        Err(NotChest::BodyPart)
    }
}

fn text(object: &InMemDicomObject, tag: Tag) -> String {
    object
        .get(tag)
        .and_then(|element| element.to_str().ok())
        .map(|text| text.trim_matches(['\0', ' ']).to_uppercase())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, VR};
    use dicom_dictionary_std::{tags, uids};
    use dicom_object::InMemDicomObject;

    use super::{NotChest, is_chest};

    fn object(class: &str, modality: &str, part: &str) -> InMemDicomObject {
        InMemDicomObject::from_element_iter([
            DataElement::new(tags::SOP_CLASS_UID, VR::UI, class),
            DataElement::new(tags::MODALITY, VR::CS, modality),
            DataElement::new(tags::BODY_PART_EXAMINED, VR::CS, part),
        ])
    }

    #[test]
    fn decides_by_sop_class_modality_and_body_part() {
        let cr = uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE;
        let dx = uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION;
        let sc = uids::SECONDARY_CAPTURE_IMAGE_STORAGE;
        let ct = uids::CT_IMAGE_STORAGE;
        for (class, modality, part, expected) in [
            (cr, "CR", "CHEST", Ok(())),
            (cr, "CR", "", Ok(())),
            (cr, "", "THORAX", Ok(())),
            (dx, "DX", "Chest ", Ok(())),
            (sc, "CR", "CHEST", Ok(())),
            (sc, "OT", "CHEST", Err(NotChest::Modality)),
            (sc, "", "", Err(NotChest::Modality)),
            (sc, "XA", "CHEST", Err(NotChest::Modality)),
            (ct, "CT", "CHEST", Err(NotChest::SopClass)),
            (cr, "CR", "HIP", Err(NotChest::BodyPart)),
            (cr, "CR", "T_SPINE", Err(NotChest::BodyPart)),
            (cr, "CR", "THORACIC SPINE", Err(NotChest::BodyPart)),
        ] {
            assert_eq!(
                is_chest(&object(class, modality, part)),
                expected,
                "{modality} {part}"
            );
        }
    }
}
