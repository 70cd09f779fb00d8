use cloister_proto::v1::{
    CapsuleObject, EnvelopeHeader, ManifestObject, Rendition, SealedReport, SignedManifest,
    StudyManifest,
};
use uuid::Uuid;

use super::*;
use crate::{RecipientPublicKey, SigningKey, Suite, open, seal};

/// A hospital with one clinician, and the parts of a study on their way.
struct Site {
    clinician: RecipientPrivateKey,
    gateway: SigningKey,
    node: SigningKey,
    trust: TrustFile,
}

struct Study {
    report: Report,
}

impl Site {
    fn new() -> Self {
        let (gateway, node) = (
            SigningKey::generate().unwrap(),
            SigningKey::generate().unwrap(),
        );
        let trust = TrustFile {
            node_keys: vec![node.verifying_key()],
            gateway_keys: vec![gateway.verifying_key()],
            audit_keys: Vec::new(),
            enrolment_key: SigningKey::generate().unwrap().verifying_key(),
        };
        let clinician = RecipientPrivateKey::generate(Suite::HpkeX25519).unwrap();
        Self {
            clinician,
            gateway,
            node,
            trust,
        }
    }

    fn recipients(&self) -> [RecipientPublicKey; 1] {
        [self.clinician.public()]
    }

    fn capsule(&self, report_id: Uuid, patient: &str, study: &str, uids: &[&str]) -> Vec<u8> {
        let object = |uid: &&str| CapsuleObject {
            sop_instance_uid: (*uid).into(),
            ..CapsuleObject::default()
        };
        let capsule = IdentityCapsule {
            patient_name: patient.into(),
            study_pseudonym: study.into(),
            objects: uids.iter().map(object).collect(),
            ..IdentityCapsule::default()
        };
        capsule::seal_capsule(&capsule, report_id, &self.recipients(), &self.gateway)
            .unwrap()
            .encode_to_vec()
    }

    /// A study of two films with everything as the rooms make it.
    fn study(&self, patient: &str) -> Study {
        let (id, study) = (Uuid::new_v4(), format!("study-{patient}"));
        let uids = [format!("2.25.{patient}.1"), format!("2.25.{patient}.2")];
        let uids: Vec<_> = uids.iter().map(String::as_str).collect();
        let capsule = self.capsule(id, patient, &study, &uids);
        let films: Vec<_> = uids
            .iter()
            .map(|uid| Rendition {
                sop_instance_uid: (*uid).into(),
                png: format!("film {uid}").into_bytes(),
                redacted_boxes: 0,
            })
            .collect();
        let manifest = StudyManifest {
            report_id: id.as_bytes().to_vec(),
            study_pseudonym: study,
            study_version: 1,
            objects: films
                .iter()
                .map(|film| ManifestObject {
                    sop_instance_uid: film.sop_instance_uid.clone(),
                    cleared_sha256: vec![1; 32],
                    rendition_sha256: sha256(&film.png).to_vec(),
                    redacted_boxes: 0,
                })
                .collect(),
            recipient_key_ids: vec![self.clinician.public().key_id().as_bytes().to_vec()],
            capsule_sha256: capsule::hash(&capsule).to_vec(),
            ..StudyManifest::default()
        };
        let report = Report {
            report_id: id.as_bytes().to_vec(),
            findings: format!("findings of {patient}"),
            renditions: films,
            manifest: Some(manifest::sign(&manifest, &self.gateway)),
            capsule,
            ..Report::default()
        };
        Study { report }
    }

    /// As the sidecar seals, honest about what it was given.
    fn seal(&self, report: &Report) -> SealedReport {
        let binding = match &report.manifest {
            Some(signed) => manifest::hash(signed).to_vec(),
            None if report.capsule.is_empty() => Vec::new(),
            None => capsule::hash(&report.capsule).to_vec(),
        };
        self.seal_bound(report, binding)
    }

    fn seal_bound(&self, report: &Report, binding_hash: Vec<u8>) -> SealedReport {
        let header = EnvelopeHeader {
            content: Content::Report.into(),
            report_id: report.report_id.clone(),
            replaces: report.replaces.clone(),
            binding_hash,
            ..EnvelopeHeader::default()
        };
        seal(
            header,
            &report.encode_to_vec(),
            &self.recipients(),
            &self.node,
        )
        .unwrap()
    }

