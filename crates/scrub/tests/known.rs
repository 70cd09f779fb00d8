//! What known identifiers match, and what they leave alone.

use cloister_scrub::{Kind, KnownIdentifiers, scrub};
use proptest::prelude::*;

fn known() -> KnownIdentifiers {
    let mut known = KnownIdentifiers::new();
    known.add(Kind::Name, "DAVIDSON^DOUGLAS^^Dr");
    known.add(Kind::Name, "Buc^Jérôme");
    known.add(Kind::Name, "O'Brien^Mary Anne");
    known.add(Kind::Name, "Li^Wei");
    known.add(Kind::Name, "Young^Ray");
    known.add(Kind::Name, "Yamada^Tarou=山田^太郎=やまだ^たろう");
    known.add(Kind::Id, "292821506");
    known.add(Kind::Id, "9RG1");
    known.add(Kind::Id, "00-123-456");
    known.add(Kind::Date, "19760616");
    known.add(Kind::Uid, "1.2.840.113619.2.62.994044785528");
    known.add(Kind::Institution, "St. Mary's Hospital");
    known
}

#[test]
fn finds_a_name_in_any_order_case_and_separator() {
    for text in [
        "Davidson",
        "douglas davidson",
        "DAVIDSON, DOUGLAS",
        "Davidson-Douglas",
        "DOUGLASDAVIDSON",
        "Mr. DAVIDSON's film",
        "davidson^douglas",
        "JEROME",
        "Jérôme BUC",
        "Mary Anne O'Brien",
        "obrien",
        "Wei Li",
        "LI^WEI",
        "Ray Young",
        "山田太郎",
        "患者は山田です",
    ] {
        assert!(known().is_hit(text), "{text}");
    }
}

#[test]
fn finds_numbers_with_and_without_separators() {
    for text in [
        "292821506",
        "292-821-506",
        "2928 21506",
        "MRN:292821506.",
        "9rg1",
        "00123456",
        "00-123-456",
        "123456",
        "1.2.840.113619.2.62.994044785528",
    ] {
        assert!(known().is_hit(text), "{text}");
    }
    assert!(!known().is_hit("2928215067"));
    assert!(!known().is_hit("1.2.840.113619.2.62.9940447855281"));
}

#[test]
fn finds_a_date_in_several_layouts() {
    for text in [
        "19760616",
        "1976-06-16",
        "16.06.1976",
        "06/16/1976",
        "6/16/1976",
        "06.16.76",
        "16 Jun 1976",
        "June 16, 1976",
        "16-JUN-1976",
        "16JUN1976",
    ] {
        assert!(known().is_hit(text), "{text}");
    }
    assert!(!known().is_hit("in 1976"));
}

#[test]
fn short_and_common_identifiers_match_nothing() {
    let mut known = KnownIdentifiers::new();
    for (kind, value) in [
        (Kind::Name, "M"),
        (Kind::Name, "AB"),
        (Kind::Name, "ANONYMOUS"),
        (Kind::Name, "CHEST"),
        (Kind::Name, ""),
        (Kind::Name, "^^^"),
        (Kind::Id, "1"),
        (Kind::Id, "1024"),
        (Kind::Id, "ID1"),
        (Kind::Id, "ANONYMOUS"),
        (Kind::Id, "00000000"),
        (Kind::Date, "19000101"),
        (Kind::Date, "1976"),
        (Kind::Date, ""),
        (Kind::Institution, "Hospital"),
        (Kind::Uid, "1.2"),
    ] {
        known.add(kind, value);
    }
    let text = "M AB ANONYMOUS chest 1 1024 ID1 00000000 1900-01-01 1976 Hospital 1.2 19000101";
    assert_eq!(known.find(text), vec![]);
    assert!(!known.find_in_bytes(text.as_bytes()));
}

#[test]
fn clinical_text_stays_when_the_name_is_a_common_word() {
    let text = "Chest x-ray of a young man, PA and lateral: no pneumothorax, is T12 wedged?";
    assert_eq!(scrub(text, &known()).text, text);
}

