//! Values that say nothing, one for each VR. The cleaner puts them where the table asks for `D`.

use dicom_core::{DataElement, Length, PrimitiveValue, Tag, VR, value::DataSetSequence};
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
        VR::SQ => {
            let item = InMemDicomObject::new_empty();
            return DataElement::new(
                tag,
                VR::SQ,
                DataSetSequence::new(vec![item], Length::UNDEFINED),
            );
        }
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
