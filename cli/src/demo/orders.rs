//! `shop/orders`: a small HTTP server on loopback.

use std::convert::Infallible;
use std::net::Ipv4Addr;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Report;

/// Serves until it is asked to end.
pub(super) async fn serve() -> anyhow::Result<()> {
    let (trigger, shutdown) = runtime::Shutdown::pair();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    Report::Listening {
        address: listener.local_addr()?,
    }
    .print()?;
    let signals = trigger.on_signals()?;
    tokio::select! {
        served = accept(listener) => served,
        () = shutdown.draining() => Ok(()),
        () = signals => Ok(()),
    }
}

async fn accept(listener: TcpListener) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
                connections.spawn(serving);
            }
            // A connection that broke is its caller's to notice.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET || request.uri().path() != "/" {
        return Ok(respond(StatusCode::NOT_FOUND, "no such order\n".to_owned()));
    }
    let caller = request
        .headers()
        .get("x-forwarded-client-cert")
        .and_then(|value| value.to_str().ok());
    let caller = caller.unwrap_or("nobody that I know");
    Ok(respond(StatusCode::OK, format!("orders for {caller}\n")))
}

fn respond(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
