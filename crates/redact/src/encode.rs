//! After `blank`: the samples go back into the object, uncompressed (Explicit VR Little Endian), and
//! every attribute that describes them is made to agree. LossyImageCompression stays as it was: what
//! was lost once stays lost.

use dicom_core::value::{PrimitiveValue, Value};
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject;
use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;

use crate::error::RedactError;
use crate::film::Film;

/// Encodes the object with these samples.
pub(crate) fn encode(mut object: DefaultDicomObject, film: &Film) -> Result<Vec<u8>, RedactError> {
    let number = |tag: Tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
    let text =
        |tag: Tag, vr: VR, value: &str| DataElement::new(tag, vr, PrimitiveValue::from(value));
    let bits_allocated = film.bytes_per_sample as u16 * 8;
    object.put(number(tags::SAMPLES_PER_PIXEL, film.channels as u16));
    object.put(text(
        tags::PHOTOMETRIC_INTERPRETATION,
        VR::CS,
        film.photometric.name(),
    ));
    if film.channels > 1 {
        object.put(number(tags::PLANAR_CONFIGURATION, 0));
    } else {
        object.remove_element(tags::PLANAR_CONFIGURATION);
    }
    object.put(number(tags::BITS_ALLOCATED, bits_allocated));
    object.put(number(tags::BITS_STORED, film.bits_stored));
    object.put(number(tags::HIGH_BIT, film.bits_stored - 1));
    object.put(number(tags::PIXEL_REPRESENTATION, film.signed.into()));
    if film.frames > 1 {
        object.put(text(
            tags::NUMBER_OF_FRAMES,
            VR::IS,
            &film.frames.to_string(),
        ));
    }
    object.put(text(tags::BURNED_IN_ANNOTATION, VR::CS, "NO"));
    for tag in [
        tags::EXTENDED_OFFSET_TABLE,
        tags::EXTENDED_OFFSET_TABLE_LENGTHS,
        tags::ENCAPSULATED_PIXEL_DATA_VALUE_TOTAL_LENGTH,
        tags::PIXEL_DATA_PROVIDER_URL,
    ] {
        object.remove_element(tag);
    }
    let (vr, value) = if film.bytes_per_sample == 1 {
        let mut bytes = film.samples.clone();
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
        (VR::OB, PrimitiveValue::U8(bytes.into()))
    } else {
        let words = film
            .samples
            .as_chunks::<2>()
            .0
            .iter()
            .map(|pair| u16::from_le_bytes(*pair))
            .collect();
        (VR::OW, PrimitiveValue::U16(words))
    };
    object.put(DataElement::new(
        tags::PIXEL_DATA,
        vr,
        Value::Primitive(value),
    ));
    object
        .meta_mut()
        .set_transfer_syntax(&EXPLICIT_VR_LITTLE_ENDIAN);
    let mut out = Vec::with_capacity(film.samples.len() + (64 << 10));
    object
        .write_all(&mut out)
        .map_err(|_| RedactError::EncodeFailed)?;
    Ok(out)
}
