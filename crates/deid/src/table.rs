//! PS3.15 Table E.1-1 as data: 621 rows, the action of the Basic profile and ten option columns.
//! The cleaner asks it about every attribute; `table/make.py` writes it.

use std::{collections::HashMap, sync::LazyLock};

use dicom_core::Tag;

/// What the Basic profile does to an attribute (PS3.15 Table E.1-1a).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// `X`: remove.
    Remove,
    /// `Z`: zero length, or a dummy value.
    Zero,
    /// `D`: a non-zero length dummy value.
    Dummy,
    /// `U`: a UID consistent within a set of instances.
    Uid,
    /// `K`: keep, cleaning sequences.
    Keep,
    /// `C`: clean.
    Clean,
    /// `X/Z`.
    RemoveOrZero,
    /// `X/D`.
    RemoveOrDummy,
    /// `X/Z/D`.
    RemoveOrZeroOrDummy,
    /// `Z/D`.
    ZeroOrDummy,
    /// `X/Z/U*`.
    RemoveOrZeroOrUid,
}

impl Action {
    fn parse(code: &str) -> Option<Self> {
        Some(match code {
            "X" => Self::Remove,
            "Z" => Self::Zero,
            "D" => Self::Dummy,
            "U" => Self::Uid,
            "K" => Self::Keep,
            "C" => Self::Clean,
            "X/Z" => Self::RemoveOrZero,
            "X/D" => Self::RemoveOrDummy,
            "X/Z/D" => Self::RemoveOrZeroOrDummy,
            "Z/D" => Self::ZeroOrDummy,
            "X/Z/U*" => Self::RemoveOrZeroOrUid,
            _ => return None,
        })
    }

    /// What is done. A compound code leaves the choice to the attribute's type in the IOD at hand;
    /// the same attribute is type 3 in one module and type 1 in another, so the choice here is the
    /// one that is valid for every type the code allows: `Z` satisfies types 2 and 3, `D` all.
    /// `X/Z/U*` keeps the references and maps their UIDs, which every type accepts too.
    pub const fn effect(self) -> Effect {
        match self {
            Self::Remove => Effect::Remove,
            Self::Zero | Self::RemoveOrZero => Effect::Empty,
            Self::Dummy | Self::RemoveOrDummy | Self::RemoveOrZeroOrDummy | Self::ZeroOrDummy => {
                Effect::Dummy
            }
            Self::Uid | Self::RemoveOrZeroOrUid => Effect::MapUid,
            Self::Keep => Effect::Keep,
            Self::Clean => Effect::CleanText,
        }
    }
}

/// What the cleaner does to an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It goes.
    Remove,
    /// Its value goes.
    Empty,
    /// A value that says nothing takes its place.
    Dummy,
    /// A pseudonymous UID takes its place; sequences are cleaned item by item.
    MapUid,
    /// It stays; the items of a sequence are cleaned.
    Keep,
    /// A date moves by the patient's days; a time stays.
    ShiftDate,
    /// Text without identifiers; the items of a sequence are cleaned.
    CleanText,
    /// Content items, each by its value type and concept name.
    CleanStructure,
    /// Annotations whose text is cleaned.
    CleanGraphics,
    /// Private attributes known to be safe stay, with their creator; all others go.
    SafePrivate,
}

/// The ten options of the profile, in the order of the table's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProfileOption {
    /// Retain Safe Private.
    RetainSafePrivate,
    /// Retain UIDs.
    RetainUids,
    /// Retain Device Identity.
    RetainDeviceIdentity,
    /// Retain Institution Identity.
    RetainInstitutionIdentity,
    /// Retain Patient Characteristics.
    RetainPatientCharacteristics,
    /// Retain Longitudinal Temporal Information, Full Dates.
    RetainFullDates,
    /// Retain Longitudinal Temporal Information, Modified Dates.
    RetainModifiedDates,
    /// Clean Descriptors.
    CleanDescriptors,
    /// Clean Structured Content.
    CleanStructuredContent,
    /// Clean Graphics.
    CleanGraphics,
}

impl ProfileOption {
    /// All options, in the order of the columns.
    pub const ALL: [Self; 10] = [
        Self::RetainSafePrivate,
        Self::RetainUids,
        Self::RetainDeviceIdentity,
        Self::RetainInstitutionIdentity,
        Self::RetainPatientCharacteristics,
        Self::RetainFullDates,
        Self::RetainModifiedDates,
        Self::CleanDescriptors,
        Self::CleanStructuredContent,
        Self::CleanGraphics,
    ];
}

