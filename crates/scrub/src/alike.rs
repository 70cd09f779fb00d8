//! Compares words that were read from pixels with known identifiers. Reading is uncertain: letters
//! are taken for digits, one is lost, separators and order are anything. Comes after the identifiers
//! are collected; `crates/redact` asks.

use zeroize::Zeroizing;

use crate::{Kind, KnownIdentifiers, Searcher, common::is_common, fold, is_placeholder_date};

/// Shortest part that is looked for inside other text.
const SHORTEST_INSIDE: usize = 4;

/// A prepared comparison; wiped on drop.
pub struct Likeness {
    searcher: Searcher,
    /// Looked for inside a text, with the number of letters that may be wrong.
    inside: Vec<(Zeroizing<String>, usize)>,
    /// Whole words that are somebody's.
    words: Vec<Zeroizing<String>>,
}

impl KnownIdentifiers {
    /// Prepares a comparison with what was read from pixels.
    pub fn likeness(&self) -> Likeness {
        let mut likeness = Likeness {
            searcher: self.searcher(),
            inside: Vec::new(),
            words: Vec::new(),
        };
        for (kind, value) in self.iter() {
            match kind {
                Kind::Name => likeness.name(value),
                Kind::Date => likeness.date(value),
                // Nobody burns them in, and their numbers would match everything.
                Kind::Uid => {}
                Kind::Address | Kind::Institution => {
                    for word in fold::words(value) {
                        likeness.part(&word);
                    }
                    likeness.words.push(confused(&fold::words(value).concat()));
                }
                _ => {
                    let compact = fold::words(value).concat();
                    likeness.words.push(confused(&compact));
                    likeness.part(&compact);
                    likeness.part(compact.trim_start_matches('0'));
                }
            }
        }
        likeness
    }
}

impl Likeness {
    /// Whether `text` holds one of the identifiers, or something that reading could have made of it.
    pub fn is_in(&self, text: &str) -> bool {
        if !self.searcher.find(text).is_empty() {
            return true;
        }
        let text: Vec<char> = confused(&fold::words(text).concat()).chars().collect();
        self.inside.iter().any(|(part, wrong)| {
            let part: Zeroizing<Vec<char>> = Zeroizing::new(part.chars().collect());
            is_inside(&part, &text, *wrong)
        })
    }

    /// Whether `word` as a whole is one of the patient's own words or nearly so: a family or given
    /// name, an initial that stands for one, a number. Short and common words count here.
    pub fn is_own_word(&self, word: &str) -> bool {
        let word: Vec<char> = confused(&fold::words(word).concat()).chars().collect();
        !word.is_empty()
            && self.words.iter().any(|own| {
                let own: Zeroizing<Vec<char>> = Zeroizing::new(own.chars().collect());
                distance(&own, &word) <= wrong_letters(own.len().min(word.len()))
            })
    }

    /// PS3.5 section 6.2.1.2: three groups by `=`, five components by `^`; family and given name are
    /// the first two.
    fn name(&mut self, value: &str) {
        for group in value.split('=') {
            for (place, component) in group.split('^').take(3).enumerate() {
                let words = fold::words(component);
                for word in words.iter().filter(|word| word.chars().count() > 1) {
                    self.part(word);
                    self.words.push(confused(word));
                }
                let whole = words.concat();
                // The middle initial of a tenth of all patients is L or R: it is nobody's name.
                if whole.chars().count() > 1 || place < 2 {
                    self.words.push(confused(&whole));
                }
            }
        }
    }

    fn date(&mut self, value: &str) {
        let digits: String = value.chars().filter(char::is_ascii_digit).take(8).collect();
        let (Some(year), Some(month), Some(day)) =
            (digits.get(..4), digits.get(4..6), digits.get(6..8))
        else {
            return;
        };
        if is_placeholder_date(&digits) {
            return;
        }
        for parts in [[year, month, day], [day, month, year], [month, day, year]] {
            // One wrong digit makes another date.
            self.inside.push((confused(&parts.concat()), 0));
        }
        let short = year.get(2..).unwrap_or_default();
        for parts in [[day, month, short], [month, day, short]] {
            self.words.push(confused(&parts.concat()));
        }
    }

    fn part(&mut self, folded: &str) {
        let letters = folded.chars().count();
        if letters >= SHORTEST_INSIDE && !is_common(folded) {
            self.inside.push((confused(folded), wrong_letters(letters)));
        }
    }
}

impl std::fmt::Debug for Likeness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Likeness")
    }
}

/// How many letters of a word may be lost, wrong or too many.
const fn wrong_letters(letters: usize) -> usize {
    match letters {
        0..=4 => 0,
        5..=8 => 1,
        _ => 2,
    }
}

/// Folded text in which characters that look alike are one.
fn confused(folded: &str) -> Zeroizing<String> {
    Zeroizing::new(
        folded
            .to_lowercase()
            .chars()
            .map(|c| match c {
                'o' | 'q' => '0',
                'i' | 'l' | '|' => '1',
                'z' => '2',
                's' => '5',
                'g' => '6',
                'b' => '8',
                other => other,
            })
            .collect(),
    )
}

