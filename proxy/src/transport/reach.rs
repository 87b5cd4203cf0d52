//! Local ports in front of TCP services.

use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mtls::ClientTls;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::accepting::accept_each;
use super::admission::Admission;
use super::call::Call;
use super::failure::Failure;
use super::outbound::Outbound;
use super::relay::relay;
use super::routing::Asked;
use crate::failure::Reason;
use crate::guard::caller::NotLocal;
use crate::record::NetworkProtocol;
use crate::service_port::ServicePort;
use crate::state::{Target, is_http};
use crate::traffic::balancer::Tried;
use crate::traffic::outcome::{Ending, Health};

impl Outbound {
    /// Accepts for one TCP service until the proxy drains.
    pub(crate) async fn accept_reach(self: Rc<Self>, listener: TcpListener, name: ServicePort) {
        let connection = |stream| {
            let (this, asked) = (Rc::clone(&self), Asked::Name(name.clone()));
            async move {
                let caller = this.caller(&stream);
                this.reach(stream, asked, caller).await;
            }
        };
        accept_each(&listener, &self.limits, &self.tasks, pending(), connection).await;
    }

    pub(super) async fn reach(
        &self,
        local: TcpStream,
        asked: Asked,
        caller: Result<u32, NotLocal>,
    ) {
        let mut call = self.begin(NetworkProtocol::Tcp, &asked.to_string().into());
        if let Err(refused) = caller {
            return call.fail(Reason::CallerNotLocal, &refused.to_string());
        }
        let target = match self.router.resolve(&asked).await {
            Ok(target) => target,
            Err(failure) => return call.failed(&failure),
        };
        call.leads_to(&target.label);
        match self.dial(&target, &mut call).await {
            Ok(upstream) => {
                let stream = call.enter(self.live.enter_unjudged(call.started()));
                if let Err(failure) = self.peers.rest_on(&stream, upstream.peer()) {
                    return call.failed(&failure);
                }
                relay(local, upstream, &stream, &mut call).await;
            }
            Err(failure) => call.failed(&failure),
        }
    }

    pub(super) async fn dial(
        &self,
        target: &Arc<Target>,
        call: &mut Call,
    ) -> Result<ClientTls<TcpStream>, Failure> {
        if is_http(target.protocol) {
            let detail = format!("{} is no TCP port: call it by its Host", target.name);
            return Err(Failure::new(Reason::NoRoute, detail));
        }
        let port = self
            .steering
            .straight(Arc::clone(target), Instant::now())
            .port;
        if port.is_unsettled() {
            let most = self.limits.want.duration();
            self.steering.settle(&port, target, most).await;
        }
        let mut tried = Tried::default();
        call.attempts(Instant::now());
        loop {
            let picked = self.steering.pick(&port, &tried, None, Instant::now())?;
            picked.remember(&mut tried);
            let admission = Admission::new(&port.callee, target, false, Duration::ZERO);
            let connected = self.peers.connect_tcp(picked.endpoint(), &admission).await;
            let now = Instant::now();
            let failure = match connected {
                Ok((upstream, lease)) => {
                    call.hold(Some(lease));
                    call.loads(picked.answered(Some(Health::Good), now));
                    return Ok(upstream);
                }
                Err(failure) => failure,
            };
            picked.end(Ending::Unsent(failure.reason).health(), now);
            if !port.has_untried(&tried) {
                return Err(failure);
            }
            call.retried();
        }
    }
}
