//! Markers and segments (annex B): sizes, tables, where each scan begins. `entropy` reads the scans.

use super::Block;
use super::huffman::Table;

/// Blocks of all components of a frame: 64 million samples at 4:4:4.
const MAX_BLOCKS: usize = 3 << 20;

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JpegError {
    /// Progressive, lossless, arithmetic: another decoder's.
    NotSequential,
    /// Damaged, or a form that no DICOM writer makes.
    Damaged,
}

type Result<T> = std::result::Result<T, JpegError>;

/// One component.
#[derive(Debug)]
pub(super) struct Component {
    pub(super) id: u8,
    /// Sampling factors.
    pub(super) across: usize,
    pub(super) down: usize,
    pub(super) table: usize,
    pub(super) quantizer: [u16; 64],
    /// Samples.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Blocks, filled up to whole MCUs.
    pub(super) blocks_across: usize,
    pub(super) blocks_down: usize,
    pub(super) blocks: Vec<Block>,
    /// Whether a scan has brought it.
    pub(super) seen: bool,
}

/// One scan: its components (index, DC table, AC table) and where it stands in the file.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) parts: Vec<(usize, usize, usize)>,
    pub(super) restart: usize,
    /// The SOS segment, marker included.
    pub(super) head: std::ops::Range<usize>,
    /// First byte behind the entropy-coded data.
    pub(super) end: usize,
}

/// A decoded frame.
#[derive(Debug)]
pub(crate) struct Jpeg<'b> {
    pub(super) bytes: &'b [u8],
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) precision: u16,
    /// Largest sampling factors.
    pub(super) across: usize,
    pub(super) down: usize,
    pub(super) components: Vec<Component>,
    pub(super) scans: Vec<Scan>,
    /// DHT segments, which a rewritten frame replaces.
    pub(super) tables: Vec<std::ops::Range<usize>>,
    /// Something is coded or written that no sample shows: `write` leaves it out.
    pub(crate) unclean: bool,
    /// Transform that an Adobe segment names.
    adobe: Option<u8>,
    jfif: bool,
}

/// Tables in force while the segments are read.
#[derive(Default)]
pub(super) struct Tables {
    quantizers: [Option<[u16; 64]>; 4],
    pub(super) dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    restart: usize,
}

impl<'b> Jpeg<'b> {
    /// Reads the whole frame. `width` and `height` are what the object's header says: nothing is
    /// allocated for another size.
    pub(crate) fn read(bytes: &'b [u8], width: usize, height: usize) -> Result<Self> {
        if bytes.get(..2) != Some(&[0xFF, 0xD8]) {
            return Err(JpegError::Damaged);
        }
        let mut jpeg = Self::empty(bytes, width, height);
        let mut tables = Tables::default();
        let mut at = 2;
        loop {
            let start = at;
            let (code, body, next) = segment(bytes, at)?;
            at = next;
            jpeg.unclean |= jpeg.is_whole() && code != 0xD9;
            match code {
                0xD9 => break,
                0xC0 | 0xC1 => jpeg.frame(body)?,
                0xC2..=0xCF if !matches!(code, 0xC4 | 0xC8 | 0xCC) => {
                    return Err(JpegError::NotSequential);
                }
                0xC4 => {
                    huffman_tables(body, &mut tables)?;
                    jpeg.tables.push(start..next);
                }
                0xDB => quantizers(body, &mut tables)?,
                0xDD => tables.restart = word(body, 0)?,
                0xDA => at = jpeg.scan(body, start..next, &tables)?,
                0xE0 if body.starts_with(b"JFIF") => jpeg.jfif = true,
                0xEE if body.starts_with(b"Adobe") => jpeg.adobe = body.get(11).copied(),
                0xE0..=0xEF | 0xFE => {}
                _ => return Err(JpegError::Damaged),
            }
            // The end marker is often missing where a fragment was cut to an even length.
            if jpeg.is_whole() && !has_segment(bytes, at) {
                break;
            }
        }
        if !jpeg.is_whole() {
            return Err(JpegError::Damaged);
        }
        let rest = bytes.get(at..).unwrap_or_default();
        jpeg.unclean |= rest.iter().any(|byte| !matches!(byte, 0 | 0xFF));
        jpeg.flatten_outside();
        Ok(jpeg)
    }

    /// A frame before its first segment.
    pub(super) fn empty(bytes: &'b [u8], width: usize, height: usize) -> Self {
        Self {
            bytes,
            width,
            height,
            precision: 0,
            across: 1,
            down: 1,
            components: Vec::new(),
            scans: Vec::new(),
            tables: Vec::new(),
            unclean: false,
            adobe: None,
            jfif: false,
        }
    }

