//! JPEG with Huffman coding and a sequential DCT of 8 or 12 bits (ISO/IEC 10918-1, SOF0 and SOF1):
//! DICOM's baseline and extended syntaxes. It gives the components as they were coded, without any
//! colour transform, and it can blank blocks and write the frame again with every other coefficient
//! as it was. Lengths and indices are checked against the bytes; what is not sequential is refused.

mod header;

mod huffman;

mod entropy;

mod samples;

mod rewrite;

mod lossless;

#[cfg(test)]
mod tests;

pub(crate) use header::{Jpeg, JpegError};
pub(crate) use lossless::is_all_read;

/// Zigzag position to place in the block (figure A.6).
const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// 64 coefficients in zigzag order.
type Block = [i16; 64];
