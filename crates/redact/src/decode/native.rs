//! Uncompressed samples: from the file's order to ours (interleaved, little endian, at bit 0, unused
//! bits cleared) and back, so that what was not redacted comes out as the same bytes.

use super::layout::Layout;
use super::{Result, bad};
use crate::error::Undecodable;
use crate::film::{Film, Stored};

/// Decoded samples of all frames; `bytes` are little endian (PS3.5 annex D, words already turned).
pub(super) fn unpack(bytes: &[u8], layout: &Layout) -> Result<Vec<u8>> {
    let short = || bad(Undecodable::SizeMismatch);
    let values = layout.pixels() * layout.channels * layout.frames;
    if layout.bits_allocated == 1 {
        // Frames follow each other without a gap, the first pixel in the lowest bit (8.1.1).
        let packed = bytes.get(..values.div_ceil(8)).ok_or_else(short)?;
        return Ok(bits(packed, values));
    }
    if layout.pairs() {
        let quads = bytes
            .get(..layout.pixels() * 2 * layout.frames)
            .ok_or_else(short)?;
        return Ok(quads
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|&[first, second, blue, red]| [first, blue, red, second, blue, red])
            .collect());
    }
    let wanted = layout.frame_bytes() * layout.frames;
    bytes.get(..wanted).map(<[u8]>::to_vec).ok_or_else(short)
}

/// One byte per bit.
pub(super) fn bits(packed: &[u8], count: usize) -> Vec<u8> {
    packed
        .iter()
        .flat_map(|byte| (0..8).map(move |bit| (byte >> bit) & 1))
        .take(count)
        .collect()
}

/// The bytes as the file had them.
pub(crate) fn pack(film: &Film) -> Vec<u8> {
    let Stored {
        shift,
        planar,
        pairs,
        bits_allocated,
        ..
    } = film.stored;
    if bits_allocated == 1 {
        return film
            .samples
            .chunks(8)
            .map(|eight| {
                eight
                    .iter()
                    .rev()
                    .fold(0, |byte, &bit| (byte << 1) | u8::from(bit != 0))
            })
            .collect();
    }
    if pairs {
        return film
            .samples
            .as_chunks::<6>()
            .0
            .iter()
            .flat_map(|&[first, blue, red, second, ..]| [first, second, blue, red])
            .collect();
    }
    let mut samples = if planar {
        separate(film)
    } else {
        film.samples.clone()
    };
    if shift > 0 {
        each(&mut samples, film.bytes_per_sample, |value| value << shift);
    }
    samples
}

/// Changes every sample.
fn each(samples: &mut [u8], bytes: usize, mut change: impl FnMut(u64) -> u64) {
    if bytes == 2 {
        // What nearly every film has.
        for sample in samples.as_chunks_mut::<2>().0 {
            let changed = change(u16::from_le_bytes(*sample).into());
            *sample = (changed as u16).to_le_bytes();
        }
        return;
    }
    for sample in samples.chunks_exact_mut(bytes) {
        let mut wide = [0; 8];
        for (to, from) in wide.iter_mut().zip(sample.iter()) {
            *to = *from;
        }
        let changed = change(u64::from_le_bytes(wide)).to_le_bytes();
        sample.copy_from_slice(changed.get(..bytes).unwrap_or_default());
    }
}

/// From planes to pixels.
pub(super) fn interleave(film: &mut Film) {
    let (bytes, channels) = (film.bytes_per_sample, film.channels);
    let plane = film.width * film.height * bytes;
    let mut out = Vec::with_capacity(film.samples.len());
    for frame in film.samples.chunks_exact(plane * channels) {
        for at in (0..plane).step_by(bytes) {
            for channel in 0..channels {
                let from = channel * plane + at;
                out.extend_from_slice(frame.get(from..from + bytes).unwrap_or_default());
            }
        }
    }
    film.samples = out;
}

/// From pixels to planes.
fn separate(film: &Film) -> Vec<u8> {
    let (bytes, pixel) = (film.bytes_per_sample, film.channels * film.bytes_per_sample);
    let frame = film.frame_samples() * bytes;
    let mut out = Vec::with_capacity(film.samples.len());
    for frame in film.samples.chunks_exact(frame.max(1)) {
        for channel in 0..film.channels {
            for pixel in frame.chunks_exact(pixel) {
                let from = channel * bytes;
                out.extend_from_slice(pixel.get(from..from + bytes).unwrap_or_default());
            }
        }
    }
    out
}

/// Bits outside the stored ones can hold an old-style overlay with a name in it: they are cleared,
/// and the sample moves down to bit 0. True where something was cleared that was more than a sign.
pub(super) fn clear_unused_bits(film: &mut Film, high_bit: u16) -> bool {
    let stored = u32::from(film.bits_stored);
    let shift = u32::from(high_bit + 1) - stored;
    let width = film.bytes_per_sample as u32 * 8;
    if film.float || stored == width {
        return false;
    }
    let (signed, unused) = (film.signed, 64 - stored);
    let whole = u64::MAX >> (64 - width);
    let mut cleared = false;
    each(&mut film.samples, film.bytes_per_sample, |value| {
        let raised = (value >> shift) << unused;
        let bare = raised >> unused;
        let kept = if signed {
            (raised.cast_signed() >> unused).cast_unsigned() & whole
        } else {
            bare
        };
        cleared |= value != (kept << shift) & whole && value != bare << shift;
        kept
    });
    cleared
}
