//! How long a table of a colour profile is, by its own counts (ICC.1:2022 section 10): nothing stands
//! in reserved bytes, between parts or behind the last. Single numbers are as small as colours need;
//! samples of curves and grids are what they are.

/// Entries of a curve; devices have up to 4096.
const MAX_CURVE: usize = 1 << 16;
/// Channels of a device (section 7.2.6).
const MAX_CHANNELS: usize = 15;

/// Bytes of the table at the start of `data`, without what stands behind it; none if it is not of a
/// type that computes colours, or not of that type's form.
pub(super) fn length(data: &[u8]) -> Option<usize> {
    zero(data, 4, 8)?;
    match data.get(..4)? {
        b"XYZ " => numbers(data, 8, 3),
        b"sf32" => numbers(data, 8, 9),
        b"chrm" => chromaticities(data),
        b"curv" | b"para" => curve(data),
        b"mft1" => {
            let (inputs, outputs, grid) = grid_of(data)?;
            let entries = 256 * inputs + grid + 256 * outputs;
            within(data, 48 + entries)
        }
        b"mft2" => {
            let (inputs, outputs, grid) = grid_of(data)?;
            let (before, after) = (be16(data, 48)?, be16(data, 50)?);
            let entries = before * inputs + grid + after * outputs;
            within(data, entries.checked_mul(2)?.checked_add(52)?)
        }
        kind @ (b"mAB " | b"mBA ") => stages(data, kind == b"mAB "),
        _ => None,
    }
}

/// The end of `count` numbers of type s15Fixed16 (section 4.6), none of which is 32 or more: half of
/// their bytes are no letters.
pub(super) fn numbers(data: &[u8], at: usize, count: usize) -> Option<usize> {
    let end = at.checked_add(count * 4)?;
    let small = data.get(at..end)?.chunks_exact(4).all(|number| {
        matches!(number, [0, whole, ..] if *whole < 32)
            || matches!(number, [0xFF, whole, ..] if *whole >= 224)
    });
    small.then_some(end)
}

/// Section 10.2: channels, and two numbers for each.
fn chromaticities(data: &[u8]) -> Option<usize> {
    let channels = be16(data, 8).filter(|channels| *channels <= MAX_CHANNELS)?;
    // Which phosphors, of a list of four; 0 is none of them.
    be16(data, 10).filter(|phosphors| *phosphors <= 4)?;
    numbers(data, 12, 2 * channels)
}

/// Sections 10.6 and 10.18.
fn curve(data: &[u8]) -> Option<usize> {
    zero(data, 4, 8)?;
    match data.get(..4)? {
        b"curv" => {
            let entries = be32(data, 8).filter(|entries| *entries <= MAX_CURVE)?;
            within(data, 12 + 2 * entries)
        }
        b"para" => {
            zero(data, 10, 12)?;
            let parameters = *[1, 3, 4, 5, 7].get(be16(data, 8)?)?;
            numbers(data, 12, parameters)
        }
        _ => None,
    }
}

/// Channels in, channels out and entries of the grid of sections 10.10 and 10.11.
fn grid_of(data: &[u8]) -> Option<(usize, usize, usize)> {
    let (inputs, outputs) = channels(data)?;
    zero(data, 11, 12)?;
    numbers(data, 12, 9)?;
    let points = usize::from(*data.get(10)?);
    let grid = power(points, inputs)?.checked_mul(outputs)?;
    // So that sums cannot overflow; the table is there whole.
    (grid <= data.len()).then_some((inputs, outputs, grid))
}

fn channels(data: &[u8]) -> Option<(usize, usize)> {
    let channels = |at: usize| {
        let channels = usize::from(*data.get(at)?);
        (1..=MAX_CHANNELS).contains(&channels).then_some(channels)
    };
    Some((channels(8)?, channels(9)?))
}

fn power(points: usize, inputs: usize) -> Option<usize> {
    points.checked_pow(u32::try_from(inputs).ok()?)
}

/// Sections 10.12 and 10.13: up to five parts, each with its place. Curves may be shared.
fn stages(data: &[u8], forward: bool) -> Option<usize> {
    let (inputs, outputs) = channels(data)?;
    zero(data, 10, 12)?;
    // Curves B and M stand at the side of the connection space, curves A at the device's.
    let (near, far) = if forward {
        (outputs, inputs)
    } else {
        (inputs, outputs)
    };
    let mut parts = Vec::with_capacity(5);
    for (index, at) in [12, 16, 20, 24, 28].into_iter().enumerate() {
        let begin = match be32(data, at)? {
            0 if index > 0 => continue,
            begin => begin,
        };
        let end = match index {
            1 => numbers(data, begin, 12)?,
            3 => lookup(data, begin, inputs, outputs)?,
            4 => curves(data, begin, far)?,
            _ => curves(data, begin, near)?,
        };
        parts.push((begin, end));
    }
    parts.sort_unstable();
    parts.dedup();
    let mut at = 32;
    for (begin, end) in parts {
        zero(data, at, begin)?;
        at = end;
    }
    Some(at)
}

fn curves(data: &[u8], begin: usize, count: usize) -> Option<usize> {
    let mut end = begin;
    for _ in 0..count {
        let at = end.checked_next_multiple_of(4)?;
        zero(data, end, at)?;
        end = at.checked_add(curve(data.get(at..)?)?)?;
    }
    Some(end)
}