#[test]
fn finds_identifiers_in_raw_bytes_of_any_encoding() {
    let searcher = known().searcher();
    let mut cases: Vec<Vec<u8>> = vec![
        b"xxDAVIDSONxx".to_vec(),
        b"\x00\x08\x10Buc\x00".to_vec(),
        "Jérôme".as_bytes().to_vec(),
        b"J\xe9r\xf4me".to_vec(),
        b"J\xc9R\xd4ME".to_vec(),
        b"20120901292821506".to_vec(),
        b"19760616101500".to_vec(),
        b"LI^WEI ".to_vec(),
        b"\x079RG1\x00".to_vec(),
    ];
    for text in [
        "Davidson",
        "292821506",
        "山田",
        "1.2.840.113619.2.62.994044785528",
    ] {
        cases.push(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
        cases.push(text.encode_utf16().flat_map(u16::to_be_bytes).collect());
        cases.push(text.as_bytes().to_vec());
    }
    for case in cases {
        let mut planted = vec![0x80; 300];
        planted.extend(&case);
        planted.extend([0x80; 300]);
        assert!(searcher.find_in_bytes(&planted), "{case:?}");
    }
    assert!(!searcher.find_in_bytes(b"bucket list, weir, limit, 9RG12"));
}

#[test]
fn ramps_and_shades_of_pixels_are_no_identifiers() {
    let mut known = KnownIdentifiers::new();
    known.add(Kind::Id, "123456789");
    known.add(Kind::Id, "001100110");
    known.add(Kind::Name, "Lee^Ann");
    let ramp: Vec<u8> = (0..=255).collect();
    assert!(!known.searcher().find_in_pixels(&ramp));
    assert!(known.searcher().find_in_bytes(&ramp));
    known.add(Kind::Name, "Davidson");
    assert!(known.searcher().find_in_pixels(b"\x01\x02DAVIDSON\x03"));
}

#[test]
fn digits_within_a_full_length_pseudonymous_uid_are_no_hit() {
    let known = known();
    let bytes = b"2.25.319760616999999999999999999999999999999\0";
    assert!(!known.find_in_bytes(bytes));
    assert!(known.find_in_bytes(b"1.25.319760616999999999999999999999999999999\0"));
    assert!(known.find_in_bytes(b"2.25.19760616\0"));
}

#[test]
fn debug_prints_no_identifier() {
    assert_eq!(format!("{:?}", known()), "KnownIdentifiers(12 values)");
    assert!(!format!("{:?}", scrub("Davidson", &KnownIdentifiers::new())).contains("David"));
}

proptest! {
    #[test]
    fn a_planted_name_is_always_found_and_never_left(
        name in "[A-Z][a-z]{5,9}",
        before in "[ -~]{0,30}",
        after in "[ -~]{0,30}",
    ) {
        let mut known = KnownIdentifiers::new();
        known.add(Kind::Name, &name);
        prop_assume!(known.is_hit(&name));
        let text = format!("{before} {name} {after}");
        let scrubbed = scrub(&text, &known);
        prop_assert!(!known.is_hit(&scrubbed.text), "{}", scrubbed.text);
        let mut bytes = before.clone().into_bytes();
        bytes.extend(name.to_uppercase().bytes());
        bytes.extend(after.bytes());
        prop_assert!(known.find_in_bytes(&bytes));
    }

    #[test]
    fn any_text_is_scrubbed_without_panic_and_spans_lie_inside(text in "\\PC{0,200}") {
        let scrubbed = scrub(&text, &known());
        let length = text.chars().count();
        let mut last = 0;
        for span in &scrubbed.spans {
            prop_assert!(span.start >= last && span.start < span.end && span.end <= length);
            last = span.end;
        }
    }
}

#[test]
fn a_search_that_would_not_end_hits_everything() {
    let mut names = KnownIdentifiers::new();
    for n in 0..400 {
        let parts: Vec<String> = (0..40).map(|part| format!("x{n}y{part}")).collect();
        names.add(Kind::Name, &parts.join(" "));
    }
    let mut long = KnownIdentifiers::new();
    long.add(Kind::Id, &"A1".repeat(4000));
    for known in [names, long] {
        let searcher = known.searcher();
        assert!(!searcher.is_complete());
        assert!(!searcher.find("chest").is_empty());
        assert!(searcher.find_in_bytes(b"chest") && searcher.find_in_pixels(b"chest"));
    }
    assert!(known().searcher().is_complete());
}

#[test]
fn digits_behind_a_decimal_point_are_no_id_among_pixels() {
    let mut known = KnownIdentifiers::new();
    known.add(Kind::Id, "482913");
    let searcher = known.searcher();
    assert!(!searcher.find_in_pixels(b"\x020.482913\\-1.482913 "));
    for hit in [&b"x 482913 "[..], b"482913.0", b"1.2.482913", b".482913"] {
        assert!(searcher.find_in_pixels(hit), "{hit:?}");
    }
    assert!(searcher.find_in_bytes(b"0.482913"));
}
