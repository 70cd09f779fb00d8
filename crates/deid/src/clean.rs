//! Applies the table to every attribute at any depth, and a stricter rule of its own to what the
//! table does not list. Collection comes before; encoding follows.

use std::{borrow::Cow, cell::Cell};

use cloister_scrub::{Searcher, scrub_with};
use dicom_core::{
    DataDictionary, DataElement, Length, PrimitiveValue, Tag, VR,
    dictionary::DataDictionaryEntry,
    value::{DataSetSequence, Value},
};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::{InMemDicomObject, mem::InMemElement};

use crate::{
    IdKind, Policy, PseudonymError, Pseudonyms,
    charset::{codes_of, dictionary_vr, is_text_as_numbers, values},
    dates::DayShift,
    denied::{is_denied, is_of_pixels},
    dummy::{REMOVED, dummy, empty},
    hits, icc, lut,
    required::{self, Need, Place},
    retain::{has_form, is_text},
    structured,
    table::{self, Effect, ProfileOption, Row},
};

/// What the cleaner needs to know about one object.
pub(crate) struct Cleaner<'a> {
    pub(crate) searcher: Searcher,
    pub(crate) ids: &'a dyn Pseudonyms,
    pub(crate) issuer: &'a str,
    /// SOP Class UID.
    pub(crate) class: &'a str,
    pub(crate) policy: Policy,
    /// Set where the policy moves dates.
    pub(crate) shift: Option<DayShift>,
    /// Whether a date or time that the policy keeps or moves could not be.
    pub(crate) lost_dates: Cell<bool>,
}

/// Envelopes around attributes as they were, and what belonged to signatures that are gone. The
/// table does not list them.
const ENVELOPES: [Tag; 2] = [
    tags::ENCRYPTED_ATTRIBUTES_SEQUENCE,
    tags::MAC_PARAMETERS_SEQUENCE,
];

/// Free text of content items and annotations: what is in doubt there is replaced as a whole.
const FREE_TEXT: [Tag; 2] = [tags::TEXT_VALUE, tags::UNFORMATTED_TEXT_VALUE];

