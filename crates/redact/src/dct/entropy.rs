//! Entropy-coded data becomes coefficients (annex F.2.2). Missing bits are an error, so time is bounded
//! by the bytes that there are and by the number of blocks.

use super::header::{Jpeg, JpegError};
use super::huffman::Table;

/// Bytes that writers put behind the last block to fill up.
const MAX_FILL: usize = 8;

/// Reads bits, takes out stuffed zeros, stops at a marker.
pub(super) struct Bits<'b> {
    bytes: &'b [u8],
    at: usize,
    /// Left-aligned.
    held: u64,
    count: u32,
}

impl<'b> Bits<'b> {
    pub(super) const fn new(bytes: &'b [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            held: 0,
            count: 0,
        }
    }

    fn fill(&mut self) {
        while self.count <= 56 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xFF), Some(0)) => {
                    self.at += 2;
                    0xFF
                }
                (Some(0xFF) | None, _) => return,
                (Some(&byte), _) => {
                    self.at += 1;
                    byte
                }
            };
            self.held |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    pub(super) fn take(&mut self, count: u32) -> Result<u32, JpegError> {
        if count == 0 {
            return Ok(0);
        }
        if self.count < count {
            self.fill();
        }
        self.count = self.count.checked_sub(count).ok_or(JpegError::Damaged)?;
        let bits = (self.held >> (64 - count)) as u32;
        self.held <<= count;
        Ok(bits)
    }

    pub(super) fn symbol(&mut self, table: &Table) -> Result<u8, JpegError> {
        if self.count < 16 {
            self.fill();
        }
        let (length, symbol) = table
            .find((self.held >> 48) as u32)
            .ok_or(JpegError::Damaged)?;
        self.count = self.count.checked_sub(length).ok_or(JpegError::Damaged)?;
        self.held <<= length;
        Ok(symbol)
    }

    /// RECEIVE and EXTEND.
    fn value(&mut self, size: u32) -> Result<i32, JpegError> {
        if size > 15 {
            return Err(JpegError::Damaged);
        }
        let bits = self.take(size)? as i32;
        Ok(if size > 0 && bits < 1 << (size - 1) {
            bits - (1 << size) + 1
        } else {
            bits
        })
    }

    /// Leaves the bits of the last byte and steps over a restart marker.
    pub(super) fn restart(&mut self, number: usize) -> Result<(), JpegError> {
        self.align()?;
        let fill = self.bytes.get(self.at..).unwrap_or_default();
        let fill = fill.iter().take_while(|byte| **byte == 0xFF).count();
        let code = self.bytes.get(self.at + fill).copied();
        if fill == 0 || code != Some(0xD0 + (number % 8) as u8) {
            return Err(JpegError::Damaged);
        }
        self.at += fill + 1;
        Ok(())
    }

    /// What is left must be less than a byte, and then a marker comes.
    fn align(&mut self) -> Result<(), JpegError> {
        self.fill();
        if self.count >= 8 {
            return Err(JpegError::Damaged);
        }
        (self.held, self.count) = (0, 0);
        Ok(())
    }

    /// Where the next marker stands, and whether nothing but fill stands in front of it. What else is
    /// there no decoder shows: rows below the height that the header gives, or plain text.
    pub(super) fn end(mut self) -> (usize, bool) {
        self.fill();
        let mut fill = (self.count / 8) as usize;
        let held = (self.held << (self.count % 8)).to_be_bytes();
        let mut clean = held.iter().take(fill).all(|byte| matches!(byte, 0 | 0xFF));
        let mut at = self.at;
        while let Some(&byte) = self.bytes.get(at) {
            match (byte, self.bytes.get(at + 1)) {
                (0xFF, Some(0)) => {
                    fill += 1;
                    at += 2;
                }
                (0xFF, Some(0xFF)) => at += 1,
                (0xFF, Some(0xD0..=0xD7)) => {
                    clean = false;
                    at += 2;
                }
                (0xFF, Some(_)) => break,
                _ => {
                    clean &= matches!(byte, 0 | 0xFF);
                    fill += 1;
                    at += 1;
                }
            }
        }
        (at, clean && fill <= MAX_FILL)
    }
}

