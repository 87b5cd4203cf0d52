//! Requests of our workload: by their Host to a Service, on the way that its Route gives them and
//! to a proven server, or out of the mesh.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use http::Method;
use http::header::HeaderValue;
use http::request::Parts;
use http::uri::Authority;
use tokio::time::Instant;

use super::body::Upload;
use super::call::Call;
use super::carry::Way;
use super::exchange::unless_ended;
use super::failure::Failure;
use super::hop::Reply;
use super::http_server::{Answer, Handler, Interims, Wire};
use super::outbound::{Outbound, To};
use super::refusal::{Manner, refuse, refuse_for, status_for_the_caller};
use super::routing::Asked;
use super::steering::Course;
use crate::failure::Reason;
use crate::guard::caller::NotLocal;
use crate::head::{self, DECISION, REASON, RequestHead};
use crate::route::{Destination, NotOfTheMesh};
use crate::state::{Target, is_http};
use crate::telemetry::Series;

/// The target of a call that names no Service.
pub(super) static UNKNOWN: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("unknown"));

/// The requests of one local connection.
#[derive(Debug)]
pub(super) struct LocalHttp {
    outbound: Rc<Outbound>,
    wire: Wire,
    /// Why nobody may call over this connection, if so.
    refused: Option<NotLocal>,
    /// What the connection is for, where the kernel said it.
    to: To,
    last: RefCell<Option<Known>>,
}

/// Where the last request of a connection led. Most connections call one Service, and finding it
/// costs more than comparing a Host.
#[derive(Debug)]
struct Known {
    authority: Option<Authority>,
    source: Arc<str>,
    /// Of the configuration that said so.
    version: u64,
    course: Course,
    series: Series,
}

/// What a request came to.
pub(super) enum Begun {
    Request(Request),
    Tunnel(Box<Parts>, Box<Call>),
    Refused(Box<Answer>),
}

/// Where a request is to go.
enum Aim {
    Mesh(Destination),
    /// To a host that is not of the mesh.
    Outside,
}

/// Where a request that goes there is carried.
enum Found {
    Course(Course),
    Outside,
}

/// A request that was read well, before anybody is asked where it leads.
pub(super) struct Request {
    call: Box<Call>,
    head: Box<RequestHead>,
    course: Option<Course>,
    manner: Manner,
}

impl LocalHttp {
    pub(super) fn new(
        outbound: Rc<Outbound>,
        wire: Wire,
        refused: Option<NotLocal>,
        to: To,
    ) -> Self {
        Self {
            outbound,
            wire,
            refused,
            to,
            last: RefCell::default(),
        }
    }

    fn read(&self, parts: Parts) -> Begun {
        let manner = Manner::of(head::is_grpc(&parts.headers));
        let mut call = self.outbound.begin(self.wire.protocol(), &UNKNOWN);
        call.asks(&parts.method, parts.uri.path(), &parts.headers);
        if let Some(refused) = &self.refused {
            let detail = refused.to_string();
            return Begun::Refused(refuse(call, Reason::CallerNotLocal, &detail, manner).into());
        }
        if parts.method == Method::CONNECT {
            return Begun::Tunnel(Box::new(parts), call);
        }
        let checked = RequestHead::check(parts.method, &parts.uri, parts.version, parts.headers);
        let mut head = match checked {
            Ok(head) => Box::new(head),
            Err(error) => {
                let detail = error.to_string();
                return Begun::Refused(refuse(call, error.reason(), &detail, manner).into());
            }
        };
        call.lead(head.fields_mut());
        let course = self.known(&head, &mut call);
        Begun::Request(Request {
            call,
            head,
            course,
            manner,
        })
    }

    async fn go_on(&self, begun: Request, upload: Upload, interims: &Interims) -> Answer {
        let (mut call, head, manner) = (begun.call, begun.head, begun.manner);
        let course = match begun.course {
            Some(course) => course,
            // On the heap, so that a call that waits for nothing has no room for it.
            None => match Box::pin(self.find(&head, &mut call)).await {
                Ok(Found::Course(course)) => course,
                Ok(Found::Outside) => {
                    let outside = self.outbound.outside(head, upload, call, manner, interims);
                    return Box::pin(outside).await;
                }
                Err(failure) => return refuse_for(call, &failure, manner),
            },
        };
        let outbound = &self.outbound;
        outbound
            .deliver(course, head, upload, call, manner, interims)
            .await
    }