impl Cleaner<'_> {
    /// Cleans one data set: the object or an item.
    pub(crate) fn clean(
        &self,
        object: &InMemDicomObject,
        outer: &[String],
        place: Place,
    ) -> Result<InMemDicomObject, PseudonymError> {
        let codes = codes_of(object, outer);
        let standard_code = structured::has_standard_code(object);
        let mut cleaned = InMemDicomObject::new_empty();
        for element in object.iter() {
            let tag = element.header().tag;
            // Command, file meta and directory groups do not belong in a data set; group lengths
            // are retired and would be wrong; text is written as UTF-8 whatever it came in.
            if tag.group() <= 0x0007
                || tag.element() == 0
                || tag == tags::SPECIFIC_CHARACTER_SET
                || ENVELOPES.contains(&tag)
            {
                continue;
            }
            let kept = match table::find(tag) {
                Some(row) if self.policy.effect(row) == Effect::SafePrivate => {
                    for kept in self
                        .safe_private(object, element, &codes)
                        .into_iter()
                        .flatten()
                    {
                        cleaned.put(kept);
                    }
                    None
                }
                Some(row) => self.by_table(object, element, row, &codes, place)?,
                // Nine digits are a concept here, not somebody's number.
                None if standard_code && structured::is_code_value(tag) => {
                    match self.retained(element, &codes, place)? {
                        Some(kept) => Some(kept),
                        None => self.unlisted(object, element, &codes, place)?,
                    }
                }
                None => self.unlisted(object, element, &codes, place)?,
            };
            if let Some(kept) = self.as_required(object, element, kept, &codes, place)? {
                cleaned.put(kept);
            }
        }
        Ok(cleaned)
    }

    /// What was kept of an element, or what the object must have of it all the same.
    fn as_required(
        &self,
        object: &InMemDicomObject,
        element: &InMemElement,
        kept: Option<InMemElement>,
        codes: &[String],
        place: Place,
    ) -> Result<Option<InMemElement>, PseudonymError> {
        let tag = element.header().tag;
        let had_value = |element: &InMemElement| match element.value() {
            Value::Primitive(value) => value.calculate_byte_len() > 0,
            Value::Sequence(sequence) => !sequence.items().is_empty(),
            Value::PixelSequence(_) => true,
        };
        let has_value = kept.as_ref().is_some_and(had_value);
        if has_value {
            return Ok(kept);
        }
        let vr = dictionary_vr(tag).unwrap_or(element.vr());
        Ok(match required::need(self.class, object, place, tag) {
            Some(Need::Value) if !had_value(element) => Some(empty(tag, vr)),
            // References with mapped UIDs say nothing and are valid.
            Some(Need::Value) if tag == tags::REFERENCED_STUDY_SEQUENCE => {
                self.items(element, codes, place)?
            }
            Some(Need::Value) => Some(dummy(tag, vr)),
            Some(Need::Presence) => Some(empty(tag, vr)),
            // Where it may be absent it has one item or more (PS3.3 Table C.7-3).
            None if tag == tags::REFERENCED_STUDY_SEQUENCE => None,
            None => kept,
        })
    }

    fn by_table(
        &self,
        object: &InMemDicomObject,
        element: &InMemElement,
        row: &Row,
        codes: &[String],
        place: Place,
    ) -> Result<Option<InMemElement>, PseudonymError> {
        // The two identifiers that a reader of the cleaned object joins by.
        let joined_by = match element.header().tag {
            tags::PATIENT_ID => Some(IdKind::PatientId),
            tags::ACCESSION_NUMBER => Some(IdKind::Accession),
            _ => None,
        };
        if let Some(kind) = joined_by {
            let issuer = self.issuer_of(object, kind, codes);
            return self.pseudonym(element, kind, &issuer, codes).map(Some);
        }
        let effect = self.policy.effect(row);
        let kept = match effect {
            Effect::Keep => self.retained(element, codes, place)?,
            Effect::ShiftDate => self.shifted(element, codes),
            Effect::CleanText => self.cleaned_text(element, codes, place)?,
            Effect::CleanStructure => self.content_items(element, codes, place)?,
            Effect::CleanGraphics => self.annotations(element, codes, place)?,
            effect => return self.take_out(element, effect, codes, place),
        };
        if kept.is_some() {
            return Ok(kept);
        }
        // What an option cannot keep without doubt is treated as if it were not applied.
        let dated = dictionary_vr(element.header().tag)
            .is_some_and(|vr| matches!(vr, VR::DA | VR::DT | VR::TM));
        if dated && matches!(effect, Effect::Keep | Effect::ShiftDate) {
            self.lost_dates.set(true);
        }
        self.take_out(element, row.action.effect(), codes, place)
    }

    /// A patient ID belongs to the issuer that stands beside it, if one does.
    fn issuer_of<'b>(
        &'b self,
        object: &InMemDicomObject,
        kind: IdKind,
        codes: &[String],
    ) -> Cow<'b, str> {
        let own = object
            .get(tags::ISSUER_OF_PATIENT_ID)
            .map(|element| values(element, codes).join("\\"))
            .filter(|own| !own.is_empty() && kind == IdKind::PatientId);
        own.map_or(Cow::Borrowed(self.issuer), Cow::Owned)
    }

    /// What the Basic profile does.
    fn take_out(
        &self,
        element: &InMemElement,
        effect: Effect,
        codes: &[String],
        place: Place,
    ) -> Result<Option<InMemElement>, PseudonymError> {
        let tag = element.header().tag;
        let vr = dictionary_vr(tag).unwrap_or(element.vr());
        Ok(match effect {
            Effect::Empty => Some(empty(tag, vr)),
            // References with mapped UIDs say nothing and are valid in every IOD.
            Effect::Dummy if tag == tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE => self
                .items(element, codes, place)?
                .or_else(|| Some(empty(tag, vr))),
            Effect::Dummy => Some(dummy(tag, vr)),
            Effect::MapUid if vr == VR::UI => Some(self.map_uids(element)?),
            Effect::MapUid => self
                .items(element, codes, place)?
                .or_else(|| Some(empty(tag, vr))),
            _ => None,
        })
    }

    fn pseudonym(
        &self,
        element: &InMemElement,
        kind: IdKind,
        issuer: &str,
        codes: &[String],
    ) -> Result<InMemElement, PseudonymError> {
        let tag = element.header().tag;
        let vr = dictionary_vr(tag).unwrap_or(VR::LO);
        let original = values(element, codes).join("\\");
        if original.is_empty() {
            return Ok(empty(tag, vr));
        }
        let limit = if vr == VR::SH { 16 } else { 64 };
        let pseudonym = self.ids.pseudonym(kind, issuer, &original)?;
        let fits = !pseudonym.is_empty()
            && pseudonym.len() <= limit
            && pseudonym
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        if !fits {
            return Err(PseudonymError::Invalid);
        }
        Ok(DataElement::new(tag, vr, pseudonym.as_str()))
    }

    fn map_uids(&self, element: &InMemElement) -> Result<InMemElement, PseudonymError> {
        let tag = element.header().tag;
        let mut mapped = Vec::new();
        for value in values(element, &[]) {
            mapped.push(if value.is_empty() {
                value
            } else {
                self.map_uid(tag, &value)?
            });
        }
        let value = PrimitiveValue::Strs(mapped.into());
        Ok(DataElement::new(tag, VR::UI, value))
    }

    fn map_uid(&self, tag: Tag, uid: &str) -> Result<String, PseudonymError> {
        let instance = matches!(
            tag,
            tags::SOP_INSTANCE_UID | tags::SERIES_INSTANCE_UID | tags::STUDY_INSTANCE_UID
        );
        // Well-known frames of reference and palettes are the standard's own (PS3.6 A.2, A.4).
        if !instance
            && (uid.starts_with("1.2.840.10008.1.4.") || uid.starts_with("1.2.840.10008.1.5."))
        {
            return Ok(uid.to_owned());
        }
        map_uid(self.ids, uid)
    }

    /// The UID of an instance, series or study in the cleaned object.
    pub(crate) fn instance_uid(&self, uid: &str) -> Result<String, PseudonymError> {
        let retained = self.policy.has(ProfileOption::RetainUids)
            && cloister_phi::Uid::parse(uid).is_ok()
            && !self.hit(uid);
        if retained {
            return Ok(uid.to_owned());
        }
        map_uid(self.ids, uid)
    }

    /// A sequence, cleaned item by item; none if the element is no sequence.
    pub(crate) fn items(
        &self,
        element: &InMemElement,
        codes: &[String],
        place: Place,
    ) -> Result<Option<InMemElement>, PseudonymError> {
        let Some(items) = element.items() else {
            return Ok(None);
        };
        let tag = element.header().tag;
        let mut cleaned = Vec::with_capacity(items.len());
        for item in items {
            cleaned.extend(self.item(item, codes, place.inside(tag))?);
        }
        let sequence = DataSetSequence::new(cleaned, Length::UNDEFINED);
        Ok(Some(DataElement::new(tag, VR::SQ, sequence)))
    }

    /// Attributes that the table does not list are kept if their meaning is known and their value
    /// cannot hide anything: no unknown tags, no opaque bytes but pixels and look-up tables, no
    /// names, dates or addresses, no free text that was not scrubbed.
    fn unlisted(
        &self,
        object: &InMemDicomObject,
        element: &InMemElement,
        codes: &[String],
        place: Place,
    ) -> Result<Option<InMemElement>, PseudonymError> {
        let tag = element.header().tag;
        // Pixels below the top level nobody redacts.
        if is_denied(tag) || is_of_pixels(tag) && place.depth > 0 {
            return Ok(None);
        }
        // Overlay planes lose their data by the table; what describes them goes with it.
        let overlay = tag.group() & 0xff00 == 0x6000;
        let Some(entry) = StandardDataDictionary.by_tag(tag).filter(|_| !overlay) else {
            return Ok(None);
        };
        let Some(vr) = dictionary_vr(tag) else {
            return Ok(None);
        };
        if FREE_TEXT.contains(&tag) {
            let cleaned = self.cleaned_text(element, codes, place)?;
            return Ok(Some(cleaned.unwrap_or_else(|| dummy(tag, vr))));
        }
        match element.value() {
            Value::Sequence(_) => return self.items(element, codes, place),
            Value::PixelSequence(_) => {
                return Ok((place.depth == 0 && tag == tags::PIXEL_DATA).then(|| element.clone()));
            }
            Value::Primitive(_) => {}
        }
        // Text that its sender wrote as numbers.
        let written = element.vr();
        if is_text_as_numbers(element) && !matches!(written, VR::UN | VR::OB) {
            return Ok(None);
        }
        if lut::is_lut(tag) && !is_text(written) {
            return Ok(lut::bounded(object, element).filter(|lut| self.is_silent(lut)));
        }
        if tag == tags::ICC_PROFILE && matches!(written, VR::OB | VR::UN) {
            let profile = element.to_bytes().ok();
            let colours = profile
                .and_then(|profile| icc::bounded(&profile))
                .map(|colours| DataElement::new(tag, VR::OB, PrimitiveValue::U8(colours.into())));
            return Ok(colours.filter(|colours| self.is_silent(colours)));
        }
        Ok(match written {
            VR::SQ => Some(empty(tag, VR::SQ)),
            VR::PN => Some(empty(tag, VR::PN)),
            VR::DA | VR::TM | VR::DT | VR::AE | VR::UR | VR::UN => None,
            VR::UI => {
                let class = [
                    "Class",
                    "TransferSyntax",
                    "CodingScheme",
                    "ContextUID",
                    "Mapping",
                ];
                let kept = class.iter().any(|word| entry.alias().contains(word))
                    || values(element, &[])
                        .iter()
                        .all(|uid| uid.starts_with("1.2.840.10008."));
                let retained = self.policy.has(ProfileOption::RetainUids);
                if kept {
                    self.text(element, vr, codes)
                } else if retained && let Some(uids) = self.retained(element, codes, place)? {
                    Some(uids)
                } else {
                    Some(self.map_uids(element)?)
                }
            }
            VR::OB | VR::OW | VR::OF | VR::OD | VR::OL | VR::OV => {
                is_of_pixels(tag).then(|| element.clone())
            }
            VR::US | VR::SS | VR::UL | VR::SL | VR::UV | VR::SV | VR::FL | VR::FD | VR::AT => {
                Some(if self.is_silent(element) {
                    element.clone()
                } else {
                    empty(tag, vr)
                })
            }
            _ => self.text(element, vr, codes),
        })
    }

    /// Whether no identifier stands in the bytes of numbers.
    fn is_silent(&self, element: &InMemElement) -> bool {
        element
            .to_bytes()
            .is_ok_and(|bytes| !self.searcher.find_in_bytes(&bytes))
    }

    /// Text that stays: scrubbed if free, dropped or replaced if coded and a hit.
    fn text(&self, element: &InMemElement, vr: VR, codes: &[String]) -> Option<InMemElement> {
        let tag = element.header().tag;
        let written = element.vr();
        let numeric = matches!(written, VR::DS | VR::IS | VR::AS | VR::UI);
        let free = matches!(written, VR::LO | VR::SH | VR::ST | VR::LT | VR::UT | VR::UC);
        let limit = match written {
            VR::SH | VR::CS => 16,
            VR::LO => 64,
            VR::ST => 1024,
            VR::LT => 10_240,
            _ => usize::MAX,
        };
        let mut kept = Vec::new();
        for value in values(element, codes) {
            let long = value.len() > hits::MAX_TEXT_BYTES;
            let mut value = if free && !long {
                scrub_with(&value, &self.searcher).text
            } else {
                value
            };
            let odd = match written {
                VR::CS => !is_code_string(&value) || !self.says_nothing(&value),
                _ => numeric && !has_form(written, &value),
            };
            // The gate's own question, so that what stays here passes there.
            if long || odd || hits::in_value(&self.searcher, &value, written, codes) {
                if numeric {
                    return Some(empty(tag, vr));
                }
                REMOVED.clone_into(&mut value);
            }
            if value.chars().count() > limit && free {
                value = value.chars().take(limit).collect();
            }
            kept.push(value);
        }
        if hits::across(&self.searcher, &kept, written) {
            kept.fill(REMOVED.to_owned());
        }
        // A text in an attribute that is no text: whoever wrote it meant something else.
        let fits = vr == written || !matches!(vr, VR::SQ | VR::PN | VR::DA | VR::DT | VR::TM);
        fits.then(|| DataElement::new(tag, written, PrimitiveValue::Strs(kept.into())))
    }
}

/// The pseudonym of a UID, checked to be one.
pub(crate) fn map_uid(ids: &dyn Pseudonyms, uid: &str) -> Result<String, PseudonymError> {
    let mapped = ids.pseudonym(IdKind::Uid, "", uid)?;
    cloister_phi::Uid::parse(&mapped).map_err(|_| PseudonymError::Invalid)?;
    Ok(mapped)
}

/// Whether a value could be a code string (PS3.5 Table 6.2-1). Many writers use small letters and
/// signs in them.
fn is_code_string(value: &str) -> bool {
    value.len() <= 16
        && value
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'^' || byte == b' ')
}
