//! Marker segments of JPEG 2000 headers (ISO/IEC 15444-1 annex A): which stay, and that they are no
//! longer than what they say. Most numbers in them are free; nothing stands between.

use std::collections::{BTreeSet, VecDeque};

use super::{Unfollowed, be16, be32};

/// Changes of the progression in one segment; nobody writes more.
const MAX_PROGRESSIONS: usize = 64;

/// What the segments of one header ask of each other.
#[derive(Debug, Clone, Default)]
pub(super) struct Header {
    /// Segments of part 2 (15444-2 annex A) may stand in it.
    extended: bool,
    /// Components; 0 until their segment is read.
    components: usize,
    /// The most decomposition levels of a component.
    levels: usize,
    /// The most steps that a quantization segment lists.
    steps: usize,
    /// What may come once for the header or for a component.
    seen: BTreeSet<(u8, usize)>,
}

impl Header {
    pub(super) fn main(extended: bool) -> Self {
        Self {
            extended,
            ..Self::default()
        }
    }

    /// The header of a tile-part of the same codestream.
    pub(super) fn of_tile_part(&self) -> Self {
        Self {
            seen: BTreeSet::new(),
            steps: 0,
            ..self.clone()
        }
    }

    /// Whether a segment stays. Comments go, and so does what only helps to find one's way: places of
    /// components, lengths of packets, profiles. Packed packet headers are refused: nothing says
    /// where they end.
    ///
    /// # Errors
    /// [`Unfollowed`] for a segment that is unknown, comes again, or has another length than its
    /// contents say.
    pub(super) fn keeps(&mut self, code: u8, body: &[u8]) -> Result<bool, Unfollowed> {
        match code {
            // COM, CRG, PLM, PLT, PRF, CPF
            0x64 | 0x63 | 0x57 | 0x58 | 0x56 | 0x59 => return Ok(false),
            // SIZ
            0x51 if self.components == 0 => self.components = be16(body, 34)?,
            _ if self.components == 0 => return Err(Unfollowed),
            _ => {}
        }
        let (component, rest) = self.component(code, body).ok_or(Unfollowed)?;
        let sound = match code {
            0x51 => {
                (1..=16_384).contains(&self.components) && rest.len() == 36 + 3 * self.components
            }
            // CAP: two bytes for each part that is used.
            0x50 => rest.len() == 4 + 2 * (be32(rest, 0)?.count_ones() as usize),
            // COD and COC; the first has five bytes more for all components.
            0x52 => self.coding(rest, 5),
            0x53 => self.coding(rest, 1),
            // QCD and QCC
            0x5C | 0x5D => self.quantization(rest),
            // RGN: the one style, and its shift.
            0x5E => matches!(rest, [0, 0..=37]),
            // POC
            0x5F => self.progressions(rest),
            0x70..=0x79 => self.extended,
            _ => false,
        };
        // Those of part 2 may come again with other contents.
        let once = (0x70..=0x79).contains(&code) || self.seen.insert((code, component));
        if sound && once {
            Ok(true)
        } else {
            Err(Unfollowed)
        }
    }

    /// Whether the whole header makes sense.
    pub(super) fn ends(&self) -> bool {
        self.components > 0 && self.steps <= 3 * self.levels + 1
    }

