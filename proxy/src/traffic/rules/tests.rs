use proptest::prelude::*;

use super::*;

fn template(text: &str) -> Option<PathTemplate> {
    (!text.is_empty()).then(|| text.parse().unwrap())
}

fn matching(path: &str, method: Option<Method>, headers: &[&'static str]) -> RouteMatch {
    let header =
        |name: &&'static str| (HeaderName::from_static(name), HeaderValue::from_static("1"));
    RouteMatch {
        path: template(path),
        methods: method.into_iter().collect(),
        headers: headers.iter().map(header).collect(),
    }
}

fn build(matches: &[RouteMatch]) -> Rules<usize> {
    let numbered = matches.iter().cloned().enumerate();
    Rules::new(numbered.map(|(number, it)| (vec![it], number)))
}

fn fields(names: &[&'static str]) -> HeaderMap {
    let field =
        |name: &&'static str| (HeaderName::from_static(name), HeaderValue::from_static("1"));
    names.iter().map(field).collect()
}

#[track_caller]
fn check(
    rules: &Rules<usize>,
    method: &Method,
    path: &str,
    headers: &[&'static str],
    expected: Option<usize>,
) {
    let (path, fields) = (CanonicalPath::parse(path).unwrap(), fields(headers));
    let asked = Asked {
        method,
        path: Some(&path),
        fields: &fields,
    };
    assert_eq!(rules.find(asked).copied(), expected);
}

#[test]
fn a_request_that_no_rule_matches_finds_none() {
    let rules = build(&[matching("/v1/orders", Some(Method::GET), &["x-canary"])]);
    check(&rules, &Method::GET, "/v1/orders/7", &["x-canary"], None);
    check(&rules, &Method::POST, "/v1/orders", &["x-canary"], None);
    check(&rules, &Method::GET, "/v1/orders", &[], None);
    check(&rules, &Method::GET, "/v1/orders", &["x-canary"], Some(0));
}

#[test]
fn a_header_that_occurs_twice_matches_nothing() {
    let rules = build(&[matching("", None, &["x-canary"])]);
    let mut fields = fields(&["x-canary"]);
    fields.append("x-canary", HeaderValue::from_static("1"));
    let path = CanonicalPath::parse("/").unwrap();
    let asked = Asked {
        method: &Method::GET,
        path: Some(&path),
        fields: &fields,
    };
    assert_eq!(rules.find(asked), None);
}

#[test]
fn the_asterisk_matches_no_path() {
    let rules = build(&[matching("/{rest=**}", None, &[]), matching("", None, &[])]);
    let fields = HeaderMap::new();
    let asked = Asked {
        method: &Method::OPTIONS,
        path: None,
        fields: &fields,
    };
    assert_eq!(rules.find(asked), Some(&1));
}

#[test]
fn more_literal_segments_win_over_method_and_headers() {
    let rules = build(&[
        matching("/v1/{rest=**}", Some(Method::GET), &["x-a", "x-b"]),
        matching("/v1/orders/{id}", None, &[]),
    ]);
    check(
        &rules,
        &Method::GET,
        "/v1/orders/7",
        &["x-a", "x-b"],
        Some(1),
    );
    check(
        &rules,
        &Method::GET,
        "/v1/other/7",
        &["x-a", "x-b"],
        Some(0),
    );
}

#[test]
fn a_literal_in_the_middle_counts_like_one_at_the_front() {
    let rules = build(&[
        matching("/{version}/orders/{id}", None, &[]),
        matching("/v1/{rest=**}", None, &[]),
        matching("/{version}/orders/new", None, &[]),
    ]);
    check(&rules, &Method::GET, "/v1/orders/7", &[], Some(0));
    check(&rules, &Method::GET, "/v1/orders/new", &[], Some(2));
    check(&rules, &Method::GET, "/v1/x", &[], Some(1));
}

#[test]
fn a_method_wins_over_headers() {
    let rules = build(&[
        matching("/v1", None, &["x-a", "x-b"]),
        matching("/v1", Some(Method::GET), &[]),
    ]);
    check(&rules, &Method::GET, "/v1", &["x-a", "x-b"], Some(1));
}

#[test]
fn more_headers_win_over_order_and_order_decides_the_rest() {
    let rules = build(&[
        matching("/v1", None, &["x-a"]),
        matching("/v1", None, &["x-b"]),
        matching("/v1", None, &["x-a", "x-b"]),
    ]);
    check(&rules, &Method::GET, "/v1", &["x-a", "x-b"], Some(2));
    check(&rules, &Method::GET, "/v1", &["x-a"], Some(0));
    let twice = build(&[
        matching("/v1", None, &["x-a"]),
        matching("/v1", None, &["x-b"]),
    ]);
    check(&twice, &Method::GET, "/v1", &["x-a", "x-b"], Some(0));
}

#[test]
fn a_rule_without_match_takes_what_is_left() {
    let rules = Rules::new([
        (Vec::new(), "all"),
        (
            vec![matching("/v1", None, &[]), matching("/v2", None, &[])],
            "some",
        ),
    ]);
    let find = |path: &str| {
        let path = CanonicalPath::parse(path).unwrap();
        *rules
            .find(Asked {
                method: &Method::GET,
                path: Some(&path),
                fields: &HeaderMap::new(),
            })
            .unwrap()
    };
    assert_eq!(
        (find("/v1"), find("/v2"), find("/v3")),
        ("some", "some", "all")
    );
}

fn any_match() -> impl Strategy<Value = RouteMatch> {
    let paths = [
        "",
        "/",
        "/a",
        "/a/b",
        "/a/{x}",
        "/{x}/b",
        "/{x}/{y}",
        "/{x=**}",
        "/a/{x=**}",
        "/{x}/b/{y=**}",
    ];
    let methods = [None, Some(Method::GET), Some(Method::POST)];
    let headers: [&[&'static str]; 3] = [&[], &["x-a"], &["x-a", "x-b"]];
    (0..paths.len(), 0..3usize, 0..3usize).prop_map(move |(path, method, header)| {
        matching(paths[path], methods[method].clone(), headers[header])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_index_finds_what_comparing_all_finds(
        matches in proptest::collection::vec(any_match(), 0..12),
        path in "(/[ab]){1,3}", get: bool, headers in 0usize..4,
    ) {
        let path = CanonicalPath::parse(path).unwrap();
        let fields = fields([&[][..], &["x-a"], &["x-b"], &["x-a", "x-b"]][headers]);
        let method = if get { Method::GET } else { Method::POST };
        let asked = Asked { method: &method, path: Some(&path), fields: &fields };
        let best = matches
            .iter()
            .enumerate()
            .filter(|(_, it)| it.hold(asked))
            .max_by_key(|(number, it)| (it.rank(), std::cmp::Reverse(*number)));
        prop_assert_eq!(build(&matches).find(asked).copied(), best.map(|(number, _)| number));
    }
}
