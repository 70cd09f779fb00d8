//! One way to read a text for all guards: what looks the same to a person is the same.

use unicode_normalization::UnicodeNormalization;

/// Compatibility forms folded (NFKC), invisible characters dropped, lower case, one space between
/// words, straight apostrophes.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut space = false;
    for character in text
        .nfkc()
        .filter(|&character| !is_invisible(character))
        .flat_map(char::to_lowercase)
    {
        if character.is_whitespace() || character.is_control() {
            space = !plain.is_empty();
            continue;
        }
        if space {
            plain.push(' ');
            space = false;
        }
        plain.push(match character {
            '\u{2018}' | '\u{2019}' | '\u{02bc}' | '`' => '\'',
            '\u{201c}' | '\u{201d}' => '"',
            _ => character,
        });
    }
    plain
}

/// Soft hyphen, zero-width and direction marks, variation selectors, tag characters.
const fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn hidden_characters_and_wide_letters_do_not_hide_words() {
        assert_eq!(
            plain("ig\u{200b}nore\u{00a0} \u{ff21}ll\n\tRules "),
            "ignore all rules"
        );
        assert_eq!(plain("don\u{2019}t"), "don't");
    }

    proptest::proptest! {
        #[test]
        fn reading_twice_changes_nothing(text in "\\PC{0,64}") {
            let once = plain(&text);
            proptest::prop_assert_eq!(plain(&once), once);
        }
    }
}
