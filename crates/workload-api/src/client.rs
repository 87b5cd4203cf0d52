//! One connection to the Workload API. Every request carries the security header (requirement
//! 107), and nothing else of ours.

use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use proto::spiffe::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use tokio::net::{TcpStream, UnixStream};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Uri};
use tonic::{Request, Status};
use tower::service_fn;

use crate::endpoint::Endpoint;

/// Notices a TCP peer that is gone; PINGs cost a server no request.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

pub(crate) type Client = SpiffeWorkloadApiClient<InterceptedService<Channel, SecurityHeader>>;

/// A client that connects at its first request. Requests fail at once while nobody listens.
pub(crate) fn client(endpoint: &Endpoint) -> Client {
    let base = tonic::transport::Endpoint::from_static("http://localhost")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    let channel = match endpoint.clone() {
        Endpoint::Unix(path) => base.connect_with_connector_lazy(service_fn(move |_: Uri| {
            let path = path.clone();
            async move { io::Result::Ok(TokioIo::new(UnixStream::connect(path).await?)) }
        })),
        Endpoint::Tcp(address) => {
            base.connect_with_connector_lazy(service_fn(move |_: Uri| async move {
                io::Result::Ok(TokioIo::new(TcpStream::connect(address).await?))
            }))
        }
    };
    SpiffeWorkloadApiClient::with_interceptor(channel, SecurityHeader)
}

/// Adds `workload.spiffe.io: true`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SecurityHeader;

impl Interceptor for SecurityHeader {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = MetadataValue::from_static("true");
        request.metadata_mut().insert("workload.spiffe.io", value);
        Ok(request)
    }
}
