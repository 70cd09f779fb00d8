//! `[route]`: who gets a study.

use cloister_runtime::ConfigError;
use cloister_tls::SpiffeId;
use serde::Deserialize;

use super::raw::title;
use crate::route::{self, Pattern, Routes};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Route {
    default_recipient: Option<String>,
    rule: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    calling_ae: Option<String>,
    institution: Option<String>,
    modality: Option<String>,
    referring_physician: Option<String>,
    recipient: String,
}

impl Rule {
    fn check(&self) -> Result<route::Rule, ConfigError> {
        let calling = self.calling_ae.as_deref();
        let calling = calling.map(|text| title("route.rule.calling_ae", text));
        let tags = [
            ("route.rule.institution", &self.institution),
            ("route.rule.modality", &self.modality),
            ("route.rule.referring_physician", &self.referring_physician),
        ];
        for (key, text) in tags {
            if text.as_deref().is_some_and(|text| text.trim().is_empty()) {
                return Err(ConfigError::invalid(key, "must not be empty"));
            }
        }
        let rule = route::Rule {
            calling: calling.transpose()?,
            tags: tags.map(|(_, text)| text.as_deref().map(Pattern::new)),
            recipient: recipient("route.rule.recipient", &self.recipient)?,
        };
        if rule.calling.is_none() && rule.tags.iter().all(Option::is_none) {
            return Err(ConfigError::invalid(
                "route.rule",
                "names nothing to match; route.default_recipient is for everything else",
            ));
        }
        Ok(rule)
    }
}

impl Route {
    pub(super) fn check(&self) -> Result<Routes, ConfigError> {
        let rules = self.rule.iter().map(Rule::check);
        let rules = rules.collect::<Result<Vec<_>, _>>()?;
        let default = self.default_recipient.as_deref();
        let default = default
            .map(|text| recipient("route.default_recipient", text))
            .transpose()?;
        let routes = Routes::new(rules, default);
        if let Some((rule, before)) = routes.unreachable() {
            return Err(ConfigError::invalid(
                "route.rule",
                format!("rule {rule} can never match: rule {before} takes all that it would"),
            ));
        }
        Ok(routes)
    }
}

fn recipient(key: &str, text: &str) -> Result<String, ConfigError> {
    let known = text
        .strip_prefix("group:")
        .is_some_and(|group| !group.is_empty())
        || SpiffeId::parse(text).is_ok();
    if known {
        Ok(text.to_owned())
    } else {
        Err(ConfigError::invalid(key, "spiffe://… or group:NAME"))
    }
}
