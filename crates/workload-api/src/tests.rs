//! Sources against a real gRPC server on a Unix socket.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crypto::random::SystemRandom;
use crypto::signing::SigningKey;
use identity::x509::{Authority, CertificateError, LeafSpec, SvidError};
use identity::{SerialNumber, SpiffeId, TrustDomain, Validity};
use proto::spiffe::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
use proto::spiffe::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest,
    X509svidResponse,
};
use runtime::Clock;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response};

use super::*;

type Reply<M> = Result<M, tonic::Status>;
type Replies<M> = Pin<Box<dyn Stream<Item = Reply<M>> + Send>>;

/// Sends what the test says, now and at each change, to every stream.
#[derive(Clone)]
struct Script {
    svids: watch::Receiver<Reply<X509svidResponse>>,
    bundles: watch::Receiver<Reply<X509BundlesResponse>>,
    calls: Arc<AtomicU32>,
}

impl Script {
    fn replies<M: Clone + Send + Sync + 'static, R>(
        &self,
        replies: &watch::Receiver<Reply<M>>,
        request: &Request<R>,
    ) -> Reply<Response<Replies<M>>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let header = request.metadata().get("workload.spiffe.io");
        if header.is_none_or(|value| value != "true") {
            return Err(tonic::Status::invalid_argument("no security header"));
        }
        // As gRPC has it, a stream ends at its first error.
        let mut ended = false;
        let stream = WatchStream::new(replies.clone()).take_while(move |reply| {
            let go_on = !ended;
            ended = reply.is_err();
            go_on
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Script {
    type FetchX509SVIDStream = Replies<X509svidResponse>;
    type FetchX509BundlesStream = Replies<X509BundlesResponse>;
    type FetchJWTBundlesStream = Replies<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Reply<Response<Self::FetchX509SVIDStream>> {
        self.replies(&self.svids, &request)
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Reply<Response<Self::FetchX509BundlesStream>> {
        self.replies(&self.bundles, &request)
    }

    async fn fetch_jwtsvid(&self, _: Request<JwtsvidRequest>) -> Reply<Response<JwtsvidResponse>> {
        Err(tonic::Status::unimplemented("no JWT here"))
    }

    async fn fetch_jwt_bundles(
        &self,
        _: Request<JwtBundlesRequest>,
    ) -> Reply<Response<Self::FetchJWTBundlesStream>> {
        Err(tonic::Status::unimplemented("no JWT here"))
    }

    async fn validate_jwtsvid(
        &self,
        _: Request<ValidateJwtsvidRequest>,
    ) -> Reply<Response<ValidateJwtsvidResponse>> {
        Err(tonic::Status::unimplemented("no JWT here"))
    }
}

struct Server {
    directory: TempDir,
    script: Script,
    svids: watch::Sender<Reply<X509svidResponse>>,
    bundles: watch::Sender<Reply<X509BundlesResponse>>,
    /// Of its own, since tonic's connections outlive the task that accepts them.
    runtime: Option<Runtime>,
}

impl Server {
    fn start(svids: Reply<X509svidResponse>) -> Self {
        let (svids, svids_seen) = watch::channel(svids);
        let (bundles, bundles_seen) = watch::channel(Ok(X509BundlesResponse::default()));
        let mut server = Self {
            directory: tempfile::tempdir().unwrap(),
            script: Script {
                svids: svids_seen,
                bundles: bundles_seen,
                calls: Arc::default(),
            },
            svids,
            bundles,
            runtime: None,
        };
        server.listen();
        server
    }

    fn listen(&mut self) {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let _guard = runtime.enter();
        let listener = UnixListener::bind(self.directory.path().join("api.sock")).unwrap();
        let service = SpiffeWorkloadApiServer::new(self.script.clone());
        runtime.spawn(async move {
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(UnixListenerStream::new(listener))
                .await
                .unwrap();
        });
        self.runtime = Some(runtime);
    }

    /// Stops listening and cuts all connections.
    fn stop(&mut self) {
        std::fs::remove_file(self.directory.path().join("api.sock")).unwrap();
        self.runtime.take().unwrap().shutdown_background();
    }

    fn say(&self, reply: Reply<X509svidResponse>) {
        self.svids.send_modify(|said| *said = reply);
    }

    fn say_bundles(&self, message: X509BundlesResponse) {
        self.bundles.send_modify(|said| *said = Ok(message));
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.directory.path().join("api.sock"))
    }

    fn source(&self) -> X509Source {
        X509Source::start(self.endpoint(), Clock::system())
    }

    fn calls(&self) -> u32 {
        self.script.calls.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Mesh {
    domain: TrustDomain,
    root: Authority,
}

impl Mesh {
    fn new(name: &str) -> Self {
        let domain: TrustDomain = name.parse().unwrap();
        let key = SigningKey::generate();
        let serial = SerialNumber::random(&mut SystemRandom);
        let root = Authority::new_root(&domain, &key, hours(2), serial).unwrap();
        Self { domain, root }
    }

    fn bundle(&self) -> Vec<u8> {
        self.root.certificate().to_vec()
    }

    fn svid(&self, path: &str, hint: &str) -> X509svid {
        let key = SigningKey::generate();
        let spec = LeafSpec {
            spiffe_id: SpiffeId::new(&self.domain, path).unwrap(),
            public_key: *key.public_key(),
            validity: hours(1),
            serial: SerialNumber::random(&mut SystemRandom),
            dns_names: vec![],
        };
        X509svid {
            spiffe_id: spec.spiffe_id.to_string(),
            x509_svid: self.root.issue(&spec).unwrap().certificate.to_vec(),
            x509_svid_key: key.to_pkcs8().to_vec(),
            bundle: self.bundle(),
            hint: hint.to_owned(),
        }
    }
}

fn hours(count: u64) -> Validity {
    let (now, span) = (Clock::system().now(), Duration::from_secs(3600 * count));
    Validity::try_new(now - span, now + span).unwrap()
}

fn message(svids: Vec<X509svid>) -> X509svidResponse {
    X509svidResponse {
        svids,
        ..X509svidResponse::default()
    }
}

fn refusal(code: Code) -> tonic::Status {
    tonic::Status::new(code, "as the test says")
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    let deadline = Duration::from_secs(20);
    tokio::time::timeout(deadline, future)
        .await
        .expect("in time")
}

/// Waits until the status of the source is as `wanted` says.
async fn status<V: Send + Sync + 'static>(
    source: &Source<V>,
    wanted: impl FnMut(&Status<V>) -> bool,
) -> Status<V> {
    let mut status = source.subscribe();
    soon(status.wait_for(wanted)).await.unwrap().clone()
}

/// A good message is followed by one that `change` spoiled: the error is reported, the good stays.
async fn dropped(change: impl FnOnce(&mut X509svidResponse), expected: ResponseError) {
    let mesh = Mesh::new("td");
    let server = Server::start(Ok(message(vec![mesh.svid("/a", "")])));
    let source = server.source();
    let good = soon(source.wait_ready()).await.unwrap();
    let mut bad = message(vec![mesh.svid("/b", "")]);
    change(&mut bad);
    server.say(Ok(bad));
    let status = status(&source, |status| status.last_error.is_some()).await;
    assert_eq!(status.last_error, Some(SourceError::Response(expected)));
    assert!(Arc::ptr_eq(&status.current.unwrap(), &good));
}

#[tokio::test]
async fn requirement_118_invalid_argument_is_not_tried_again() {
    let server = Server::start(Err(refusal(Code::InvalidArgument)));
    let source = server.source();
    let error = soon(source.wait_ready()).await.unwrap_err();
    assert!(matches!(
        error,
        SourceError::Refused {
            code: Code::InvalidArgument,
            ..
        }
    ));
    assert!(
        status(&source, |status| status.ended)
            .await
            .current
            .is_none()
    );
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn requirement_121_unimplemented_is_reported_and_not_tried_again() {
    let server = Server::start(Err(refusal(Code::Unimplemented)));
    let error = soon(server.source().wait_ready()).await.unwrap_err();
    assert!(matches!(
        error,
        SourceError::Refused {
            code: Code::Unimplemented,
            ..
        }
    ));
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn requirement_119_a_server_that_starts_is_waited_for() {
    let mesh = Mesh::new("td");
    let server = Server::start(Err(refusal(Code::Unavailable)));
    let source = server.source();
    status(&source, |status| status.last_error.is_some()).await;
    server.say(Ok(message(vec![mesh.svid("/a", "")])));
    assert!(soon(source.wait_ready()).await.is_ok());
}

#[tokio::test]
async fn requirement_143_permission_denied_takes_the_identities_away() {
    let mesh = Mesh::new("td");
    let server = Server::start(Ok(message(vec![mesh.svid("/a", "")])));
    let source = server.source();
    soon(source.wait_ready()).await.unwrap();
    server.say(Err(refusal(Code::PermissionDenied)));
    let redacted = status(&source, |status| status.current.is_none()).await;
    assert!(!redacted.ended);
    server.say(Ok(message(vec![mesh.svid("/b", "")])));
    let context = soon(source.wait_ready()).await.unwrap();
    assert_eq!(context.default_identity().svid.spiffe_id().path(), "/b");
}

#[tokio::test]
async fn requirement_135_a_message_with_a_mandatory_field_missing_is_dropped() {
    dropped(|message| message.svids.clear(), ResponseError::NoSvids).await;
    let index = 0;
    let empty = |field| ResponseError::EmptyField { index, field };
    dropped(
        |message| message.svids[0].spiffe_id.clear(),
        empty("spiffe_id"),
    )
    .await;
    dropped(
        |message| message.svids[0].x509_svid.clear(),
        empty("x509_svid"),
    )
    .await;
    dropped(
        |message| message.svids[0].x509_svid_key.clear(),
        empty("x509_svid_key"),
    )
    .await;
    dropped(|message| message.svids[0].bundle.clear(), empty("bundle")).await;
}

#[tokio::test]
async fn an_svid_that_does_not_verify_is_dropped() {
    let index = 0;
    dropped(
        |message| message.svids[0].x509_svid.truncate(100),
        ResponseError::Chain {
            index,
            reason: identity::x509::ChainError::Malformed { offset: 0 },
        },
    )
    .await;
    let root = Mesh::new("td").bundle();
    dropped(
        |message| message.svids[0].x509_svid = root,
        ResponseError::Svid {
            index,
            reason: SvidError::Leaf(CertificateError::NoPath),
        },
    )
    .await;
    let (claimed, found) = ("spiffe://td/other", "spiffe://td/b");
    dropped(
        |message| message.svids[0].spiffe_id = claimed.to_owned(),
        ResponseError::OtherSpiffeId {
            index,
            claimed: claimed.parse().unwrap(),
            found: found.parse().unwrap(),
        },
    )
    .await;
}

#[tokio::test]
async fn a_key_that_is_none_or_of_another_svid_is_dropped() {
    let index = 0;
    dropped(
        |message| message.svids[0].x509_svid_key = vec![1, 2, 3],
        ResponseError::Key { index },
    )
    .await;
    let mesh = Mesh::new("td");
    let server = Server::start(Ok(message(vec![X509svid {
        x509_svid_key: SigningKey::generate().to_pkcs8().to_vec(),
        ..mesh.svid("/a", "")
    }])));
    let source = server.source();
    let status = status(&source, |status| status.last_error.is_some()).await;
    assert!(matches!(
        status.last_error,
        Some(SourceError::Response(ResponseError::KeyMismatch {
            index: 0,
            ..
        }))
    ));
    assert!(status.current.is_none());
}

#[tokio::test]
async fn bundles_that_contradict_or_have_no_name_are_dropped() {
    let (other, name) = (Mesh::new("td"), "td".to_owned());
    let key = "spiffe://td".to_owned();
    dropped(
        |message| drop(message.federated_bundles.insert(key, other.bundle())),
        ResponseError::ConflictingBundles { name },
    )
    .await;
    for key in ["td", "spiffe://td/", "spiffe://td/a", ""] {
        let key = key.to_owned();
        let expected = ResponseError::BundleKey { key: key.clone() };
        dropped(
            |message| drop(message.federated_bundles.insert(key, vec![])),
            expected,
        )
        .await;
    }
}

#[tokio::test]
async fn requirement_158_a_hint_beyond_1024_bytes_is_not_supported() {
    let (index, bytes) = (0, 1025);
    dropped(
        |message| message.svids[0].hint = "h".repeat(bytes),
        ResponseError::HintTooLong { index, bytes },
    )
    .await;
}

#[tokio::test]
async fn requirement_141_of_two_svids_with_one_hint_the_first_is_taken() {
    let mesh = Mesh::new("td");
    let svids = vec![
        mesh.svid("/a", ""),
        mesh.svid("/b", "x"),
        mesh.svid("/c", "x"),
        mesh.svid("/d", ""),
    ];
    let server = Server::start(Ok(message(svids)));
    let context = soon(server.source().wait_ready()).await.unwrap();
    let paths = context.identities().iter();
    let paths: Vec<_> = paths
        .map(|identity| identity.svid.spiffe_id().path())
        .collect();
    assert_eq!(paths, ["/a", "/b", "/d"]);
    assert_eq!(
        context.with_hint("x").unwrap().svid.spiffe_id().path(),
        "/b"
    );
    assert!(context.with_hint("y").is_none());
}

#[tokio::test]
async fn requirement_133_what_a_new_message_lacks_is_gone() {
    let (mesh, partner) = (Mesh::new("td"), Mesh::new("partner"));
    let mut first = message(vec![mesh.svid("/a", ""), mesh.svid("/b", "")]);
    first
        .federated_bundles
        .insert("spiffe://partner".to_owned(), partner.bundle());
    let server = Server::start(Ok(first));
    let source = server.source();
    let context = soon(source.wait_ready()).await.unwrap();
    assert!(context.bundles().get(&partner.domain).is_some());
    server.say(Ok(message(vec![mesh.svid("/c", "")])));
    let second = status(&source, |status| {
        status
            .current
            .as_ref()
            .is_some_and(|context| context.identities().len() == 1)
    });
    let second = second.await.current.unwrap();
    assert_eq!(second.default_identity().svid.spiffe_id().path(), "/c");
    assert!(second.bundles().get(&partner.domain).is_none());
}

#[tokio::test]
async fn requirement_127_a_lost_stream_is_opened_again_and_nothing_is_lost_meanwhile() {
    let mesh = Mesh::new("td");
    let mut server = Server::start(Ok(message(vec![mesh.svid("/a", "")])));
    let source = server.source();
    let first = soon(source.wait_ready()).await.unwrap();
    server.stop();
    let away = status(&source, |status| status.last_error.is_some()).await;
    assert!(Arc::ptr_eq(&away.current.unwrap(), &first));
    server.say(Ok(message(vec![mesh.svid("/b", "")])));
    server.listen();
    status(&source, |status| {
        let path =
            |context: &Arc<X509Context>| context.default_identity().svid.spiffe_id().path() == "/b";
        status.last_error.is_none() && status.current.as_ref().is_some_and(path)
    })
    .await;
}

#[tokio::test]
async fn a_bundle_source_publishes_bundles_and_refuses_none() {
    let (mesh, partner) = (Mesh::new("td"), Mesh::new("partner"));
    let server = Server::start(Err(refusal(Code::PermissionDenied)));
    let source = BundleSource::start(server.endpoint(), Clock::system());
    let refused = status(&source, |status| status.last_error.is_some()).await;
    assert_eq!(refused.last_error, Some(ResponseError::NoBundles.into()));
    let bundles = [("spiffe://td", mesh.bundle()), ("spiffe://partner", vec![])];
    server.say_bundles(X509BundlesResponse {
        crl: vec![],
        bundles: bundles.map(|(key, der)| (key.to_owned(), der)).into(),
    });
    let current = soon(source.wait_ready()).await.unwrap();
    let roots = |domain| current.bundles.get(domain).unwrap().authorities().len();
    assert_eq!((roots(&mesh.domain), roots(&partner.domain)), (1, 0));
}

#[tokio::test]
async fn debug_shows_no_key() {
    let mesh = Mesh::new("td");
    let server = Server::start(Ok(message(vec![mesh.svid("/a", "")])));
    let context = soon(server.source().wait_ready()).await.unwrap();
    let key = context.default_identity().svid.key().to_pkcs8();
    let bytes = format!("{:?}", &key[36..44]);
    assert!(!format!("{context:?}").contains(bytes.trim_matches(['[', ']'])));
}
