//! RLE (PS3.5 annex G): one segment per byte of a sample and channel, most significant first, each of
//! PackBits runs row by row. One-bit pixels are packed eight to a byte.

/// Decoded samples of one frame, interleaved and little endian; `None` for what is no such frame.
/// Runs beyond the last sample are left unread.
pub(crate) fn decode(
    frame: &[u8],
    pixels: usize,
    channels: usize,
    bytes_per_sample: usize,
) -> Option<Vec<u8>> {
    let header = frame.get(..64)?.as_chunks::<4>().0;
    let mut words = header.iter().map(|word| u32::from_le_bytes(*word));
    let count = words.next()? as usize;
    if count != channels * bytes_per_sample || count > 15 {
        return None;
    }
    let starts: Vec<usize> = words.take(count).map(|start| start as usize).collect();
    let mut out = vec![0; pixels * count];
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(frame.len());
        let (channel, byte) = (index / bytes_per_sample, index % bytes_per_sample);
        let first = channel * bytes_per_sample + (bytes_per_sample - 1 - byte);
        let mut to = out.iter_mut().skip(first).step_by(count);
        if start < 64
            || !runs(frame.get(start..end)?, pixels, |value| {
                if let Some(to) = to.next() {
                    *to = value;
                }
            })
        {
            return None;
        }
    }
    Some(out)
}

/// Unrolls a segment until `wanted` bytes are there; false where it ends before.
fn runs(mut bytes: &[u8], wanted: usize, mut put: impl FnMut(u8)) -> bool {
    let mut left = wanted;
    while left > 0 {
        let Some((&head, rest)) = bytes.split_first() else {
            return false;
        };
        match head {
            0..=127 => {
                let length = usize::from(head) + 1;
                let Some((literal, rest)) = rest.split_at_checked(length) else {
                    return false;
                };
                literal.iter().take(left).for_each(|&value| put(value));
                left -= length.min(left);
                bytes = rest;
            }
            128 => bytes = rest,
            129..=255 => {
                let Some((&value, rest)) = rest.split_first() else {
                    return false;
                };
                let length = (257 - usize::from(head)).min(left);
                (0..length).for_each(|_| put(value));
                left -= length;
                bytes = rest;
            }
        }
    }
    true
}

/// One frame; `None` for more than 15 segments.
pub(crate) fn encode(
    samples: &[u8],
    width: usize,
    channels: usize,
    bytes_per_sample: usize,
) -> Option<Vec<u8>> {
    let count = channels * bytes_per_sample;
    if count > 15 || count == 0 || width == 0 {
        return None;
    }
    let mut out = vec![0; 64];
    let mut starts = vec![count as u32];
    for index in 0..count {
        starts.push(u32::try_from(out.len()).ok()?);
        let (channel, byte) = (index / bytes_per_sample, index % bytes_per_sample);
        let first = channel * bytes_per_sample + (bytes_per_sample - 1 - byte);
        let plane: Vec<u8> = samples.iter().skip(first).step_by(count).copied().collect();
        // No run crosses a row (G.3.1).
        plane.chunks(width).for_each(|row| pack(row, &mut out));
        if out.len() % 2 == 1 {
            out.push(0);
        }
    }
    for (to, start) in out.as_chunks_mut::<4>().0.iter_mut().zip(starts) {
        *to = start.to_le_bytes();
    }
    Some(out)
}

fn pack(row: &[u8], out: &mut Vec<u8>) {
    let mut literal: Vec<u8> = Vec::new();
    let flush = |literal: &mut Vec<u8>, out: &mut Vec<u8>| {
        for part in literal.chunks(128) {
            out.push(part.len() as u8 - 1);
            out.extend(part);
        }
        literal.clear();
    };
    for run in row.chunk_by(|a, b| a == b) {
        for part in run.chunks(128) {
            match part {
                [value, _, _, ..] => {
                    flush(&mut literal, out);
                    out.extend([(257 - part.len()) as u8, *value]);
                }
                short => literal.extend(short),
            }
        }
    }
    flush(&mut literal, out);
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    proptest::proptest! {
        #[test]
        fn samples_come_back(
            runs in proptest::collection::vec((0u8..4, 1usize..300), 1..20),
            channels in 0usize..2, bytes in 0usize..3,
        ) {
            let (channels, bytes) = ([1, 3][channels], [1, 2, 4][bytes]);
            let mut samples: Vec<u8> = runs.iter().flat_map(|&(value, length)| std::iter::repeat_n(value, length)).collect();
            let width = 7;
            let row = width * channels * bytes;
            samples.resize(samples.len().div_ceil(row) * row, 9);
            let pixels = samples.len() / channels / bytes;
            let frame = encode(&samples, width, channels, bytes).unwrap();
            assert!(frame.len().is_multiple_of(2));
            assert_eq!(decode(&frame, pixels, channels, bytes).unwrap(), samples);
            assert_eq!(decode(&frame, pixels * 300, channels, bytes), None);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(0u8.., 0..300), count in 0u8..5) {
            if let Some(first) = bytes.first_mut() { *first = count; }
            if bytes.len() > 3 { bytes[1..4].fill(0); }
            let _samples = decode(&bytes, 100, 1, usize::from(count.max(1)));
        }
    }
}
