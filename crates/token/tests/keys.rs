//! Against SoftHSM 2, where there is one.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cloister_token::{AesKey, Pin, Place, TokenError};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;

mod softhsm;

use softhsm::{PIN, destroy_key, inside, make_key, make_token, module, run, writing};

fn place(token: &str, key: &str, pin: &str) -> Place {
    Place {
        module: module().unwrap(),
        uri: format!("pkcs11:token={token};object={key}")
            .parse()
            .unwrap(),
        pin: Arc::new(Pin::from_file(&pin.as_bytes().to_vec().into()).unwrap()),
    }
}

fn open(token: &str, key: &str, pin: &str) -> Result<AesKey, TokenError> {
    AesKey::open(place(token, key, pin), false, Duration::from_secs(20))
}

#[test]
fn a_key_on_a_token_opens_what_it_sealed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "inside_keys");
}

#[test]
#[ignore = "run by the test above"]
fn inside_keys() {
    if !inside() {
        return;
    }
    make_token("site");
    for key in ["one", "two"] {
        make_key("site", key, 32, false);
    }
    let (one, two) = (
        open("site", "one", PIN).unwrap(),
        open("site", "two", PIN).unwrap(),
    );
    assert_eq!(format!("{one:?}"), "AesKey");
    let sealed = one.seal(b"purpose", &[7; 32]).unwrap();
    assert_eq!(sealed.len(), 12 + 32 + 16);
    assert_ne!(sealed, one.seal(b"purpose", &[7; 32]).unwrap());
    assert_eq!(*one.open_sealed(b"purpose", &sealed).unwrap(), [7; 32]);
    assert_eq!(one.open_sealed(b"other", &sealed), Err(TokenError::Opening));
    assert_eq!(
        two.open_sealed(b"purpose", &sealed),
        Err(TokenError::Opening)
    );
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_eq!(
            one.open_sealed(b"purpose", &changed),
            Err(TokenError::Opening),
            "{at}"
        );
        assert_eq!(
            one.open_sealed(b"purpose", &sealed[..at]),
            Err(TokenError::Opening),
            "{at}"
        );
    }
    // What holds keys is some kilobytes.
    let long = vec![3; 4000];
    let sealed = one.seal(b"", &long).unwrap();
    assert_eq!(*one.open_sealed(b"", &sealed).unwrap(), long);
    // Any number of callers.
    std::thread::scope(|scope| {
        for byte in 0..8 {
            let one = &one;
            scope.spawn(move || {
                for _ in 0..20 {
                    let sealed = one.seal(b"p", &[byte; 32]).unwrap();
                    assert_eq!(*one.open_sealed(b"p", &sealed).unwrap(), [byte; 32]);
                }
            });
        }
    });
    // Somebody else's logout: the next call logs in again.
    writing("site").logout().unwrap();
    let sealed = one.seal(b"", b"again").unwrap();
    assert_eq!(*one.open_sealed(b"", &sealed).unwrap(), b"again");
    // The key is gone while it is used: not the data's fault.
    destroy_key("site", "one");
    assert_eq!(one.open_sealed(b"", &sealed), Err(TokenError::KeyMissing));
    assert_eq!(one.seal(b"", b"x"), Err(TokenError::KeyMissing));
}

#[test]
fn whatever_does_not_fit_is_named() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "inside_errors");
}

#[test]
#[ignore = "run by the test above"]
fn inside_errors() {
    if !inside() {
        return;
    }
    make_token("site");
    make_key("site", "good", 32, false);
    make_key("site", "loose", 32, true);
    make_key("site", "short", 16, false);
    make_key("site", "twin", 32, false);
    make_key("site", "twin", 32, false);
    let error = |token: &str, key: &str| open(token, key, PIN).unwrap_err();
    assert_eq!(error("elsewhere", "good"), TokenError::TokenMissing);
    assert_eq!(error("site", "none"), TokenError::KeyMissing);
    assert_eq!(error("site", "twin"), TokenError::KeyAmbiguous);
    assert_eq!(error("site", "loose"), TokenError::KeyExtractable);
    assert!(matches!(error("site", "short"), TokenError::KeyUnfit(_)));
    let loose = AesKey::open(place("site", "loose", PIN), true, Duration::from_secs(20));
    drop(loose.unwrap());
    for module in ["/nowhere/p11.so", "/lib/x86_64-linux-gnu/libm.so.6"] {
        let place = Place {
            module: PathBuf::from(module),
            ..place("site", "good", PIN)
        };
        let failed = AesKey::open(place, false, Duration::from_secs(20)).unwrap_err();
        assert!(matches!(failed, TokenError::Module { .. }), "{failed}");
    }
    make_token("site");
    assert_eq!(error("site", "good"), TokenError::TokenAmbiguous);
}

