//! Which options of the profile are applied, and what that makes of each row of the table. The
//! table stands before it; the cleaner, the collection and the gate ask it.

use cloister_scrub::Kind;
use dicom_core::Tag;
use dicom_dictionary_std::tags;

use crate::denied;
use crate::table::{self, Action, Effect, ProfileOption, Row, Tags};

/// The Basic Application Level Confidentiality Profile (PS3.15 E.2) and a set of its options (E.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// One bit for each of [`ProfileOption::ALL`].
    options: u16,
}

/// Why options do not make a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// PS3.15 E.3.6: dates are either kept or modified.
    #[error("retain-full-dates and retain-modified-dates exclude each other")]
    FullAndModifiedDates,
}

/// No option has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "options are retain-safe-private, retain-uids, retain-device-identity, \
    retain-institution-identity, retain-patient-characteristics, retain-full-dates, \
    retain-modified-dates, clean-descriptors, clean-structured-content, clean-graphics"
)]
pub struct UnknownOption;

impl ProfileOption {
    /// Its name in configuration and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RetainSafePrivate => "retain-safe-private",
            Self::RetainUids => "retain-uids",
            Self::RetainDeviceIdentity => "retain-device-identity",
            Self::RetainInstitutionIdentity => "retain-institution-identity",
            Self::RetainPatientCharacteristics => "retain-patient-characteristics",
            Self::RetainFullDates => "retain-full-dates",
            Self::RetainModifiedDates => "retain-modified-dates",
            Self::CleanDescriptors => "clean-descriptors",
            Self::CleanStructuredContent => "clean-structured-content",
            Self::CleanGraphics => "clean-graphics",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl std::str::FromStr for ProfileOption {
    type Err = UnknownOption;

    fn from_str(name: &str) -> Result<Self, UnknownOption> {
        Self::ALL
            .into_iter()
            .find(|option| option.name() == name)
            .ok_or(UnknownOption)
    }
}

impl Policy {
    /// The Basic profile without options.
    pub const fn basic() -> Self {
        Self { options: 0 }
    }

    /// The Basic profile with options; naming one twice does no harm.
    ///
    /// # Errors
    /// [`PolicyError`] where options contradict each other.
    pub fn with(options: impl IntoIterator<Item = ProfileOption>) -> Result<Self, PolicyError> {
        let options = options
            .into_iter()
            .fold(0, |bits, option| bits | option.bit());
        let policy = Self { options };
        if policy.has(ProfileOption::RetainFullDates)
            && policy.has(ProfileOption::RetainModifiedDates)
        {
            return Err(PolicyError::FullAndModifiedDates);
        }
        Ok(policy)
    }

    /// Whether an option is applied.
    pub const fn has(self, option: ProfileOption) -> bool {
        self.options & option.bit() != 0
    }

    /// The options applied, in the order of the table's columns.
    pub fn options(self) -> impl Iterator<Item = ProfileOption> {
        ProfileOption::ALL
            .into_iter()
            .filter(move |option| self.has(*option))
    }

    /// What is done to the attributes of a row. Where two options speak, a changed date goes before
    /// a kept one (else a kept calibration date would tell the shift), and keeping before cleaning.
    pub fn effect(self, row: &Row) -> Effect {
        if self.has(ProfileOption::RetainModifiedDates)
            && matches!(row.tags, Tags::One(tag) if CONSTANT_DATES.contains(&tag))
        {
            return row.action.effect();
        }
        let mut clean = None;
        let mut keep = false;
        for (option, cell) in ProfileOption::ALL.into_iter().zip(row.options) {
            match cell.filter(|_| self.has(option)) {
                None => {}
                Some(Action::Keep) => keep = true,
                Some(_) if option == ProfileOption::RetainModifiedDates => {
                    return Effect::ShiftDate;
                }
                Some(_) => clean = clean.or(Some(cleaning(option, row))),
            }
        }
        if keep {
            return Effect::Keep;
        }
        clean.unwrap_or_else(|| row.action.effect())
    }

    /// Whether an attribute must not be in a cleaned object.
    pub fn forbids(self, tag: Tag) -> bool {
        table::find(tag).map_or_else(
            || denied::is_denied(tag),
            |row| self.effect(row) == Effect::Remove,
        )
    }

