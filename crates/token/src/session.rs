//! From a module and a URI to a session that is logged in.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};

use crate::{Pin, TokenError, TokenUri};

/// What leads to a key.
#[derive(Debug, Clone)]
pub struct Place {
    /// The module's shared library.
    pub module: PathBuf,
    /// Token and object.
    pub uri: TokenUri,
    /// Of the token's user.
    pub pin: Arc<Pin>,
}

/// Which token, as far as its module tells.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Token {
    module: PathBuf,
    slot: Slot,
    serial: String,
}

/// PINs that a token has refused, with its answer.
type Refused = Vec<(Arc<Pin>, TokenError)>;

/// By token, for every key of this process: all of them would enter the same PIN. Each is locked while
/// a PIN is entered, so that the next one knows what became of the last.
static REFUSED: Mutex<Option<HashMap<Token, Arc<Mutex<Refused>>>>> = Mutex::new(None);

fn refused(token: Token) -> Arc<Mutex<Refused>> {
    let mut tokens = REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
    let tokens = tokens.get_or_insert_default();
    Arc::clone(tokens.entry(token).or_default())
}

/// A module is loaded once in a process, and never unloaded: its threads may outlive us.
static MODULES: Mutex<Option<HashMap<PathBuf, Pkcs11>>> = Mutex::new(None);

fn module(path: &Path) -> Result<Pkcs11, TokenError> {
    let failed = |why: String| TokenError::Module {
        path: path.display().to_string(),
        why,
    };
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    let modules = modules.get_or_insert_default();
    let module = if let Some(module) = modules.get(path) {
        module.clone()
    } else {
        if !path.is_file() {
            return Err(failed("there is no such file".to_owned()));
        }
        let module = Pkcs11::new(path).map_err(|error| failed(error.to_string()))?;
        modules.insert(path.to_owned(), module.clone());
        module
    };
    // Each time: a module that somebody finalized is woken up again.
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(module),
        Err(error) => Err(failed(TokenError::from(error).to_string())),
    }
}

impl Place {
    fn fits(&self, info: &TokenInfo) -> bool {
        // Blank padded on the token (PKCS#11, CK_TOKEN_INFO).
        let fits = |wanted: &Option<String>, there: &str| {
            wanted
                .as_deref()
                .is_none_or(|wanted| wanted.trim_end() == there.trim_end())
        };
        fits(&self.uri.token, info.label())
            && fits(&self.uri.serial, info.serial_number())
            && fits(&self.uri.manufacturer, info.manufacturer_id())
            && fits(&self.uri.model, info.model())
    }

    fn slot(&self, module: &Pkcs11) -> Result<(Slot, TokenInfo), TokenError> {
        let mut found = None;
        for slot in module.get_slots_with_initialized_token()? {
            // One broken reader does not hide the token in another.
            let Ok(info) = module.get_token_info(slot) else {
                continue;
            };
            if self.fits(&info) && found.replace((slot, info)).is_some() {
                return Err(TokenError::TokenAmbiguous);
            }
        }
        found.ok_or(TokenError::TokenMissing)
    }

    /// A session, logged in. Read-only: nothing is ever changed on the token.
    pub(crate) fn log_in(&self) -> Result<Session, TokenError> {
        let module = module(&self.module)?;
        let (slot, info) = self.slot(&module)?;
        let session = module.open_ro_session(slot)?;
        if !info.login_required() {
            return Ok(session);
        }
        let refused = refused(Token {
            module: self.module.clone(),
            slot,
            serial: info.serial_number().to_owned(),
        });
        let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |(pin, _): &&(Arc<Pin>, TokenError)| *pin == self.pin;
        if let Some((_, why)) = refused.iter().find(same) {
            return Err(why.clone());
        }
        // As it is now: another key's login may have failed while we waited.
        let info = module.get_token_info(slot)?;
        if info.user_pin_locked() || !info.user_pin_initialized() {
            return Err(TokenError::PinLocked);
        }
        // Another session of this process is logged in already: the flags speak of somebody else.
        let state = session.get_session_info()?.session_state();
        let logged_in = matches!(
            state,
            cryptoki::session::SessionState::RoUser | cryptoki::session::SessionState::RwUser
        );
        if logged_in {
            return Ok(session);
        }
        if info.user_pin_count_low() || info.user_pin_final_try() {
            return Err(TokenError::PinDoubtful);
        }
        match session.login(UserType::User, Some(&self.pin.auth())) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error) => {
                let error = TokenError::from(error);
                if error.is_refused_pin() {
                    refused.push((Arc::clone(&self.pin), error.clone()));
                }
                Err(error)
            }
        }
    }

    /// The one object of `class` that the URI names.
    pub(crate) fn find(
        &self,
        session: &Session,
        class: ObjectClass,
    ) -> Result<ObjectHandle, TokenError> {
        let mut template = vec![Attribute::Class(class), Attribute::Token(true)];
        if let Some(label) = &self.uri.object {
            template.push(Attribute::Label(label.clone().into_bytes()));
        }
        if let Some(id) = &self.uri.id {
            template.push(Attribute::Id(id.clone()));
        }
        let found = session.find_objects(&template)?;
        match found.as_slice() {
            [] => Err(TokenError::KeyMissing),
            [one] => Ok(*one),
            _ => Err(TokenError::KeyAmbiguous),
        }
    }
}