    /// Blocks that fill up the last MCUs and lie wholly outside the picture lose all but their mean:
    /// nobody sees them until the header names another size.
    fn flatten_outside(&mut self) {
        for component in &mut self.components {
            let (across, down) = (component.width.div_ceil(8), component.height.div_ceil(8));
            let rows = component.blocks.chunks_mut(component.blocks_across.max(1));
            for (y, row) in rows.enumerate() {
                let seen = if y < down { across } else { 0 };
                for block in row.iter_mut().skip(seen) {
                    for value in block.iter_mut().skip(1).filter(|value| **value != 0) {
                        *value = 0;
                        self.unclean = true;
                    }
                }
            }
        }
    }

    fn is_whole(&self) -> bool {
        !self.components.is_empty() && self.components.iter().all(|part| part.seen)
    }

    /// Number of components.
    pub(crate) fn channels(&self) -> usize {
        self.components.len()
    }

    /// Pixels across and down that share a block: what blanking one of them touches.
    pub(crate) fn grid(&self) -> (usize, usize) {
        (8 * self.across, 8 * self.down)
    }

    /// Whether the components are luminance and colour differences, in the order in which the IJG's
    /// decoder asks (JFIF, Adobe, component identifiers); `None` where nothing tells.
    pub(crate) fn is_ybr(&self) -> Option<bool> {
        if self.channels() != 3 {
            return Some(false);
        }
        if self.jfif {
            return Some(true);
        }
        if let Some(transform) = self.adobe {
            return Some(transform != 0);
        }
        let ids = self.components.iter().map(|component| component.id);
        if ids.eq(*b"RGB") {
            return Some(false);
        }
        (self.across > 1 || self.down > 1).then_some(true)
    }

    fn frame(&mut self, body: &[u8]) -> Result<()> {
        let (height, width) = (word(body, 1)?, word(body, 3)?);
        let count = usize::from(byte(body, 5)?);
        self.precision = byte(body, 0)?.into();
        let fits = (width, height) == (self.width, self.height)
            && width > 0
            && height > 0
            && matches!(self.precision, 8 | 12)
            && matches!(count, 1 | 3)
            && self.components.is_empty();
        if !fits {
            return Err(JpegError::Damaged);
        }
        let mut parts: Vec<(u8, usize, usize, usize)> = Vec::with_capacity(count);
        for index in 0..count {
            let (id, factors) = (byte(body, 6 + index * 3)?, byte(body, 7 + index * 3)?);
            let (mut across, mut down) = (usize::from(factors >> 4), usize::from(factors & 15));
            if !matches!(across, 1 | 2 | 4) || !matches!(down, 1 | 2 | 4) {
                return Err(JpegError::Damaged);
            }
            if count == 1 {
                // Alone, a component is not interleaved: its factors mean nothing (A.2.2).
                (across, down) = (1, 1);
            }
            let table = usize::from(byte(body, 8 + index * 3)?);
            if parts.iter().any(|(other, ..)| *other == id) || table > 3 {
                return Err(JpegError::Damaged);
            }
            parts.push((id, across, down, table));
        }
        self.across = parts.iter().map(|part| part.1).max().unwrap_or(1);
        self.down = parts.iter().map(|part| part.2).max().unwrap_or(1);
        let mcus_across = width.div_ceil(8 * self.across);
        let mcus_down = height.div_ceil(8 * self.down);
        let mut total = 0_usize;
        for (id, across, down, table) in parts {
            let (blocks_across, blocks_down) = (mcus_across * across, mcus_down * down);
            let count = blocks_across * blocks_down;
            total += count;
            if total > MAX_BLOCKS {
                return Err(JpegError::Damaged);
            }
            self.components.push(Component {
                id,
                across,
                down,
                table,
                quantizer: [0; 64],
                width: (width * across).div_ceil(self.across),
                height: (height * down).div_ceil(self.down),
                blocks_across,
                blocks_down,
                blocks: Vec::new(),
                seen: false,
            });
        }
        Ok(())
    }

