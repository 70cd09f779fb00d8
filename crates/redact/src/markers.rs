//! Used by `reading` and `judge`: what may stay on a film. Laterality markers and view labels from a
//! closed list, in English and in the spellings that stand on films in some other countries. Words
//! that are common family names in some country (LI, RE, SX) are left out: a label that is lost costs
//! less than a name that stays.

/// Words that may stay. Letters only, upper case.
const WORDS: &str = "
L R G D LT RT LEFT RIGHT LFT RGT
PA AP LAT LATERAL LL RL LPO RPO LAO RAO OBL OBLIQUE FRONTAL DECUB DECUBITUS LORDOTIC APICAL PROFILE
ERECT UPRIGHT STANDING STAND SUPINE PRONE SITTING SEATED SEMIERECT SEMIUPRIGHT SEMISUPINE SEMI RECUMBENT
HORIZONTAL VERTICAL CROSSTABLE XTABLE TRENDELENBURG
PORTABLE PORT PORTABEL MOBILE BEDSIDE BED GRID NOGRID TABLE WALL
INSP EXP INSPIRATION EXPIRATION INSPIRATORY EXPIRATORY
CHEST CXR THORAX
RECHTS LINKS LIEGEND STEHEND SITZEND SEITLICH BETTAUFNAHME
DROITE GAUCHE DROIT DEBOUT COUCHE ASSIS FACE PROFIL
DERECHA DERECHO IZQUIERDA IZQUIERDO IZQ BIPEDESTACION DECUBITO SENTADO ESPIRACION INSPIRACION PORTATIL
DESTRA SINISTRA ORTOSTATISMO CLINOSTATISMO SUPINO SEDUTO LATERALE
DIREITA DIREITO ESQUERDA ESQUERDO DEITADO ORTOSTASE
STAAND ZITTEND LIGGEND
HOGER VANSTER HOJRE VENSTRE
PRAWA LEWA STOJACA LEZACA
";
/// Words one after another on one label: "AP SUPINE PORTABLE R".
const MOST_WORDS: usize = 4;
/// A label written without spaces must hold one word of this length: a short one may be a name.
const TELLING: usize = 5;

/// The words of a marker or label, if the text is nothing else.
pub(crate) fn words(text: &str) -> Option<Vec<&'static str>> {
    let plain: String = text.trim().chars().map(plain).collect();
    if plain.is_empty() || plain.len() > 48 {
        return None;
    }
    // One lower-case letter may as well be a stroke or a digit.
    if plain.chars().count() == 1 && !plain.chars().all(char::is_uppercase) {
        return None;
    }
    let upper = plain.to_uppercase();
    let tokens: Vec<String> = upper
        .split_whitespace()
        .map(|token| token.replace('-', ""))
        .collect();
    if tokens.is_empty() || tokens.len() > MOST_WORDS {
        return None;
    }
    if let Some(one) = word(&tokens.concat()).filter(|one| one.len() > 1) {
        return Some(vec![one]);
    }
    let mut found = Vec::new();
    for token in &tokens {
        match word(token) {
            Some(one) => found.push(one),
            None => found.extend(two_words(token)?),
        }
    }
    Some(found)
}

/// Letters in other clothes: full-width forms, and a few accents.
fn plain(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        'É' | 'é' | 'È' | 'è' => 'E',
        'Ó' | 'ó' | 'Ö' | 'ö' | 'Ø' | 'ø' => 'O',
        'Ä' | 'ä' | 'Á' | 'á' => 'A',
        '\u{2010}'..='\u{2014}' => '-',
        other => other,
    }
}

fn word(token: &str) -> Option<&'static str> {
    WORDS.split_ascii_whitespace().find(|word| *word == token)
}

fn two_words(token: &str) -> Option<[&'static str; 2]> {
    (2..token.len().saturating_sub(1)).find_map(|at| {
        let (one, other) = token.split_at_checked(at)?;
        let both = [word(one)?, word(other)?];
        both.iter()
            .any(|word| word.len() >= TELLING)
            .then_some(both)
    })
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn markers_and_labels_in_their_spellings() {
        for text in [
            "L",
            "R",
            " R ",
            "PA",
            "AP SUPINE",
            "Left",
            "ERECT",
            "SEMI-ERECT",
            "Semi erect",
            "APERECT",
            "PORTABLEAP",
            "L LAT",
            "X-TABLE",
            "ＲＩＧＨＴ",
            "Décubitus",
            "rechts",
            "R LAT DECUB",
            "HÖJRE",
            "COUCHÉ",
        ] {
            assert!(words(text).is_some(), "{text}");
        }
    }

    #[test]
    fn nothing_else() {
        for text in [
            "",
            " ",
            "l",
            "I",
            "1",
            "7",
            "J",
            "R1",
            "R 12",
            "L JS",
            "RJS",
            "LEE",
            "PAL",
            "LI",
            "R.",
            "(L)",
            "AP 12:30",
            "LAPORTE",
            "ERIC",
            "RIGHTLY",
            "SMITH R",
            "PATRAP",
            "LRLR",
            "PAAP",
            "R L R L R",
            "DOE^JANE",
            "右",
            "PORTABLE 3",
            "٣",
            "LEFT!",
        ] {
            assert_eq!(words(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_stays_is_made_of_letters_only(text in "\\PC{0,30}") {
            if words(&text).is_some() {
                proptest::prop_assert!(!text.chars().any(char::is_numeric));
            }
        }

        #[test]
        fn a_name_beside_a_marker_takes_it_along(name in "[B-CE-FH-KM-QS-Z][A-Z]{3,8}", marker in "(L|R|PA|ERECT)") {
            proptest::prop_assume!(words(&name).is_none());
            proptest::prop_assert_eq!(words(&format!("{marker} {name}")), None);
        }
    }
}
