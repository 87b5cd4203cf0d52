//! A trace collector: a real OTLP receiver on a port of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use proto::otlp::v1::any_value::Value;
use proto::otlp::v1::trace_service_server::{TraceService, TraceServiceServer};
use proto::otlp::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse, Span};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::outside::Authority;
use crate::waiting::eventually;

/// Remembers every span that it is sent.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    spans: Spans,
    _server: JoinSet<()>,
}

#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Vec<Span>>>);

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let spans = Spans::default();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(spans.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { server.await.expect("the collector serves") });
        Self {
            address,
            spans,
            _server: tasks,
        }
    }

    /// Behind TLS, as `localhost`: what `authority` vouches for.
    pub async fn start_secure(authority: &Authority) -> Self {
        let mut collector = Self::start().await;
        let plain = collector.address;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        collector.address = listener.local_addr().expect("bound");
        let acceptor = authority.acceptor("localhost", &[b"h2"]);
        collector._server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    // Who does not believe us says so and goes away.
                    let Ok(mut tls) = acceptor.accept(socket).await else {
                        return;
                    };
                    let behind = TcpStream::connect(plain).await;
                    let mut behind = behind.expect("the collector listens");
                    drop(copy_bidirectional(&mut tls, &mut behind).await);
                });
            }
        });
        collector
    }

    /// For one that is behind TLS.
    pub fn secure_endpoint(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many spans it has.
    pub fn received(&self) -> usize {
        self.spans.lock().len()
    }

    /// The spans of a trace, once there are so many.
    pub async fn spans(&self, trace: &[u8], count: usize) -> Vec<Span> {
        eventually("spans arrive", || async {
            let mut spans = self.spans.lock().clone();
            spans.retain(|span| span.trace_id == trace);
            (spans.len() >= count).then_some(spans)
        })
        .await
    }
}

/// A span's attribute, where it is a text.
pub fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|it| it.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

impl Spans {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Span>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let scopes = resources.into_iter().flat_map(|it| it.scope_spans);
        self.lock().extend(scopes.flat_map(|it| it.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
