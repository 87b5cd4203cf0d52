//! The keys of one issuer, fetched and kept.
//!
//! Invariant: keys are at most an hour old when they judge, and whoever sends tokens with made-up
//! key ids causes one fetch in ten seconds at most. One caller fetches, the others wait for it; when
//! it hangs up, the next goes on with what it has begun.

mod fetch;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs, io};

use identity::jwt::{KeySet, KeySetError};
use mtls::web::WebCertificateError;
use runtime::Clock;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::JwtIssuerConfig;
use fetch::{FetchError, Fetching};

/// Younger keys are used without asking.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// Older keys are not used, whatever the issuer's trouble.
const OLDEST: Duration = Duration::from_secs(60 * 60);
/// Between two fetches.
const PAUSE: Duration = Duration::from_secs(10);

/// Keys of one issuer.
#[derive(Debug)]
pub(super) struct IssuerKeys {
    attestor: String,
    source: Source,
    kept: Mutex<Kept>,
}

#[derive(Debug, Clone)]
enum Source {
    File(PathBuf),
    Url(Arc<Fetching>),
}

#[derive(Default)]
struct Kept {
    known: Option<KnownKeys>,
    tried: Option<Instant>,
    /// Begun by a caller that may have gone.
    fetching: Option<Fetch>,
}

type Fetch = Pin<Box<dyn Future<Output = Result<KnownKeys, IssuerKeysError>> + Send>>;

/// Keys, and since when they were being fetched.
#[derive(Debug, Clone)]
pub(super) struct KnownKeys {
    pub(super) keys: Arc<KeySet>,
    at: Instant,
}

/// Why there are no keys to judge by.
#[derive(Debug, thiserror::Error)]
pub enum IssuerKeysError {
    #[error("{key} {path} cannot be read")]
    File {
        key: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the authorities for attest.jwt.keys_url cannot be used")]
    Roots(#[from] WebCertificateError),
    #[error("this system has no authorities in any of the usual places; set attest.jwt.roots_file")]
    NoSystemRoots,
    #[error("the keys of the issuer cannot be fetched")]
    Fetch(#[from] FetchError),
    #[error("the keys of the issuer cannot be used")]
    Keys(#[from] KeySetError),
    #[error("the keys of the issuer could not be fetched just now")]
    TriedJustNow,
}

impl IssuerKeys {
    /// Reads what is needed to fetch; the keys themselves are fetched when a token is judged.
    pub(super) fn load(config: &JwtIssuerConfig, clock: &Clock) -> Result<Self, IssuerKeysError> {
        let source = match (&config.keys_url, &config.keys_file) {
            (Some(url), _) => Source::Url(Arc::new(Fetching::new(
                url.clone(),
                config.roots_file.as_deref(),
                config.keys_token_file.clone(),
                clock,
            )?)),
            (None, file) => Source::File(file.clone().unwrap_or_default()),
        };
        Ok(Self {
            attestor: config.attestor.clone(),
            source,
            kept: Mutex::default(),
        })
    }

    /// The keys, fetched again where they are no longer fresh.
    pub(super) async fn current(&self) -> Result<KnownKeys, IssuerKeysError> {
        let mut kept = self.kept.lock().await;
        if let Some(known) = kept.younger_than(FRESH) {
            return Ok(known);
        }
        match self.fetch(&mut kept).await {
            Ok(known) => Ok(known),
            Err(error) => kept.younger_than(OLDEST).ok_or(error),
        }
    }

    /// Keys that were fetched after `known`, if there are any or the issuer may be asked.
    pub(super) async fn newer_than(&self, known: &KnownKeys) -> Option<KnownKeys> {
        let mut kept = self.kept.lock().await;
        let newer = kept.known.clone().filter(|kept| kept.at > known.at);
        match newer {
            Some(newer) => Some(newer),
            None => self.fetch(&mut kept).await.ok(),
        }
    }

    async fn fetch(&self, kept: &mut Kept) -> Result<KnownKeys, IssuerKeysError> {
        let fetching = match &mut kept.fetching {
            Some(fetching) => fetching,
            None => {
                if kept.tried.is_some_and(|tried| tried.elapsed() < PAUSE) {
                    return Err(IssuerKeysError::TriedJustNow);
                }
                let now = Instant::now();
                kept.tried = Some(now);
                kept.fetching
                    .insert(Box::pin(self.source.clone().read(now)))
            }
        };
        let fetched = fetching.await;
        kept.fetching = None;
        let known = fetched.inspect_err(|error| {
            tracing::warn!(
                attestor = self.attestor,
                error = %runtime::exit::one_line(error),
                "the keys of an issuer were not fetched"
            );
        })?;
        kept.known = Some(known.clone());
        Ok(known)
    }
}

impl Source {
    async fn read(self, now: Instant) -> Result<KnownKeys, IssuerKeysError> {
        let text = match &self {
            Self::File(path) => read_file("attest.jwt.keys_file", path)?,
            Self::Url(fetching) => fetching.fetch().await?.to_vec(),
        };
        Ok(KnownKeys {
            keys: Arc::new(KeySet::from_json(&text)?),
            at: now,
        })
    }
}

impl Kept {
    fn younger_than(&self, age: Duration) -> Option<KnownKeys> {
        self.known.clone().filter(|known| known.at.elapsed() < age)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

fn read_file(key: &'static str, path: &std::path::Path) -> Result<Vec<u8>, IssuerKeysError> {
    fs::read(path).map_err(|source| {
        let path = path.to_owned();
        IssuerKeysError::File { key, path, source }
    })
}
