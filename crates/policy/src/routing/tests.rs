use std::cmp::Reverse;

use proptest::prelude::*;

use super::*;

fn matching(path: &str, method: Option<&str>, headers: &[&str]) -> HttpMatch {
    let header = |name: &&str| (name.parse().unwrap(), "1".parse().unwrap());
    HttpMatch {
        path: (!path.is_empty()).then(|| path.parse().unwrap()),
        methods: method.into_iter().map(|it| it.parse().unwrap()).collect(),
        headers: headers.iter().map(header).collect(),
    }
}

fn build(matches: &[HttpMatch]) -> RouteRules<usize> {
    let numbered = matches.iter().cloned().enumerate();
    RouteRules::new(numbered.map(|(number, it)| (vec![it], number)))
}

fn fields(names: &[&str]) -> Vec<(String, String)> {
    let field = |name: &&str| ((*name).to_owned(), "1".to_owned());
    names.iter().map(field).collect()
}

/// Finds the number of the rule that a request follows.
fn find<R: Clone>(
    rules: &RouteRules<R>,
    method: &str,
    target: &str,
    headers: &[&str],
) -> Option<R> {
    let (path, headers) = (RequestPath::parse(method, target), fields(headers));
    let request = Request::Http {
        method,
        path: &path,
        headers: &headers,
    };
    rules.find(&request).cloned()
}

#[test]
fn a_connection_follows_no_rule() {
    let rules = RouteRules::new([(Vec::new(), 0)]);
    assert_eq!(rules.find(&Request::Connection), None);
}

#[test]
fn a_request_that_no_rule_matches_finds_none() {
    let rules = build(&[matching("/v1/orders", Some("GET"), &["x-canary"])]);
    for (method, path, headers) in [
        ("GET", "/v1/orders/7", &["x-canary"][..]),
        ("POST", "/v1/orders", &["x-canary"]),
        ("GET", "/v1/orders", &[]),
    ] {
        assert_eq!(find(&rules, method, path, headers), None);
    }
    assert_eq!(find(&rules, "GET", "/v1/orders", &["x-canary"]), Some(0));
}

#[test]
fn a_header_that_occurs_twice_matches_nothing() {
    let rules = build(&[matching("", None, &["x-canary"])]);
    assert_eq!(find(&rules, "GET", "/", &["x-canary", "x-canary"]), None);
}

#[test]
fn the_asterisk_matches_no_path() {
    let rules = RouteRules::new([
        (vec![matching("/{rest=**}", None, &[])], 0),
        (Vec::new(), 1),
    ]);
    assert_eq!(find(&rules, "OPTIONS", "*", &[]), Some(1));
}

#[test]
fn a_path_with_two_readings_fits_no_template() {
    let rules = build(&[matching("/{rest=**}", None, &[])]);
    assert_eq!(find(&rules, "GET", "/v1/..", &[]), None);
}

#[test]
fn more_literal_segments_win_over_method_and_headers() {
    let rules = build(&[
        matching("/v1/{rest=**}", Some("GET"), &["x-a", "x-b"]),
        matching("/v1/orders/{id}", None, &[]),
    ]);
    let headers = &["x-a", "x-b"];
    assert_eq!(find(&rules, "GET", "/v1/orders/7", headers), Some(1));
    assert_eq!(find(&rules, "GET", "/v1/other/7", headers), Some(0));
}

#[test]
fn a_literal_in_the_middle_counts_like_one_at_the_front() {
    let rules = build(&[
        matching("/{version}/orders/{id}", None, &[]),
        matching("/v1/{rest=**}", None, &[]),
        matching("/{version}/orders/new", None, &[]),
    ]);
    assert_eq!(find(&rules, "GET", "/v1/orders/7", &[]), Some(0));
    assert_eq!(find(&rules, "GET", "/v1/orders/new", &[]), Some(2));
    assert_eq!(find(&rules, "GET", "/v1/x", &[]), Some(1));
}

#[test]
fn a_method_wins_over_headers() {
    let rules = build(&[
        matching("/v1", None, &["x-a", "x-b"]),
        matching("/v1", Some("GET"), &[]),
    ]);
    assert_eq!(find(&rules, "GET", "/v1", &["x-a", "x-b"]), Some(1));
}

#[test]
fn more_headers_win_over_order_and_order_decides_the_rest() {
    let rules = build(&[
        matching("/v1", None, &["x-a"]),
        matching("/v1", None, &["x-b"]),
        matching("/v1", None, &["x-a", "x-b"]),
    ]);
    assert_eq!(find(&rules, "GET", "/v1", &["x-a", "x-b"]), Some(2));
    let twice = build(&[
        matching("/v1", None, &["x-a"]),
        matching("/v1", None, &["x-b"]),
    ]);
    assert_eq!(find(&twice, "GET", "/v1", &["x-a", "x-b"]), Some(0));
}

#[test]
fn a_rule_without_match_takes_what_is_left() {
    let some = vec![matching("/v1", None, &[]), matching("/v2", None, &[])];
    let rules = RouteRules::new([(Vec::new(), "all"), (some, "some")]);
    let found = ["/v1", "/v2", "/v3"].map(|path| find(&rules, "GET", path, &[]).unwrap());
    assert_eq!(found, ["some", "some", "all"]);
}

#[test]
fn all_that_fit_are_told_in_the_order_of_precedence() {
    let rules = RouteRules::new([
        (Vec::new(), 0),
        (vec![matching("/v1/{rest=**}", None, &[])], 1),
        (vec![matching("/v1/orders", None, &[])], 2),
        (vec![matching("/v2", None, &[])], 3),
    ]);
    let path = RequestPath::parse("GET", "/v1/orders");
    let request = Request::Http {
        method: "GET",
        path: &path,
        headers: &(),
    };
    let found = rules.matching(&request).map(|found| *found.rule);
    assert_eq!(found.collect::<Vec<_>>(), [2, 1, 0]);
}

fn any_match() -> impl Strategy<Value = HttpMatch> {
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
    let methods = [None, Some("GET"), Some("POST")];
    let headers: [&[&str]; 3] = [&[], &["x-a"], &["x-a", "x-b"]];
    (0..paths.len(), 0..3usize, 0..3usize).prop_map(move |(path, method, header)| {
        matching(paths[path], methods[method], headers[header])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_index_finds_what_comparing_all_finds(
        matches in proptest::collection::vec(any_match(), 0..12),
        target in "(/[ab]){1,3}", get: bool, headers in 0usize..4,
    ) {
        let method = if get { "GET" } else { "POST" };
        let headers = [&[][..], &["x-a"], &["x-b"], &["x-a", "x-b"]][headers];
        let (path, fields) = (RequestPath::parse(method, &target), fields(headers));
        let request = Request::Http { method, path: &path, headers: &fields };
        let rank = |it: &HttpMatch| Entry { matching: Some(it.clone()), rule: 0 }.rank();
        let best = matches
            .iter()
            .enumerate()
            .filter(|(_, it)| it.fits(&request))
            .max_by_key(|(number, it)| (rank(it), Reverse(*number)));
        let found = find(&build(&matches), method, &target, headers);
        prop_assert_eq!(found, best.map(|(number, _)| number));
    }
}
