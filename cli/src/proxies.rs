//! The proxies of this host that a person may ask: where their administration sockets are, and
//! how they are asked.
//!
//! Refuses nothing by itself: a socket answers the user that runs its proxy, and root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use futures_util::Stream;
use futures_util::stream::unfold;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use identity::QualifiedName;
use serde_json::Value;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admin::HomeArguments;

/// The socket that `run` and `up` give a proxy, in its own directory.
pub(crate) const SOCKET: &str = "proxy.sock";
/// Where the example configuration has a proxy's socket.
const SYSTEM: (&str, &str) = ("/run/countersign-proxy", "admin.sock");
const ANSWER: Duration = Duration::from_secs(5);
const LONGEST_ANSWER: usize = 64 << 20;
const LONGEST_LINE: usize = 1 << 20;

/// Which proxies are asked.
#[derive(Debug, Args)]
pub(crate) struct ProxyArguments {
    /// The proxies of these workloads, as namespace/name [default: all that are found]
    #[arg(value_name = "WORKLOAD")]
    workloads: Vec<QualifiedName>,
    /// A proxy's administration socket, instead of those of `run`, `up` and /run; may be repeated
    #[arg(long = "socket", value_name = "PATH")]
    sockets: Vec<PathBuf>,
    /// Where `up` was told to keep its mesh
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(flatten)]
    home: HomeArguments,
}

/// A proxy that answered.
#[derive(Debug)]
pub(crate) struct ProxySocket {
    /// The workload that it stands in front of.
    pub(crate) workload: String,
    path: PathBuf,
}

/// Why a proxy cannot be asked.
#[derive(Debug, Error)]
pub(crate) enum ProxyError {
    #[error(
        "no proxy of {wanted} answers on this host; start one with `countersign run`, or name its administration socket with --socket"
    )]
    NoneFound { wanted: String },
    #[error("cannot reach the proxy at {}", path.display())]
    Unreachable { path: PathBuf, source: io::Error },
    #[error("the proxy at {} broke off", path.display())]
    Broken { path: PathBuf, source: hyper::Error },
    #[error("the proxy at {} does not answer", path.display())]
    Silent { path: PathBuf },
    #[error("the proxy at {} refuses ({status}): {text}", path.display())]
    Refused {
        path: PathBuf,
        status: StatusCode,
        text: String,
    },
    #[error("the proxy at {} answers something else than JSON", path.display())]
    NotJson { path: PathBuf },
}

impl ProxyArguments {
    /// Those that answer. A socket that was named has to; one that was found may be left over.
    pub(crate) async fn find(&self) -> Result<Vec<ProxySocket>, ProxyError> {
        let mut found = Vec::new();
        for path in &self.sockets {
            found.push(ProxySocket::ask(path.clone()).await?);
        }
        if self.sockets.is_empty() {
            for path in self.usual_places() {
                found.extend(ProxySocket::ask(path).await.ok());
            }
        }
        let names: Vec<String> = self.workloads.iter().map(ToString::to_string).collect();
        found.retain(|it| names.is_empty() || names.contains(&it.workload));
        if found.is_empty() {
            let wanted = match names.as_slice() {
                [] => "any workload".to_owned(),
                names => names.join(", "),
            };
            return Err(ProxyError::NoneFound { wanted });
        }
        Ok(found)
    }

    fn usual_places(&self) -> Vec<PathBuf> {
        let state = self.state.clone().or_else(|| self.home.state_directory());
        let of_state = state.iter().flat_map(|state| {
            let kinds = ["run", "demo"].map(|kind| state.join(kind));
            kinds.into_iter().flat_map(|it| sockets_below(&it, SOCKET))
        });
        let of_system = sockets_below(Path::new(SYSTEM.0), SYSTEM.1);
        of_state.chain(of_system).collect()
    }
}

impl ProxySocket {
    /// `GET target`, as one JSON document.
    pub(crate) async fn get(&self, target: &str) -> Result<Value, ProxyError> {
        get(&self.path, target).await
    }

    /// `GET target`, line by line, until the proxy ends it.
    pub(crate) async fn lines(
        &self,
        target: &str,
    ) -> Result<impl Stream<Item = String> + use<>, ProxyError> {
        let opened = timeout(ANSWER, open(&self.path, target)).await;
        let (body, connection) = opened.map_err(|_| silent(&self.path))??;
        let lines = Lines {
            body,
            rest: Vec::new(),
            _connection: connection,
        };
        Ok(unfold(lines, Lines::next))
    }

