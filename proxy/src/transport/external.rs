//! Connections to hosts outside the mesh: TLS that this proxy originates, over which the host
//! proves its name.
//!
//! Invariant: a call goes only where a [`WayOut`] leads, to an address that a host outside can
//! have, and to a server that proved the host's name to the authorities which the External names.
//! The address that was judged is the one that is connected to. Nothing of our identity is shown.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::uri::Authority;
use http2::Outgoing;
use mtls::WebTls;
use mtls::web::{WebClientConfig, connect};
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::admission::Counted;
use super::application::Pool;
use super::body::Upload;
use super::dial::dial;
use super::failure::Failure;
use super::hop::{Attempt, Reply, Seen, is_idempotent};
use super::http_server::Interims;
use super::http1_client::{self, Line};
use super::http1_connection::{Connection, Shared};
use super::http1_server::codec_limits;
use super::http2_client::{Http2, Lease};
use super::http2_group;
use super::http2_head;
use super::io::Io;
use crate::config::{Limits, Network};
use crate::discovery::{Discovery, Resolved};
use crate::external::trust::{Trust, Trusted};
use crate::external::{WayOut, address};
use crate::failure::Reason;
use crate::head::RequestHead;
use crate::live::Stream;
use crate::record::Direction;
use crate::telemetry::Journal;
use crate::worker::tasks::Tasks;

/// A host's addresses are followed for so long after it was last connected to.
const FOLLOW: Duration = Duration::from_secs(600);

/// A worker's connections to hosts outside.
#[derive(Debug)]
pub(crate) struct Externals {
    pool: Rc<Pool>,
    /// Places that were found to speak HTTP/1.1 alone.
    plain: RefCell<HashSet<Arc<str>>>,
    followed: RefCell<HashMap<Box<str>, Followed>>,
    trust: Trust,
    discovery: Discovery,
    allowed: Arc<[Network]>,
    journal: Journal,
    limits: Arc<Limits>,
    tasks: Tasks,
}

/// A host whose addresses are kept fresh.
#[derive(Debug)]
struct Followed {
    resolved: watch::Receiver<Resolved>,
    used: Instant,
}

/// One request to a host outside.
#[derive(Clone, Copy, Debug)]
struct Going<'a> {
    way: &'a WayOut,
    head: &'a RequestHead,
    authority: &'a Authority,
    trusted: &'a Trusted,
    /// What connections are kept by: the host, its port, and who vouched for it.
    place: &'a Arc<str>,
}

impl Externals {
    pub(crate) fn new(
        trust: Trust,
        discovery: Discovery,
        allowed: Arc<[Network]>,
        journal: Journal,
        limits: Arc<Limits>,
        tasks: Tasks,
    ) -> Self {
        Self {
            pool: Rc::default(),
            plain: RefCell::default(),
            followed: RefCell::default(),
            trust,
            discovery,
            allowed,
            journal,
            limits,
            tasks,
        }
    }

    /// Sends one request to the host that the way leads to.
    ///
    /// # Errors
    /// An [`Attempt`] that says how far it got.
    pub(crate) async fn send(
        &self,
        way: &WayOut,
        head: &RequestHead,
        upload: Upload,
        stream: &Arc<Stream>,
        interims: &Interims,
    ) -> Result<Reply, Attempt> {
        let trusted = match self.trust.of(&way.external().tls.roots, Instant::now()) {
            Ok(trusted) => trusted,
            Err(error) => {
                let detail = runtime::exit::one_line(&error);
                let failure = Failure::new(Reason::TlsHandshake, detail);
                return Err(Attempt::unsent(failure, upload));
            }
        };
        let Some(authority) = way.authority() else {
            let failure = Failure::new(Reason::BadRequest, "the request names no host");
            return Err(Attempt::unsent(failure, upload));
        };
        let roots = &way.external().tls.roots;
        let place = format!("{} {roots:?} {}", way.label(), trusted.generation).into();
        let going = Going {
            way,
            head,
            authority: &authority,
            trusted: &trusted,
            place: &place,
        };
        if head.upgrade().is_some() {
            let sent = self.send_upgrade(going, upload, stream, interims);
            return Box::pin(sent).await;
        }
        if !self.is_plain(&place) {
            match self.send_http2(going, upload, stream, interims).await {
                Err(attempt) if self.is_plain(&place) && attempt.may_repeat() => {
                    let upload = attempt.upload.rewind();
                    return self.send_http1(going, upload, stream, interims).await;
                }
                sent => return sent,
            }
        }
        self.send_http1(going, upload, stream, interims).await
    }

