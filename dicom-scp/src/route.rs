//! Who gets a study: rules by calling AE, then the default. No rule means quarantine.

use cloister_phi::AeTitle;

/// The rules, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Routes {
    rules: Vec<(AeTitle, String)>,
    default: Option<String>,
}

impl Routes {
    pub(crate) fn new(rules: Vec<(AeTitle, String)>, default: Option<String>) -> Self {
        Self { rules, default }
    }

    /// The recipient (`spiffe://…` or `group:NAME`) of what `calling` sent.
    pub(crate) fn recipient(&self, calling: &AeTitle) -> Option<&str> {
        let rule = self.rules.iter().find(|(title, _)| title == calling);
        rule.map(|(_, recipient)| recipient.as_str())
            .or(self.default.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use cloister_phi::AeTitle;

    use super::Routes;

    #[test]
    fn the_first_rule_wins_then_the_default_and_else_nobody() {
        let (ct, dx) = (AeTitle::parse("CT").unwrap(), AeTitle::parse("DX").unwrap());
        let rules = vec![
            (ct.clone(), "group:a".to_owned()),
            (ct.clone(), "group:b".to_owned()),
        ];
        let routes = Routes::new(rules.clone(), Some("group:c".to_owned()));
        assert_eq!(routes.recipient(&ct), Some("group:a"));
        assert_eq!(routes.recipient(&dx), Some("group:c"));
        assert_eq!(Routes::new(rules, None).recipient(&dx), None);
    }
}
