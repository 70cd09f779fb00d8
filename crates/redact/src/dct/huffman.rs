//! Huffman tables: reading (annex F.2.2.3), and making the best one for given symbols (annex K.2).

/// Codes up to this length are found in one look.
const FAST: u32 = 9;

/// A table to decode with.
#[derive(Debug)]
pub(super) struct Table {
    /// Length and symbol by the next `FAST` bits; length 0 where the code is longer.
    fast: Vec<(u8, u8)>,
    /// By length: first code that is no longer of it (aligned to 16 bits), and what to add to a code
    /// to get its place among the symbols.
    limits: [(u32, i32); 17],
    symbols: Vec<u8>,
}

impl Table {
    /// `None` where the counts leave no room for a code.
    pub(super) fn new(counts: &[u8], symbols: &[u8]) -> Option<Self> {
        if symbols.len() > 256 {
            return None;
        }
        let mut fast = vec![(0, 0); 1 << FAST];
        let mut limits = [(0, 0); 17];
        let (mut code, mut at) = (0_u32, 0_usize);
        for (length, &count) in (1_u32..).zip(counts.iter()) {
            let place = at as i32 - code as i32;
            for _ in 0..count {
                let symbol = *symbols.get(at)?;
                if length <= FAST {
                    let from = (code << (FAST - length)) as usize;
                    let span = 1_usize << (FAST - length);
                    fast.get_mut(from..from + span)?
                        .fill((length as u8, symbol));
                }
                code += 1;
                at += 1;
            }
            if code > 1 << length {
                return None;
            }
            *limits.get_mut(length as usize)? = (code << (16 - length), place);
            code <<= 1;
        }
        Some(Self {
            fast,
            limits,
            symbols: symbols.to_vec(),
        })
    }

    /// Length and symbol of the code at the head of 16 bits.
    pub(super) fn find(&self, bits: u32) -> Option<(u32, u8)> {
        match self.fast.get((bits >> (16 - FAST)) as usize) {
            Some(&(length, symbol)) if length > 0 => return Some((length.into(), symbol)),
            _ => {}
        }
        for (length, &(limit, place)) in (0_u32..).zip(&self.limits).skip(1) {
            if bits < limit {
                let at = (bits >> (16 - length)) as i32 + place;
                let symbol = self.symbols.get(usize::try_from(at).ok()?)?;
                return Some((length, *symbol));
            }
        }
        None
    }
}

/// A table to encode with.
#[derive(Debug)]
pub(super) struct Codes {
    /// Code and length by symbol; length 0 for symbols that do not occur.
    by_symbol: Vec<(u16, u8)>,
    counts: [u8; 16],
    symbols: Vec<u8>,
}

impl Codes {
    /// The table with the shortest text for symbols that occur so often.
    pub(super) fn best(uses: &[u64; 256]) -> Self {
        let sizes = sizes(uses);
        let mut counts = [0_u32; 300];
        for &size in &sizes {
            if let Some(count) = counts.get_mut(size) {
                *count += 1;
            }
        }
        shorten(&mut counts);
        // Order by the length that each had; lengths are given out anew in that order.
        let mut symbols: Vec<(usize, u8)> = (0_u8..=255)
            .zip(&sizes)
            .filter(|(_, size)| **size > 0)
            .map(|(symbol, &size)| (size, symbol))
            .collect();
        symbols.sort_unstable();
        let symbols: Vec<u8> = symbols.into_iter().map(|(_, symbol)| symbol).collect();
        let mut codes = vec![(0, 0); 256];
        let mut lengths = [0_u8; 16];
        let (mut code, mut left) = (0_u32, symbols.iter());
        for (length, (&count, to)) in (1_u8..).zip(counts.iter().skip(1).zip(&mut lengths)) {
            *to = count as u8;
            for &symbol in left.by_ref().take(count as usize) {
                if let Some(place) = codes.get_mut(usize::from(symbol)) {
                    *place = (code as u16, length);
                }
                code += 1;
            }
            code <<= 1;
        }
        Self {
            by_symbol: codes,
            counts: lengths,
            symbols,
        }
    }

    pub(super) fn code(&self, symbol: u8) -> (u16, u8) {
        self.by_symbol
            .get(usize::from(symbol))
            .copied()
            .unwrap_or_default()
    }

    /// Appends a DHT segment.
    pub(super) fn write(&self, class_and_place: u8, out: &mut Vec<u8>) {
        let length = 2 + 1 + 16 + self.symbols.len() as u16;
        out.extend([0xFF, 0xC4]);
        out.extend(length.to_be_bytes());
        out.push(class_and_place);
        out.extend(self.counts);
        out.extend(&self.symbols);
    }
}

/// Code lengths of the 256 symbols and of one more that takes the code of all ones.
fn sizes(uses: &[u64; 256]) -> [usize; 257] {
    let mut weights = [0_u64; 257];
    for (to, from) in weights.iter_mut().zip(uses.iter().chain([&1])) {
        *to = *from;
    }
    let mut sizes = [0_usize; 257];
    let mut groups: Vec<(u64, Vec<usize>)> = weights
        .iter()
        .enumerate()
        .filter(|(_, weight)| **weight > 0)
        .map(|(at, &weight)| (weight, vec![at]))
        .collect();
    while groups.len() > 1 {
        groups.sort_by_key(|group| std::cmp::Reverse(group.0));
        let (Some(a), Some(b)) = (groups.pop(), groups.pop()) else {
            break;
        };
        let joined: Vec<usize> = a.1.into_iter().chain(b.1).collect();
        for &member in &joined {
            if let Some(size) = sizes.get_mut(member) {
                *size += 1;
            }
        }
        groups.push((a.0.saturating_add(b.0), joined));
    }
    sizes
}

/// No code is longer than 16 bits (figure K.3); then the code of all ones is taken out.
fn shorten(counts: &mut [u32; 300]) {
    for length in (17..300).rev() {
        while counts[length] > 0 {
            let mut shorter = length - 2;
            while counts[shorter] == 0 {
                shorter -= 1;
            }
            counts[length] -= 2;
            counts[length - 1] += 1;
            counts[shorter + 1] += 2;
            counts[shorter] -= 1;
        }
    }
    if let Some(longest) = (1..17).rev().find(|length| counts[*length] > 0) {
        counts[longest] -= 1;
    }
}