    /// Lets go of connections that were idle for too long, and while draining of each one.
    pub(crate) fn sweep(&self) {
        self.pool.sweep(self.tasks.shutdown().is_draining());
        // What a place speaks is asked again when nothing leads there any more.
        self.plain.borrow_mut().retain(|it| self.pool.has_idle(it));
        let mut followed = self.followed.borrow_mut();
        followed.retain(|_, it| it.used.elapsed() < FOLLOW);
    }

    fn is_plain(&self, place: &Arc<str>) -> bool {
        self.plain.borrow().contains(place)
    }

    async fn send_http2(
        &self,
        going: Going<'_>,
        upload: Upload,
        stream: &Arc<Stream>,
        interims: &Interims,
    ) -> Result<Reply, Attempt> {
        let group = self.pool.group(going.place);
        let open = async |_| self.open(going).await;
        let find = async || group.find(OffsetDateTime::UNIX_EPOCH, None, open).await;
        http2_group::send(find, going.http2(), upload, stream, interims).await
    }

    async fn send_http1(
        &self,
        going: Going<'_>,
        upload: Upload,
        stream: &Arc<Stream>,
        interims: &Interims,
    ) -> Result<Reply, Attempt> {
        let (line, mut upload) = (going.line(), upload);
        if let Some(kept) = self.pool.take_idle(going.place) {
            let home = Some(self.pool.home(going.place));
            let sent = http1_client::send(kept, home, true, line, upload, stream, interims).await;
            let attempt = match sent {
                Ok(reply) => return Ok(reply),
                Err(attempt) => attempt,
            };
            let unseen = attempt.seen == Seen::Unknown && is_idempotent(line.method);
            if !unseen || !attempt.upload.can_begin() {
                return Err(attempt);
            }
            upload = attempt.upload.rewind();
        }
        let fresh = match self.dial(going, &going.trusted.config).await {
            Ok(tls) if tls.alpn() != Some(b"h2") => self.http1(tls),
            Ok(_) => {
                self.plain.borrow_mut().remove(going.place);
                let detail = format!("{} now speaks HTTP/2: try again", going.way.label());
                let failure = Failure::new(Reason::ConnectFailed, detail);
                return Err(Attempt::unsent(failure, upload));
            }
            Err(failure) => return Err(Attempt::unsent(failure, upload)),
        };
        let home = Some(self.pool.home(going.place));
        http1_client::send(fresh, home, false, line, upload, stream, interims).await
    }

    /// Sends a request that asks for another protocol, over a connection of its own.
    async fn send_upgrade(
        &self,
        going: Going<'_>,
        upload: Upload,
        stream: &Arc<Stream>,
        interims: &Interims,
    ) -> Result<Reply, Attempt> {
        let fresh = match self.dial(going, &going.trusted.http1).await {
            Ok(tls) => self.http1(tls),
            Err(failure) => return Err(Attempt::unsent(failure, upload)),
        };
        let open = self.journal.connection(Direction::Outbound);
        let line = going.line();
        let sent = http1_client::send(fresh, None, false, line, upload, stream, interims).await;
        sent.map(|reply| Reply {
            lease: Some(Lease::Alone(Counted::new(open, None))),
            ..reply
        })
    }

    /// An HTTP/2 connection. One that turns out to speak HTTP/1.1 is kept for the call that comes
    /// next, and noted.
    async fn open(&self, going: Going<'_>) -> Result<(Http2, Option<OffsetDateTime>), Failure> {
        let tls = self.dial(going, &going.trusted.config).await?;
        if tls.alpn() == Some(b"h2") {
            let open = self.journal.connection(Direction::Outbound);
            let io = Io::Outside(Box::new(tls));
            let counted = Some(Counted::new(open, None));
            let opened = Http2::open(io, self.limits.header_bytes, &self.tasks, counted);
            return Ok((opened, None));
        }
        self.plain.borrow_mut().insert(Arc::clone(going.place));
        self.pool.keep(going.place, &self.http1(tls));
        let detail = format!("{} speaks HTTP/1.1", going.way.label());
        Err(Failure::new(Reason::ConnectFailed, detail))
    }

    fn http1(&self, tls: WebTls<TcpStream>) -> Shared {
        let limits = codec_limits(&self.limits);
        Connection::new(Io::Outside(Box::new(tls)), BytesMut::new(), limits)
    }

    async fn dial(
        &self,
        going: Going<'_>,
        config: &WebClientConfig,
    ) -> Result<WebTls<TcpStream>, Failure> {
        let stream = self.tcp(going.way).await?;
        let (host, began) = (going.way.host(), Instant::now());
        let shaken = connect(stream, config, host);
        let shaken = match timeout(self.limits.handshake.duration(), shaken).await {
            Ok(Ok(tls)) => Ok(tls),
            Ok(Err(error)) => {
                let error = runtime::exit::one_line(&error);
                let detail = format!("handshake with {host}: {error}");
                Err(Failure::new(Reason::TlsHandshake, detail))
            }
            Err(_) => {
                let detail = format!("handshake with {host}: too slow");
                Err(Failure::new(Reason::ConnectTimeout, detail))
            }
        };
        let reason = shaken.as_ref().err().map(|failure| failure.reason);
        self.journal
            .handshake(Direction::Outbound, reason, began.elapsed());
        shaken
    }

