//! Attributes that the standard's table does not list, values in a VR of another kind, and dates
//! whose originals everybody knows.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod common;

use cloister_deid::{DeidError, Deidentifier, Policy, ProfileOption, gate};
use cloister_scrub::KnownIdentifiers;
use common::{BIG_ENDIAN, Film, contains, element, ids, objects::policy, sequence};
use dicom_core::Tag;
use dicom_object::{FileDicomObject, InMemDicomObject};

type Object = FileDicomObject<InMemDicomObject>;

fn film() -> Film {
    Film::new("ISO_IR 100", b"Davidson^Douglas", "PID483920")
}

/// The cleaned bytes, which pass the gate, what they hold, and what was collected.
fn clean_with(film: &Film, policy: Policy) -> (Vec<u8>, Object, KnownIdentifiers) {
    let (cleaned, known) = Deidentifier::new(policy)
        .deidentify(&film.encode(), "SITE", &ids())
        .unwrap();
    let bytes = cleaned.to_bytes().unwrap();
    gate::look(&bytes, &known, policy).unwrap();
    let object = cleaned.object().clone();
    (bytes, object, known)
}

fn clean(film: &Film) -> (Vec<u8>, Object, KnownIdentifiers) {
    clean_with(film, Policy::basic())
}

fn refused(film: &Film) -> DeidError {
    Deidentifier::new(Policy::basic())
        .deidentify(&film.encode(), "SITE", &ids())
        .map(|_| ())
        .unwrap_err()
}

fn text(object: &InMemDicomObject, tag: (u16, u16)) -> Option<String> {
    let element = object.get(Tag(tag.0, tag.1))?;
    Some(element.to_str().unwrap().trim().to_owned())
}

#[test]
fn unlisted_attributes_about_a_person_go_and_their_names_are_searched_for() {
    let mut film = film();
    let name = element((0x0010, 0x0012), "LT", b"Quillfeather");
    film.elements
        .insert((0x0010, 0x0011), sequence((0x0010, 0x0011), &name));
    for (tag, vr, value) in [
        ((0x0010, 0x0033), "LO", &b"13550326"[..]),
        ((0x0010, 0x1022), "FL", &[0, 0, 200, 65]),
        ((0x0010, 0x2295), "LO", b"BRD998877"),
        ((0x0040, 0x0400), "LT", b"call the grandmother"),
        ((0x0074, 0x100C), "LO", b"Winterbottom"),
        ((0x2100, 0x0160), "SH", b"OWN443322"),
        ((0x4010, 0x101A), "LO", b"BP77665544"),
        // An unlisted attribute that stays, with the name to use in it.
        ((0x0008, 0x0070), "LO", b"Quillfeather gate"),
    ] {
        film.put(tag, vr, value);
    }
    let (bytes, object, known) = clean(&film);
    for word in [
        "Quillfeather",
        "13550326",
        "BRD998877",
        "grandmother",
        "Winterbottom",
        "OWN443322",
        "BP77665544",
    ] {
        assert!(!contains(&bytes, word.as_bytes()), "{word}");
    }
    for word in ["Quillfeather", "13550326", "Winterbottom", "OWN443322"] {
        assert!(known.is_hit(word), "{word}");
    }
    assert!(object.get(Tag(0x0010, 0x1022)).is_none());
    // The gate asks the same.
    for tag in [(0x0010, 0x0012), (0x4010, 0x101A), (0x7FE0, 0x0020)] {
        assert!(Policy::basic().forbids(Tag(tag.0, tag.1)));
    }
    assert!(!Policy::basic().forbids(Tag(0x0010, 0x2210)));
}

#[test]
fn known_constants_do_not_tell_how_far_dates_were_moved() {
    let mut film = film();
    film.put((0x0008, 0x0106), "DT", b"20020904000000");
    film.put((0x0018, 0x1204), "DA", b"20091111");
    film.put((0x0008, 0x0022), "DA", b"19000101");
    film.put((0x0008, 0x0023), "DA", b"20160706");
    let (_, object, _) = clean_with(&film, policy(&[ProfileOption::RetainModifiedDates]));
    assert_eq!(text(&object, (0x0008, 0x0106)).unwrap(), "19000101000000");
    assert_eq!(text(&object, (0x0018, 0x1204)), None);
    let placeholder = text(&object, (0x0008, 0x0022));
    assert!(placeholder.is_none_or(|date| matches!(date.as_str(), "" | "19000101")));
    let moved = text(&object, (0x0008, 0x0023)).unwrap();
    assert!(moved.len() == 8 && moved != "20160706");
}

