//! The RPCs of the Workload API.

use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt, unfold};
use proto::spiffe as wire;
use proto::spiffe::spiffe_workload_api_server::SpiffeWorkloadApi;
use runtime::{Clock, Shutdown};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::limiter::CallerLimits;
use super::response;
use crate::attestor::{Attestor, Entitled, NotEntitled};
use crate::caller::Caller;
use crate::deliveries::{Deliveries, Delivery};
use crate::holdings::Holdings;
use crate::view::View;

const SECURITY_HEADER: &str = "workload.spiffe.io";

/// What the RPCs answer from. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct WorkloadDesk {
    pub(crate) clock: Clock,
    pub(crate) attestor: Attestor,
    pub(crate) limits: CallerLimits,
    pub(crate) view: watch::Receiver<Option<Arc<View>>>,
    pub(crate) holdings: watch::Receiver<Arc<Holdings>>,
    pub(crate) deliveries: Deliveries,
    pub(crate) shutdown: Shutdown,
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadDesk {
    type FetchX509SVIDStream = BoxStream<'static, Result<wire::X509svidResponse, Status>>;
    type FetchX509BundlesStream = BoxStream<'static, Result<wire::X509BundlesResponse, Status>>;
    type FetchJWTBundlesStream = BoxStream<'static, Result<wire::JwtBundlesResponse, Status>>;

    async fn fetch_x509svid(
        &self,
        request: Request<wire::X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let caller = self.caller(&request)?;
        let clock = self.clock.clone();
        self.stream(caller, move |entitled, holdings, view| {
            response::x509_svids(entitled, holdings, view, clock.now())
        })
        .await
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<wire::X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        let caller = self.caller(&request)?;
        self.stream(caller, |_, holdings, view| {
            response::x509_bundles(holdings.bundle.as_deref(), view)
        })
        .await
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<wire::JwtsvidRequest>,
    ) -> Result<Response<wire::JwtsvidResponse>, Status> {
        self.caller(&request)?;
        Err(no_jwt())
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<wire::JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        self.caller(&request)?;
        Err(no_jwt())
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<wire::ValidateJwtsvidRequest>,
    ) -> Result<Response<wire::ValidateJwtsvidResponse>, Status> {
        self.caller(&request)?;
        Err(no_jwt())
    }
}

impl WorkloadDesk {
    /// The header first (requirements 108 and 109), then the caller's budget.
    fn caller<T>(&self, request: &Request<T>) -> Result<Arc<Caller>, Status> {
        let header = request.metadata().get(SECURITY_HEADER);
        if header.is_none_or(|value| value.as_bytes() != b"true") {
            return Err(Status::invalid_argument(
                "the header `workload.spiffe.io: true` is required",
            ));
        }
        let caller = request.extensions().get::<Arc<Caller>>().cloned();
        let caller = caller.ok_or_else(|| Status::internal("the connection has no caller"))?;
        if !self.limits.permits(caller.uid) {
            return Err(Status::unavailable(format!(
                "uid {} calls too often; try again in a second",
                caller.uid
            )));
        }
        Ok(caller)
    }

    /// The first answer decides the status of the call; later ones are sent when they differ.
    async fn stream<M, F>(
        &self,
        caller: Arc<Caller>,
        answer: F,
    ) -> Result<Response<BoxStream<'static, Result<M, Status>>>, Status>
    where
        M: Clone + PartialEq + Send + 'static,
        F: Fn(&Entitled, &Holdings, &View) -> Result<M, Status> + Send + Sync + 'static,
    {
        let mut answers = Answers {
            desk: self.clone(),
            caller,
            answer,
            sent: None,
            bundle: 0,
            delivery: None,
            ended: false,
        };
        let first = answers.current().await?;
        answers.sent = Some(first.clone());
        answers.delivery = Some(self.deliveries.open(answers.bundle));
        let rest = unfold(answers, |mut answers| async move {
            Some((answers.next().await?, answers))
        });
        let all = futures_util::stream::iter([Ok(first)]).chain(rest);
        Ok(Response::new(all.boxed()))
    }
}

/// One open stream.
struct Answers<M, F> {
    desk: WorkloadDesk,
    caller: Arc<Caller>,
    answer: F,
    sent: Option<M>,
    /// Of the bundle in the message that was made last.
    bundle: u64,
    delivery: Option<Delivery>,
    ended: bool,
}

impl<M, F> Answers<M, F>
where
    M: Clone + PartialEq,
    F: Fn(&Entitled, &Holdings, &View) -> Result<M, Status>,
{
    /// The next message that differs from the last; absent once the stream has ended.
    async fn next(&mut self) -> Option<Result<M, Status>> {
        while !self.ended {
            tokio::select! {
                () = self.desk.shutdown.draining() => {
                    self.ended = true;
                    return Some(Err(Status::unavailable("the agent is stopping")));
                }
                () = self.caller.process.exited() => return None,
                Ok(()) = self.desk.view.changed() => {}
                Ok(()) = self.desk.holdings.changed() => {}
            }
            match self.current().await {
                Ok(message) if self.sent.as_ref() == Some(&message) => self.delivered(),
                Ok(message) => {
                    self.sent = Some(message.clone());
                    self.delivered();
                    return Some(Ok(message));
                }
                Err(status) => {
                    self.ended = true;
                    return Some(Err(status));
                }
            }
        }
        None
    }

    /// The message that was made last is on its way, or the caller has its like.
    fn delivered(&self) {
        if let Some(delivery) = &self.delivery {
            delivery.sent(self.bundle);
        }
    }

    /// Attests the caller again, and says what it may have now.
    async fn current(&mut self) -> Result<M, Status> {
        let Some(view) = self.desk.view.borrow_and_update().clone() else {
            return Err(Status::unavailable(
                "the agent has no configuration yet; try again",
            ));
        };
        let attestor = self.desk.attestor.clone();
        let caller = Arc::clone(&self.caller);
        // It reads /proc and may hash an executable.
        let seen = Arc::clone(&view);
        let entitled =
            tokio::task::spawn_blocking(move || attestor.attest(&caller, seen.assignments()))
                .await
                .map_err(|_| Status::internal("the attestor failed"))??;
        let holdings = self.desk.holdings.borrow_and_update().clone();
        self.bundle = holdings.bundle.as_deref().map_or(0, |it| it.sequence);
        (self.answer)(&entitled, &holdings, &view)
    }
}

impl From<NotEntitled> for Status {
    fn from(error: NotEntitled) -> Self {
        match error {
            NotEntitled::NoMatch { .. } => {
                Self::permission_denied(format!("{error}; compare with `countersign get workload`"))
            }
            NotEntitled::Exited => Self::permission_denied(error.to_string()),
            NotEntitled::Unreadable(_) => {
                tracing::warn!(error = %runtime::exit::one_line(&error), "caller not attested");
                Self::unavailable("the calling process cannot be examined; try again")
            }
        }
    }
}

fn no_jwt() -> Status {
    Status::unimplemented("this agent serves the X.509 profile only")
}
