//! Builds the object in memory from the tokens of a walk. Text becomes Unicode here, with the
//! character sets of its own data set; collection comes next.

use dicom_core::value::{C, PixelFragmentSequence};
use dicom_core::{DataElement, Length, PrimitiveValue, Tag, VR, value::DataSetSequence};
use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, mem::InMemElement};

use crate::{
    charset::{Charset, dictionary_vr},
    read::ReadFault,
    retain::is_text,
    walk::{Token, Walker},
};

/// Values of multi-valued text that are held one by one; beyond, an element's values stay one
/// string with its backslashes. Each costs 24 bytes in memory and one in the file.
const MAX_TEXT_VALUES: usize = 1 << 20;

/// A data set on the way.
struct DataSet {
    elements: Vec<InMemElement>,
    charset: Charset,
    last: Option<Tag>,
    sorted: bool,
}

impl DataSet {
    fn new(charset: Charset) -> Self {
        Self {
            elements: Vec::new(),
            charset,
            last: None,
            sorted: true,
        }
    }

    fn push(&mut self, element: InMemElement) {
        let tag = element.header().tag;
        self.sorted &= self.last.is_none_or(|last| last < tag);
        self.last = self.last.max(Some(tag));
        self.elements.push(element);
    }

    fn finish(mut self) -> Result<InMemDicomObject, ReadFault> {
        if !self.sorted {
            self.elements.sort_by_key(|element| element.header().tag);
            // The same thing said twice is said once.
            self.elements.dedup();
            let twice = self
                .elements
                .windows(2)
                .any(|pair| matches!(pair, [a, b] if a.header().tag == b.header().tag));
            if twice {
                return Err(ReadFault::Duplicate);
            }
        }
        Ok(InMemDicomObject::from_element_iter(self.elements))
    }
}

/// A sequence on the way.
struct Sequence {
    tag: Tag,
    items: Vec<InMemDicomObject>,
}

/// The object that a walk goes through.
///
/// # Errors
/// What the walk says; [`ReadFault::Duplicate`] for an attribute that stands twice.
pub(crate) fn object(mut walker: Walker<'_>) -> Result<InMemDicomObject, ReadFault> {
    let mut outer: Vec<DataSet> = Vec::new();
    let mut sequences: Vec<Sequence> = Vec::new();
    let mut here = DataSet::new(Charset::default());
    let mut values_left = MAX_TEXT_VALUES;
    while let Some(token) = walker.next()? {
        match token {
            Token::Element {
                tag,
                vr,
                value,
                big_endian,
            } => {
                if tag == tags::SPECIFIC_CHARACTER_SET {
                    // Text before it was decoded by another set.
                    if here.last.is_some_and(|last| last >= tag) {
                        return Err(ReadFault::Duplicate);
                    }
                    here.charset = Charset::of(value);
                }
                // Characters that their sender wrote as numbers stand in the file as they read; as
                // swapped numbers nobody would know them.
                let vr = if big_endian && !is_text(vr) && dictionary_vr(tag).is_some_and(is_text) {
                    VR::UN
                } else {
                    vr
                };
                let value = primitive(vr, value, big_endian, here.charset, &mut values_left);
                here.push(match value {
                    Some((vr, value)) => DataElement::new(tag, vr, value),
                    None => DataElement::empty(tag, vr),
                });
            }
            Token::Fragments {
                tag,
                offsets,
                fragments,
            } => {
                let offsets: C<u32> = offsets
                    .chunks_exact(4)
                    .filter_map(|bytes| bytes.try_into().ok().map(u32::from_le_bytes))
                    .collect();
                let fragments: C<Vec<u8>> = fragments.into_iter().map(<[u8]>::to_vec).collect();
                let value = PixelFragmentSequence::new(offsets, fragments);
                here.push(DataElement::new(tag, VR::OB, value));
            }
            Token::Sequence { tag } => sequences.push(Sequence {
                tag,
                items: Vec::new(),
            }),
            Token::Item => {
                let inner = DataSet::new(here.charset);
                outer.push(std::mem::replace(&mut here, inner));
            }
            Token::ItemEnd => {
                let around = outer.pop().ok_or(ReadFault::Malformed)?;
                let item = std::mem::replace(&mut here, around).finish()?;
                sequences
                    .last_mut()
                    .ok_or(ReadFault::Malformed)?
                    .items
                    .push(item);
            }
            Token::SequenceEnd => {
                let Sequence { tag, items } = sequences.pop().ok_or(ReadFault::Malformed)?;
                let value = DataSetSequence::new(items, Length::UNDEFINED);
                here.push(DataElement::new(tag, VR::SQ, value));
            }
        }
    }
    here.finish()
}

/// A value in the form that fits its VR; UN where the length does not fit it. `None` if empty.
fn primitive(
    vr: VR,
    bytes: &[u8],
    big_endian: bool,
    charset: Charset,
    values_left: &mut usize,
) -> Option<(VR, PrimitiveValue)> {
    if bytes.is_empty() {
        return None;
    }
    macro_rules! numbers {
        ($number:ty, $variant:ident) => {{
            let numbers = numbers(vr, bytes, |bytes| {
                if big_endian {
                    <$number>::from_be_bytes(bytes)
                } else {
                    <$number>::from_le_bytes(bytes)
                }
            });
            numbers.map(|numbers| (vr, PrimitiveValue::$variant(numbers)))
        }};
    }
    let fitting = match vr {
        VR::US | VR::OW => numbers!(u16, U16),
        VR::SS => numbers!(i16, I16),
        VR::UL | VR::OL => numbers!(u32, U32),
        VR::SL => numbers!(i32, I32),
        VR::UV | VR::OV => numbers!(u64, U64),
        VR::SV => numbers!(i64, I64),
        VR::FL | VR::OF => numbers!(f32, F32),
        VR::FD | VR::OD => numbers!(f64, F64),
        VR::AT => numbers(vr, bytes, |bytes: [u8; 4]| {
            let [a, b, c, d] = bytes;
            if big_endian {
                Tag(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
            } else {
                Tag(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
            }
        })
        .map(|numbers| (vr, PrimitiveValue::Tags(numbers))),
        VR::OB | VR::UN | VR::SQ => None,
        VR::ST | VR::LT | VR::UT | VR::UR => {
            Some((vr, PrimitiveValue::Str(charset.decode(bytes, vr))))
        }
        _ => {
            let count = bytes.split(|byte| *byte == b'\\').count();
            let value = if let Some(left) = values_left.checked_sub(count) {
                *values_left = left;
                PrimitiveValue::Strs(charset.decode_values(bytes, vr).into())
            } else {
                PrimitiveValue::Str(charset.decode(bytes, vr))
            };
            Some((vr, value))
        }
    };
    let opaque = if vr == VR::OB { VR::OB } else { VR::UN };
    Some(fitting.unwrap_or_else(|| (opaque, PrimitiveValue::U8(bytes.into()))))
}

/// Numbers of one size. The last of an opaque value may be cut short and is filled with zeros; a
/// counted value must fit.
fn numbers<T, const N: usize>(vr: VR, bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Option<C<T>> {
    let (whole, rest) = bytes.as_chunks::<N>();
    let opaque = matches!(vr, VR::OW | VR::OL | VR::OV | VR::OF | VR::OD);
    if !rest.is_empty() && !opaque {
        return None;
    }
    let mut numbers: Vec<T> = Vec::with_capacity(whole.len() + 1);
    numbers.extend(whole.iter().map(|bytes| read(*bytes)));
    if !rest.is_empty() {
        let mut last = [0; N];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        numbers.push(read(last));
    }
    Some(C::from_vec(numbers))
}