#[test]
fn kept_dates_are_stated_as_they_came_out() {
    let full = policy(&[ProfileOption::RetainFullDates]);
    let stated = |film: &Film| {
        let (_, object, _) = clean_with(film, full);
        (
            text(&object, (0x0008, 0x0020)).unwrap(),
            text(&object, (0x0028, 0x0303)).unwrap(),
        )
    };
    assert_eq!(stated(&film()), ("20160705".into(), "UNMODIFIED".into()));
    // A newborn: the study's date is the birth date and stays.
    let mut newborn = film();
    newborn.put((0x0010, 0x0030), "DA", b"20160705");
    assert_eq!(stated(&newborn), ("20160705".into(), "UNMODIFIED".into()));
    let mut odd = film();
    odd.put((0x0008, 0x0022), "DA", b"5 July");
    assert_eq!(stated(&odd), ("20160705".into(), "MODIFIED".into()));
}

#[test]
fn more_names_than_can_be_paired_are_refused_and_many_of_one_name_are_not() {
    let mut many = film();
    let names: Vec<String> = (0..400)
        .map(|n| format!("Ab{n} Cd{n} Ef{n} Gh{n} Ij{n} Kl{n} Mn{n} Op{n} Qr{n} St{n}"))
        .collect();
    many.put((0x0010, 0x1001), "PN", names.join("\\").as_bytes());
    assert_eq!(refused(&many), DeidError::TooManyIdentifiers);
    let mut same = film();
    same.put(
        (0x0010, 0x1001),
        "PN",
        vec!["Davidson^Douglas^James"; 400].join("\\").as_bytes(),
    );
    clean(&same);
}

#[test]
fn an_identifier_too_long_to_search_for_is_refused() {
    let mut film = film();
    film.put((0x0010, 0x1000), "LO", &b"A1B2".repeat(2000));
    assert_eq!(refused(&film), DeidError::TooManyIdentifiers);
    // Padding does not make it long.
    let padded = format!("PID7766{}554", " ".repeat(9000));
    film.put((0x0010, 0x1000), "LO", padded.as_bytes());
    assert!(clean(&film).2.is_hit("PID7766 554"));
}

#[test]
fn text_written_as_numbers_is_collected_and_does_not_stay() {
    let mut film = film();
    film.put((0x0010, 0x0010), "US", b"Davidson^Douglas");
    film.put((0x0008, 0x0070), "US", b"Davidson");
    film.put((0x0028, 0x0106), "US", b"Davidson");
    let (bytes, _, known) = clean(&film);
    assert!(known.is_hit("Davidson"));
    assert!(!contains(&bytes, b"Davidson"));
}

#[test]
fn text_written_as_numbers_is_collected_in_big_endian_too() {
    let mut film = film();
    film.syntax = BIG_ENDIAN.into();
    // A number in this syntax would have its bytes turned around; these are characters.
    film.put((0x0010, 0x0010), "US", b"Davidson^Douglas");
    film.put((0x0010, 0x0020), "LO", b"PID483920");
    let mut data = Vec::new();
    for ((group, number), encoded) in &film.elements {
        data.extend(group.to_be_bytes());
        data.extend(number.to_be_bytes());
        data.extend(&encoded[4..6]);
        let long = &encoded[4..6] == b"OB";
        let mut value = encoded[if long { 12 } else { 8 }..].to_vec();
        if *group == 0x0028 && &encoded[4..6] == b"US" {
            value.reverse();
        }
        if long {
            data.extend([0, 0]);
            data.extend((value.len() as u32).to_be_bytes());
        } else {
            data.extend((value.len() as u16).to_be_bytes());
        }
        data.extend(value);
    }
    film.elements.clear();
    film.after = data;
    let (bytes, _, known) = clean(&film);
    assert!(known.is_hit("Davidson"));
    assert!(!contains(&bytes, b"Davidson"));
}

