//! Requests of our workload to hosts outside the mesh.
//!
//! Invariant: such a call is among the live streams under the External that leads it, and ends
//! when that no longer does. What the host says in the mesh's name is not believed.

use std::pin::pin;
use std::rc::Rc;

use http::uri::Authority;
use tokio::time::Instant;

use super::body::Upload;
use super::call::Call;
use super::exchange::unless_ended;
use super::failure::Failure;
use super::hop::Reply;
use super::http_server::{Answer, Interims};
use super::outbound::Outbound;
use super::refusal::{Manner, refuse_for};
use crate::external::{NoWayOut, WayOut};
use crate::head::{self, RequestHead};
use crate::live::Ticket;

impl Outbound {
    /// Carries a request whose Host is not of the mesh, if an External leads there.
    pub(super) async fn outside(
        self: &Rc<Self>,
        head: Box<RequestHead>,
        upload: Upload,
        mut call: Box<Call>,
        manner: Manner,
        interims: &Interims,
    ) -> Answer {
        let (way, ticket) = match self.way_out(head.authority(), call.started()) {
            Ok(found) => found,
            Err(error) => {
                let failure = Failure::new(error.reason(), error.to_string());
                return refuse_for(call, &failure, manner);
            }
        };
        call.leads_to(way.label());
        let stream = call.enter(ticket);
        call.attempts(Instant::now());
        let sent = pin!(self.externals.send(&way, &head, upload, &stream, interims));
        let sent = match unless_ended(&stream, sent).await {
            Ok(sent) => sent.map_err(|attempt| attempt.failure),
            Err(reason) => Err(Failure::new(reason, "ended before the host answered")),
        };
        match sent {
            Ok(reply) => answer(reply, call),
            Err(failure) => refuse_for(call, &failure, manner),
        }
    }

    /// By the configuration in force when the stream is entered.
    fn way_out(
        &self,
        authority: Option<&Authority>,
        now: Instant,
    ) -> Result<(WayOut, Ticket), NoWayOut> {
        let authority = authority.ok_or(NoWayOut::NoHost)?;
        loop {
            let state = self.router.state();
            let way = WayOut::find(&state, authority)?;
            // A newer configuration is in force already otherwise, and is asked next.
            if let Some(ticket) = self.live.enter_outside(state.version, &way, now) {
                return Ok((way, ticket));
            }
        }
    }
}

fn answer(reply: Reply, mut call: Box<Call>) -> Answer {
    call.answered(reply.status, Instant::now());
    call.hold(reply.lease);
    let mut fields = reply.fields;
    drop(head::clean_response(&mut fields));
    Answer {
        status: reply.status,
        fields,
        body: reply.body,
        upload: reply.upload,
        call,
    }
}
