//! Padding: the length of a ciphertext tells a bucket, not how much was found.
//!
//! Inside stands the true length, 64 bit big endian, then the plaintext, then zeros. Up to 1 MiB
//! the buckets are powers of two from 4 KiB (9 of them), above they are Padmé (Nikitin and others,
//! PETS 2019): at most 12 % more.

use zeroize::Zeroizing;

const SMALLEST: usize = 4 << 10;
const LARGEST_POWER: usize = 1 << 20;

pub(crate) fn bucket(length: usize) -> usize {
    if length <= LARGEST_POWER {
        return length.next_power_of_two().max(SMALLEST);
    }
    let exponent = length.ilog2();
    let kept = exponent.ilog2() + 1;
    let mask = (1_usize << (exponent - kept)) - 1;
    length.saturating_add(mask) & !mask
}

/// Room for a 16-byte tag is reserved, so that encryption in place does not leave a copy behind.
pub(crate) fn pad(plaintext: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = bucket(plaintext.len() + 8);
    let mut padded = Zeroizing::new(Vec::with_capacity(length + 16));
    padded.extend_from_slice(&(plaintext.len() as u64).to_be_bytes());
    padded.extend_from_slice(plaintext);
    padded.resize(length, 0);
    padded
}

/// The plaintext, if length and zeros are exactly what [`pad`] makes.
pub(crate) fn unpad(padded: &[u8]) -> Option<&[u8]> {
    let (length, rest) = padded.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
    let (plaintext, zeros) = rest.split_at_checked(length)?;
    let exact = padded.len() == bucket(length + 8) && zeros.iter().all(|byte| *byte == 0);
    exact.then_some(plaintext)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn padding_is_undone_and_costs_what_it_says(plaintext in prop::collection::vec(any::<u8>(), 0..9000)) {
            let padded = pad(&plaintext);
            prop_assert_eq!(unpad(&padded), Some(&plaintext[..]));
            prop_assert!(padded.len().is_power_of_two());
        }

        #[test]
        fn large_buckets_add_at_most_12_percent(length in LARGEST_POWER + 1..1_usize << 33) {
            let padded = bucket(length);
            prop_assert!(padded >= length && padded - length <= length * 12 / 100);
            prop_assert_eq!(bucket(padded), padded);
        }

        #[test]
        fn unpadding_arbitrary_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(unpad(&bytes).is_none());
        }
    }

    #[test]
    fn a_short_report_and_an_empty_one_look_alike() {
        assert_eq!(pad(b"").len(), pad(&[7; 4000]).len());
    }
}
