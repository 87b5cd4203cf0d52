//! How often attestation may be tried: for each address and in total, checked before anything is
//! decoded, since verifying is what costs; and for each agent, once it is known who it is, before
//! anything is signed for it.

use std::net::IpAddr;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use identity::SpiffeId;

use super::refusal::Refusal;
use crate::config::Limits;
use crate::sources::source;

/// Rates of one replica.
pub(crate) struct AttestLimits {
    by_address: DefaultKeyedRateLimiter<IpAddr>,
    by_agent: DefaultKeyedRateLimiter<SpiffeId>,
    total: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl AttestLimits {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            by_address: RateLimiter::keyed(Quota::per_second(limits.attest_per_address_per_second)),
            by_agent: RateLimiter::keyed(Quota::per_second(limits.attest_per_agent_per_second)),
            total: RateLimiter::direct(Quota::per_second(limits.attest_per_second)),
            clock: DefaultClock::default(),
        }
    }

    /// The address is judged first, so one that is over its rate uses up nothing of the total.
    pub(super) fn admit(&self, from: IpAddr) -> Result<(), Refusal> {
        let now = self.clock.now();
        self.by_address
            .check_key(&source(from))
            .map_err(|busy| Refusal::Busy(busy.wait_time_from(now)))?;
        self.total
            .check()
            .map_err(|busy| Refusal::Busy(busy.wait_time_from(now)))
    }

    /// Only for agents whose proof was judged: nobody else can use up an agent's rate.
    pub(super) fn admit_agent(&self, agent: &SpiffeId) -> Result<(), Refusal> {
        self.by_agent
            .check_key(agent)
            .map_err(|busy| Refusal::Busy(busy.wait_time_from(self.clock.now())))
    }

    /// Forgets who has been quiet, so that memory follows the present load.
    pub(crate) fn forget_quiet(&self) {
        self.by_address.retain_recent();
        self.by_agent.retain_recent();
    }
}

impl std::fmt::Debug for AttestLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttestLimits").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn limits(per_address: u32, total: u32) -> AttestLimits {
        AttestLimits::new(&Limits {
            attest_per_address_per_second: NonZeroU32::new(per_address).unwrap(),
            attest_per_second: NonZeroU32::new(total).unwrap(),
            ..Limits::default()
        })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_cannot_use_up_what_others_need() {
        let limits = limits(1, 2);
        let (greedy, other) = (address("192.0.2.1"), address("192.0.2.2"));
        assert!(limits.admit(greedy).is_ok());
        for _ in 0..10 {
            assert!(matches!(limits.admit(greedy), Err(Refusal::Busy(_))));
        }
        assert!(limits.admit(other).is_ok());
    }

    #[test]
    fn one_agent_cannot_use_up_what_others_need() {
        let limits = AttestLimits::new(&Limits {
            attest_per_agent_per_second: NonZeroU32::MIN,
            ..Limits::default()
        });
        let agent = |name: &str| -> SpiffeId {
            let id = format!("spiffe://td.test/countersign/agent/x509pop/{name}");
            id.parse().unwrap()
        };
        assert!(limits.admit_agent(&agent("web-7")).is_ok());
        let again = limits.admit_agent(&agent("web-7"));
        assert!(matches!(again, Err(Refusal::Busy(_))));
        assert!(limits.admit_agent(&agent("web-8")).is_ok());
    }

    #[test]
    fn all_addresses_together_are_limited() {
        let limits = limits(1, 1);
        assert!(limits.admit(address("192.0.2.1")).is_ok());
        assert!(matches!(
            limits.admit(address("192.0.2.2")),
            Err(Refusal::Busy(_))
        ));
    }

    #[test]
    fn a_network_of_one_host_counts_as_one_address() {
        let limits = limits(1, 10);
        assert!(limits.admit(address("2001:db8::1")).is_ok());
        assert!(matches!(
            limits.admit(address("2001:db8::2")),
            Err(Refusal::Busy(_))
        ));
    }
}
