use super::*;
use crate::config::EhrRule;

const ROLES: [(&str, Role); 5] = [
    ("gateway", Role::Gateway),
    ("ehr", Role::Ehr),
    ("clinician", Role::Clinician),
    ("auditor", Role::Auditor),
    ("peer", Role::Peer),
];

const METHODS: [Method; 19] = [
    Method::AcknowledgeReport,
    Method::Evaluate,
    Method::FetchReport,
    Method::Generate,
    Method::GenerateStream,
    Method::GetCheckpoint,
    Method::HealthCheck,
    Method::HealthWatch,
    Method::HttpHealth,
    Method::HttpV1,
    Method::Inspect,
    Method::ListEntries,
    Method::ListEvents,
    Method::ListReports,
    Method::ProveInclusion,
    Method::SendFeedback,
    Method::SubmitStudy,
    Method::Validate,
    Method::WatchReports,
];

fn policy() -> Policy {
    Policy {
        trust_domain: "a".into(),
        ehr: vec![EhrRule {
            identity: None,
            recipients: vec![RecipientRule::Any],
        }],
    }
}

/// The whole table, so that a change of it is a change of this test.
#[test]
fn each_method_has_exactly_these_roles() {
    for method in METHODS {
        let allowed: Vec<_> = ROLES
            .iter()
            .filter(|(_, role)| role_may(*role, method))
            .map(|(name, _)| *name)
            .collect();
        let expected: &[&str] = match method {
            Method::SubmitStudy => &["gateway"],
            Method::Generate
            | Method::GenerateStream
            | Method::Validate
            | Method::Evaluate
            | Method::Inspect
            | Method::HttpV1 => &["ehr"],
            Method::SendFeedback => &["ehr", "clinician"],
            Method::ListReports
            | Method::FetchReport
            | Method::WatchReports
            | Method::AcknowledgeReport => &["clinician"],
            Method::GetCheckpoint
            | Method::ProveInclusion
            | Method::ListEvents
            | Method::ListEntries => &["auditor"],
            Method::HealthCheck | Method::HealthWatch | Method::HttpHealth => {
                &["gateway", "ehr", "clinician", "auditor", "peer"]
            }
        };
        assert_eq!(allowed, expected, "{method:?}");
    }
}

#[test]
fn another_trust_domain_is_refused_whatever_the_role() {
    let caller = Caller::for_test("spiffe://b/ehr/x");
    assert_eq!(
        permit(&policy(), &caller, Method::HealthCheck).err(),
        Some(Refusal::TrustDomain)
    );
}

#[test]
fn a_report_id_is_one_uuid() {
    let good = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    let headers = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(METADATA_REPORT_ID, value.parse().unwrap());
        }
        headers
    };
    assert!(report_id(&headers(&[good])).is_ok());
    for bad in [
        &[][..],
        &[good, good],
        &["1"],
        &[""],
        &["00000000-0000-0000-0000-000000000000"],
    ] {
        assert_eq!(
            report_id(&headers(bad)),
            Err(Refusal::BadMetadata),
            "{bad:?}"
        );
    }
}
