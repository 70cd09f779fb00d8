//! Folds text so that case, accents and separators make no difference, and keeps for every folded
//! character where it came from.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;

/// Folds one character: lower case, no accents, compatibility forms resolved.
pub(crate) fn fold_char(c: char, mut push: impl FnMut(char)) {
    if c.is_ascii() {
        push(c.to_ascii_lowercase());
        return;
    }
    for part in std::iter::once(c).nfkd() {
        if canonical_combining_class(part) != 0 {
            continue;
        }
        match part {
            'ß' => {
                push('s');
                push('s');
            }
            'ø' | 'Ø' => push('o'),
            'ł' | 'Ł' => push('l'),
            _ => part.to_lowercase().for_each(&mut push),
        }
    }
}

/// Folded words of `text`: `Doe, Jane` becomes `["doe", "jane"]`.
pub(crate) fn words(text: &str) -> Vec<String> {
    let folded = Folded::new(text);
    folded
        .words
        .split(' ')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A text in two searchable forms.
#[derive(Debug)]
pub(crate) struct Folded {
    /// Letters and digits; every other run is one space; one space at both ends.
    pub(crate) words: String,
    /// Character index in the input for each byte of `words`.
    pub(crate) words_at: Vec<usize>,
    /// Letters and digits only.
    pub(crate) compact: String,
    /// Character index in the input for each byte of `compact`.
    pub(crate) compact_at: Vec<usize>,
    /// Whether the input character is a letter or digit.
    pub(crate) solid: Vec<bool>,
}

impl Folded {
    pub(crate) fn new(text: &str) -> Self {
        let mut this = Self {
            words: String::from(" "),
            words_at: vec![0],
            compact: String::new(),
            compact_at: Vec::new(),
            solid: Vec::new(),
        };
        for (index, c) in text.chars().enumerate() {
            let mut solid = false;
            // A combining mark belongs to the letter before it: neither letter nor separator.
            let mut any = canonical_combining_class(c) != 0;
            fold_char(c, |part| {
                if part.is_alphanumeric() {
                    solid = true;
                    this.push(part, index);
                }
                any |= part.is_alphanumeric();
            });
            this.solid.push(solid);
            if !any && !this.words.ends_with(' ') {
                this.words.push(' ');
                this.words_at.push(index);
            }
        }
        if !this.words.ends_with(' ') {
            this.words.push(' ');
            this.words_at.push(this.solid.len());
        }
        this
    }

    fn push(&mut self, c: char, index: usize) {
        self.words.push(c);
        self.compact.push(c);
        for _ in 0..c.len_utf8() {
            self.words_at.push(index);
            self.compact_at.push(index);
        }
    }

    /// Whether the input character at `index` is a letter or digit; false outside the text.
    pub(crate) fn is_solid(&self, index: Option<usize>) -> bool {
        index
            .and_then(|index| self.solid.get(index))
            .copied()
            .unwrap_or(false)
    }
}
