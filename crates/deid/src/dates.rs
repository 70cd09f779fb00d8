//! Dates and times under the options on longitudinal temporal information (PS3.15 E.3.6): read
//! strictly, and shifted by whole days, the same number for every object of a patient.

use cloister_scrub::is_placeholder_date;
use time::{Date, Duration, Month};

use crate::{IdKind, PseudonymError, Pseudonyms};

/// How far a patient's dates are moved, in days; never 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct DayShift(i64);

impl DayShift {
    /// The shift of one patient. The pseudonyms remember it, so a new key does not change it.
    pub(crate) fn of(
        ids: &dyn Pseudonyms,
        issuer: &str,
        patient: &str,
    ) -> Result<Self, PseudonymError> {
        let days = ids.pseudonym(IdKind::DateShift, issuer, patient)?;
        match days.parse::<i64>() {
            Ok(days) if days != 0 && days.unsigned_abs() <= 36_525 => Ok(Self(days)),
            _ => Err(PseudonymError::Invalid),
        }
    }

    /// A `DA` value; none if it is no date or leaves the years 1 to 9999.
    pub(crate) fn date(self, value: &str) -> Option<String> {
        self.shifted(date(value)?)
    }

    /// A `DT` value: time of day, fraction and offset stay as they are. A date without month or
    /// day cannot be moved by days.
    pub(crate) fn date_time(self, value: &str) -> Option<String> {
        let (day, rest) = (value.get(..8)?, value.get(8..)?);
        is_rest_of_date_time(rest).then_some(())?;
        Some(format!("{}{rest}", self.shifted(date(day)?)?))
    }

    /// None also for a placeholder: everybody knows what it was, so a moved one would tell how far.
    /// It is not kept either, since it may be somebody's real date.
    fn shifted(self, date: Date) -> Option<String> {
        let written = format!(
            "{:04}{:02}{:02}",
            date.year(),
            u8::from(date.month()),
            date.day()
        );
        if is_placeholder_date(&written) {
            return None;
        }
        let moved = date.checked_add(Duration::days(self.0))?;
        let year = u16::try_from(moved.year()).ok().filter(|year| *year >= 1)?;
        (year <= 9999).then(|| {
            let (month, day) = (u8::from(moved.month()), moved.day());
            format!("{year:04}{month:02}{day:02}")
        })
    }
}

/// `YYYYMMDD`, or `YYYY.MM.DD` as ACR-NEMA had it (PS3.5 Table 6.2-1, DA).
fn date(value: &str) -> Option<Date> {
    let digits = match value.as_bytes() {
        [_, _, _, _, b'.', _, _, b'.', _, _] => value.replace('.', ""),
        _ => value.to_owned(),
    };
    if digits.len() != 8 || !all_digits(&digits) {
        return None;
    }
    let month = Month::try_from(digits.get(4..6)?.parse::<u8>().ok()?).ok()?;
    let (year, day) = (digits.get(..4)?, digits.get(6..8)?);
    Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()
}

/// Whether a `DA` value is one date.
pub(crate) fn is_date(value: &str) -> bool {
    date(value).is_some()
}

/// Whether a `DT` value is one point in time; month, day and time may be left out from the right.
pub(crate) fn is_date_time(value: &str) -> bool {
    let (stamp, offset) = split_offset(value);
    let whole = match stamp.len() {
        4 => all_digits(stamp),
        6 => is_date(&format!("{stamp}01")),
        _ => {
            let day = stamp.get(..8).is_some_and(is_date);
            day && stamp
                .get(8..)
                .is_some_and(|time| time.is_empty() || is_time(time))
        }
    };
    whole && offset.is_none_or(is_offset)
}