    /// Where the last request led, if this one leads there too.
    fn known(&self, head: &RequestHead, call: &mut Call) -> Option<Course> {
        let last = self.last.borrow();
        let known = last.as_ref()?;
        let same = known.version == self.outbound.router.version()
            && known.authority.as_ref() == head.authority()
            && Arc::ptr_eq(&known.source, call.source());
        if !same {
            return None;
        }
        call.leads_to(&known.course.target.label);
        call.counts_in(&known.series);
        Some(known.course.clone())
    }

    async fn find(&self, head: &RequestHead, call: &mut Call) -> Result<Found, Failure> {
        // What comes into force meanwhile is found by the next request.
        let version = self.outbound.router.version();
        let destination = match self.destination(head.authority())? {
            Aim::Mesh(destination) => destination,
            Aim::Outside => return Ok(Found::Outside),
        };
        let target = self.target(destination).await?;
        call.leads_to(&target.label);
        let series = call.series();
        call.counts_in(&series);
        let course = self.outbound.steering.course(target, Instant::now())?;
        *self.last.borrow_mut() = Some(Known {
            authority: head.authority().cloned(),
            source: Arc::clone(call.source()),
            version,
            course: course.clone(),
            series,
        });
        Ok(Found::Course(course))
    }

    async fn target(&self, destination: Destination) -> Result<Arc<Target>, Failure> {
        let asked = Asked::Number(destination);
        let target = self.outbound.router.resolve(&asked).await?;
        if is_http(target.protocol) {
            return Ok(target);
        }
        Err(Failure::new(
            Reason::NoRoute,
            format!(
                "{} speaks no HTTP; CONNECT opens a tunnel to it, and `[[reach]]` a local port",
                target.name
            ),
        ))
    }

    /// What the connection is for, which the Host must not contradict; without that, what the
    /// Host says.
    fn destination(&self, authority: Option<&Authority>) -> Result<Aim, Failure> {
        let no_route = |error: String| Failure::new(Reason::NoRoute, error);
        if let To::Service(intent) = &self.to {
            return match intent.agrees(authority) {
                Ok(()) => Ok(Aim::Mesh(intent.destination().clone())),
                Err(error) => Err(no_route(error.to_string())),
            };
        }
        match Destination::of(authority) {
            Err(NotOfTheMesh::OtherZone(_)) => Ok(Aim::Outside),
            Ok(_) if matches!(self.to, To::Outside) => Err(no_route(format!(
                "the connection was made to an address outside the mesh, and the Host names {}",
                authority.map_or("nothing", |it| it.as_str()),
            ))),
            Ok(destination) => Ok(Aim::Mesh(destination)),
            Err(error) => Err(no_route(error.to_string())),
        }
    }
}

impl Handler for LocalHttp {
    type Begun = Begun;

    fn begin(&self, parts: Parts) -> Begun {
        self.read(parts)
    }

    async fn finish(&self, begun: Begun, upload: Upload, interims: &Interims) -> Answer {
        match begun {
            Begun::Request(request) => self.go_on(request, upload, interims).await,
            Begun::Tunnel(parts, call) => {
                let tunnel = self
                    .outbound
                    .tunnel(*parts, upload, self.wire, &self.to, call);
                Box::pin(tunnel).await
            }
            Begun::Refused(answer) => *answer,
        }
    }
}

impl Outbound {
    /// Carries a request that may be made on its course, and answers it.
    pub(super) async fn deliver(
        self: &Rc<Self>,
        course: Course,
        head: Box<RequestHead>,
        upload: Upload,
        mut call: Box<Call>,
        manner: Manner,
        interims: &Interims,
    ) -> Answer {
        let stream = call.enter(self.live.enter_unjudged(call.started()));
        let way = Way { course, head };
        let sent = {
            let sent = pin!(self.carry(&way, upload, &stream, &mut call, interims));
            unless_ended(&stream, sent).await
        };
        let sent = sent.unwrap_or_else(|reason| Err(Failure::cut_off(reason, "no answer in time")));
        match sent {
            Ok(reply) => answer(reply, call),
            Err(failure) => refuse_for(call, &failure, manner),
        }
    }
}

fn answer(reply: Reply, mut call: Box<Call>) -> Answer {
    call.hold(reply.lease);
    call.loads(reply.carried);
    let mut fields = reply.fields;
    let status = status_for_the_caller(reply.status, &fields);
    let words = head::clean_response(&mut fields);
    if let Some(reason) = words.reason {
        fields.insert(REASON, HeaderValue::from_static(reason.code()));
    }
    if let Some(decision) = &words.decision {
        fields.insert(DECISION, decision.clone());
    }
    call.heard(words);
    Answer {
        status,
        fields,
        body: reply.body,
        upload: reply.upload,
        call,
    }
}
