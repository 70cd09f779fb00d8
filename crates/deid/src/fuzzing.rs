//! What the fuzz targets in `fuzz/` call: each takes any bytes, must end, and must hold what it
//! says. No part of the public interface.

use std::sync::LazyLock;

use cloister_scrub::{Kind, KnownIdentifiers, Searcher};
use dicom_core::VR;
use dicom_encoding::text::SpecificCharacterSet;
use dicom_transfer_syntax_registry::entries;

use crate::{
    Policy, build,
    charset::{Charset, also_read_as},
    codestream, gate, meta,
    walk::{Coding, Walker},
};

/// Walks and builds a data set in the coding that the first byte names; what was built can be
/// written and read again.
pub fn data_set(data: &[u8]) {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    drop(meta::read(data));
    let coding = match first % 3 {
        0 => Coding::EXPLICIT_LE,
        1 => Coding::IMPLICIT_LE,
        _ => Coding::EXPLICIT_BE,
    };
    let Ok(object) = build::object(Walker::new(data, coding)) else {
        return;
    };
    let mut written = Vec::new();
    let wrote = object.write_dataset_with_ts_cs(
        &mut written,
        &entries::EXPLICIT_VR_LITTLE_ENDIAN.erased(),
        SpecificCharacterSet::ISO_IR_192,
    );
    // A text may be longer in UTF-8 than its header can say; then the writer's file is not ours.
    let short = data.len() < 16_000;
    if wrote.is_ok() && short {
        let again = build::object(Walker::new(&written, Coding::EXPLICIT_LE));
        assert!(again.is_ok(), "what was read and written cannot be read");
    }
}

/// Decodes text under any declaration.
pub fn charset(data: &[u8]) {
    const CODES: [&str; 16] = [
        "",
        "ISO_IR 100",
        "ISO_IR 144",
        "ISO_IR 13",
        "ISO_IR 166",
        "ISO_IR 192",
        "GB18030",
        "GBK",
        "\\ISO 2022 IR 87",
        "\\ISO 2022 IR 159",
        "\\ISO 2022 IR 149",
        "\\ISO 2022 IR 58",
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        "ISO 2022 IR 100\\ISO 2022 IR 126",
        "ISO_IR 148",
        "nonsense",
    ];
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let code = CODES
        .get(usize::from(*first) % CODES.len())
        .copied()
        .unwrap_or_default();
    let set = Charset::of(code.as_bytes());
    let text = set.decode(data, VR::PN);
    let values = set.decode_values(data, VR::LO);
    let most = data.split(|byte| *byte == b'\\').count();
    assert!(values.len() <= most, "more values than delimiters");
    let codes = [code.to_owned()];
    drop(also_read_as(&text, &codes));
}

/// Strips a frame; what is stripped is stripped.
pub fn frame(data: &[u8]) {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let strip = |data: &[u8]| match first % 4 {
        0 => codestream::jpeg(data),
        1 => codestream::jpeg2000(data, first & 4 != 0),
        2 => codestream::jpeg_xl(data),
        _ => codestream::rle(data, 64),
    };
    if let Ok(once) = strip(data) {
        assert!(
            strip(&once) == Ok(once),
            "stripping again changes the frame"
        );
    }
}

/// Looks through any bytes for a patient's identifiers.
pub fn look(data: &[u8]) {
    // Making it takes longer than a look.
    static SEARCHER: LazyLock<Searcher> = LazyLock::new(|| {
        let mut known = KnownIdentifiers::new();
        known.add(Kind::Name, "Kanarienvögelein^Zwitschérine=金糸雀子^歌鳥");
        known.add(Kind::Id, "KV4815162342");
        known.add(Kind::Date, "19471103");
        known.searcher()
    });
    let passed = gate::look_with(data, &SEARCHER, Policy::basic()).is_ok();
    let plain = data
        .windows(12)
        .any(|window| window.eq_ignore_ascii_case(b"KV4815162342"));
    assert!(!(passed && plain), "an identifier passed the gate");
}