/// Whether a `TM` value is one time of day: `HH`, `HHMM`, `HHMMSS`, `HHMMSS.F` to six digits.
pub(crate) fn is_time(value: &str) -> bool {
    let (clock, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let fraction = (1..=6).contains(&fraction.len())
        && all_digits(fraction)
        && (clock.len() == 6 || !value.contains('.'));
    let limits = [24, 60, 61];
    fraction
        && matches!(clock.len(), 2 | 4 | 6)
        && all_digits(clock)
        && clock
            .as_bytes()
            .chunks(2)
            .zip(limits)
            .all(|(pair, limit)| pair.iter().fold(0, |n, b| n * 10 + u32::from(b - b'0')) < limit)
}

/// Whether a text is a time zone: `+HHMM` or `-HHMM`, at most 14 hours.
pub(crate) fn is_offset(value: &str) -> bool {
    let digits = value.strip_prefix(['+', '-']).unwrap_or_default();
    digits.len() == 4
        && all_digits(digits)
        && digits
            .parse::<u16>()
            .is_ok_and(|n| n <= 1400 && n % 100 < 60)
}

fn is_rest_of_date_time(rest: &str) -> bool {
    let (time, offset) = split_offset(rest);
    (time.is_empty() || is_time(time)) && offset.is_none_or(is_offset)
}

fn split_offset(value: &str) -> (&str, Option<&str>) {
    value
        .find(['+', '-'])
        .and_then(|at| value.split_at_checked(at))
        .map_or((value, None), |(stamp, offset)| (stamp, Some(offset)))
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::{Date, Duration};
    use zeroize::Zeroizing;

    use super::{DayShift, date, is_date, is_date_time, is_offset, is_time};
    use crate::HmacPseudonyms;

    fn shift(key: u8, issuer: &str, patient: &str) -> DayShift {
        let ids = HmacPseudonyms::new(Zeroizing::new([key; 32]));
        DayShift::of(&ids, issuer, patient).unwrap()
    }

    #[test]
    fn one_patient_has_one_shift_and_two_issuers_have_two_patients() {
        let of = |issuer, patient| shift(5, issuer, patient).date("20160705");
        assert_eq!(of("A", "4711"), of("A", "4711"));
        assert_ne!(of("A", "4711"), of("B", "4711"));
        assert_ne!(of("A", "4711"), of("A", "4712"));
    }

    #[test]
    fn time_of_day_and_time_zone_stay_and_what_is_no_date_has_no_shifted_form() {
        let shift = DayShift(-366);
        let moved = |value| shift.date_time(value);
        assert_eq!(
            moved("20160705123456.789012+0100").as_deref(),
            Some("20150705123456.789012+0100")
        );
        assert_eq!(moved("20160705").as_deref(), Some("20150705"));
        assert_eq!(moved("2016070512-0500").as_deref(), Some("2015070512-0500"));
        assert_eq!(shift.date("2016.07.05").as_deref(), Some("20150705"));
        for wrong in [
            "2016",
            "201607",
            "2016070",
            "20160705X",
            "20160705+9999",
            "201607052561",
        ] {
            assert_eq!(moved(wrong), None, "{wrong}");
        }
        for wrong in [
            "",
            "20160231",
            "00010101",
            "19000101",
            "20000101",
            "2016-7-5",
            "20160705-20160801",
            "DAVIDSON",
        ] {
            assert_eq!(shift.date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_well_formed_values_count() {
        for good in ["12", "1234", "123456", "235960.5", "000000.123456"] {
            assert!(is_time(good), "{good}");
        }
        for bad in [
            "", "1", "123", "24", "1260", "123461", "1234.5", "123456.", "12:34:56",
        ] {
            assert!(!is_time(bad), "{bad}");
        }
        for good in [
            "2016",
            "201607",
            "20160705",
            "2016070512+0000",
            "20160705123456.7-0330",
        ] {
            assert!(is_date_time(good), "{good}");
        }
        for bad in ["", "201", "201613", "20160705+1", "DOUGLAS", "+0100"] {
            assert!(!is_date_time(bad), "{bad}");
        }
        assert!(is_date("20160229") && !is_date("20150229"));
        assert!(is_offset("+0545") && !is_offset("+1460") && !is_offset("0100"));
    }

    proptest! {
        #[test]
        fn intervals_are_kept_and_no_date_stays(
            patient in "[A-Z0-9]{1,12}",
            first in 1_800_000_i32..2_500_000,
            days in 0_i64..40_000,
        ) {
            let shift = shift(6, "SITE", &patient);
            let first = Date::from_julian_day(first).unwrap();
            let second = first.checked_add(Duration::days(days)).unwrap();
            let text = |d: Date| {
                format!("{:04}{:02}{:02}", d.year(), u8::from(d.month()), d.day())
            };
            prop_assume!(shift.date(&text(first)).is_some() && shift.date(&text(second)).is_some());
            let moved = |d: Date| date(&shift.date(&text(d)).unwrap()).unwrap();
            prop_assert_eq!(moved(second) - moved(first), Duration::days(days));
            prop_assert_ne!(moved(first), first);
            prop_assert!((moved(first) - first).whole_days() <= -366);
        }

        #[test]
        fn no_input_panics(value in "\\PC{0,30}") {
            let shift = DayShift(-1000);
            let _ = (shift.date(&value), shift.date_time(&value), is_time(&value));
            let _ = (is_date_time(&value), is_offset(&value));
        }
    }
}