    /// The component that a segment speaks of, and the rest of the segment.
    fn component<'a>(&self, code: u8, body: &'a [u8]) -> Option<(usize, &'a [u8])> {
        if !matches!(code, 0x53 | 0x5D | 0x5E) {
            return Some((0, body));
        }
        let (component, rest) = if self.components < 257 {
            let (first, rest) = body.split_first()?;
            (usize::from(*first), rest)
        } else {
            let (first, rest) = body.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*first)), rest)
        };
        (component < self.components).then_some((component, rest))
    }

    /// A.6.1, A.6.2: levels, four bytes of code-blocks and transformation, and precincts if they are
    /// said. Levels stand at `at`.
    fn coding(&mut self, body: &[u8], at: usize) -> bool {
        let (Some(style), Some(levels)) = (body.first(), body.get(at)) else {
            return false;
        };
        let levels = usize::from(*levels);
        self.levels = self.levels.max(levels);
        let precincts = if style & 1 == 1 { levels + 1 } else { 0 };
        levels <= 32 && body.len() == at + 5 + precincts
    }

    /// A.6.4: a step for each sub-band, or one from which all are derived.
    fn quantization(&mut self, body: &[u8]) -> bool {
        let Some((style, steps)) = body.split_first() else {
            return false;
        };
        let (bytes, derived) = match style & 0x1F {
            0 => (1, false),
            1 => (2, true),
            2 => (2, false),
            _ => return false,
        };
        let count = steps.len() / bytes;
        self.steps = self.steps.max(count);
        steps.len() % bytes == 0 && count > 0 && (!derived || count == 1)
    }

    /// A.6.6: from which resolution and component to which, and in which order.
    fn progressions(&self, body: &[u8]) -> bool {
        let wide = self.components >= 257;
        let size = if wide { 9 } else { 7 };
        let component = |entry: &[u8], at: usize| {
            let at = if wide { at + at / 4 } else { at };
            let read = if wide {
                be16(entry, at).ok()
            } else {
                entry.get(at).copied().map(usize::from)
            };
            read.is_some_and(|component| component <= self.components)
        };
        let sound = body.chunks(size).all(|entry| {
            let resolutions = matches!(entry.first(), Some(0..=32));
            let last = entry.len().checked_sub(if wide { 4 } else { 3 });
            let ends = last.and_then(|at| entry.get(at));
            resolutions
                && matches!(ends, Some(1..=33))
                && matches!(entry.last(), Some(0..=4))
                && component(entry, 1)
                && component(entry, 5)
        });
        body.len().is_multiple_of(size)
            && sound
            && (1..=MAX_PROGRESSIONS).contains(&(body.len() / size))
    }
}

/// The lengths of tile-parts as the main header lists them (A.7.1).
#[derive(Debug, Default)]
pub(super) struct Lengths {
    segments: usize,
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    tile: Option<usize>,
    length: usize,
    /// Where the length is written, and in how many bytes.
    place: usize,
    bytes: usize,
}

impl Lengths {
    /// Reads a segment whose body is written at `place`.
    pub(super) fn add(&mut self, body: &[u8], place: usize) -> Result<(), Unfollowed> {
        let [index, sizes] = *body.first_chunk::<2>().ok_or(Unfollowed)?;
        let tile_bytes = usize::from(sizes >> 4 & 3);
        let bytes = if sizes & 0x40 == 0 { 2 } else { 4 };
        let entries = body.get(2..).ok_or(Unfollowed)?;
        let size = tile_bytes + bytes;
        if usize::from(index) != self.segments
            || sizes & 0x8F != 0
            || tile_bytes > 2
            || entries.len() % size != 0
        {
            return Err(Unfollowed);
        }
        self.segments += 1;
        for (number, entry) in entries.chunks(size).enumerate() {
            let read = |bytes: &[u8]| {
                bytes
                    .iter()
                    .fold(0, |all, byte| all << 8 | usize::from(*byte))
            };
            let (tile, length) = entry.split_at_checked(tile_bytes).ok_or(Unfollowed)?;
            self.entries.push_back(Entry {
                tile: (tile_bytes > 0).then(|| read(tile)),
                length: read(length),
                place: place + 2 + number * size + tile_bytes,
                bytes,
            });
        }
        Ok(())
    }

    /// Checks the next length against what came, and writes what is kept.
    pub(super) fn next(
        &mut self,
        out: &mut [u8],
        tile: usize,
        came: usize,
        kept: usize,
    ) -> Result<(), Unfollowed> {
        if self.segments == 0 {
            return Ok(());
        }
        let entry = self.entries.pop_front().ok_or(Unfollowed)?;
        if entry.length != came || entry.tile.is_some_and(|listed| listed != tile) {
            return Err(Unfollowed);
        }
        let kept = u32::try_from(kept).map_err(|_| Unfollowed)?.to_be_bytes();
        let kept = kept.get(4 - entry.bytes..).ok_or(Unfollowed)?;
        out.get_mut(entry.place..entry.place + entry.bytes)
            .ok_or(Unfollowed)?
            .copy_from_slice(kept);
        Ok(())
    }

    /// Whether every tile-part that is listed came.
    pub(super) fn end(&self) -> Result<(), Unfollowed> {
        if self.entries.is_empty() {
            Ok(())
        } else {
            Err(Unfollowed)
        }
    }
}
