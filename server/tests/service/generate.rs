//! Films as an EHR sends them: identifiers in the tags, in the pixels and in the query. Workers are
//! this server's own executable.

use cloister_proto::v1::report_service_client::ReportServiceClient;
use cloister_proto::v1::{self, Outcome, ReasonCode};
use cloister_redact::phantom::{Phantom, PhantomSpec};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR, dicom_value};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use prost::Message;
use uuid::Uuid;

use crate::harness::{Server, models, report_of, with_id};

/// A server with the given bundle and one worker, after `make setup`.
async fn server(bundle: &str) -> Option<Server> {
    let detector = models().join("text-ppocr");
    cloister_onnx::library_path().expect("the pinned library; run `make setup`");
    cloister_onnx::Bundle::inspect(&detector).expect("the text detector; run `make setup`");
    let redact = format!(
        "[redact]\ndetector_bundle = '{}'\nworker_exe = '{}'\nworkers = 1\n[screen]\ntimeout_ms = 20000\n",
        detector.display(),
        env!("CARGO_BIN_EXE_cloister-server"),
    );
    Some(Server::start_with(bundle, &redact).await)
}

fn film(body_part: &str) -> Vec<u8> {
    let phantom =
        Phantom::draw(&PhantomSpec::square(5, 320).with_text(&["QUACKENBUSH Z", "MRN 4471902"]));
    let mut object = InMemDicomObject::new_empty();
    let texts: [(Tag, VR, &str); 14] = [
        (
            tags::SOP_CLASS_UID,
            VR::UI,
            uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
        ),
        (tags::SOP_INSTANCE_UID, VR::UI, "1.2.826.0.1.77.3"),
        (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.826.0.1.77.1"),
        (tags::SERIES_INSTANCE_UID, VR::UI, "1.2.826.0.1.77.2"),
        (tags::MODALITY, VR::CS, "DX"),
        (tags::BODY_PART_EXAMINED, VR::CS, body_part),
        (tags::PATIENT_NAME, VR::PN, "Quackenbush^Zebediah"),
        (tags::PATIENT_ID, VR::LO, "4471902"),
        (tags::PATIENT_BIRTH_DATE, VR::DA, "19570311"),
        (tags::PATIENT_SEX, VR::CS, "M"),
        (tags::PATIENT_AGE, VR::AS, "069Y"),
        (tags::VIEW_POSITION, VR::CS, "PA"),
        (tags::STUDY_DATE, VR::DA, "20260311"),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
    ];
    for (tag, vr, text) in texts {
        object.put(DataElement::new(tag, vr, PrimitiveValue::from(text)));
    }
    for (tag, number) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, 320),
        (tags::COLUMNS, 320),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, 12),
        (tags::HIGH_BIT, 11),
        (tags::PIXEL_REPRESENTATION, 0_u16),
    ] {
        object.put(DataElement::new(tag, VR::US, dicom_value!(U16, [number])));
    }
    let pixels = PrimitiveValue::U16(phantom.samples.iter().copied().collect());
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, pixels));
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION)
        .media_storage_sop_instance_uid("1.2.826.0.1.77.3")
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let mut file = Vec::new();
    object
        .with_meta(meta)
        .unwrap()
        .write_all(&mut file)
        .unwrap();
    file
}

async fn generate(server: &Server, data: Vec<u8>, media_type: &str, query: &str) -> v1::Report {
    let mut client = ReportServiceClient::new(server.channel().await);
    let film = v1::Film {
        data: data.into(),
        media_type: media_type.to_owned(),
    };
    let request = v1::GenerateRequest {
        films: vec![film],
        query: query.to_owned(),
        ..Default::default()
    };
    report_of(
        client
            .generate(with_id(request, Uuid::new_v4()))
            .await
            .unwrap()
            .into_inner(),
    )
}

#[tokio::test]
async fn a_film_with_a_burned_in_name_becomes_a_report_without_any_identifier() {
    let Some(server) = server("cxr-report-ref").await else {
        return;
    };
    let query = "Mr. Zebediah Quackenbush, MRN 4471902, cough since yesterday.";
    let report = generate(&server, film("CHEST"), "application/dicom", query).await;
    let assessment = report.assessment.clone().unwrap();
    println!(
        "outcome {:?}, reasons {:?}",
        assessment.outcome(),
        assessment.reasons().collect::<Vec<_>>()
    );
    println!(
        "confidence {}, risk {}",
        assessment.confidence, assessment.risk
    );
    println!(
        "findings: {}\nimpression: {}",
        report.findings, report.impression
    );
    assert_ne!(assessment.outcome(), Outcome::Refused);
    let input = report.model_input.clone().unwrap();
    assert!(input.query.contains("cough"));
    assert_eq!(input.imaging.unwrap().view(), v1::View::Pa);
    assert_eq!(input.patient.unwrap().age_band(), v1::AgeBand::AgeBand6589);
    assert_eq!(input.patient.unwrap().sex(), v1::Sex::Male);
    assert!(report.renditions[0].redacted_boxes > 0);
    let bytes = report.encode_to_vec();
    for identifier in [
        "quackenbush",
        "zebediah",
        "4471902",
        "19570311",
        "1.2.826.0.1.77",
    ] {
        let lower = bytes.to_ascii_lowercase();
        let found = lower
            .windows(identifier.len())
            .any(|window| window == identifier.as_bytes());
        assert!(!found, "{identifier}");
    }
    assert_eq!(report.labels.len(), 9);
    let metrics = server.admin("/metrics").await.to_ascii_lowercase();
    assert!(metrics.contains("cloister_server_tokens_total") && !metrics.contains("quackenbush"));
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_chest_film_is_refused_and_a_picture_is_read() {
    let Some(server) = server("scripted").await else {
        return;
    };
    let reason = |report: &v1::Report| {
        let assessment = report.assessment.clone().unwrap();
        (assessment.outcome(), assessment.reasons().next().unwrap())
    };
    let knee = generate(&server, film("KNEE"), "application/dicom", "pain").await;
    assert_eq!(reason(&knee), (Outcome::Refused, ReasonCode::NotChest));
    let garbage = generate(&server, vec![7; 4096], "application/dicom", "").await;
    assert_eq!(
        reason(&garbage),
        (Outcome::Refused, ReasonCode::FilmUnreadable)
    );
    let mut cut = film("CHEST");
    cut.truncate(cut.len() / 2);
    let cut = generate(&server, cut, "application/dicom", "").await;
    assert_eq!(reason(&cut), (Outcome::Refused, ReasonCode::FilmUnreadable));
    let broken = generate(&server, vec![0x89; 500], "image/png", "").await;
    assert_eq!(
        reason(&broken),
        (Outcome::Refused, ReasonCode::FilmUnreadable)
    );
    let phantom = Phantom::draw(&PhantomSpec::square(6, 256));
    let picture = image::GrayImage::from_raw(256, 256, phantom.samples_8bit()).unwrap();
    let mut png = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let picture = generate(&server, png.into_inner(), "image/png", "cough").await;
    assert_eq!(picture.assessment.unwrap().outcome(), Outcome::Delivered);
    assert!(picture.renditions[0].sop_instance_uid.starts_with("2.25."));
    server.stop().await;
}