    fn join(&self, sealed: &SealedReport) -> Result<JoinedReport, JoinError> {
        let opened = open(sealed, &self.clinician, &self.trust.node_keys).unwrap();
        join(opened, &self.clinician, &self.trust)
    }

    fn join_report(&self, report: &Report) -> Result<JoinedReport, JoinError> {
        self.join(&self.seal(report))
    }
}

/// What `join` must answer, and what to change in the manifest for it.
type Change = (JoinError, fn(&mut StudyManifest));

fn resign(report: &mut Report, key: &SigningKey, change: impl FnOnce(&mut StudyManifest)) {
    let signed = report.manifest.as_ref().unwrap();
    let mut manifest = StudyManifest::decode(&signed.manifest[..]).unwrap();
    change(&mut manifest);
    report.manifest = Some(manifest::sign(&manifest, key));
}

#[test]
fn an_honest_study_joins_report_films_and_patient() {
    let site = Site::new();
    let joined = site.join_report(&site.study("anna").report).unwrap();
    assert_eq!(joined.binding, Binding::GatewayManifest);
    assert_eq!(joined.identity.unwrap().patient_name, "anna");
    assert_eq!(joined.report.findings, "findings of anna");
}

#[test]
fn swapped_capsules_of_two_reports_are_refused() {
    let site = Site::new();
    let (mut anna, berta) = (site.study("anna").report, site.study("berta").report);
    let own = std::mem::replace(&mut anna.capsule, berta.capsule.clone());
    assert_eq!(site.join_report(&anna).unwrap_err(), JoinError::Capsule);
    anna.capsule = own;
    assert!(site.join_report(&anna).is_ok());
    anna.capsule.clear();
    assert_eq!(site.join_report(&anna).unwrap_err(), JoinError::Capsule);
    // Manifest and capsule of the other study together.
    anna.capsule.clone_from(&berta.capsule);
    anna.manifest.clone_from(&berta.manifest);
    assert_eq!(site.join_report(&anna).unwrap_err(), JoinError::ReportId);
}

#[test]
fn even_a_gateway_cannot_glue_a_capsule_of_another_report_or_study() {
    let site = Site::new();
    let (mut anna, berta) = (site.study("anna").report, site.study("berta").report);
    anna.capsule.clone_from(&berta.capsule);
    let hash = capsule::hash(&anna.capsule).to_vec();
    resign(&mut anna, &site.gateway, |manifest| {
        manifest.capsule_sha256 = hash;
    });
    assert_eq!(site.join_report(&anna).unwrap_err(), JoinError::Capsule);
}

#[test]
fn a_swapped_exchanged_missing_doubled_or_altered_film_is_refused() {
    let site = Site::new();
    let (anna, berta) = (site.study("anna").report, site.study("berta").report);
    let changes: [&dyn Fn(&mut Report); 6] = [
        &|report| {
            report.renditions[0]
                .png
                .clone_from(&berta.renditions[0].png);
        },
        &|report| report.renditions[0] = berta.renditions[0].clone(),
        &|report| {
            let other = report.renditions[1].png.clone();
            report.renditions[1].png = std::mem::replace(&mut report.renditions[0].png, other);
        },
        &|report| report.renditions.truncate(1),
        &|report| report.renditions.push(report.renditions[0].clone()),
        &|report| report.renditions[0].png[0] ^= 1,
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut report = anna.clone();
        change(&mut report);
        assert_eq!(
            site.join_report(&report).unwrap_err(),
            JoinError::Rendition,
            "change {at}"
        );
    }
}

#[test]
fn a_manifest_by_anybody_but_the_gateway_is_refused() {
    let site = Site::new();
    let mut report = site.study("anna").report;
    resign(&mut report, &site.node, |_| {});
    let unknown = JoinError::Manifest(ManifestError::UnknownSigner);
    assert_eq!(site.join_report(&report).unwrap_err(), unknown);
    let mut report = site.study("anna").report;
    report.manifest.as_mut().unwrap().manifest[5] ^= 1;
    let altered = JoinError::Manifest(ManifestError::Signature);
    assert_eq!(site.join_report(&report).unwrap_err(), altered);
}

