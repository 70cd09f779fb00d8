//! Closed lists of the wire as words for people and programs.

use cloister_proto::v1;

/// `OUTCOME_ESCALATED` → `escalated`.
fn word(full: &str, prefix: &str) -> String {
    full.strip_prefix(prefix)
        .unwrap_or(full)
        .to_ascii_lowercase()
}

/// An outcome.
pub(crate) fn outcome(value: i32) -> String {
    word(
        v1::Outcome::try_from(value)
            .unwrap_or_default()
            .as_str_name(),
        "OUTCOME_",
    )
}

/// An urgency.
pub(crate) fn urgency(value: i32) -> String {
    word(
        v1::Urgency::try_from(value)
            .unwrap_or_default()
            .as_str_name(),
        "URGENCY_",
    )
}

/// A reason code, as the contract writes it.
pub(crate) fn reason(value: i32) -> String {
    let name = v1::ReasonCode::try_from(value)
        .unwrap_or_default()
        .as_str_name();
    name.strip_prefix("REASON_CODE_").unwrap_or(name).to_owned()
}

/// ACR category 1 to 3; `None` for no category.
pub(crate) fn acr(value: i32) -> Option<u32> {
    match v1::AcrCategory::try_from(value).unwrap_or_default() {
        v1::AcrCategory::Unspecified => None,
        v1::AcrCategory::AcrCategory1 => Some(1),
        v1::AcrCategory::AcrCategory2 => Some(2),
        v1::AcrCategory::AcrCategory3 => Some(3),
    }
}

/// A time in milliseconds as RFC 3339, UTC.
pub(crate) fn time(unix_ms: i64) -> String {
    let nanos = i128::from(unix_ms) * 1_000_000;
    time::OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|at| {
            at.format(&time::format_description::well_known::Rfc3339)
                .ok()
        })
        .unwrap_or_else(|| "unknown".to_owned())
}

/// A UUID from its 16 bytes.
pub(crate) fn report_id(bytes: &[u8]) -> String {
    uuid::Uuid::from_slice(bytes).map_or_else(|_| "invalid".to_owned(), |id| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::{acr, outcome, reason, time};

    #[test]
    fn closed_lists_become_words() {
        assert_eq!(outcome(3), "escalated");
        assert_eq!(outcome(99), "unspecified");
        assert_eq!(reason(9), "INCOMPLETE_STUDY");
        assert_eq!(acr(0), None);
        assert_eq!(acr(2), Some(2));
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
    }
}
