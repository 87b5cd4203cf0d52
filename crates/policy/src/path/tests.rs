use proptest::prelude::*;

use super::*;

#[track_caller]
fn refused(raw: &str, reason: PathAmbiguous) {
    assert_eq!(CanonicalPath::parse(raw), Err(reason), "{raw:?}");
}

#[track_caller]
fn canonical(raw: &str, expected: &str) {
    assert_eq!(
        CanonicalPath::parse(raw).unwrap().as_str(),
        expected,
        "{raw:?}"
    );
}

#[test]
fn each_ambiguity_is_refused_by_its_name() {
    refused("", PathAmbiguous::NotAbsolute);
    refused("a", PathAmbiguous::NotAbsolute);
    refused("//", PathAmbiguous::EmptySegment);
    refused("/a/.", PathAmbiguous::DotSegment);
    refused("/%2f", PathAmbiguous::EscapedSeparator);
    refused("/%5c", PathAmbiguous::EscapedSeparator);
    refused("/%00", PathAmbiguous::EscapedNul);
    refused("/%2500", PathAmbiguous::EscapedTwice);
    refused("/\\", PathAmbiguous::Backslash);
    refused("/#", PathAmbiguous::Fragment);
    refused("/;", PathAmbiguous::Parameter);
    refused("/?", PathAmbiguous::Query);
    refused("/%", PathAmbiguous::MalformedEscape);
    refused("/%4", PathAmbiguous::MalformedEscape);
    refused("/%+1", PathAmbiguous::MalformedEscape);
    refused("/\t", PathAmbiguous::ControlByte);
    refused("/%FF", PathAmbiguous::NotUtf8);
    assert_eq!(CanonicalPath::parse(b"/\xff"), Err(PathAmbiguous::NotUtf8));
}

#[test]
fn what_appears_only_by_decoding_is_refused_too() {
    refused("/%3B", PathAmbiguous::Parameter);
    refused("/a/%2E%2E", PathAmbiguous::DotSegment);
    refused("/%25%32%46", PathAmbiguous::EscapedTwice);
    refused("/.//", PathAmbiguous::EmptySegment);
    refused("/%2E//", PathAmbiguous::EmptySegment);
}

#[test]
fn escapes_have_one_spelling() {
    canonical("/%7Euser/%41", "/~user/A");
    canonical("/%c3%A9", "/%C3%A9");
    canonical("/\u{e9}", "/%C3%A9");
    canonical("/a{b}|\"", "/a%7Bb%7D%7C%22");
    canonical("/%25/%3f/%23", "/%25/%3F/%23");
    canonical("/a:@!$&'()*+,=", "/a:@!$&'()*+,=");
}

#[test]
fn slashes_at_the_ends_are_kept() {
    canonical("/", "/");
    canonical("/a/", "/a/");
}

#[test]
fn query_begins_at_the_first_question_mark() {
    assert_eq!(split_target("/a?b?c"), ("/a", Some("b?c")));
    assert_eq!(split_target("/a"), ("/a", None));
}

/// Texts that are likely to touch the rules.
fn tricky() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z./%;#?\\\\]",
        "%[0-9a-fA-F]{2}",
        Just("%25".to_owned()),
        Just("%2e".to_owned()),
        Just("é".to_owned()),
        Just("/".to_owned()),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #[test]
    fn canonical_form_is_a_fixed_point(raw in tricky()) {
        if let Ok(path) = CanonicalPath::parse(&raw) {
            prop_assert_eq!(CanonicalPath::parse(path.as_str()), Ok(path));
        }
    }

    #[test]
    fn canonical_form_contains_nothing_that_is_refused(raw in tricky()) {
        if let Ok(path) = CanonicalPath::parse(&raw) {
            let text = path.as_str();
            for refused in ["//", "%2F", "%2f", "%5C", "%5c", "%00", "\\", "#", ";", "?"] {
                prop_assert!(!text.contains(refused), "{text:?} contains {refused:?}");
            }
            prop_assert!(path.segments().all(|segment| segment != "." && segment != ".."));
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }

    #[test]
    fn spelling_every_letter_as_an_escape_changes_nothing(raw in "/[a-zA-Z0-9/._~-]{0,20}") {
        let escape = |byte: u8| if byte == b'/' { "/".to_owned() } else { format!("%{byte:02x}") };
        let escaped: String = raw.bytes().map(escape).collect();
        prop_assert_eq!(CanonicalPath::parse(&escaped), CanonicalPath::parse(&raw));
    }

    #[test]
    fn no_bytes_panic(raw in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = CanonicalPath::parse(raw);
    }
}
