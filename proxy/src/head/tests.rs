use super::*;
use proptest::prelude::*;

fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        })
        .fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
}

fn check(method: &str, uri: &str, pairs: &[(&str, &str)]) -> Result<RequestHead, HeadError> {
    RequestHead::check(
        method.parse().unwrap(),
        &uri.parse().unwrap(),
        Version::HTTP_11,
        fields(pairs),
    )
}

#[track_caller]
fn refused(method: &str, uri: &str, pairs: &[(&str, &str)], expected: HeadError) {
    assert_eq!(check(method, uri, pairs).map(|_| ()), Err(expected));
}

#[test]
fn a_request_without_exactly_one_host_is_refused() {
    refused("GET", "/", &[], HeadError::HostCount);
    refused(
        "GET",
        "/",
        &[("host", "a"), ("host", "a")],
        HeadError::HostCount,
    );
}

#[test]
fn an_absolute_target_that_differs_from_host_is_refused() {
    refused(
        "GET",
        "http://a/x",
        &[("host", "b")],
        HeadError::HostMismatch,
    );
    refused(
        "GET",
        "http://a:81/x",
        &[("host", "a")],
        HeadError::HostMismatch,
    );
    refused("GET", "https://a/x", &[("host", "a")], HeadError::Scheme);
    refused(
        "GET",
        "http://u@a/x",
        &[("host", "u@a")],
        HeadError::UserInformation,
    );
}

#[test]
fn connect_is_refused_where_a_request_is_read() {
    refused("CONNECT", "a:80", &[("host", "a:80")], HeadError::Connect);
}

#[test]
fn an_upgrade_is_known_and_its_fields_are_gone() {
    let upgrade = [
        ("host", "a"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
    ];
    let head = check("GET", "/", &upgrade).unwrap();
    assert_eq!(head.upgrade().unwrap().protocol(), "websocket");
    assert!(head.fields().is_empty());
}

#[test]
fn two_framings_are_refused() {
    let both = [
        ("host", "a"),
        ("content-length", "3"),
        ("transfer-encoding", "chunked"),
    ];
    refused("POST", "/", &both, HeadError::TwoFramings);
    let twice = [
        ("host", "a"),
        ("content-length", "3"),
        ("content-length", "3"),
    ];
    refused("POST", "/", &twice, HeadError::ContentLength);
    refused(
        "POST",
        "/",
        &[("host", "a"), ("content-length", "+3")],
        HeadError::ContentLength,
    );
}

#[test]
fn a_connection_field_cannot_strip_what_frames_the_message() {
    let nominated = [("host", "a"), ("connection", "close, Content-Length")];
    refused(
        "GET",
        "/",
        &nominated,
        HeadError::Nominated("content-length"),
    );
}

#[test]
fn the_asterisk_is_for_options_only() {
    refused("GET", "*", &[("host", "a")], HeadError::Asterisk);
    let head = check("OPTIONS", "*", &[("host", "a")]).unwrap();
    assert_eq!(head.target(), &RequestTarget::Asterisk);
}

#[test]
fn every_spelling_of_the_identity_header_is_dropped() {
    let head = check(
        "GET",
        "/",
        &[
            ("host", "a"),
            ("x-forwarded-client-cert", "URI=spiffe://evil"),
            ("X-Forwarded_Client-Cert", "URI=spiffe://evil"),
            ("x_forwarded_client_cert", "URI=spiffe://evil"),
            ("countersign_decision", "00"),
            ("x-forwarded-for", "kept"),
        ],
    )
    .unwrap();

    assert_eq!(head.fields(), &fields(&[("x-forwarded-for", "kept")]));
}

#[test]
fn hop_by_hop_and_nominated_fields_end_here() {
    let head = check(
        "GET",
        "/",
        &[
            ("host", "a"),
            ("connection", "keep-alive, X-Local"),
            ("keep-alive", "timeout=5"),
            ("x-local", "1"),
            ("te", "trailers, deflate"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ],
    )
    .unwrap();

    assert_eq!(head.fields(), &fields(&[("accept", "*/*")]));
    assert!(head.accepts_trailers());
}

#[test]
fn an_absolute_target_names_the_authority() {
    let head = check("GET", "http://A.b:80/x?q=1", &[("host", "a.B")]).unwrap();
    assert_eq!(head.authority().unwrap().as_str(), "A.b:80");
    assert_eq!(
        (head.target().path(), head.target().query()),
        ("/x", Some("q=1"))
    );
}

#[test]
fn what_an_application_says_in_the_proxys_name_is_not_believed() {
    let mut response = fields(&[
        ("countersign-reason", "made-up"),
        ("countersign-decision", "not an id"),
        ("x-forwarded-client-cert", "URI=spiffe://evil"),
    ]);
    assert_eq!(clean_response(&mut response), PeerWords::default());
    assert!(response.is_empty());
}

#[test]
fn trailers_cannot_carry_identity_or_framing() {
    let mut trailers = fields(&[
        ("x-forwarded_client-cert", "URI=spiffe://evil"),
        ("content-length", "3"),
        ("grpc-status", "0"),
    ]);
    fields::clean_trailers(&mut trailers);
    assert_eq!(trailers, fields(&[("grpc-status", "0")]));
}

#[test]
fn cookie_crumbs_become_one_cookie() {
    let mut crumbs = fields(&[("cookie", "a=1"), ("cookie", "b=2")]);
    fields::join_cookies(&mut crumbs);
    assert_eq!(crumbs, fields(&[("cookie", "a=1; b=2")]));
}

#[test]
fn grpc_is_told_from_its_look_alikes() {
    assert!(is_grpc(&fields(&[(
        "content-type",
        "application/grpc+proto"
    )])));
    assert!(!is_grpc(&fields(&[(
        "content-type",
        "application/grpc-web"
    )])));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_head_lets_a_reserved_field_through(
        pairs in prop::collection::vec(
            (
                prop_oneof![
                    "[xX][-_][fF]orwarded[-_]client[-_]cert",
                    "countersign[-_](decision|reason)",
                    "(connection|te|upgrade|keep-alive|proxy-connection)",
                    "[a-z]{1,8}",
                ],
                "[a-z0-9, -]{0,20}",
            ),
            0..12,
        )
    ) {
        let mut map = HeaderMap::new();
        map.insert(header::HOST, HeaderValue::from_static("a"));
        for (name, value) in &pairs {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        if let Ok(head) = RequestHead::check(Method::GET, &Uri::from_static("/"), Version::HTTP_11, map) {
            for name in head.fields().keys() {
                let plain = name.as_str().replace('_', "-");
                prop_assert_ne!(plain.as_str(), "x-forwarded-client-cert");
                prop_assert!(!plain.starts_with("countersign-"));
                prop_assert!(plain != "connection" && plain != "te" && plain != "upgrade");
            }
        }
    }
}
