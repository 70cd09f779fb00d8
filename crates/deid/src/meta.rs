//! Reads the file meta information (PS3.10 section 7.1). The data set comes next.

use dicom_core::Tag;
use dicom_object::FileMetaTable;

use crate::{
    read::ReadFault,
    walk::{Coding, header},
};

/// A longer meta group names something else than a file: real ones have some hundred bytes.
const MAX_META_BYTES: usize = 64 << 10;

/// The group's elements, and what comes after them. The group ends where another begins, whatever
/// its length says. Private information and AE titles are read over: nothing here uses them.
pub(crate) fn read(data: &[u8]) -> Result<(FileMetaTable, &[u8]), ReadFault> {
    let mut meta = of("");
    let mut at = 0;
    let mut last = None;
    while data.get(at..at + 2) == Some(&[2, 0]) {
        let bound = data.len().min(MAX_META_BYTES);
        let header = header(data, at, bound, Coding::EXPLICIT_LE)?;
        let length = header.length.ok_or(ReadFault::Malformed)?;
        let value = data
            .get(header.value..header.value + length)
            .ok_or(ReadFault::Malformed)?;
        at = header.value + length;
        if last.is_some_and(|last| header.tag <= last) {
            return Err(ReadFault::Duplicate);
        }
        last = Some(header.tag);
        match header.tag {
            Tag(2, 0x0002) => meta.media_storage_sop_class_uid = text(value),
            Tag(2, 0x0003) => meta.media_storage_sop_instance_uid = text(value),
            Tag(2, 0x0010) => meta.transfer_syntax = text(value),
            Tag(2, 0x0012) => meta.implementation_class_uid = text(value),
            Tag(2, 0x0013) => meta.implementation_version_name = Some(text(value)),
            Tag(2, 0x0016) => meta.source_application_entity_title = Some(text(value)),
            _ => {}
        }
    }
    if at == 0 {
        return Err(ReadFault::NotDicom);
    }
    meta.update_information_group_length();
    Ok((meta, data.get(at..).unwrap_or_default()))
}

/// The group of a file that has none.
pub(crate) fn of(syntax: &str) -> FileMetaTable {
    FileMetaTable {
        information_group_length: 0,
        information_version: [0, 1],
        media_storage_sop_class_uid: String::new(),
        media_storage_sop_instance_uid: String::new(),
        transfer_syntax: syntax.to_owned(),
        implementation_class_uid: String::new(),
        implementation_version_name: None,
        source_application_entity_title: None,
        sending_application_entity_title: None,
        receiving_application_entity_title: None,
        private_information_creator_uid: None,
        private_information: None,
    }
}

fn text(value: &[u8]) -> String {
    let text: String = value.iter().copied().map(char::from).collect();
    text.trim_matches(|c: char| c == '\0' || c.is_whitespace())
        .to_owned()
}
