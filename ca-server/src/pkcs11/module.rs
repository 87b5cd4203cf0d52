//! Loaded modules, of which each is initialized once in a process, and sessions of them.

use std::collections::HashMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use crypto::digest::Sha256;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::RvError;
use cryptoki::mechanism::MechanismType;
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use runtime::FileError;
use zeroize::Zeroizing;

use super::{TokenError, code};
use crate::config::{PinPlace, Pkcs11Config};

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Keys are used.
    Use,
    /// Keys are made or destroyed.
    Change,
}

/// A session of the token's user. It ends when it is dropped.
pub(crate) struct TokenSession {
    session: Session,
    module: Pkcs11,
    slot: Slot,
}

/// What this process has loaded. PKCS#11 is initialized once in a process, whoever asks.
#[derive(Default)]
struct Loaded {
    modules: HashMap<PathBuf, Pkcs11>,
    /// PINs that a token has not taken, by module and label.
    refused: HashMap<(PathBuf, String), Sha256>,
}

static LOADED: LazyLock<Mutex<Loaded>> = LazyLock::new(Mutex::default);

impl TokenSession {
    /// Whether the token knows a mechanism.
    pub(super) fn knows(&self, mechanism: MechanismType) -> Result<bool, TokenError> {
        let known = self.module.get_mechanism_list(self.slot);
        let known = known.map_err(TokenError::failed("list its mechanisms"))?;
        Ok(known.contains(&mechanism))
    }
}

impl Deref for TokenSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

pub(super) fn with_session<T>(
    config: &Pkcs11Config,
    credentials: Option<&Path>,
    need: Need,
    work: impl FnOnce(&TokenSession) -> Result<T, TokenError>,
) -> Result<T, TokenError> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let done = loaded
        .session(config, credentials, need)
        .and_then(|session| work(&session));
    if done.as_ref().is_err_and(TokenError::is_loss) {
        loaded.forget(&config.module);
    }
    done
}

impl Loaded {
    fn session(
        &mut self,
        config: &Pkcs11Config,
        credentials: Option<&Path>,
        need: Need,
    ) -> Result<TokenSession, TokenError> {
        let pin = read_pin(&config.pin, credentials)?;
        let module = self.module(&config.module)?;
        let slot = find(&module, &config.token)?;
        let session = match need {
            Need::Use => module.open_ro_session(slot),
            Need::Change => module.open_rw_session(slot),
        };
        let session = session.map_err(TokenError::failed("open a session"))?;
        self.login(&module, slot, &session, config, &pin)?;
        Ok(TokenSession {
            session,
            module,
            slot,
        })
    }

    fn module(&mut self, path: &Path) -> Result<Pkcs11, TokenError> {
        if let Some(module) = self.modules.get(path) {
            return Ok(module.clone());
        }
        let unusable = |source| TokenError::Module {
            path: path.to_owned(),
            source,
        };
        let module = Pkcs11::new(path).map_err(unusable)?;
        let threads = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        match module.initialize(threads) {
            Err(error)
                if code(&error).map(|it| it.0) != Some(RvError::CryptokiAlreadyInitialized) =>
            {
                return Err(unusable(error));
            }
            _ => {}
        }
        self.modules.insert(path.to_owned(), module.clone());
        Ok(module)
    }

    /// The next one who asks has it look for its tokens again.
    fn forget(&mut self, path: &Path) {
        if let Some(module) = self.modules.remove(path)
            && let Err(error) = module.finalize()
        {
            tracing::debug!(%error, "a PKCS#11 module did not end in order");
        }
    }

    fn login(
        &mut self,
        module: &Pkcs11,
        slot: Slot,
        session: &Session,
        config: &Pkcs11Config,
        pin: &str,
    ) -> Result<(), TokenError> {
        let token = (config.module.clone(), config.token.clone());
        let digest = Sha256::of(pin.as_bytes());
        if self.refused.get(&token) == Some(&digest) {
            return Err(TokenError::WrongPin);
        }
        let about = module
            .get_token_info(slot)
            .map_err(TokenError::failed("tell about itself"))?;
        if about.user_pin_locked() {
            return Err(TokenError::Locked);
        }
        if about.user_pin_final_try() {
            return Err(TokenError::FinalTry);
        }
        let Err(error) = session.login(UserType::User, Some(&AuthPin::from(pin))) else {
            return Ok(());
        };
        match code(&error).map(|it| it.0) {
            Some(RvError::UserAlreadyLoggedIn) => Ok(()),
            Some(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange) => {
                self.refused.insert(token, digest);
                Err(TokenError::WrongPin)
            }
            Some(RvError::PinLocked) => Err(TokenError::Locked),
            _ => Err(TokenError::failed("take the PIN")(error)),
        }
    }
}

fn find(module: &Pkcs11, label: &str) -> Result<Slot, TokenError> {
    let slots = module
        .get_slots_with_token()
        .map_err(TokenError::failed("list its slots"))?;
    let is_it = |slot: &Slot| {
        module
            .get_token_info(*slot)
            .is_ok_and(|about| about.label() == label)
    };
    let found: Vec<_> = slots.into_iter().filter(is_it).collect();
    match *found {
        [slot] => Ok(slot),
        [] => Err(TokenError::Absent(label.to_owned())),
        _ => Err(TokenError::SeveralTokens {
            label: label.to_owned(),
            count: found.len(),
        }),
    }
}

fn read_pin(place: &PinPlace, credentials: Option<&Path>) -> Result<Zeroizing<String>, TokenError> {
    let read: Result<_, FileError> = match place {
        PinPlace::File(path) => runtime::files::read_private(path),
        PinPlace::Credential(name) => {
            let directory = credentials.ok_or(TokenError::NoCredentials)?;
            runtime::read_credential(directory, name.as_str())
        }
    };
    let bytes = read.map_err(TokenError::Pin)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| TokenError::PinNotText)?;
    let pin = text.trim_end_matches(['\r', '\n']);
    Ok(Zeroizing::new(pin.to_owned()))
}
