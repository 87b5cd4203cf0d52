use proptest::prelude::*;

use super::*;

#[track_caller]
fn refused(text: &str, expected: InvalidTemplate) {
    assert_eq!(text.parse::<PathTemplate>(), Err(expected), "{text}");
}

#[track_caller]
fn matching(template: &str, paths: &[&str]) -> Vec<bool> {
    let template: PathTemplate = template.parse().unwrap();
    let fits = |path: &&str| template.matches(&CanonicalPath::parse(path).unwrap());
    paths.iter().map(fits).collect()
}

#[test]
fn literals_that_no_request_can_have_are_refused() {
    let literal = |segment: &str, reason| InvalidTemplate::Literal {
        segment: segment.to_owned(),
        reason,
    };
    refused("/a/../b", literal("..", PathAmbiguous::DotSegment));
    refused("/a//b", literal("", PathAmbiguous::EmptySegment));
    refused("/a%2Fb", literal("a%2Fb", PathAmbiguous::EscapedSeparator));
    refused("a", InvalidTemplate::NotAbsolute);
}

#[test]
fn literals_in_another_spelling_are_refused_with_the_right_one() {
    let error = "/caf\u{e9}".parse::<PathTemplate>().unwrap_err();
    assert_eq!(error.suggestion().as_deref(), Some("caf%C3%A9"));
}

#[test]
fn wildcards_and_malformed_placeholders_are_refused() {
    refused("/a/*", InvalidTemplate::Wildcard("*".to_owned()));
    refused("/a{b}", InvalidTemplate::Wildcard("a{b}".to_owned()));
    refused("/{}", InvalidTemplate::Placeholder("{}".to_owned()));
    refused("/{id=*}", InvalidTemplate::Placeholder("{id=*}".to_owned()));
    refused("/{Id}", InvalidTemplate::Placeholder("{Id}".to_owned()));
    refused("/{id}/{id}", InvalidTemplate::Repeated("{id}".to_owned()));
    refused("/{rest=**}/x", InvalidTemplate::RestNotLast);
}

#[test]
fn rest_takes_one_segment_or_more() {
    assert_eq!(
        matching("/a/{r=**}", &["/a", "/a/", "/a/b", "/a/b/"]),
        [false, false, true, true]
    );
}

#[test]
fn placeholder_takes_one_segment() {
    assert_eq!(
        matching("/a/{x}/c", &["/a/c", "/a/b/c", "/a/b/b/c"]),
        [false, true, false]
    );
}

proptest! {
    #[test]
    fn a_literal_template_matches_itself_and_nothing_longer(path in "(/[a-z0-9]{1,4}){1,4}", more in "/?[a-z]{1,3}") {
        let longer = format!("{path}{more}");
        prop_assert_eq!(matching(&path, &[&path, &longer]), [true, false]);
    }

    #[test]
    fn no_text_panics(text in "[/{}=*a-z%.;é]{0,24}") {
        let _ = text.parse::<PathTemplate>();
    }
}
