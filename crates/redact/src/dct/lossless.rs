//! Lossless JPEG (SOF3, annex H): the registry's decoder gives the samples but does not say what it left
//! unread. Here the differences are counted through, without their values.

use super::entropy::Bits;
use super::header::{JpegError, Tables, byte, huffman_tables, segment, word};

type Result<T> = std::result::Result<T, JpegError>;

/// Whether the frame holds the differences of all its samples and, but for tables, nothing else. False
/// also where that cannot be told.
pub(crate) fn is_all_read(bytes: &[u8], width: usize, height: usize) -> bool {
    read(bytes, width, height).unwrap_or(false)
}

fn read(bytes: &[u8], width: usize, height: usize) -> Result<bool> {
    let mut tables = Tables::default();
    let mut left: Vec<u8> = Vec::new();
    let (mut restart, mut coded, mut at) = (0, false, 2);
    loop {
        let (code, body, next) = segment(bytes, at)?;
        at = next;
        match code {
            0xD9 => break,
            // Behind the last scan nothing has a meaning.
            _ if coded && left.is_empty() => return Ok(false),
            0xC3 if !coded => {
                let whole = (word(body, 1)?, word(body, 3)?) == (height, width);
                for index in 0..usize::from(byte(body, 5)?) {
                    left.push(byte(body, 6 + index * 3)?);
                    // Shared samples are in no file that anyone has seen.
                    if !whole || byte(body, 7 + index * 3)? != 0x11 {
                        return Ok(false);
                    }
                }
                coded = true;
            }
            0xC4 => huffman_tables(body, &mut tables)?,
            0xDD => restart = word(body, 0)?,
            0xDA => {
                let count = usize::from(byte(body, 0)?);
                let mut used = Vec::with_capacity(count);
                for index in 0..count {
                    let id = byte(body, 1 + index * 2)?;
                    let place = left.iter().position(|other| *other == id);
                    left.swap_remove(place.ok_or(JpegError::Damaged)?);
                    let table = usize::from(byte(body, 2 + index * 2)? >> 4);
                    let table = tables.dc.get(table).and_then(Option::as_ref);
                    used.push(table.ok_or(JpegError::Damaged)?);
                }
                let mut bits = Bits::new(bytes, at);
                for pixel in 0..width * height {
                    if restart > 0 && pixel > 0 && pixel % restart == 0 {
                        bits.restart(pixel / restart - 1)?;
                    }
                    for table in &used {
                        // Sixteen stands for 32768 and has no bits of its own (H.1.2.2).
                        match bits.symbol(table)? {
                            size @ 0..=15 => bits.take(size.into())?,
                            16 => 0,
                            _ => return Ok(false),
                        };
                    }
                }
                let clean;
                (at, clean) = bits.end();
                if !clean || used.is_empty() {
                    return Ok(false);
                }
                if left.is_empty() && at == bytes.len() {
                    break;
                }
            }
            0xE0..=0xEF | 0xFE => {}
            _ => return Ok(false),
        }
    }
    let rest = bytes.get(at..).unwrap_or_default();
    Ok(coded && left.is_empty() && rest.iter().all(|byte| matches!(byte, 0 | 0xFF)))
}
