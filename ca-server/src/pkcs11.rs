//! A PKCS#11 token (OASIS PKCS #11 2.40 and later), through the module of its vendor: keys that
//! sign and wrap where they are.
//!
//! Each piece of work has a session of its own, so one that dies is missed by nobody, and a token
//! that comes back is used again. Work is done one piece after the other, on threads that may
//! block. Refuses to try a PIN again that the token has not taken, since a few wrong ones lock it.

mod aes;
mod ec;
mod module;

use std::path::PathBuf;
use std::time::Duration;

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};
use runtime::FileError;
use tokio::task::JoinError;

pub(crate) use aes::TokenAesKey;
pub(crate) use ec::{TokenKeyReference, TokenSigningKey, destroy_keys};
pub(crate) use module::{Need, TokenSession};

use crate::config::{Pkcs11Config, TokenKeyName};

/// A module that does not answer keeps nobody longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A token, as the configuration names it; nothing of it is held open. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    config: Pkcs11Config,
    /// Of systemd, for a PIN that is a credential.
    credentials: Option<PathBuf>,
}

/// Why a token did not do its part.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("cannot load the PKCS#11 module {}", path.display())]
    Module { path: PathBuf, source: Error },
    #[error("there is no token with label `{0}`")]
    Absent(String),
    #[error("{count} tokens have the label `{label}`")]
    SeveralTokens { label: String, count: usize },
    #[error("the PIN of the token cannot be read")]
    Pin(#[source] FileError),
    #[error("the PIN of the token is to be a credential, but systemd gave this process none")]
    NoCredentials,
    #[error("the PIN of the token is not text")]
    PinNotText,
    #[error(
        "the token does not take the PIN; it is not tried again before its file has changed, since \
         a few wrong ones lock a token"
    )]
    WrongPin,
    #[error("the PIN of the token is locked; unlock it with the tool of its vendor")]
    Locked,
    #[error("one more wrong PIN would lock the token, so none is tried; log in by hand once")]
    FinalTry,
    #[error("the token holds no key {0}")]
    NoKey(TokenKeyName),
    #[error("the token holds {count} keys {name}; name one by its id")]
    SeveralKeys { name: TokenKeyName, count: usize },
    #[error("the key {name} of the token cannot be used: {why}")]
    UnfitKey {
        name: TokenKeyName,
        why: &'static str,
    },
    #[error("the token answered with {0} that is none")]
    Answer(&'static str),
    #[error("the token could not {attempted}")]
    Failed {
        attempted: &'static str,
        source: Error,
    },
    #[error("the token did not answer in 30 s")]
    Silent,
    #[error("the work of the token ended early")]
    Ended(#[source] JoinError),
}

impl Token {
    pub(crate) fn new(config: Pkcs11Config, credentials: Option<PathBuf>) -> Self {
        Self {
            config,
            credentials,
        }
    }

    pub(crate) fn config(&self) -> &Pkcs11Config {
        &self.config
    }

    /// Does `work` in a session of the token's user. Blocks.
    pub(crate) fn with_session<T>(
        &self,
        need: Need,
        work: impl FnOnce(&TokenSession) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        module::with_session(&self.config, self.credentials.as_deref(), need, work)
    }
}

/// Does blocking work on a thread that may block, but waits no longer than a token may take.
pub(crate) async fn off_thread<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<TokenError> + Send + 'static,
{
    let working = tokio::task::spawn_blocking(work);
    match tokio::time::timeout(PATIENCE, working).await {
        Ok(Ok(done)) => done,
        Ok(Err(ended)) => Err(TokenError::Ended(ended).into()),
        Err(_) => Err(TokenError::Silent.into()),
    }
}

impl TokenError {
    fn failed(attempted: &'static str) -> impl FnOnce(Error) -> Self {
        move |source| Self::Failed { attempted, source }
    }

    /// Whether the module may have lost the token, so that it must look again.
    fn is_loss(&self) -> bool {
        match self {
            Self::Absent(_) => true,
            Self::Failed {
                source: Error::Pkcs11(code, _),
                ..
            } => matches!(
                code,
                RvError::CryptokiNotInitialized
                    | RvError::DeviceError
                    | RvError::DeviceRemoved
                    | RvError::GeneralError
                    | RvError::FunctionFailed
                    | RvError::SessionClosed
                    | RvError::SessionHandleInvalid
                    | RvError::SlotIdInvalid
                    | RvError::TokenNotPresent
                    | RvError::TokenNotRecognized
            ),
            _ => false,
        }
    }
}

fn code(error: &Error) -> Option<(RvError, Function)> {
    match error {
        Error::Pkcs11(code, function) => Some((*code, *function)),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