/// Whether some part of `text` is within `wrong` edits of `part` (Sellers 1980).
fn is_inside(part: &[char], text: &[char], wrong: usize) -> bool {
    let mut column: Vec<usize> = (0..=part.len()).collect();
    if column.last().is_some_and(|&edits| edits <= wrong) {
        return true;
    }
    text.iter().any(|&c| {
        // A match may begin anywhere: the first row stays 0.
        step(&mut column, part, c, 0);
        column.last().is_some_and(|&edits| edits <= wrong)
    })
}

/// Edits between two words.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut column: Vec<usize> = (0..=one.len()).collect();
    for (at, &c) in other.iter().enumerate() {
        step(&mut column, one, c, at + 1);
    }
    column.last().copied().unwrap_or(0)
}

/// One column of the edit table further; `first` is its first row.
fn step(column: &mut [usize], part: &[char], c: char, first: usize) {
    let mut diagonal = first;
    let mut above = first;
    for (row, cell) in column.iter_mut().enumerate() {
        let left = *cell;
        *cell = match row.checked_sub(1).and_then(|row| part.get(row)) {
            None => first,
            Some(&letter) => {
                let same = diagonal + usize::from(letter != c);
                same.min(left + 1).min(above + 1)
            }
        };
        diagonal = left;
        above = *cell;
    }
}

#[cfg(test)]
mod tests {
    use super::{distance, is_inside};
    use crate::{Kind, KnownIdentifiers};

    fn known(values: &[(Kind, &str)]) -> KnownIdentifiers {
        let mut known = KnownIdentifiers::new();
        for (kind, value) in values {
            known.add(*kind, value);
        }
        known
    }

    #[test]
    fn what_was_read_badly_is_still_the_patients_own() {
        let known = known(&[
            (Kind::Name, "Lindqvist^Brigitte^M"),
            (Kind::Mrn, "00 47-11 0815"),
            (Kind::Date, "19610312"),
        ]);
        let likeness = known.likeness();
        for own in [
            "LINDQVIST, BRIGITTE",
            "BRIGITTE LINDQVIST",
            "L1NDQVIST",
            "BR1G1TTE",
            "LINDOVIST",
            "BRIGITE",
            "Pat: LINDQVISTBRIGITTE",
            "ID 47110815",
            "47II08I5",
            "4711-0815",
            "12.03.1961",
            "I2.O3.I96I",
            "1961-03-12",
            "12 MAR 1961",
        ] {
            assert!(likeness.is_in(own), "{own}");
        }
        for other in [
            "",
            "PORTABLE",
            "AP SUPINE 12:30",
            "13.03.1962",
            "47229933",
            "BRIDGE",
            "R",
        ] {
            assert!(!likeness.is_in(other), "{other}");
        }
    }

    #[test]
    fn whole_words_count_even_when_they_are_short_or_common() {
        let known = known(&[(Kind::Name, "L^Sitting"), (Kind::Id, "PA")]);
        let likeness = known.likeness();
        for own in ["L", "l", "SITTING", "SITTlNG", "SITING", "PA"] {
            assert!(likeness.is_own_word(own), "{own}");
        }
        for other in ["R", "AP", "ERECT", "SUPINE", ""] {
            assert!(!likeness.is_own_word(other), "{other}");
        }
    }

    #[test]
    fn a_middle_initial_is_no_word_of_its_own() {
        let known = known(&[(Kind::Name, "Doe^Jane^R")]);
        assert!(!known.likeness().is_own_word("R"));
        assert!(known.likeness().is_own_word("JANE"));
    }

    #[test]
    fn nothing_is_printed() {
        let known = known(&[(Kind::Name, "Lindqvist^Brigitte")]);
        assert_eq!(format!("{:?}", known.likeness()), "Likeness");
    }

    proptest::proptest! {
        #[test]
        fn one_edit_is_one_edit(word in "[a-z]{5,12}", at in 0usize..5, before in "[0-9]{0,6}", after in "[0-9]{0,6}") {
            let word: Vec<char> = word.chars().collect();
            let mut lost = word.clone();
            lost.remove(at);
            proptest::prop_assert_eq!(distance(&word, &lost), 1);
            proptest::prop_assert_eq!(distance(&word, &word), 0);
            let text: Vec<char> = before.chars().chain(lost).chain(after.chars()).collect();
            proptest::prop_assert!(is_inside(&word, &text, 1));
        }

        #[test]
        fn the_own_name_is_found_in_any_place(family in "[A-Z][a-z]{5,9}", noise in "[ -~]{0,12}") {
            let known = known(&[(Kind::Name, family.as_str())]);
            let text = format!("{noise} {family}");
            proptest::prop_assert!(known.likeness().is_in(&text) || crate::common::is_common(&family.to_lowercase()));
        }
    }
}
