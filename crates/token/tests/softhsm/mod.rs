//! A SoftHSM 2 of a test's own. The module reads SOFTHSM2_CONF when it wakes up, so the test itself runs
//! in a process that is started with it: this test binary again.

use std::path::{Path, PathBuf};
use std::process::Command;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;

const CONF: &str = "SOFTHSM2_CONF";
const SO_PIN: &str = "so-pin-0815";
/// Of every token here.
pub(crate) const PIN: &str = "user-pin-4711";

/// Where Debian and others put it.
pub(crate) fn module() -> Option<PathBuf> {
    [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
        "/usr/local/lib/softhsm/libsofthsm2.so",
    ]
    .iter()
    .map(PathBuf::from)
    .find(|path| path.is_file())
}

/// Runs the ignored test `name` of this binary with a SoftHSM of its own in `dir`. False, and a line,
/// where there is none.
pub(crate) fn run(dir: &Path, name: &str) -> bool {
    if module().is_none() {
        println!("SKIPPED: {name}: no SoftHSM 2 here (Debian: softhsm2)");
        return false;
    }
    std::fs::create_dir_all(dir.join("tokens")).unwrap();
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        dir.join("tokens").display()
    );
    let conf = dir.join("softhsm2.conf");
    let mut file = std::fs::File::create(&conf).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", name])
        .env(CONF, &conf)
        .output()
        .unwrap();
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    true
}

/// Whether [`run`] started this process. The ignored tests are no tests otherwise.
pub(crate) fn inside() -> bool {
    std::env::var_os(CONF).is_some() && module().is_some()
}

/// The module, awake.
pub(crate) fn softhsm() -> Pkcs11 {
    let module = Pkcs11::new(module().unwrap()).unwrap();
    // Another part of the test may have been first.
    drop(module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)));
    module
}

/// A new token with [`PIN`].
pub(crate) fn make_token(label: &str) {
    let module = softhsm();
    let slots = module.get_all_slots().unwrap();
    let free =
        |slot: &&cryptoki::slot::Slot| !module.get_token_info(**slot).unwrap().token_initialized();
    let slot = *slots.iter().find(free).unwrap();
    let so = AuthPin::new(SO_PIN.into());
    module.init_token(slot, &so, label).unwrap();
    let session = module.open_rw_session(slot).unwrap();
    session.login(UserType::So, Some(&so)).unwrap();
    session.init_pin(&AuthPin::new(PIN.into())).unwrap();
}

/// A session that may change things. The token's login ends with its last session.
pub(crate) fn writing(token: &str) -> Session {
    let module = softhsm();
    let slots = module.get_slots_with_initialized_token().unwrap();
    let named = |slot: &&cryptoki::slot::Slot| {
        module.get_token_info(**slot).unwrap().label().trim_end() == token
    };
    let session = module
        .open_rw_session(*slots.iter().find(named).unwrap())
        .unwrap();
    drop(session.login(UserType::User, Some(&AuthPin::new(PIN.into()))));
    session
}

/// An AES key of `bytes`.
pub(crate) fn make_key(token: &str, label: &str, bytes: u64, extractable: bool) {
    let template = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(!extractable),
        Attribute::Extractable(extractable),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::ValueLen(bytes.into()),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    let session = writing(token);
    session
        .generate_key(&Mechanism::AesKeyGen, &template)
        .unwrap();
}

/// Takes it away for good.
pub(crate) fn destroy_key(token: &str, label: &str) {
    let session = writing(token);
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    for key in session.find_objects(&template).unwrap() {
        session.destroy_object(key).unwrap();
    }
}
