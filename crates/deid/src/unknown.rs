//! Drops elements of VR UN and undefined length (PS3.5 section 6.2.2 note 2, CP-246) from an
//! encoded data set. Reading comes next: the parser cannot step over their implicit VR contents,
//! and the cleaner would drop them anyway.

/// The data set without such elements, or `None` where there is none, or where one stands inside a
/// sequence of defined length (then the parser refuses the object).
pub(crate) fn without_unknown_sequences(data: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(data.len());
    let mut at = 0;
    let mut copied = 0;
    // End of the outermost sequence or item of defined length around this place.
    let mut defined_until = 0;
    while at < data.len() {
        let header = Header::explicit(data, at)?;
        match header.kind {
            Kind::Unknown => {
                if at < defined_until {
                    return None;
                }
                out.extend_from_slice(data.get(copied..at)?);
                at = skip_implicit(data, header.value)?;
                copied = at;
            }
            // Walk into sequences and items as if they were flat.
            Kind::Open(length) => {
                if let Some(length) = length {
                    defined_until = defined_until.max(header.value.checked_add(length)?);
                }
                at = header.value;
            }
            Kind::Value(length) => at = header.value.checked_add(length)?,
            // Encapsulated pixels: nothing of interest comes after them.
            Kind::Fragments => break,
        }
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(data.get(copied..)?);
    Some(out)
}

enum Kind {
    Fragments,
    Open(Option<usize>),
    Unknown,
    Value(usize),
}

struct Header {
    kind: Kind,
    /// Where the value begins.
    value: usize,
}

const UNDEFINED: u32 = 0xFFFF_FFFF;
const ITEM: [u8; 4] = [0xFE, 0xFF, 0x00, 0xE0];
const ITEM_END: [u8; 4] = [0xFE, 0xFF, 0x0D, 0xE0];
const SEQUENCE_END: [u8; 4] = [0xFE, 0xFF, 0xDD, 0xE0];

impl Header {
    /// An element header in explicit VR little endian, or an item header.
    fn explicit(data: &[u8], at: usize) -> Option<Self> {
        let tag: [u8; 4] = data.get(at..at.checked_add(4)?)?.try_into().ok()?;
        if tag == ITEM || tag == ITEM_END || tag == SEQUENCE_END {
            let length = length32(data, at + 4)?;
            let open = (length != UNDEFINED).then_some(length as usize);
            return Some(Self {
                kind: Kind::Open(open),
                value: at + 8,
            });
        }
        let vr = data.get(at + 4..at + 6)?;
        let long = matches!(
            vr,
            b"OB"
                | b"OD"
                | b"OF"
                | b"OL"
                | b"OV"
                | b"OW"
                | b"SQ"
                | b"SV"
                | b"UC"
                | b"UN"
                | b"UR"
                | b"UT"
                | b"UV"
        );
        if !long {
            let length: [u8; 2] = data.get(at + 6..at + 8)?.try_into().ok()?;
            let length = usize::from(u16::from_le_bytes(length));
            return Some(Self {
                kind: Kind::Value(length),
                value: at + 8,
            });
        }
        let length = length32(data, at + 8)?;
        let kind = match (vr, length) {
            (b"UN", UNDEFINED) => Kind::Unknown,
            (b"SQ", UNDEFINED) => Kind::Open(None),
            (b"SQ", _) => Kind::Open(Some(length as usize)),
            (_, UNDEFINED) => Kind::Fragments,
            _ => Kind::Value(length as usize),
        };
        Some(Self {
            kind,
            value: at + 12,
        })
    }
}

/// Steps over the items of a sequence in implicit VR little endian; returns the place after its
/// delimiter. Counts depth instead of recursing.
fn skip_implicit(data: &[u8], mut at: usize) -> Option<usize> {
    // Open sequences and items of undefined length.
    let mut open = 1_usize;
    while open > 0 {
        let tag: [u8; 4] = data.get(at..at.checked_add(4)?)?.try_into().ok()?;
        let length = length32(data, at + 4)?;
        at += 8;
        if tag == ITEM_END || tag == SEQUENCE_END {
            open -= 1;
        } else if length == UNDEFINED {
            open += 1;
        } else {
            at = at.checked_add(length as usize)?;
        }
    }
    Some(at)
}

fn length32(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..at.checked_add(4)?)?
        .try_into()
        .ok()
        .map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::without_unknown_sequences;

    #[test]
    fn an_unknown_sequence_is_cut_out_and_the_rest_stays() {
        let before = [8, 0, 0x60, 0, b'C', b'S', 2, 0, b'C', b'R'];
        let after = [0x10, 0, 0x40, 0, b'C', b'S', 2, 0, b'F', b' '];
        let mut data = before.to_vec();
        data.extend([9, 0, 1, 16, b'U', b'N', 0, 0, 0xff, 0xff, 0xff, 0xff]);
        data.extend([0xfe, 0xff, 0, 0xe0, 0xff, 0xff, 0xff, 0xff]);
        data.extend([0x10, 0, 0x10, 0, 4, 0, 0, 0, b'D', b'O', b'E', b'^']);
        data.extend([
            0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0, 0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0,
        ]);
        data.extend(after);
        assert_eq!(
            without_unknown_sequences(&data).unwrap(),
            [before, after].concat()
        );
        assert_eq!(without_unknown_sequences(&before), None);
        for end in 0..data.len() {
            let _cut = without_unknown_sequences(&data[..end]);
        }
    }
}