    async fn ask(path: PathBuf) -> Result<Self, ProxyError> {
        let status = get(&path, "/status").await?;
        let workload = status["workload"].as_str().map(str::to_owned);
        match workload {
            Some(workload) => Ok(Self { workload, path }),
            None => Err(ProxyError::NotJson { path }),
        }
    }
}

/// The body of an answer, by lines.
struct Lines {
    body: Incoming,
    rest: Vec<u8>,
    _connection: JoinSet<()>,
}

impl Lines {
    async fn next(mut self) -> Option<(String, Self)> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line[..end]).into_owned();
                return Some((line, self));
            }
            if self.rest.len() > LONGEST_LINE {
                return None;
            }
            let frame = self.body.frame().await?.ok()?;
            self.rest.extend(frame.into_data().unwrap_or_default());
        }
    }
}

async fn get(path: &Path, target: &str) -> Result<Value, ProxyError> {
    let answer = async {
        let (body, _connection) = open(path, target).await?;
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        let bytes = body.map_err(|_| not_json(path))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|_| not_json(path))
    };
    timeout(ANSWER, answer)
        .await
        .unwrap_or_else(|_| Err(silent(path)))
}

async fn open(path: &Path, target: &str) -> Result<(Incoming, JoinSet<()>), ProxyError> {
    let broken = |source| ProxyError::Broken {
        path: path.to_owned(),
        source,
    };
    let stream = UnixStream::connect(path).await;
    let stream = stream.map_err(|source| ProxyError::Unreachable {
        path: path.to_owned(),
        source,
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let mut driver = JoinSet::new();
    // What breaks the connection breaks the answer too, and is told there.
    driver.spawn(async move { drop(connection.await) });
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = target
        .parse()
        .expect("targets are made from literals and encoded words");
    let host = header::HeaderValue::from_static("localhost");
    request.headers_mut().insert(header::HOST, host);
    let answer = sender.send_request(request).await.map_err(broken)?;
    Ok((permitted(path, answer).await?, driver))
}

async fn permitted(path: &Path, answer: Response<Incoming>) -> Result<Incoming, ProxyError> {
    let status = answer.status();
    if status == StatusCode::OK {
        return Ok(answer.into_body());
    }
    let text = Limited::new(answer.into_body(), LONGEST_LINE)
        .collect()
        .await;
    let text = text.map(|it| it.to_bytes()).unwrap_or_default();
    Err(ProxyError::Refused {
        path: path.to_owned(),
        status,
        text: String::from_utf8_lossy(&text).trim().to_owned(),
    })
}

/// `directory/*/name`, in order, as far as they can be listed.
fn sockets_below(directory: &Path, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut sockets: Vec<PathBuf> = entries.map(|it| it.path().join(name)).collect();
    sockets.retain(|path| path.exists());
    sockets.sort();
    sockets
}

/// RFC 3986's unreserved characters as they are, all others percent-encoded.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A SPIFFE ID of the default template as `namespace/name`; any other as it is.
pub(crate) fn short(source: &str) -> String {
    let named = || {
        let (_, path) = source.strip_prefix("spiffe://")?.split_once('/')?;
        let (namespace, name) = path.strip_prefix("ns/")?.split_once("/sa/")?;
        Some(format!("{namespace}/{name}"))
    };
    match source {
        "" => "-".to_owned(),
        source => named().unwrap_or_else(|| source.to_owned()),
    }
}

fn silent(path: &Path) -> ProxyError {
    ProxyError::Silent {
        path: path.to_owned(),
    }
}

fn not_json(path: &Path) -> ProxyError {
    ProxyError::NotJson {
        path: path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_query_do_not_end_it() {
        assert_eq!(encoded("a&b=c #%/é"), "a%26b%3Dc%20%23%25%2F%C3%A9");
    }

    #[test]
    fn identity_of_another_template_is_shown_whole() {
        assert_eq!(short("spiffe://a.example/ns/shop/sa/web"), "shop/web");
        assert_eq!(short("spiffe://a.example/web"), "spiffe://a.example/web");
        assert_eq!(short(""), "-");
    }

    #[test]
    fn only_directories_with_a_socket_are_places() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("empty")).unwrap();
        fs::create_dir(directory.path().join("full")).unwrap();
        let socket = directory.path().join("full").join(SOCKET);
        fs::write(&socket, "").unwrap();
        assert_eq!(sockets_below(directory.path(), SOCKET), [socket]);
    }
}