    /// To the first of the host's addresses that answers, within twice the time for one.
    async fn tcp(&self, way: &WayOut) -> Result<TcpStream, Failure> {
        let limit = self.limits.connect.duration();
        let addresses = self.addresses(way).await?;
        let any = self.any_of(&addresses);
        match timeout(2 * limit, any).await {
            Ok(connected) => connected?.ok_or_else(|| unknown(way.host())),
            Err(_) => {
                let detail = format!("connect to {}: too slow", way.host());
                Err(Failure::new(Reason::ConnectTimeout, detail))
            }
        }
    }

    async fn any_of(&self, addresses: &[SocketAddr]) -> Result<Option<TcpStream>, Failure> {
        let limit = self.limits.connect.duration();
        let mut last = None;
        for address in addresses {
            match dial(*address, limit).await {
                Ok(stream) => return Ok(Some(stream)),
                Err(failure) => last = Some(failure),
            }
        }
        last.map_or(Ok(None), Err)
    }

    /// Those that a host outside can have.
    async fn addresses(&self, way: &WayOut) -> Result<Vec<SocketAddr>, Failure> {
        let (host, port) = (way.host(), way.external().port);
        let mut resolved = self.follow(host);
        let answered = resolved.wait_for(|it| *it != Resolved::Pending);
        // Whether it was answered or timed out, what is known now decides.
        drop(timeout(self.limits.connect.duration(), answered).await);
        let found = resolved.borrow().clone();
        if matches!(found, Resolved::Pending | Resolved::Failed) {
            let detail = format!("no resolver says where {host} is");
            return Err(Failure::new(Reason::ConnectFailed, detail));
        }
        let addresses = found.addresses().iter();
        let addresses = addresses.map(|ip| SocketAddr::new(*ip, port));
        outside(host, addresses, &self.allowed)
    }

    fn follow(&self, host: &str) -> watch::Receiver<Resolved> {
        let mut followed = self.followed.borrow_mut();
        let known = followed.entry(host.into()).or_insert_with(|| Followed {
            resolved: self.discovery.resolve(host),
            used: Instant::now(),
        });
        known.used = Instant::now();
        known.resolved.clone()
    }
}

impl Going<'_> {
    fn line(&self) -> Line<'_> {
        Line {
            method: self.head.method(),
            path: self.head.target().path(),
            query: self.head.target().query(),
            authority: self.authority,
            fields: self.head.fields(),
            upgrade: self.head.upgrade(),
        }
    }

    fn http2(&self) -> Outgoing<'_> {
        Outgoing {
            scheme: "https",
            ..http2_head::of_head(self.head, self.authority)
        }
    }
}

fn outside(
    host: &str,
    found: impl Iterator<Item = SocketAddr>,
    allowed: &[Network],
) -> Result<Vec<SocketAddr>, Failure> {
    let mut refused = None;
    let mut judged = |address: &SocketAddr| {
        let ip: IpAddr = address.ip();
        let why = address::check(ip, allowed).err();
        refused = why.map(|why| (ip, why)).or(refused);
        why.is_none()
    };
    let kept: Vec<SocketAddr> = found.filter(|address| judged(address)).collect();
    match refused {
        Some((ip, why)) if kept.is_empty() => {
            let detail = format!(
                "{host} is {ip}, which {why}; `external.allow` of the proxy's configuration \
                 permits such an address"
            );
            Err(Failure::new(Reason::NoRoute, detail))
        }
        _ if kept.is_empty() => Err(unknown(host)),
        _ => Ok(kept),
    }
}

fn unknown(host: &str) -> Failure {
    Failure::new(Reason::ConnectFailed, format!("{host} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_name_that_leads_inside_is_refused() {
        let found = addresses(&["169.254.169.254:443", "127.0.0.1:443"]);
        let refused = outside("api.example", found.into_iter(), &[]).unwrap_err();
        assert_eq!(refused.reason, Reason::NoRoute);
        assert!(refused.detail.contains("external.allow"), "{refused:?}");
    }

    #[test]
    fn of_a_names_addresses_only_those_outside_are_called() {
        let found = addresses(&["127.0.0.1:443", "192.0.2.1:443", "[::1]:443"]);
        let kept = outside("api.example", found.into_iter(), &[]).unwrap();
        assert_eq!(kept, addresses(&["192.0.2.1:443"]));
    }
}
