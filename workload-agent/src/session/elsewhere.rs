//! Moving to another replica while the stream to this one stays open.
//!
//! Invariant: a replica is left only when another has answered with its certificate: who can reach no
//! other loses nothing by having tried.

use std::future::Future;
use std::pin::Pin;

use crypto::random::{Random, SystemRandom};
use identity::join_token::CaAddress;
use tokio::time::{Instant, sleep_until};

use super::{Session, Verdict};
use crate::ca::{ConnectError, Connection, Trust};

type Dialled = Result<Connection, ConnectError>;
type Dialling = Pin<Box<dyn Future<Output = Dialled> + Send>>;

/// A connection in the making, if there is one.
#[derive(Default)]
pub(super) struct Elsewhere(Option<(CaAddress, Dialling)>);

impl Elsewhere {
    /// Resolves when the connection is made, or cannot be. Cancel safe.
    pub(super) async fn dialled(&mut self) -> (CaAddress, Dialled) {
        match &mut self.0 {
            Some((address, dialling)) => (address.clone(), dialling.await),
            None => std::future::pending().await,
        }
    }
}

impl Session {
    pub(super) fn judge(&mut self, verdict: &Verdict, elsewhere: &mut Elsewhere) {
        let moment = (Instant::now(), SystemRandom.unit());
        let there = self.detour.judged(verdict, &self.addresses, moment);
        let Some(there) = there.filter(|_| elsewhere.0.is_none()) else {
            return;
        };
        tracing::warn!(
            here = self.addresses.current().map(ToString::to_string),
            %there,
            "this replica of the CA signs nothing now; another is tried"
        );
        *elsewhere = self.towards(there);
    }

    pub(super) fn towards(&self, there: CaAddress) -> Elsewhere {
        let trust = Trust::Mutual(self.credentials.clone());
        let (dial, heard) = (self.dial(there.clone(), trust), self.heard.clone());
        let dialling = async move { dial.connect(&heard).await };
        Elsewhere(Some((there, Box::pin(dialling))))
    }

    /// The connection to go on with.
    pub(super) fn arrive(&mut self, there: &CaAddress, dialled: Dialled) -> Option<Connection> {
        match dialled {
            Ok(connection) => {
                let from = self.addresses.current().cloned();
                self.addresses.prefer(there);
                self.detour.arrived(from.as_ref(), there);
                Some(connection)
            }
            Err(error) => {
                tracing::info!(
                    %there,
                    error = %runtime::exit::one_line(&error),
                    "the other replica of the CA cannot be reached"
                );
                let moment = (Instant::now(), SystemRandom.unit());
                self.detour.in_vain(there, moment);
                None
            }
        }
    }

    /// Nothing while the agent is on its way already.
    pub(super) fn way_back(&self, elsewhere: &Elsewhere) -> Option<(CaAddress, Instant)> {
        let way_back = self.detour.way_back(&self.addresses);
        way_back.filter(|_| elsewhere.0.is_none())
    }
}

/// Resolves when the time to go back has come.
pub(super) async fn due(way_back: Option<(CaAddress, Instant)>) -> CaAddress {
    let Some((home, at)) = way_back else {
        return std::future::pending().await;
    };
    sleep_until(at).await;
    home
}
