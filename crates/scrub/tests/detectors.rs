//! Each detector on its own, and the clinical text that none may touch.

use cloister_scrub::{Kind, KnownIdentifiers, scrub};

fn kinds(text: &str) -> Vec<Kind> {
    scrub(text, &KnownIdentifiers::new())
        .spans
        .iter()
        .map(|span| span.kind)
        .collect()
}

#[test]
fn finds_each_kind_by_its_form() {
    for (text, kind) in [
        ("mail jane.doe@example.org today", Kind::Email),
        ("see https://pacs.example.org/x?id=1", Kind::Url),
        ("from 192.168.10.4 on", Kind::Ip),
        ("SSN 123-45-6789", Kind::Ssn),
        ("call (617) 555-1212", Kind::Phone),
        ("tel 617.555.1212", Kind::Phone),
        ("+49 89 1234 5678", Kind::Phone),
        ("MRN: 00482913", Kind::Mrn),
        ("medical record number is A12-3456", Kind::Mrn),
        ("patient ID 4711AB", Kind::Mrn),
        ("accession number 20231", Kind::Id),
        ("account no. 9912-3344", Kind::Account),
        ("seen by Dr. Smith", Kind::Name),
        ("Dr. Maria van der Berg", Kind::Name),
        ("Mrs O'Brien", Kind::Name),
        ("Patient name: John Smith", Kind::Name),
        ("film for Douglas Davidson", Kind::Name),
        ("patient John Smith with cough", Kind::Name),
        ("DOE^JANE^A", Kind::Name),
        ("read by Jane Roe, MD", Kind::Name),
        ("on 03/04/2021", Kind::Date),
        ("on 2021-03-04", Kind::Date),
        ("since March 4, 2021", Kind::Date),
        ("since 4 March", Kind::Date),
        ("12.5.2021", Kind::Date),
        ("93-year-old woman", Kind::Age),
        ("aged 101", Kind::Age),
        ("lives at 12 Elm Street", Kind::Address),
        ("Boston, MA 02115", Kind::Address),
        ("1.2.840.113619.2.62.99", Kind::Uid),
    ] {
        assert!(
            kinds(text).contains(&kind),
            "{text}: {:?}",
            scrub(text, &KnownIdentifiers::new()).text
        );
    }
}

#[test]
fn clinical_text_stays() {
    for text in [
        "no pneumothorax",
        "Foley catheter in place",
        "worse since last night",
        "3.5 cm nodule in the right upper lobe",
        "compression fracture of T12",
        "PA and lateral views of the chest",
        "PA and lateral",
        "Swan-Ganz catheter tip in the right pulmonary artery",
        "Kerley B lines, cardiothoracic ratio 0.55",
        "65-year-old man with cough, fever 38.5 C, WBC 12.4",
        "ET tube 4 cm above the carina, NG tube below the diaphragm",
        "Is there a pneumothorax? Compare 2 prior films.",
        "Patient Has Left Lower Lobe pneumonia",
        "S/P CABG x3, EF 35-40%, BP 120/80, SpO2 92%",
        "MR angiography and MS were discussed",
        "Opacity may represent atelectasis; 1/2 of the left hemithorax",
        "Port-A-Cath, PICC line, Hickman catheter, Dobhoff tube",
        "Post CT 10 mm slices at L1-L2; C5-6 fusion",
        "Evaluate for Mycobacterium avium; COVID-19 and H1N1 negative",
        "CXR AP portable at 5:30, rotated 10 degrees",
        "Hodgkin lymphoma treated in 2015",
    ] {
        let scrubbed = scrub(text, &KnownIdentifiers::new());
        assert_eq!(scrubbed.text, text, "{:?}", scrubbed.spans);
    }
}

#[test]
fn offsets_count_characters() {
    let text = "Größe? Dr. Müller, 5 cm";
    let scrubbed = scrub(text, &KnownIdentifiers::new());
    assert_eq!(scrubbed.text, "Größe? Dr. [NAME], 5 cm");
    assert_eq!((scrubbed.spans[0].start, scrubbed.spans[0].end), (11, 17));
}

#[test]
fn surrogates_are_not_scrubbed_again() {
    let text = "Dr. Smith saw John on 03/04/2021, MRN: 00482913, jane@example.org";
    let once = scrub(text, &KnownIdentifiers::new()).text;
    assert_eq!(scrub(&once, &KnownIdentifiers::new()).text, once);
}

#[test]
fn places_are_counted_in_characters_from_match_to_match() {
    let scrubbed = scrub(
        "é (617) 555-1212 ü (617) 555-1213 ß jane.doe@example.org",
        &KnownIdentifiers::new(),
    );
    let places: Vec<_> = scrubbed.spans.iter().map(|s| (s.start, s.end)).collect();
    assert_eq!(places, [(2, 16), (19, 33), (36, 56)]);
    assert_eq!(scrubbed.text, "é [PHONE] ü [PHONE] ß [EMAIL]");
}
