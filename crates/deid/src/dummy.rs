//! Values that say nothing, one for each VR. The cleaner puts them where the table asks for `D`.

use dicom_core::{DataElement, Length, PrimitiveValue, Tag, VR, value::DataSetSequence};
use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, mem::InMemElement};

/// The text that stands for removed text.
pub(crate) const REMOVED: &str = "REMOVED";

/// An element without a value.
pub(crate) fn empty(tag: Tag, vr: VR) -> InMemElement {
    if vr == VR::SQ {
        return DataElement::new(tag, VR::SQ, DataSetSequence::<InMemDicomObject>::empty());
    }
    DataElement::empty(tag, vr)
}

/// An element with a value of non-zero length that is valid for the VR and the same for everybody.
pub(crate) fn dummy(tag: Tag, vr: VR) -> InMemElement {
    let value: PrimitiveValue = match vr {
        VR::SQ => return sequence(tag, dummy_item(tag)),
        VR::DA => "19000101".into(),
        VR::TM => "000000".into(),
        VR::DT => "19000101000000".into(),
        VR::AS => "000Y".into(),
        VR::DS | VR::IS => "0".into(),
        VR::UR => "about:removed".into(),
        VR::UI => "2.25.0".into(),
        VR::US | VR::OW => PrimitiveValue::from(0_u16),
        VR::SS => PrimitiveValue::from(0_i16),
        VR::UL | VR::OL => PrimitiveValue::from(0_u32),
        VR::SL => PrimitiveValue::from(0_i32),
        VR::UV | VR::OV => PrimitiveValue::from(0_u64),
        VR::SV => PrimitiveValue::from(0_i64),
        VR::FL | VR::OF => PrimitiveValue::from(0_f32),
        VR::FD | VR::OD => PrimitiveValue::from(0_f64),
        VR::AT => PrimitiveValue::from(Tag(0, 0)),
        VR::OB | VR::UN => PrimitiveValue::U8(vec![0, 0].into()),
        _ => REMOVED.into(),
    };
    DataElement::new(tag, vr, value)
}

/// An item with the type 1 attributes of its macro, each with a dummy value.
fn dummy_item(tag: Tag) -> InMemDicomObject {
    let elements = match tag {
        // PS3.3 Table 8.8-1.
        tags::INSTITUTION_CODE_SEQUENCE | tags::PERSON_IDENTIFICATION_CODE_SEQUENCE => {
            return dummy_code();
        }
        // PS3.3 Table 10-1.
        tags::OPERATOR_IDENTIFICATION_SEQUENCE => vec![
            dummy(tags::PERSON_IDENTIFICATION_CODE_SEQUENCE, VR::SQ),
            dummy(tags::INSTITUTION_NAME, VR::LO),
        ],
        // PS3.3 Table C.17-2.
        tags::VERIFYING_OBSERVER_SEQUENCE => vec![
            dummy(tags::VERIFYING_OBSERVER_NAME, VR::PN),
            empty(
                tags::VERIFYING_OBSERVER_IDENTIFICATION_CODE_SEQUENCE,
                VR::SQ,
            ),
            dummy(tags::VERIFYING_ORGANIZATION, VR::LO),
            dummy(tags::VERIFICATION_DATE_TIME, VR::DT),
        ],
        // PS3.3 Tables C.17-5 and C.17-6.
        tags::CONTENT_SEQUENCE => vec![
            DataElement::new(tags::RELATIONSHIP_TYPE, VR::CS, "CONTAINS"),
            DataElement::new(tags::VALUE_TYPE, VR::CS, "TEXT"),
            sequence(
                tags::CONCEPT_NAME_CODE_SEQUENCE,
                code("121071", "DCM", "Finding"),
            ),
            dummy(tags::TEXT_VALUE, VR::UT),
        ],
        // PS3.3 Table C.10-5.
        tags::GRAPHIC_ANNOTATION_SEQUENCE => vec![
            dummy(tags::GRAPHIC_LAYER, VR::CS),
            sequence(tags::TEXT_OBJECT_SEQUENCE, dummy_text_object()),
        ],
        tags::FLOW_IDENTIFIER_SEQUENCE => vec![dummy(tags::FLOW_IDENTIFIER, VR::OB)],
        _ => Vec::new(),
    };
    InMemDicomObject::from_element_iter(elements)
}

/// A text object that shows nothing of the patient (PS3.3 Table C.10-5).
pub(crate) fn dummy_text_object() -> InMemDicomObject {
    let corner = PrimitiveValue::F32(vec![0.0, 0.0].into());
    InMemDicomObject::from_element_iter([
        DataElement::new(tags::ANCHOR_POINT_ANNOTATION_UNITS, VR::CS, "DISPLAY"),
        dummy(tags::UNFORMATTED_TEXT_VALUE, VR::ST),
        DataElement::new(tags::ANCHOR_POINT, VR::FL, corner),
        DataElement::new(tags::ANCHOR_POINT_VISIBILITY, VR::CS, "N"),
    ])
}

fn dummy_code() -> InMemDicomObject {
    // PS3.16 chapter 8: schemes that begin with 99 are private.
    code(REMOVED, "99CLOISTER", REMOVED)
}

/// A coded concept.
pub(crate) fn code(value: &str, scheme: &str, meaning: &str) -> InMemDicomObject {
    InMemDicomObject::from_element_iter([
        DataElement::new(tags::CODE_VALUE, VR::SH, value),
        DataElement::new(tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme),
        DataElement::new(tags::CODE_MEANING, VR::LO, meaning),
    ])
}

fn sequence(tag: Tag, item: InMemDicomObject) -> InMemElement {
    DataElement::new(
        tag,
        VR::SQ,
        DataSetSequence::new(vec![item], Length::UNDEFINED),
    )
}
