//! Health checks of other proxies: passed on to the application, and answered with a status.
//!
//! Invariant: whoever asks learns whether the application works, and nothing else: no field and no
//! byte of what it said is passed on. However many ask, the application is asked at most twice in
//! one period by each worker.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, StatusCode};
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, timeout};

use super::MeshHttp;
use crate::admit::CheckPermit;
use crate::failure::Reason;
use crate::head::RequestHead;
use crate::service_port::ServicePort;
use crate::transport::application::{Applications, Permitted};
use crate::transport::body::{Frame, Incoming, Source, Upload};
use crate::transport::call::Call;
use crate::transport::exchange::unless_ended;
use crate::transport::failure::Failure;
use crate::transport::hop::Reply;
use crate::transport::http_server::{Answer, Interims};
use crate::transport::mesh::Inbound;
use crate::transport::refusal::{Manner, refuse, refuse_for};

/// Of an answer, so much is read; what is longer costs its connection.
const MOST_READ: usize = 64 * 1024;

const USER_AGENT: HeaderValue = HeaderValue::from_static("countersign-health");

/// What the applications said last. One for each worker.
#[derive(Debug, Default)]
pub(crate) struct Checkups {
    of: RefCell<HashMap<Arc<ServicePort>, Rc<Last>>>,
}

/// None before the first.
type Last = Mutex<Option<Checkup>>;

#[derive(Clone, Debug)]
struct Checkup {
    at: Instant,
    found: Result<StatusCode, Failure>,
}

impl MeshHttp {
    /// Answers a health check. One that is refused is counted as a call; one that is let through
    /// is none.
    pub(super) async fn check(&self, head: Parts, upload: Upload) -> Answer {
        let mut call = self.call();
        let manner = Manner::Http;
        let checked = RequestHead::check(head.method, &head.uri, head.version, head.headers);
        let head = match checked {
            Ok(head) if upload.is_nothing() => head,
            Ok(_) => return refuse(call, Reason::BadRequest, "a check has no body", manner),
            Err(error) => return refuse(call, error.reason(), &error.to_string(), manner),
        };
        let permit = match self.inbound.gate.check(&self.peer, &self.target, &head) {
            Ok(permit) => permit,
            Err(denied) => {
                call.denied(&denied);
                return refuse(call, denied.reason, &denied.detail, manner);
            }
        };
        call.is_no_call();
        match self.ask(permit).await {
            Ok(status) => told(status, call),
            Err(failure) => refuse_for(call, &failure, manner),
        }
    }

    /// A task of its own asks: whoever leaves early has asked none the less, and those who come
    /// next share what it finds.
    async fn ask(&self, permit: CheckPermit) -> Result<StatusCode, Failure> {
        let (tell, found) = oneshot::channel();
        let asking = Asking {
            inbound: Rc::clone(&self.inbound),
            checkup: self.inbound.checkups.of(&self.target),
            own_name: self.own_name.clone(),
            permit,
        };
        self.inbound.tasks.spawn(async move {
            let stream = Arc::clone(asking.permit.ticket().stream());
            let found = unless_ended(&stream, pin!(asking.found())).await;
            let ended = |reason| Err(Failure::new(reason, "ended by the proxy"));
            // Who asked may have left.
            drop(tell.send(found.unwrap_or_else(ended)));
        });
        let stopped = || Failure::new(Reason::Draining, "the proxy ended meanwhile");
        found.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// A check that the gate let through, on its way.
struct Asking {
    inbound: Rc<Inbound>,
    checkup: Rc<Last>,
    own_name: Option<Authority>,
    permit: CheckPermit,
}

impl Asking {
    async fn found(&self) -> Result<StatusCode, Failure> {
        // Held while the application is asked, so that those who come meanwhile share the answer.
        let mut last = self.checkup.lock().await;
        let health = self.permit.health();
        let fresh = health.every / 2;
        if let Some(last) = last.as_ref().filter(|it| it.at.elapsed() < fresh) {
            return last.found.clone();
        }
        let at = Instant::now();
        let own_name = self.own_name.as_ref();
        let asked = ask(&self.inbound.applications, &self.permit, own_name);
        let found = match timeout(health.timeout, asked).await {
            Ok(found) => found,
            Err(_) => Err(Failure::new(
                Reason::Deadline,
                "the application did not answer the check in time",
            )),
        };
        *last = Some(Checkup {
            at,
            found: found.clone(),
        });
        found
    }
}

impl Checkups {
    fn of(&self, port: &Arc<ServicePort>) -> Rc<Last> {
        Rc::clone(self.of.borrow_mut().entry(Arc::clone(port)).or_default())
    }
}

async fn ask(
    applications: &Applications,
    permit: &CheckPermit,
    authority: Option<&Authority>,
) -> Result<StatusCode, Failure> {
    let no_host = || {
        Failure::new(
            Reason::BadRequest,
            "the service has no name that HTTP knows",
        )
    };
    let authority = authority.ok_or_else(no_host)?;
    let mut fields = HeaderMap::new();
    fields.insert(header::USER_AGENT, USER_AGENT);
    let request = Permitted::check(permit, &Method::GET, authority, &fields);
    let nothing = Upload::nothing();
    let stream = permit.ticket().stream();
    let interims = Interims::default();
    let sent = applications.send(permit.served(), &request, nothing, stream, &interims);
    let reply = sent.await.map_err(|attempt| attempt.failure)?;
    Ok(read(reply).await)
}

/// Reads the answer to its end, so that its connection can be kept.
async fn read(mut reply: Reply) -> StatusCode {
    let mut left = MOST_READ;
    let mut grpc_status = reply.fields.remove("grpc-status");
    while let Some(Ok(frame)) = poll_fn(|context| reply.body.poll_frame(context)).await {
        match frame {
            Frame::Data(data) => {
                reply.body.release(data.len());
                left = left.saturating_sub(data.len());
            }
            Frame::Trailers(mut trailers) => {
                grpc_status = grpc_status.or_else(|| trailers.remove("grpc-status"));
            }
        }
        if left == 0 {
            break;
        }
    }
    match grpc_status {
        Some(code) if code != "0" => StatusCode::SERVICE_UNAVAILABLE,
        _ => reply.status,
    }
}

fn told(status: StatusCode, mut call: Box<Call>) -> Answer {
    call.answered(status, Instant::now());
    call.complete();
    Answer {
        status,
        fields: HeaderMap::new(),
        body: Incoming::Empty,
        upload: None,
        call,
    }
}