/// Types a wrong PIN.
fn enter_wrong_pin(token: &str) {
    let session = writing(token);
    drop(session.logout());
    let wrong = session.login(UserType::User, Some(&AuthPin::new("wrong".into())));
    assert!(wrong.is_err());
}

#[test]
fn a_wrong_pin_is_entered_once_however_often_we_start() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "inside_pin");
}

#[test]
#[ignore = "run by the test above"]
fn inside_pin() {
    if !inside() {
        return;
    }
    make_token("site");
    make_key("site", "good", 32, false);
    let error = open("site", "good", "not-the-pin").unwrap_err();
    assert_eq!(error, TokenError::PinIncorrect);
    assert!(!error.to_string().contains("not-the-pin"));
    // The same process remembers; another one, as a service manager would start it, sees the flag.
    for (pin, expected) in [
        ("not-the-pin", TokenError::PinIncorrect),
        ("neither", TokenError::PinDoubtful),
        (PIN, TokenError::PinDoubtful),
    ] {
        let error = open("site", "good", pin).unwrap_err();
        assert_eq!(error, expected, "the token has had one wrong PIN");
    }
    // By hand, with the right one.
    drop(writing("site"));
    let key = open("site", "good", PIN).unwrap();
    // While the room runs: the session is lost, and somebody plays with the token.
    enter_wrong_pin("site");
    assert_eq!(key.seal(b"", b"x"), Err(TokenError::PinDoubtful));
    drop(writing("site"));
    drop(key.seal(b"", b"x").unwrap());
    // The PIN is another one now: tried once, and never again by this process.
    let session = writing("site");
    let (old, new) = (AuthPin::new(PIN.into()), AuthPin::new("another".into()));
    session.set_pin(&old, &new).unwrap();
    session.logout().unwrap();
    assert_eq!(key.seal(b"", b"x"), Err(TokenError::PinIncorrect));
    session.login(UserType::User, Some(&new)).unwrap();
    assert_eq!(key.seal(b"", b"x"), Err(TokenError::PinIncorrect));
}

#[test]
fn two_keys_of_a_token_enter_a_pin_that_it_refuses_once() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "inside_two");
}

#[test]
#[ignore = "run by the test above"]
fn inside_two() {
    if !inside() {
        return;
    }
    make_token("site");
    make_key("site", "one", 32, false);
    make_key("site", "two", 32, false);
    let one = open("site", "one", PIN).unwrap();
    let two = open("site", "two", PIN).unwrap();
    let session = writing("site");
    let (old, new) = (AuthPin::new(PIN.into()), AuthPin::new("another".into()));
    session.set_pin(&old, &new).unwrap();
    session.logout().unwrap();
    assert_eq!(one.seal(b"", b"x"), Err(TokenError::PinIncorrect));
    let was_wrong = || {
        let module = softhsm::softhsm();
        let slots = module.get_slots_with_initialized_token().unwrap();
        module
            .get_token_info(slots[0])
            .unwrap()
            .user_pin_count_low()
    };
    assert!(was_wrong());
    // Somebody takes the token's warning away: as a token does that never gives one.
    session.login(UserType::User, Some(&new)).unwrap();
    session.logout().unwrap();
    assert!(!was_wrong());
    assert_eq!(two.seal(b"", b"x"), Err(TokenError::PinIncorrect));
    assert!(!was_wrong(), "not entered again for the other key");
}

#[test]
fn another_key_of_the_same_name_is_not_taken_for_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "inside_renamed");
}

#[test]
#[ignore = "run by the test above"]
fn inside_renamed() {
    if !inside() {
        return;
    }
    make_token("site");
    make_key("site", "one", 32, false);
    let key = open("site", "one", PIN).unwrap();
    let sealed = key.seal(b"purpose", &[7; 32]).unwrap();
    destroy_key("site", "one");
    make_key("site", "one", 32, false);
    for _ in 0..2 {
        let opened = key.open_sealed(b"purpose", &sealed);
        assert!(matches!(opened, Err(TokenError::KeyUnfit(_))), "{opened:?}");
        let failed = key.seal(b"purpose", &[7; 32]);
        assert!(matches!(failed, Err(TokenError::KeyUnfit(_))), "{failed:?}");
    }
}
