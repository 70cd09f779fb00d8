//! Blanks blocks and writes the frame again. Every coefficient outside the blanked blocks, every
//! segment but the Huffman tables, the order of the scans and the restart markers stay as they were.

use super::entropy::walk;
use super::header::{Jpeg, JpegError, Scan};
use super::huffman::Codes;

/// Writes bits, stuffs zeros.
#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    held: u64,
    count: u32,
}

impl Writer {
    fn put(&mut self, bits: u32, count: u32) {
        self.held = (self.held << count) | u64::from(bits);
        self.count += count;
        while self.count >= 8 {
            self.count -= 8;
            let byte = (self.held >> self.count) as u8;
            self.out.push(byte);
            if byte == 0xFF {
                self.out.push(0);
            }
        }
        self.held &= (1 << self.count) - 1;
    }

    fn align(&mut self) {
        let rest = (8 - self.count % 8) % 8;
        self.put((1 << rest) - 1, rest);
    }
}

/// Number of bits of a value, and the bits that stand for it.
fn bits_of(value: i32) -> (u32, u32) {
    let size = 32 - value.unsigned_abs().leading_zeros();
    let bits = if value < 0 {
        (value - 1).cast_unsigned() & ((1 << size) - 1)
    } else {
        value.cast_unsigned()
    };
    (size, bits)
}

/// Symbols of one block and the bits behind each, DC first.
fn symbols(block: &[i16; 64], before: &mut i32, mut each: impl FnMut(bool, u8, u32, u32)) {
    let mut values = block.iter().map(|&value| i32::from(value));
    let first = values.next().unwrap_or(0);
    let (size, bits) = bits_of(first - *before);
    *before = first;
    each(true, size as u8, bits, size);
    let mut run = 0_u32;
    for value in values {
        if value == 0 {
            run += 1;
            continue;
        }
        while run > 15 {
            each(false, 0xF0, 0, 0);
            run -= 16;
        }
        let (size, bits) = bits_of(value);
        each(false, ((run as u8) << 4) | size as u8, bits, size);
        run = 0;
    }
    if run > 0 {
        each(false, 0, 0, 0);
    }
}

impl Jpeg<'_> {
    /// Gives every block that the rectangle (left, top, right, bottom; pixels) touches one value, per
    /// component.
    pub(crate) fn blank(&mut self, rectangle: (usize, usize, usize, usize), fill: &[u16]) {
        let (left, top, right, bottom) = rectangle;
        let (grid_across, grid_down) = self.grid();
        let middle = 1_i32 << (self.precision - 1);
        for (component, &value) in self.components.iter_mut().zip(fill) {
            let quantizer = i32::from(component.quantizer.first().copied().unwrap_or(1));
            let wanted = (i32::from(value) - middle) * 8;
            let half = quantizer / 2 * wanted.signum();
            let first = ((wanted + half) / quantizer).clamp(-16_384, 16_383) as i16;
            let mut flat = [0; 64];
            if let Some(place) = flat.first_mut() {
                *place = first;
            }
            let columns = left / grid_across * component.across
                ..(right.div_ceil(grid_across) * component.across).min(component.blocks_across);
            let rows = top / grid_down * component.down
                ..(bottom.div_ceil(grid_down) * component.down).min(component.blocks_down);
            for row in rows {
                let from = row * component.blocks_across;
                let span = from + columns.start..from + columns.end;
                if let Some(blocks) = component.blocks.get_mut(span) {
                    blocks.fill(flat);
                }
            }
        }
    }

    /// The frame as bytes.
    pub(crate) fn write(&self) -> Result<Vec<u8>, JpegError> {
        let mut out = Vec::with_capacity(self.bytes.len());
        let mut at = 0;
        for scan in &self.scans {
            self.copy(at..scan.head.start, &mut out);
            self.write_scan(scan, &mut out)?;
            at = scan.end;
        }
        out.extend([0xFF, 0xD9]);
        Ok(out)
    }

    /// Copies segments, but no Huffman tables.
    fn copy(&self, range: std::ops::Range<usize>, out: &mut Vec<u8>) {
        let mut at = range.start;
        for table in &self.tables {
            if table.start >= at && table.end <= range.end {
                out.extend(self.bytes.get(at..table.start).unwrap_or_default());
                at = table.end;
            }
        }
        out.extend(self.bytes.get(at..range.end).unwrap_or_default());
    }

    fn write_scan(&self, scan: &Scan, out: &mut Vec<u8>) -> Result<(), JpegError> {
        let block = |part: usize, at: usize| {
            let component = scan.parts.get(part).map(|part| part.0);
            component
                .and_then(|component| self.components.get(component)?.blocks.get(at))
                .ok_or(JpegError::Damaged)
        };
        let mut uses = vec![[0_u64; 256]; 8];
        let place = |part: usize, dc: bool| {
            let (_, dc_at, ac_at) = scan.parts.get(part).copied().unwrap_or_default();
            if dc { dc_at } else { 4 + ac_at }
        };
        let mut before = vec![0_i32; scan.parts.len()];
        walk(self, &scan.parts, scan.restart, |part, at, marker| {
            if marker.is_some() {
                before.fill(0);
            }
            let last = before.get_mut(part).ok_or(JpegError::Damaged)?;
            symbols(block(part, at)?, last, |dc, symbol, _, _| {
                let table = uses.get_mut(place(part, dc));
                if let Some(count) = table.and_then(|t| t.get_mut(usize::from(symbol))) {
                    *count += 1;
                }
            });
            Ok(())
        })?;
        let codes: Vec<Codes> = uses.iter().map(Codes::best).collect();
        for ((at, table), uses) in (0_u8..).zip(&codes).zip(&uses) {
            if uses.iter().any(|count| *count > 0) {
                table.write(((at / 4) << 4) | (at % 4), out);
            }
        }
        out.extend(self.bytes.get(scan.head.clone()).unwrap_or_default());
        // The last coefficient is the 63rd, also where the old writer said otherwise (table B.3).
        if let [.., last, _] = out.as_mut_slice() {
            *last = 63;
        }
        let mut writer = Writer::default();
        before.fill(0);
        walk(self, &scan.parts, scan.restart, |part, at, marker| {
            if let Some(number) = marker {
                writer.align();
                writer.out.extend([0xFF, 0xD0 + (number % 8) as u8]);
                before.fill(0);
            }
            let last = before.get_mut(part).ok_or(JpegError::Damaged)?;
            symbols(block(part, at)?, last, |dc, symbol, bits, count| {
                if let Some(table) = codes.get(place(part, dc)) {
                    let (code, length) = table.code(symbol);
                    writer.put(code.into(), length.into());
                    writer.put(bits, count);
                }
            });
            Ok(())
        })?;
        writer.align();
        out.extend(writer.out);
        Ok(())
    }
}