#[test]
fn header_manifest_and_report_must_name_the_same_things() {
    let site = Site::new();
    let report = site.study("anna").report;
    let unbound = site.seal_bound(&report, Vec::new());
    assert_eq!(site.join(&unbound).unwrap_err(), JoinError::Binding);

    let changes: [Change; 4] = [
        (JoinError::ReportId, |m| m.replaces = vec![1; 16]),
        (JoinError::ReportId, |m| m.report_id = vec![1; 16]),
        (JoinError::Withheld, |m| m.withheld_objects = 1),
        (JoinError::Recipient, |m| {
            m.recipient_key_ids = vec![vec![1; 16]];
        }),
    ];
    for (error, change) in changes {
        let mut report = report.clone();
        resign(&mut report, &site.gateway, change);
        assert_eq!(site.join_report(&report).unwrap_err(), error);
    }
    let mut report = report.clone();
    resign(&mut report, &site.gateway, |m| {
        m.study_pseudonym = "other".into();
    });
    assert_eq!(site.join_report(&report).unwrap_err(), JoinError::Capsule);
}

#[test]
fn an_envelope_around_another_report_id_is_refused() {
    let site = Site::new();
    let mut report = site.study("anna").report;
    let sealed = site.seal(&report);
    report.report_id = vec![9; 16];
    let header = EnvelopeHeader::decode(&sealed.header[..]).unwrap();
    let sealed = seal(
        header,
        &report.encode_to_vec(),
        &site.recipients(),
        &site.node,
    )
    .unwrap();
    assert_eq!(site.join(&sealed).unwrap_err(), JoinError::ReportId);
}

#[test]
fn a_generated_report_joins_the_callers_capsule_by_report_id_and_says_who_vouches() {
    let site = Site::new();
    let id = Uuid::new_v4();
    let caller = Site {
        gateway: SigningKey::generate().unwrap(),
        ..Site::new()
    };
    let caller = Site {
        clinician: site.clinician.clone(),
        ..caller
    };
    let mut report = Report {
        report_id: id.as_bytes().to_vec(),
        capsule: caller.capsule(id, "anna", "", &[]),
        ..Report::default()
    };
    let joined = site.join_report(&report).unwrap();
    assert_eq!(joined.binding, Binding::NodeStatement);
    assert_eq!(joined.identity.unwrap().patient_name, "anna");

    let honest = site.seal(&report);
    report.capsule = caller.capsule(Uuid::new_v4(), "berta", "", &[]);
    assert_eq!(site.join_report(&report).unwrap_err(), JoinError::Capsule);
    let bound = EnvelopeHeader::decode(&honest.header[..])
        .unwrap()
        .binding_hash;
    assert_eq!(
        site.join(&site.seal_bound(&report, bound)).unwrap_err(),
        JoinError::Binding
    );

    report.capsule.clear();
    let joined = site.join_report(&report).unwrap();
    assert_eq!(
        (joined.binding, joined.identity.is_none()),
        (Binding::None, true)
    );
    assert_eq!(
        site.join(&site.seal_bound(&report, vec![1; 32]))
            .unwrap_err(),
        JoinError::Binding
    );
}

#[test]
fn a_capsule_in_the_place_of_a_report_is_refused() {
    let site = Site::new();
    let id = Uuid::new_v4();
    let capsule = site.capsule(id, "anna", "", &[]);
    let sealed = SealedReport::decode(&capsule[..]).unwrap();
    let opened = open(&sealed, &site.clinician, &site.trust.gateway_keys).unwrap();
    assert_eq!(
        join(opened, &site.clinician, &site.trust).unwrap_err(),
        JoinError::NotAReport
    );
    let report = site.seal(&Report {
        report_id: vec![1; 16],
        ..Report::default()
    });
    let opened = capsule::open_capsule(
        &report.encode_to_vec(),
        &site.clinician,
        &site.trust.node_keys,
    );
    assert_eq!(opened.unwrap_err(), OpenError::WrongContent);
}

#[test]
fn an_empty_manifest_is_not_a_way_around_the_checks() {
    let site = Site::new();
    let mut report = site.study("anna").report;
    report.manifest = Some(SignedManifest::default());
    assert!(matches!(
        site.join_report(&report),
        Err(JoinError::Manifest(_))
    ));
}