fn block(
    bits: &mut Bits<'_>,
    dc: &Table,
    ac: &Table,
    before: &mut i32,
    block: &mut [i16; 64],
) -> Result<(), JpegError> {
    let size = bits.symbol(dc)?.into();
    *before += bits.value(size)?;
    let (first, rest) = block.split_first_mut().ok_or(JpegError::Damaged)?;
    *first = i16::try_from(*before).map_err(|_| JpegError::Damaged)?;
    let mut at = 0;
    while at < 63 {
        let symbol = bits.symbol(ac)?;
        let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        match (run, size) {
            (0, 0) => break,
            (15, 0) => at += 16,
            (_, 0) => return Err(JpegError::Damaged),
            _ => {
                at += run;
                let place = rest.get_mut(at).ok_or(JpegError::Damaged)?;
                *place = bits.value(size)? as i16;
                at += 1;
            }
        }
    }
    Ok(())
}

/// Walks the blocks of a scan in their order (A.2.3, A.2.4): calls `each` with component, block and
/// whether a restart marker comes before.
pub(super) fn walk(
    jpeg: &Jpeg<'_>,
    parts: &[(usize, usize, usize)],
    restart: usize,
    mut each: impl FnMut(usize, usize, Option<usize>) -> Result<(), JpegError>,
) -> Result<(), JpegError> {
    let shape = |part: &(usize, usize, usize)| {
        jpeg.components
            .get(part.0)
            .map(|c| (c.across, c.down, c.blocks_across, c.width, c.height))
            .ok_or(JpegError::Damaged)
    };
    let mut mcu = 0_usize;
    let mark = |mcu: usize| {
        (restart > 0 && mcu > 0 && mcu.is_multiple_of(restart)).then(|| mcu / restart - 1)
    };
    if let [part] = parts {
        let (_, _, blocks_across, width, height) = shape(part)?;
        for y in 0..height.div_ceil(8) {
            for x in 0..width.div_ceil(8) {
                each(0, y * blocks_across + x, mark(mcu))?;
                mcu += 1;
            }
        }
        return Ok(());
    }
    let shapes = parts.iter().map(shape).collect::<Result<Vec<_>, _>>()?;
    for y in 0..jpeg.height.div_ceil(8 * jpeg.down) {
        for x in 0..jpeg.width.div_ceil(8 * jpeg.across) {
            let mut before = mark(mcu);
            for (part, &(across, down, blocks_across, ..)) in shapes.iter().enumerate() {
                for row in 0..down {
                    for column in 0..across {
                        let at = (y * down + row) * blocks_across + x * across + column;
                        each(part, at, before.take())?;
                    }
                }
            }
            mcu += 1;
        }
    }
    Ok(())
}

/// Reads one scan into the components; returns where the next marker stands, and whether every byte
/// before it was read.
pub(super) fn read(
    jpeg: &mut Jpeg<'_>,
    parts: &[(usize, usize, usize)],
    restart: usize,
    from: usize,
    dc: &[Option<Table>; 4],
    ac: &[Option<Table>; 4],
) -> Result<(usize, bool), JpegError> {
    let mut bits = Bits::new(jpeg.bytes, from);
    let mut tables = Vec::with_capacity(parts.len());
    let mut grids = Vec::with_capacity(parts.len());
    for &(component, dc_at, ac_at) in parts {
        let dc = dc.get(dc_at).and_then(Option::as_ref);
        let ac = ac.get(ac_at).and_then(Option::as_ref);
        tables.push(dc.zip(ac).ok_or(JpegError::Damaged)?);
        let component = jpeg.components.get_mut(component);
        grids.push(std::mem::take(
            &mut component.ok_or(JpegError::Damaged)?.blocks,
        ));
    }
    let mut before = vec![0_i32; parts.len()];
    walk(jpeg, parts, restart, |part, at, marker| {
        if let Some(number) = marker {
            bits.restart(number)?;
            before.fill(0);
        }
        let place = grids.get_mut(part).and_then(|grid| grid.get_mut(at));
        let (dc, ac) = tables.get(part).ok_or(JpegError::Damaged)?;
        let before = before.get_mut(part).ok_or(JpegError::Damaged)?;
        block(&mut bits, dc, ac, before, place.ok_or(JpegError::Damaged)?)
    })?;
    for (&(component, ..), grid) in parts.iter().zip(grids) {
        if let Some(component) = jpeg.components.get_mut(component) {
            component.blocks = grid;
        }
    }
    Ok(bits.end())
}
