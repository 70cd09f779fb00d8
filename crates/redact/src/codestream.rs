//! What a compressed frame says about itself. It is compared with the header before the codec sees
//! the frame: a codec that is told two sizes leaves rows empty or writes past its buffer.

/// Size and depth from a codestream's own header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) components: usize,
    pub(crate) precision: u16,
    /// A JPEG process without loss (SOF3, 7, 11, 15).
    pub(crate) lossless: bool,
    /// JPEG-LS with one scan per component: decoded planes follow each other.
    pub(crate) planar: bool,
}

fn be16(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes([
        *bytes.get(at)?,
        *bytes.get(at + 1)?,
    ])))
}

fn be32(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_be_bytes(four.try_into().ok()?)).ok()
}

/// JPEG and JPEG-LS: the frame header (SOF0–15, SOF55) and, for JPEG-LS, the first scan header.
pub(crate) fn jpeg(bytes: &[u8]) -> Option<Facts> {
    if bytes.get(..2)? != [0xFF, 0xD8] {
        return None;
    }
    let mut at = 2;
    let mut facts: Option<(Facts, bool)> = None;
    loop {
        while *bytes.get(at)? == 0xFF && *bytes.get(at + 1)? == 0xFF {
            at += 1;
        }
        if *bytes.get(at)? != 0xFF {
            return None;
        }
        let marker = *bytes.get(at + 1)?;
        let length = be16(bytes, at + 2)?;
        if length < 2 {
            return None;
        }
        match marker {
            0xC4 | 0xC8 | 0xCC => {}
            0xC0..=0xCF | 0xF7 => {
                let found = Facts {
                    precision: u16::from(*bytes.get(at + 4)?),
                    height: be16(bytes, at + 5)?,
                    width: be16(bytes, at + 7)?,
                    components: usize::from(*bytes.get(at + 9)?),
                    lossless: marker & 3 == 3,
                    planar: false,
                };
                if marker != 0xF7 {
                    return Some(found);
                }
                facts = Some((found, true));
            }
            0xDA => {
                let (mut found, _) = facts?;
                let scans = usize::from(*bytes.get(at + 4)?);
                let interleave = *bytes.get(at + 4 + 2 * scans + 2)?;
                found.planar = found.components > 1 && interleave == 0;
                return Some(found);
            }
            0xD8 | 0xD9 => return None,
            _ => {}
        }
        at += 2 + length;
    }
}

/// JPEG 2000 and HTJ2K: the SIZ segment, with or without the JP2 boxes around it.
pub(crate) fn jpeg2000(bytes: &[u8]) -> Option<Facts> {
    let start = if bytes.starts_with(&[0xFF, 0x4F, 0xFF, 0x51]) {
        0
    } else {
        let head = bytes.get(..bytes.len().min(4096))?;
        head.windows(4)
            .position(|four| four == [0xFF, 0x4F, 0xFF, 0x51])?
    };
    let siz = bytes.get(start + 4..)?;
    let width = be32(siz, 4)?.checked_sub(be32(siz, 12)?)?;
    let height = be32(siz, 8)?.checked_sub(be32(siz, 16)?)?;
    let components = be16(siz, 36)? - usize::from(be16(siz, 36)? == 0xFFFF);
    let mut precision = 0;
    for component in 0..components.min(4) {
        let parts = siz.get(38 + component * 3..41 + component * 3)?;
        // Subsampled components would leave part of the picture empty.
        if parts.get(1..)? != [1, 1] {
            return None;
        }
        precision = precision.max(u16::from(parts.first()? & 0x7F) + 1);
    }
    Some(Facts {
        width,
        height,
        components,
        precision,
        lossless: false,
        planar: false,
    })
}

#[cfg(test)]
mod tests {
    use super::{jpeg, jpeg2000};

    #[test]
    fn a_baseline_header_is_read() {
        let bytes = [0xFF, 0xD8, 0xFF, 0xC0, 0, 11, 8, 0, 3, 0, 5, 1, 1, 0x11, 0];
        let facts = jpeg(&bytes).unwrap();
        assert_eq!(
            (facts.width, facts.height, facts.components, facts.precision),
            (5, 3, 1, 8)
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(mut bytes in proptest::collection::vec(0u8.., 0..200), j2k in 0u8..3) {
            let head: &[u8] = match j2k { 0 => &[0xFF, 0xD8], 1 => &[0xFF, 0x4F, 0xFF, 0x51], _ => &[] };
            bytes.splice(0..0, head.iter().copied());
            let _facts = (jpeg(&bytes), jpeg2000(&bytes));
        }
    }
}