/// Which tags a row speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tags {
    /// One tag.
    One(Tag),
    /// One element of every even group from this one to 30 above: `(60XX,3000)`.
    Group(u16, u16),
    /// All elements of every even group from this one to 30 above: `(50XX,XXXX)`.
    Groups(u16),
    /// Every odd group.
    Private,
}

impl Tags {
    fn parse(mask: &str) -> Option<Self> {
        if mask == "private" {
            return Some(Self::Private);
        }
        let (group, element) = mask.split_once(',')?;
        match group.strip_suffix("xx") {
            Some(base) => {
                let base = u16::from_str_radix(base, 16).ok()?.checked_shl(8)?;
                if element == "xxxx" {
                    return Some(Self::Groups(base));
                }
                Some(Self::Group(base, u16::from_str_radix(element, 16).ok()?))
            }
            None => Some(Self::One(Tag(
                u16::from_str_radix(group, 16).ok()?,
                u16::from_str_radix(element, 16).ok()?,
            ))),
        }
    }

    /// Whether the row speaks of `tag`.
    pub const fn holds(self, tag: Tag) -> bool {
        match self {
            Self::One(one) => one.0 == tag.0 && one.1 == tag.1,
            Self::Group(base, element) => in_groups(base, tag.0) && tag.1 == element,
            Self::Groups(base) => in_groups(base, tag.0),
            Self::Private => tag.0 % 2 == 1,
        }
    }
}

const fn in_groups(base: u16, group: u16) -> bool {
    group & 0xff00 == base && group.is_multiple_of(2)
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The attributes it speaks of.
    pub tags: Tags,
    /// What the Basic profile does.
    pub action: Action,
    /// What each option does instead, in the order of [`ProfileOption::ALL`].
    pub options: [Option<Action>; 10],
    /// The attribute's name.
    pub name: &'static str,
}

impl Row {
    fn parse(line: &'static str) -> Option<Self> {
        let mut fields = line.split('\t');
        let tags = Tags::parse(fields.next()?)?;
        let action = Action::parse(fields.next()?)?;
        let mut options = [None; 10];
        for (slot, code) in options.iter_mut().zip(fields.next()?.chars()) {
            *slot = match code {
                'K' => Some(Action::Keep),
                'C' => Some(Action::Clean),
                _ => None,
            };
        }
        Some(Self {
            tags,
            action,
            options,
            name: fields.next()?,
        })
    }
}

struct Table {
    rows: Vec<Row>,
    by_tag: HashMap<Tag, usize>,
    masks: Vec<usize>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let rows: Vec<Row> = include_str!("../table/basic.tsv")
        .lines()
        .filter_map(Row::parse)
        .collect();
    let mut by_tag = HashMap::new();
    let mut masks = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        match row.tags {
            Tags::One(tag) => drop(by_tag.insert(tag, index)),
            _ => masks.push(index),
        }
    }
    Table {
        rows,
        by_tag,
        masks,
    }
});

/// All rows.
pub fn rows() -> &'static [Row] {
    &TABLE.rows
}

/// The row that speaks of `tag`.
pub fn find(tag: Tag) -> Option<&'static Row> {
    let one = TABLE.by_tag.get(&tag).copied();
    let index = one.or_else(|| {
        TABLE
            .masks
            .iter()
            .copied()
            .find(|&mask| TABLE.rows.get(mask).is_some_and(|row| row.tags.holds(tag)))
    })?;
    TABLE.rows.get(index)
}

#[cfg(test)]
mod tests {
    use dicom_core::Tag;

    use super::{Action, find, rows};

    #[test]
    fn every_row_is_read_and_counts_agree_with_the_standard() {
        assert_eq!(rows().len(), 621);
        let count = |action| rows().iter().filter(|row| row.action == action).count();
        assert_eq!(count(Action::Remove), 384);
        assert_eq!(count(Action::Dummy), 92);
        assert_eq!(count(Action::Uid), 54);
        assert_eq!(count(Action::Zero), 42);
        let options: Vec<usize> = (0..10)
            .map(|i| rows().iter().filter(|row| row.options[i].is_some()).count())
            .collect();
        assert_eq!(options, [1, 59, 57, 10, 13, 165, 165, 125, 3, 4]);
    }

    #[test]
    fn masks_hold_repeating_and_private_groups() {
        assert_eq!(find(Tag(0x5004, 0x3000)).unwrap().name, "Curve Data");
        assert_eq!(find(Tag(0x601E, 0x3000)).unwrap().name, "Overlay Data");
        assert!(find(Tag(0x6000, 0x0010)).is_none());
        assert_eq!(
            find(Tag(0x0029, 0x1010)).unwrap().name,
            "Private Attributes"
        );
        assert_eq!(find(Tag(0x0010, 0x0010)).unwrap().action, Action::Zero);
    }
}
