//! What an agent knows before it has spoken to anyone: the sealed cache, and its join token.

use std::collections::BTreeMap;

use identity::TrustDomain;
use identity::join_token::CaAddress;
use time::OffsetDateTime;

use super::StartError;
use crate::ca::Addresses;
use crate::cache::{Cache, StoredConfiguration, StoredCredentials};
use crate::config::Config;
use crate::holdings::Holdings;
use crate::keeper;
use crate::session::read_token;
use crate::view::View;

/// The start's state.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) trust_domain: TrustDomain,
    pub(super) holdings: Holdings,
    pub(super) view: Option<View>,
    pub(super) wanted: BTreeMap<String, OffsetDateTime>,
    pub(super) addresses: Addresses,
}

impl Restored {
    pub(super) fn read(
        config: &Config,
        cache: &Cache,
        now: OffsetDateTime,
    ) -> Result<Self, StartError> {
        let credentials = cache
            .load::<StoredCredentials>()
            .filter(|stored| stored.own.is_some());
        let Some(credentials) = credentials else {
            return Self::without_credentials(config);
        };
        let trust_domain: TrustDomain = credentials
            .trust_domain
            .parse()
            .map_err(StartError::CachedTrustDomain)?;
        if let Some(configured) = config.ca.trust_domain()
            && *configured != trust_domain
        {
            let (cached, configured) = (trust_domain, configured.clone());
            return Err(StartError::OtherTrustDomain { cached, configured });
        }
        let configuration = cache.load::<StoredConfiguration>().unwrap_or_default();
        let mut known: Vec<CaAddress> = configuration
            .replicas
            .iter()
            .filter_map(|address| address.parse().ok())
            .collect();
        if known.is_empty() {
            known = addresses_of_token(config);
        }
        let view = view(&trust_domain, &configuration);
        let mut holdings = keeper::restore(&trust_domain, &credentials, now);
        holdings.denied = view
            .as_ref()
            .map(|it| it.denied().clone())
            .unwrap_or_default();
        Ok(Self {
            holdings,
            view,
            wanted: configuration
                .subscriptions
                .into_iter()
                .filter_map(time_of)
                .collect(),
            addresses: Self::addresses(config, known.into_iter()),
            trust_domain,
        })
    }

    fn without_credentials(config: &Config) -> Result<Self, StartError> {
        match config.ca.trust_domain() {
            Some(trust_domain) if config.join.without_token().is_some() => {
                let known = config.ca.addresses.iter().cloned();
                Ok(Self::first(config, trust_domain.clone(), known))
            }
            _ => Self::from_token(config),
        }
    }

    fn from_token(config: &Config) -> Result<Self, StartError> {
        let path = config
            .join
            .token_file
            .as_ref()
            .ok_or(StartError::NoWayToJoin(None))?;
        let token =
            read_token(path).map_err(|error| StartError::NoWayToJoin(Some(error.into())))?;
        let known = token.addresses().iter().cloned();
        Ok(Self::first(config, token.trust_domain().clone(), known))
    }

    fn first(
        config: &Config,
        trust_domain: TrustDomain,
        known: impl Iterator<Item = CaAddress>,
    ) -> Self {
        Self {
            trust_domain,
            holdings: Holdings::default(),
            view: None,
            wanted: BTreeMap::new(),
            addresses: Self::addresses(config, known),
        }
    }

    /// The operator's addresses come before those that were learnt.
    fn addresses(config: &Config, learnt: impl Iterator<Item = CaAddress>) -> Addresses {
        if config.ca.addresses.is_empty() {
            Addresses::new(learnt)
        } else {
            Addresses::new(config.ca.addresses.iter().cloned())
        }
    }
}

/// An agent that ended before it had cached its first configuration has credentials, and knows
/// where the CA is only from the token that it joined with. What answers there is judged by the
/// cached bundle.
fn addresses_of_token(config: &Config) -> Vec<CaAddress> {
    let token = config.join.token_file.as_ref().map(|path| read_token(path));
    token
        .and_then(Result::ok)
        .map(|token| token.addresses().to_vec())
        .unwrap_or_default()
}

fn view(trust_domain: &TrustDomain, stored: &StoredConfiguration) -> Option<View> {
    let snapshot = stored.snapshot.clone()?;
    View::from_snapshot(trust_domain, snapshot, None)
        .inspect_err(|error| {
            tracing::error!(
                error = %runtime::exit::one_line(error),
                "cached configuration is ignored"
            );
        })
        .ok()
        .map(|view| view.with_revocation_lists(stored.revocation_lists.clone().unwrap_or_default()))
}

fn time_of((service, seconds): (String, i64)) -> Option<(String, OffsetDateTime)> {
    Some((service, OffsetDateTime::from_unix_timestamp(seconds).ok()?))
}