#[test]
fn only_pixels_stay_in_their_group_and_tables_end_where_they_say() {
    let mut film = film();
    film.put((0x7FE0, 0x0020), "OW", b"burned in");
    film.put((0x0028, 0x3002), "US", &[4, 0, 0, 0, 16, 0]);
    film.put((0x0028, 0x3006), "OW", b"01234567hidden");
    let item = [
        element((0x0028, 0x3002), "US", &[4, 0, 0, 0, 16, 0]),
        element((0x0028, 0x3006), "OW", b"01234567hidden"),
        element((0x7FE0, 0x0010), "OB", b"nested pixels"),
    ]
    .concat();
    film.elements
        .insert((0x0028, 0x3010), sequence((0x0028, 0x3010), &item));
    let (bytes, object, _) = clean(&film);
    for word in ["burned in", "hidden", "nested"] {
        assert!(!contains(&bytes, word.as_bytes()), "{word}");
    }
    let table = object.get(Tag(0x0028, 0x3010)).unwrap().items().unwrap()[0]
        .get(Tag(0x0028, 0x3006))
        .unwrap()
        .to_bytes()
        .unwrap()
        .into_owned();
    assert_eq!(table, b"01234567");
}

#[test]
fn a_decimal_number_with_the_digits_of_an_id_stays_and_the_id_as_a_number_goes() {
    let mut film = Film::new("ISO_IR 100", b"Davidson^Douglas", "483920");
    film.put((0x0018, 0x1164), "DS", b"0.483920\\0.483920");
    film.put((0x0018, 0x1110), "DS", b"483920");
    film.put((0x0018, 0x1111), "DS", b"483920.0");
    let (_, object, _) = clean(&film);
    assert_eq!(
        text(&object, (0x0018, 0x1164)).unwrap(),
        "0.483920\\0.483920"
    );
    // Without a value, as an attribute of type 2 may be.
    assert_eq!(text(&object, (0x0018, 0x1110)).unwrap(), "");
    assert_eq!(text(&object, (0x0018, 0x1111)).unwrap(), "");
}

#[test]
fn coded_values_have_the_form_of_their_vr() {
    let mut film = film();
    film.put((0x0018, 0x1164), "DS", b"call 555 Jane");
    film.put((0x0020, 0x0013), "IS", b"Jane");
    film.put((0x0018, 0x1500), "CS", b"Dr. Winterbottom");
    film.put((0x0020, 0x0060), "CS", b"a name that is far too long");
    let (bytes, object, _) = clean(&film);
    for word in ["Jane", "Winterbottom", "far too"] {
        assert!(!contains(&bytes, word.as_bytes()), "{word}");
    }
    assert_eq!(text(&object, (0x0018, 0x0015)).unwrap(), "CHEST");
}

#[test]
fn an_id_in_an_item_belongs_to_the_issuer_beside_it() {
    let of = |issuer: &str| {
        let mut film = film();
        let item = [
            element((0x0010, 0x0020), "LO", b"PID483920"),
            element((0x0010, 0x0021), "LO", issuer.as_bytes()),
        ]
        .concat();
        film.elements
            .insert((0x0008, 0x1120), sequence((0x0008, 0x1120), &item));
        let (_, object, _) = clean_with(&film, policy(&[ProfileOption::RetainUids]));
        let items = object.get(Tag(0x0008, 0x1120)).unwrap().items().unwrap();
        let inner = text(&items[0], (0x0010, 0x0020)).unwrap();
        (text(&object, (0x0010, 0x0020)).unwrap(), inner)
    };
    let (outer, same) = of("SITE");
    assert_eq!(outer, same);
    assert_ne!(of("ELSEWHERE").1, same);
}

#[test]
fn a_text_beyond_a_mebibyte_goes_unread() {
    let mut film = film();
    let long = b"call 555-123-4567 ".repeat(80_000);
    film.put((0x0040, 0xA160), "UT", &long);
    let (bytes, ..) = clean(&film);
    assert!(bytes.len() < 100_000 && !contains(&bytes, b"555-123"));
}