/// The grid of section 10.12.5: points in each direction, bytes of an entry, entries.
fn lookup(data: &[u8], begin: usize, inputs: usize, outputs: usize) -> Option<usize> {
    let head = data.get(begin..begin.checked_add(20)?)?;
    zero(head, inputs, 16)?;
    zero(head, 17, 20)?;
    let mut points = head.get(..inputs)?.iter();
    let entries = points.try_fold(outputs, |entries, points| {
        entries.checked_mul(usize::from(*points))
    })?;
    let bytes = match head.get(16)? {
        1 => entries,
        2 => entries.checked_mul(2)?,
        _ => return None,
    };
    within(data, (begin + 20).checked_add(bytes)?)
}

fn within(data: &[u8], end: usize) -> Option<usize> {
    (end <= data.len()).then_some(end)
}

fn zero(data: &[u8], from: usize, to: usize) -> Option<()> {
    let bytes = data.get(from..to)?;
    bytes.iter().all(|byte| *byte == 0).then_some(())
}

fn be16(data: &[u8], at: usize) -> Option<usize> {
    let bytes: [u8; 2] = data.get(at..at.checked_add(2)?)?.try_into().ok()?;
    Some(usize::from(u16::from_be_bytes(bytes)))
}

/// A number of four bytes.
pub(super) fn be32(data: &[u8], at: usize) -> Option<usize> {
    let bytes: [u8; 4] = data.get(at..at.checked_add(4)?)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::length;

    const ONE: &[u8] = b"\0\x01\0\0";

    fn table(kind: [u8; 4], body: &[&[u8]]) -> Vec<u8> {
        [&kind[..], &[0; 4], &body.concat()].concat()
    }

    fn whole(table: &[u8]) -> bool {
        length(table) == Some(table.len())
    }

    #[test]
    fn every_type_is_as_long_as_its_counts_say() {
        let curve = table(*b"curv", &[b"\0\0\0\x02\0\0\xff\xff"]);
        let gamma = table(*b"para", &[b"\0\0\0\0", ONE]);
        let identity = [ONE, &[0; 12], ONE, &[0; 12], ONE].concat()[..36].to_vec();
        let small = table(
            *b"mft1",
            &[&[1, 3, 2, 0], &identity, &[9; 256], &[1; 6], &[7; 768]],
        );
        let wide = table(
            *b"mft2",
            &[&[3, 1, 2, 0], &identity, b"\0\x02\0\x02", &[1; 32]],
        );
        for table in [
            table(*b"XYZ ", &[ONE, ONE, b"\xff\xff\x80\0"]),
            table(*b"chrm", &[b"\0\x03\0\x01", &ONE.repeat(6)]),
            table(*b"sf32", &[&ONE.repeat(9)]),
            curve.clone(),
            gamma.clone(),
            small,
            wide,
        ] {
            assert!(whole(&table), "{table:?}");
            assert_eq!(length(&table[..table.len() - 1]), None);
            let mut reserved = table.clone();
            reserved[6] = b'J';
            assert_eq!(length(&reserved), None);
            assert_eq!(length(&[&table, &b"Jane"[..]].concat()), Some(table.len()));
        }
        for words in [
            table(*b"XYZ ", &[b"Owner Jane S"]),
            table(*b"sf32", &[&b"Jane".repeat(9)]),
            table(*b"para", &[b"\0\0\0\0Jane"]),
            table(*b"para", &[b"\0\x05\0\0", &ONE.repeat(9)]),
            table(*b"curv", &[b"Jane Doe"]),
            table(*b"chrm", &[b"\0\x01\0\0Jane Doe"]),
            table(*b"text", &[b"Jane"]),
        ] {
            assert_eq!(length(&words), None, "{words:?}");
        }
    }

    fn forward(places: [u32; 5], parts: &[u8]) -> Vec<u8> {
        let mut out = table(*b"mAB ", &[&[1, 1, 0, 0]]);
        out.extend(places.iter().flat_map(|place| place.to_be_bytes()));
        out.extend(parts);
        out
    }

    #[test]
    fn stages_leave_no_room_between_them() {
        let curve = table(*b"curv", &[b"\0\0\0\x01\x01\0"]);
        let matrix = ONE.repeat(12);
        let grid = [&[2_u8][..], &[0; 15], &[1, 0, 0, 0, 7, 8]].concat();
        // B at 32 (14 bytes and two of fill), matrix at 48, M with B, grid at 96, A behind fill.
        let parts = [&curve, &[0, 0][..], &matrix, &grid, &[0, 0], &curve].concat();
        let table = forward([32, 48, 32, 96, 120], &parts);
        assert!(whole(&table));
        let mut filled = table.clone();
        filled[46] = b'J';
        assert_eq!(length(&filled), None);
        let mut unused = table.clone();
        unused[100] = b'J';
        assert_eq!(length(&unused), None);
        let gap = [&b"Jane"[..], &curve].concat();
        assert_eq!(length(&forward([36, 0, 0, 0, 0], &gap)), None);
        assert!(whole(&forward([32, 0, 0, 0, 0], &curve)));
        // Nothing overlaps, and nothing lies within the head.
        assert_eq!(length(&forward([32, 0, 0, 0, 34], &curve)), None);
        assert_eq!(length(&forward([0, 0, 0, 0, 0], &curve)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_length_within_them_or_none(
            data in prop::collection::vec(any::<u8>(), 0..200),
            kind in 0..9_usize,
        ) {
            let kinds = [b"XYZ ", b"chrm", b"curv", b"mAB ", b"mBA ", b"mft1", b"mft2", b"para", b"sf32"];
            let table = [&kinds[kind][..], &[0; 4], &data].concat();
            prop_assert!(length(&table).is_none_or(|length| length <= table.len()));
        }
    }
}