    /// Reads the scan and returns where it ends.
    fn scan(
        &mut self,
        body: &[u8],
        head: std::ops::Range<usize>,
        tables: &Tables,
    ) -> Result<usize> {
        let count = usize::from(byte(body, 0)?);
        let mut parts = Vec::with_capacity(count);
        for index in 0..count {
            let (id, chosen) = (byte(body, 1 + index * 2)?, byte(body, 2 + index * 2)?);
            let at = self.components.iter().position(|part| part.id == id);
            let at = at.ok_or(JpegError::Damaged)?;
            let component = self.components.get_mut(at).ok_or(JpegError::Damaged)?;
            if component.seen {
                return Err(JpegError::Damaged);
            }
            let quantizer = tables.quantizers.get(component.table).copied().flatten();
            component.quantizer = quantizer.ok_or(JpegError::Damaged)?;
            component.seen = true;
            component.blocks = vec![[0; 64]; component.blocks_across * component.blocks_down];
            parts.push((at, usize::from(chosen >> 4), usize::from(chosen & 15)));
        }
        // The spectral selection is 0 to 63; an old writer of DICOM's test images says 0 to 0.
        let (first, bits) = (byte(body, 1 + count * 2)?, byte(body, 3 + count * 2)?);
        let blocks: usize = parts
            .iter()
            .filter_map(|part| self.components.get(part.0))
            .map(|part| part.across * part.down)
            .sum();
        if first != 0 || bits != 0 || !matches!(count, 1 | 3) || count > 1 && blocks > 10 {
            return Err(JpegError::Damaged);
        }
        let (end, clean) = super::entropy::read(
            self,
            &parts,
            tables.restart,
            head.end,
            &tables.dc,
            &tables.ac,
        )?;
        self.unclean |= !clean;
        self.scans.push(Scan {
            parts,
            restart: tables.restart,
            head,
            end,
        });
        Ok(end)
    }
}

/// Code, body and end of the segment at `at`; bytes that fill up before a marker are skipped.
pub(super) fn segment(bytes: &[u8], at: usize) -> Result<(u8, &[u8], usize)> {
    let rest = bytes.get(at..).ok_or(JpegError::Damaged)?;
    let fill = rest.iter().take_while(|byte| **byte == 0xFF).count();
    let code = *rest.get(fill).ok_or(JpegError::Damaged)?;
    if fill == 0 || code == 0 {
        return Err(JpegError::Damaged);
    }
    let begin = at + fill + 1;
    if code == 0xD9 {
        return Ok((code, &[], begin));
    }
    let length = word(bytes, begin)?;
    let end = begin + length;
    let body = bytes.get(begin + 2..end).ok_or(JpegError::Damaged)?;
    Ok((code, body, end))
}

fn has_segment(bytes: &[u8], at: usize) -> bool {
    segment(bytes, at).is_ok()
}

pub(super) fn byte(bytes: &[u8], at: usize) -> Result<u8> {
    bytes.get(at).copied().ok_or(JpegError::Damaged)
}

pub(super) fn word(bytes: &[u8], at: usize) -> Result<usize> {
    Ok(usize::from(u16::from_be_bytes([
        byte(bytes, at)?,
        byte(bytes, at + 1)?,
    ])))
}

fn quantizers(mut body: &[u8], tables: &mut Tables) -> Result<()> {
    while let Some((&kind, rest)) = body.split_first() {
        let wide = match kind >> 4 {
            0 => false,
            1 => true,
            _ => return Err(JpegError::Damaged),
        };
        let size = if wide { 128 } else { 64 };
        let (values, rest) = rest.split_at_checked(size).ok_or(JpegError::Damaged)?;
        let mut table = [0_u16; 64];
        for (at, to) in table.iter_mut().enumerate() {
            *to = if wide {
                word(values, at * 2)? as u16
            } else {
                byte(values, at)?.into()
            };
            if *to == 0 {
                return Err(JpegError::Damaged);
            }
        }
        *tables
            .quantizers
            .get_mut(usize::from(kind & 15))
            .ok_or(JpegError::Damaged)? = Some(table);
        body = rest;
    }
    Ok(())
}

pub(super) fn huffman_tables(mut body: &[u8], tables: &mut Tables) -> Result<()> {
    while let Some((&kind, rest)) = body.split_first() {
        let (counts, rest) = rest.split_at_checked(16).ok_or(JpegError::Damaged)?;
        let total: usize = counts.iter().map(|count| usize::from(*count)).sum();
        let (symbols, rest) = rest.split_at_checked(total).ok_or(JpegError::Damaged)?;
        let table = Table::new(counts, symbols).ok_or(JpegError::Damaged)?;
        let class = match kind >> 4 {
            0 => &mut tables.dc,
            1 => &mut tables.ac,
            _ => return Err(JpegError::Damaged),
        };
        *class
            .get_mut(usize::from(kind & 15))
            .ok_or(JpegError::Damaged)? = Some(table);
        body = rest;
    }
    Ok(())
}
