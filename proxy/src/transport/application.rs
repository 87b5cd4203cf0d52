//! The way to the application behind this proxy.
//!
//! Invariant: nothing is sent but under a `Permit`: the functions take its stream, which only
//! the gate makes for a judged call. Connections are kept and used again, one request at a time
//! for HTTP/1.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use policy::Protocol;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::body::Upload;
use super::failure::Failure;
use super::tasks::Tasks;
use crate::admit::Permit;
use crate::failure::Reason;
use crate::state::Served;

/// An application may close an idle connection at any time; the shorter we keep one, the rarer
/// a request meets that.
const KEEP_IDLE: Duration = Duration::from_secs(5);
const IDLE_PER_ADDRESS: usize = 256;

/// Connections to applications of this host. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Applications {
    pool: Arc<Mutex<Pool>>,
    tasks: Tasks,
    connect: Duration,
}

#[derive(Debug, Default)]
struct Pool {
    http1: HashMap<String, Vec<Idle>>,
    http2: HashMap<String, http2::SendRequest<Upload>>,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<Upload>,
    since: Instant,
}

impl Applications {
    pub(crate) fn new(tasks: Tasks, connect: Duration) -> Self {
        Self {
            pool: Arc::default(),
            tasks,
            connect,
        }
    }

    /// A TCP connection of its own for a permitted one.
    ///
    /// # Errors
    /// If the application does not accept it in time.
    pub(crate) async fn connect(
        &self,
        _permit: &Permit,
        address: &str,
    ) -> Result<TcpStream, Failure> {
        self.dial(address).await
    }

    /// Sends one permitted request.
    ///
    /// # Errors
    /// If the application cannot be reached or breaks off before its response's head.
    pub(crate) async fn send(
        &self,
        served: &Served,
        request: Permitted,
    ) -> Result<Response<Incoming>, Failure> {
        let address = &served.application;
        match served.protocol {
            Protocol::Http2 | Protocol::Grpc => self.send_http2(address, request.0).await,
            Protocol::Http | Protocol::Tcp => self.send_http1(address, request.0).await,
        }
    }

    /// Lets go of connections that were idle for too long, and while draining of each one; what is
    /// in flight on them finishes.
    pub(crate) fn sweep(&self) {
        let mut pool = self.lock();
        if self.tasks.shutdown().is_draining() {
            pool.http1.clear();
            pool.http2.clear();
            return;
        }
        pool.http1.retain(|_, idle| {
            idle.retain(Idle::is_usable);
            !idle.is_empty()
        });
        pool.http2.retain(|_, sender| !sender.is_closed());
    }

    async fn send_http1(
        &self,
        address: &str,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = request;
        while let Some(mut sender) = self.take_idle(address) {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(self.keep_when_done(address, sender, response)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Failure::stream(&error.into_error())),
                },
            }
        }
        let mut sender = self.handshake_http1(address).await?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| Failure::stream(&error))?;
        Ok(self.keep_when_done(address, sender, response))
    }

    async fn send_http2(
        &self,
        address: &str,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, Failure> {
        let known = self.lock().http2.get(address).cloned();
        let request = match known {
            Some(mut sender) if sender.is_ready() => match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => unsent,
                    None => return Err(Failure::stream(&error.into_error())),
                },
            },
            _ => request,
        };
        let mut sender = self.handshake_http2(address).await?;
        self.lock().http2.insert(address.to_owned(), sender.clone());
        sender
            .send_request(request)
            .await
            .map_err(|error| Failure::stream(&error))
    }

    /// The sender is ready again once the response's body has been read to its end.
    fn keep_when_done(
        &self,
        address: &str,
        mut sender: http1::SendRequest<Upload>,
        response: Response<Incoming>,
    ) -> Response<Incoming> {
        if sender.is_closed() {
            return response;
        }
        let (this, address) = (self.clone(), address.to_owned());
        self.tasks.spawn(async move {
            if sender.ready().await.is_ok() {
                this.keep(address, sender);
            }
        });
        response
    }

    fn keep(&self, address: String, sender: http1::SendRequest<Upload>) {
        let mut pool = self.lock();
        let idle = pool.http1.entry(address).or_default();
        if idle.len() < IDLE_PER_ADDRESS {
            idle.push(Idle {
                sender,
                since: Instant::now(),
            });
        }
    }

    fn take_idle(&self, address: &str) -> Option<http1::SendRequest<Upload>> {
        let mut pool = self.lock();
        let idle = pool.http1.get_mut(address)?;
        std::iter::from_fn(|| idle.pop())
            .find(Idle::is_usable)
            .map(|idle| idle.sender)
    }

    async fn handshake_http1(&self, address: &str) -> Result<http1::SendRequest<Upload>, Failure> {
        let stream = self.dial(address).await?;
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::stream(&error))?;
        self.drive(connection);
        Ok(sender)
    }

    async fn handshake_http2(&self, address: &str) -> Result<http2::SendRequest<Upload>, Failure> {
        let stream = self.dial(address).await?;
        let (sender, connection) = http2::Builder::new(self.tasks.clone())
            .timer(TokioTimer::new())
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::stream(&error))?;
        self.drive(connection);
        Ok(sender)
    }

    fn drive(&self, connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
        self.tasks.spawn(async move {
            if let Err(error) = connection.await {
                let error = runtime::exit::one_line(&error);
                tracing::debug!(error, "connection to the application ended");
            }
        });
    }

    async fn dial(&self, address: &str) -> Result<TcpStream, Failure> {
        match timeout(self.connect, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Latency only: without it small writes wait for acknowledgements.
                drop(stream.set_nodelay(true));
                Ok(stream)
            }
            Ok(Err(error)) => Err(Failure::connect(address, &error)),
            Err(_) => Err(Failure::new(
                Reason::ConnectTimeout,
                format!("connect to the application at {address}: too slow"),
            )),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    fn is_usable(&self) -> bool {
        !self.sender.is_closed() && self.sender.is_ready() && self.since.elapsed() < KEEP_IDLE
    }
}

/// A request that the gate let through.
#[derive(Debug)]
pub(crate) struct Permitted(Request<Upload>);

impl Permitted {
    pub(crate) fn new(_permit: &Permit, request: Request<Upload>) -> Self {
        Self(request)
    }
}