    /// Whether identifiers of an attribute may stay in the object, so that nobody need look for
    /// them. `row` speaks of the attribute.
    pub(crate) fn lets_stay(self, row: &Row, kind: Kind, alias: &str) -> bool {
        match kind {
            // With UIDs retained, the same UID also stands where the table has no such option.
            Kind::Uid if self.has(ProfileOption::RetainUids) => true,
            // A birth date has no option in the table.
            Kind::Date if self.has(ProfileOption::RetainFullDates) => !alias.contains("Birth"),
            Kind::Institution if self.has(ProfileOption::RetainInstitutionIdentity) => true,
            _ => self.effect(row) == Effect::Keep,
        }
    }
}

/// Dates that are the same for many patients and publicly known, such as the version of a context
/// group: one that was moved would tell how far all others were.
const CONSTANT_DATES: [Tag; 7] = [
    tags::CONTEXT_GROUP_VERSION,
    tags::CONTEXT_GROUP_LOCAL_VERSION,
    tags::DATE_OF_MANUFACTURE,
    tags::DATE_OF_INSTALLATION,
    // Template Version and Template Local Version, retired.
    Tag(0x0040, 0xDB06),
    Tag(0x0040, 0xDB07),
    tags::INFORMATION_ISSUE_DATE_TIME,
];

/// How an option cleans the attributes of a row.
const fn cleaning(option: ProfileOption, row: &Row) -> Effect {
    match (option, row.tags) {
        (ProfileOption::RetainSafePrivate, _) => Effect::SafePrivate,
        (ProfileOption::CleanStructuredContent, _) => Effect::CleanStructure,
        // Overlays and curves are drawings: nothing here can read them, so they go.
        (ProfileOption::CleanGraphics, Tags::Group(..) | Tags::Groups(_)) => Effect::Remove,
        (ProfileOption::CleanGraphics, _) => Effect::CleanGraphics,
        _ => Effect::CleanText,
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::Tag;
    use dicom_dictionary_std::tags;

    use super::{Effect, Policy, PolicyError, ProfileOption};
    use crate::table::{find, rows};

    fn with(options: &[ProfileOption]) -> Policy {
        Policy::with(options.iter().copied()).unwrap()
    }

    #[test]
    fn every_option_has_a_name_and_dates_cannot_be_both_kept_and_modified() {
        for option in ProfileOption::ALL {
            assert_eq!(option.name().parse(), Ok(option));
        }
        assert!("retain-everything".parse::<ProfileOption>().is_err());
        assert_eq!(
            Policy::with(ProfileOption::ALL),
            Err(PolicyError::FullAndModifiedDates)
        );
        let policy = with(&[ProfileOption::CleanGraphics, ProfileOption::RetainUids]);
        assert!(
            policy
                .options()
                .eq([ProfileOption::RetainUids, ProfileOption::CleanGraphics])
        );
    }

    #[test]
    fn without_options_every_row_has_the_effect_of_its_action() {
        for row in rows() {
            assert_eq!(Policy::basic().effect(row), row.action.effect());
        }
    }

    #[test]
    fn where_two_options_speak_the_shifted_date_wins() {
        use ProfileOption::{RetainDeviceIdentity as Device, RetainFullDates as Full};
        let row = find(tags::DATE_OF_LAST_CALIBRATION).unwrap();
        assert_eq!(with(&[Device]).effect(row), Effect::Keep);
        assert_eq!(with(&[Device, Full]).effect(row), Effect::Keep);
        let shifted = with(&[Device, ProfileOption::RetainModifiedDates]);
        assert_eq!(shifted.effect(row), Effect::ShiftDate);
    }

    #[test]
    fn drawings_stay_forbidden_and_private_attributes_only_without_their_option() {
        let all_but_modified = with(&ProfileOption::ALL.map(|option| match option {
            ProfileOption::RetainModifiedDates => ProfileOption::RetainFullDates,
            other => other,
        }));
        assert!(all_but_modified.forbids(Tag(0x6000, 0x3000)));
        assert!(all_but_modified.forbids(Tag(0x5002, 0x0010)));
        assert!(all_but_modified.forbids(tags::PATIENT_ADDRESS));
        assert!(!all_but_modified.forbids(Tag(0x0029, 0x1010)));
        assert!(Policy::basic().forbids(Tag(0x0029, 0x1010)));
    }
}
