//! CONNECT: a tunnel from a program of our workload to a port of a Service (RFC 9110 section
//! 9.3.6).
//!
//! Invariant: a tunnel leads to the port that its authority names, and nowhere else. To a `tcp`
//! port it is one connection, which the receiver judges as such. To any other port it carries
//! requests, each judged by itself, whose Host must name that port too. Refused are CONNECT over
//! HTTP/2, inside another tunnel, and on a connection that was redirected here.

use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use http::header::HeaderMap;
use http::request::Parts;
use http::uri::Authority;
use http::{StatusCode, header};
use tokio::time::Instant;

use super::body::{Incoming, Upload};
use super::call::Call;
use super::failure::Failure;
use super::http_server::{Answer, Wire};
use super::io::Io;
use super::outbound::{Outbound, To};
use super::refusal::{Manner, refuse_for};
use super::routing::Asked;
use super::tunnel::{Onward, Tunnel};
use crate::failure::Reason;
use crate::head::{self, HeadError};
use crate::route::{Destination, NotOfTheMesh};
use crate::state::{Target, is_http};
use crate::transparent::Intent;

impl Outbound {
    /// Answers a CONNECT.
    pub(super) async fn tunnel(
        self: &Rc<Self>,
        parts: Parts,
        upload: Upload,
        wire: Wire,
        to: &To,
        mut call: Box<Call>,
    ) -> Answer {
        let opened = match authority(&parts, &upload, wire, to) {
            Ok(authority) => self.open(&authority, &mut call).await,
            Err(failure) => Err(failure),
        };
        let onward = match opened {
            Ok(onward) => onward,
            Err(failure) => return refuse_for(call, &failure, Manner::Http),
        };
        call.answered(StatusCode::OK, Instant::now());
        Answer {
            status: StatusCode::OK,
            fields: HeaderMap::new(),
            body: Incoming::Onward(Box::new(onward)),
            upload: None,
            call,
        }
    }

    async fn open(
        self: &Rc<Self>,
        authority: &Authority,
        call: &mut Call,
    ) -> Result<Onward, Failure> {
        let destination = Destination::of(Some(authority)).map_err(|error| {
            let hint = match error {
                NotOfTheMesh::OtherZone(_) => {
                    "; a host outside is called in plain HTTP, and an External originates TLS"
                }
                _ => "",
            };
            Failure::new(Reason::NoRoute, format!("{error}{hint}"))
        })?;
        let asked = Asked::Number(destination.clone());
        let target = self.router.resolve(&asked).await?;
        call.leads_to(&target.label);
        if is_http(target.protocol) {
            return Ok(self.requests(destination));
        }
        self.bytes(&target, call).await
    }

    async fn bytes(&self, target: &Arc<Target>, call: &mut Call) -> Result<Onward, Failure> {
        let upstream = self.dial(target, call).await?;
        let stream = call.enter(self.live.enter_unjudged(Instant::now()));
        self.peers.rest_on(&stream, upstream.peer())?;
        let upstream = Tunnel::new(Io::Opened(Box::new(upstream)), BytesMut::new());
        Ok(Onward::to(upstream, None))
    }

    /// The tunnel is a connection of its own, and its requests are calls of their own.
    fn requests(self: &Rc<Self>, destination: Destination) -> Onward {
        let this = Rc::clone(self);
        Onward::new(move |tunnel, mut call| {
            call.complete();
            drop(call);
            let (io, received) = tunnel.into_parts();
            let to = To::Service(Intent::tunnel(destination));
            Box::pin(this.connection(io, received, None, to))
        })
    }
}

/// What the tunnel is to lead to, if the request says so in one way.
fn authority(parts: &Parts, upload: &Upload, wire: Wire, to: &To) -> Result<Authority, Failure> {
    if wire != Wire::Http1 || !matches!(to, To::Anything) {
        let error = HeadError::Connect;
        return Err(Failure::new(error.reason(), error.to_string()));
    }
    let bad = |why: &str| Failure::new(Reason::BadRequest, why);
    if !upload.is_nothing() {
        return Err(bad("CONNECT with content"));
    }
    if parts.headers.contains_key(header::UPGRADE) {
        return Err(bad("CONNECT with an upgrade"));
    }
    let authority = head::tunnel_authority(&parts.uri, &parts.headers);
    authority.map_err(|error| Failure::new(error.reason(), error.to_string()))
}
