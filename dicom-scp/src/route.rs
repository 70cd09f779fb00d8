//! Who gets a study: rules in order, then the default. No rule means quarantine (NO_ROUTE).
//!
//! A rule names any of calling AE title, institution (0008,0080), modality (0008,0060) and referring
//! physician (0008,0090), and matches where all that it names do. The tags are those of the study's
//! first film that can be read, before they are removed. Values are compared without regard to case;
//! `*` stands for any text.

use cloister_phi::{AeTitle, Phi};

/// What the rules look at.
pub(crate) struct Subject {
    pub(crate) calling: AeTitle,
    /// Institution, modality, referring physician; empty where there is none.
    pub(crate) tags: Phi<[String; 3]>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) calling: Option<AeTitle>,
    /// Patterns in the order of [`Subject::tags`].
    pub(crate) tags: [Option<Pattern>; 3],
    pub(crate) recipient: String,
}

impl Rule {
    fn matches(&self, subject: &Subject) -> bool {
        let calling = self.calling.as_ref();
        calling.is_none_or(|calling| *calling == subject.calling)
            && self
                .tags
                .iter()
                .zip(subject.tags.expose())
                .all(|(pattern, value)| {
                    pattern
                        .as_ref()
                        .is_none_or(|pattern| pattern.matches(value))
                })
    }

    /// Whether everything that `later` matches is matched here already. False where that cannot be
    /// told from the two alone.
    fn covers(&self, later: &Self) -> bool {
        let calling = self.calling.is_none() || self.calling == later.calling;
        calling
            && self.tags.iter().zip(&later.tags).all(|pair| match pair {
                (None, _) => true,
                (Some(pattern), None) => pattern.matches_everything(),
                (Some(pattern), Some(later)) => pattern.covers(later),
            })
    }
}

/// Text in which `*` stands for any text, without regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<char>);

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
        Self(folded(text))
    }

    pub(crate) fn matches(&self, value: &str) -> bool {
        glob(&self.0, &folded(value))
    }

    fn matches_everything(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|c| *c == '*')
    }

    /// A `*` of `later` is taken as a character, which only a `*` of ours matches.
    fn covers(&self, later: &Self) -> bool {
        glob(&self.0, &later.0)
    }
}

fn folded(text: &str) -> Vec<char> {
    // Padding and empty name components at the end mean nothing (PS3.5 table 6.2-1).
    let text = text.trim_matches([' ', '\0']).trim_end_matches('^');
    text.chars().flat_map(char::to_lowercase).collect()
}

/// Greedy with one step back: linear in most cases, product of the lengths at worst.
fn glob(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while let Some(c) = text.get(t) {
        match pattern.get(p) {
            Some('*') => {
                back = Some((p + 1, t));
                p += 1;
            }
            Some(expected) if expected == c => {
                p += 1;
                t += 1;
            }
            _ => match &mut back {
                Some((after, from)) => {
                    *from += 1;
                    (p, t) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

/// The rules, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Routes {
    rules: Vec<Rule>,
    default: Option<String>,
}

impl Routes {
    pub(crate) fn new(rules: Vec<Rule>, default: Option<String>) -> Self {
        Self { rules, default }
    }

    /// Whether a film has to be read to tell its route.
    pub(crate) fn looks_at_tags(&self) -> bool {
        let tags = self.rules.iter().flat_map(|rule| &rule.tags);
        tags.flatten().next().is_some()
    }

    /// The recipient (`spiffe://…` or `group:NAME`) of a study.
    pub(crate) fn recipient(&self, subject: &Subject) -> Option<&str> {
        let rule = self.rules.iter().find(|rule| rule.matches(subject));
        rule.map(|rule| rule.recipient.as_str())
            .or(self.default.as_deref())
    }

    /// A rule that can never match, and the one before it that leaves it nothing; counted from 1.
    pub(crate) fn unreachable(&self) -> Option<(usize, usize)> {
        self.rules.iter().enumerate().find_map(|(at, rule)| {
            let mut before = self.rules.iter().take(at);
            let covering = before.position(|earlier| earlier.covers(rule))?;
            Some((at + 1, covering + 1))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(calling: Option<&str>, tags: [Option<&str>; 3], recipient: &str) -> Rule {
        Rule {
            calling: calling.map(|title| AeTitle::parse(title).unwrap()),
            tags: tags.map(|tag| tag.map(Pattern::new)),
            recipient: recipient.to_owned(),
        }
    }

    fn subject(calling: &str, tags: [&str; 3]) -> Subject {
        Subject {
            calling: AeTitle::parse(calling).unwrap(),
            tags: Phi::new(tags.map(str::to_owned)),
        }
    }

    #[test]
    fn the_first_rule_wins_then_the_default_and_else_nobody() {
        let rules = vec![
            rule(Some("CT"), [None, Some("DX"), None], "group:a"),
            rule(Some("CT"), [None; 3], "group:b"),
            rule(None, [Some("*General*"), None, Some("Doe^*")], "group:c"),
        ];
        let routes = Routes::new(rules.clone(), Some("group:d".to_owned()));
        assert!(routes.looks_at_tags());
        for (calling, tags, recipient) in [
            ("CT", ["", "DX", ""], "group:a"),
            ("CT", ["", "dx ", ""], "group:a"),
            ("CT", ["", "CR", ""], "group:b"),
            (
                "CR",
                ["St. GENERAL Hospital", "CR", "DOE^Jane^^"],
                "group:c",
            ),
            ("CR", ["St. General", "CR", "Roe^Doe^"], "group:d"),
        ] {
            assert_eq!(
                routes.recipient(&subject(calling, tags)),
                Some(recipient),
                "{tags:?}"
            );
        }
        let nobody = Routes::new(rules, None);
        assert_eq!(nobody.recipient(&subject("CR", ["", "", ""])), None);
        assert!(!Routes::new(vec![rule(Some("CT"), [None; 3], "group:a")], None).looks_at_tags());
    }

    #[test]
    fn a_rule_behind_a_wider_one_is_found() {
        for (first, second, unreachable) in [
            ((Some("CT"), [None; 3]), (Some("CT"), [None; 3]), true),
            (
                (None, [None; 3]),
                (Some("CT"), [None, Some("DX"), None]),
                true,
            ),
            ((Some("CT"), [None; 3]), (None, [None; 3]), false),
            (
                (None, [Some("a*"), None, None]),
                (None, [Some("A b*"), None, None]),
                true,
            ),
            (
                (None, [Some("ab*"), None, None]),
                (None, [Some("a*"), None, None]),
                false,
            ),
            (
                (None, [Some("*"), None, None]),
                (Some("CT"), [None; 3]),
                true,
            ),
            (
                (None, [Some("x"), None, None]),
                (None, [None, Some("x"), None]),
                false,
            ),
        ] {
            let rules = vec![
                rule(first.0, first.1, "group:a"),
                rule(second.0, second.1, "group:b"),
            ];
            let expected = unreachable.then_some((2, 1));
            assert_eq!(
                Routes::new(rules, None).unreachable(),
                expected,
                "{first:?} {second:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_rule_called_unreachable_never_wins(
            first in "[ab*]{0,4}", second in "[ab*]{0,4}", values in prop::collection::vec("[abAB]{0,6}", 1..20),
        ) {
            let rules = vec![
                rule(None, [Some(&first), None, None], "group:a"),
                rule(None, [Some(&second), None, None], "group:b"),
            ];
            let routes = Routes::new(rules, None);
            if routes.unreachable().is_some() {
                for value in &values {
                    let subject = subject("CT", [value.as_str(), "", ""]);
                    prop_assert_ne!(routes.recipient(&subject), Some("group:b"));
                }
            }
        }
    }
}
