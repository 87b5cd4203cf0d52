//! `ETag`, `If-Match` and `If-None-Match` (RFC 9110, sections 8.8.3 and 13.1).
//!
//! An object's entity tag is the revision that last changed it. A well-formed tag that is no
//! revision of ours simply does not match; weak tags never match in `If-Match`.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use policy::{ObjectKey, Revision};

use super::problem::Problem;
use crate::store::{Expected, Precondition};

/// Tags in one header; more are refused.
const MOST_TAGS: usize = 64;

/// What the caller says must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    Any,
    Listed(Vec<EntityTag>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct EntityTag {
    weak: bool,
    opaque: String,
}

pub(super) fn etag(revision: Revision) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\"")).expect("hex digits and a dash")
}

impl Conditions {
    fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            if_match: tags(headers, &header::IF_MATCH)?,
            if_none_match: tags(headers, &header::IF_NONE_MATCH)?,
        })
    }

    /// For a write of the object `key`.
    pub(super) fn for_write(&self, key: &ObjectKey) -> Result<Vec<Precondition>, Problem> {
        let precondition = |expected| Precondition {
            key: key.clone(),
            expected,
        };
        Ok(self.expected()?.into_iter().map(precondition).collect())
    }

    /// For a write of something.
    pub(super) fn expected(&self) -> Result<Vec<Expected>, Problem> {
        let mut expected = Vec::new();
        match &self.if_match {
            None => {}
            Some(Tags::Any) => expected.push(Expected::Present),
            Some(Tags::Listed(tags)) => {
                let strong = tags.iter().filter(|tag| !tag.weak);
                expected.push(Expected::AnyOf(
                    strong.filter_map(|tag| tag.opaque.parse().ok()).collect(),
                ));
            }
        }
        match &self.if_none_match {
            None => {}
            Some(Tags::Any) => expected.push(Expected::Absent),
            Some(Tags::Listed(_)) => {
                let detail = "If-None-Match on a write takes `*` only";
                return Err(Problem::bad_request("bad-precondition", detail)
                    .suggest("use If-Match with the ETag of the object that you read"));
            }
        }
        Ok(expected)
    }

    /// For a read: whether the caller has this revision of the object already.
    pub(super) fn not_modified(&self, revision: Revision) -> bool {
        match &self.if_none_match {
            None => false,
            Some(Tags::Any) => true,
            Some(Tags::Listed(tags)) => tags.iter().any(|tag| tag.opaque.parse() == Ok(revision)),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Self::read(&parts.headers)
    }
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Problem> {
    let malformed = || {
        let detail = format!("{name} is neither `*` nor a list of entity tags");
        Problem::bad_request("bad-precondition", detail).suggest("write tags as \"…\", quoted")
    };
    let mut listed = Vec::new();
    let mut any = false;
    let mut given = false;
    for value in headers.get_all(name) {
        given = true;
        let text = value.to_str().map_err(|_| malformed())?.trim();
        if text == "*" {
            any = true;
        } else {
            listed.extend(parse_list(text).ok_or_else(malformed)?);
        }
    }
    match (given, any, listed.is_empty()) {
        (false, ..) => Ok(None),
        (true, true, true) => Ok(Some(Tags::Any)),
        (true, false, false) if listed.len() <= MOST_TAGS => Ok(Some(Tags::Listed(listed))),
        _ => Err(malformed()),
    }
}

/// `#entity-tag`, RFC 9110, sections 5.6.1 and 8.8.3. Commas may stand inside a tag.
fn parse_list(text: &str) -> Option<Vec<EntityTag>> {
    let mut tags = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if let Some(after) = rest.strip_prefix(',') {
            rest = after;
            continue;
        }
        if rest.is_empty() {
            return Some(tags);
        }
        let (tag, after) = parse_tag(rest)?;
        tags.push(tag);
        rest = after.trim_start_matches([' ', '\t']);
        if !(rest.is_empty() || rest.starts_with(',')) {
            return None;
        }
    }
}

fn parse_tag(text: &str) -> Option<(EntityTag, &str)> {
    let (weak, text) = match text.strip_prefix("W/") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (opaque, rest) = text.strip_prefix('"')?.split_once('"')?;
    let allowed = |byte: u8| byte == 0x21 || (0x23..=0x7e).contains(&byte) || byte >= 0x80;
    let opaque = opaque.bytes().all(allowed).then(|| opaque.to_owned())?;
    Some((EntityTag { weak, opaque }, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    fn key() -> ObjectKey {
        ObjectKey::baseline(&"org".parse().unwrap())
    }

    fn revision(number: u64) -> Revision {
        Revision {
            epoch: 0x9f1c_02ab,
            number,
        }
    }

    fn conditions(headers: &[(HeaderName, &str)]) -> Result<Conditions, Problem> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        Conditions::read(&map)
    }

    #[track_caller]
    fn malformed(value: &str) {
        let refused = conditions(&[(header::IF_MATCH, value)]);
        assert_eq!(refused.unwrap_err().code(), "bad-precondition", "{value}");
    }

    #[test]
    fn malformed_tags_are_refused() {
        for value in [
            "",
            "9f1c02ab-1",
            "\"a",
            "\"a\" \"b\"",
            "w/\"a\"",
            "\"a\", *",
            "\"a b\"",
            ",",
        ] {
            malformed(value);
        }
    }

    #[test]
    fn an_unknown_or_weak_tag_matches_nothing() {
        let conditions = conditions(&[(header::IF_MATCH, "\"other\", W/\"9f1c02ab-1\"")]).unwrap();
        let preconditions = conditions.for_write(&key()).unwrap();
        assert!(!preconditions[0].expected.holds(Some(revision(1))));
    }

    #[test]
    fn a_listed_tag_matches_its_revision_only() {
        let conditions =
            conditions(&[(header::IF_MATCH, "\"9f1c02ab-1\" ,,\t\"9f1c02ab-7\"")]).unwrap();
        let expected = &conditions.for_write(&key()).unwrap()[0].expected;
        assert!(expected.holds(Some(revision(7))));
        assert!(!expected.holds(Some(revision(2))) && !expected.holds(None));
    }

    #[test]
    fn a_star_in_if_none_match_means_create_only() {
        let conditions = conditions(&[(header::IF_NONE_MATCH, "*")]).unwrap();
        assert_eq!(
            conditions.for_write(&key()).unwrap()[0].expected,
            Expected::Absent
        );
    }

    #[test]
    fn a_tag_in_if_none_match_is_refused_on_a_write() {
        let conditions = conditions(&[(header::IF_NONE_MATCH, "\"9f1c02ab-1\"")]).unwrap();
        assert_eq!(
            conditions.for_write(&key()).unwrap_err().code(),
            "bad-precondition"
        );
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(256))]

        #[test]
        fn what_is_sent_as_etag_matches_when_it_comes_back(epoch in any::<u32>(), number: u64) {
            let revision = Revision { epoch: epoch.into(), number };
            let tag = etag(revision);
            let conditions = conditions(&[(header::IF_MATCH, tag.to_str().unwrap())]).unwrap();
            prop_assert_eq!(
                &conditions.for_write(&key()).unwrap()[0].expected,
                &Expected::AnyOf(vec![revision])
            );
        }

        #[test]
        fn parsing_never_panics_and_keeps_every_tag(text in "[ -~\\t]{0,60}") {
            if let Some(tags) = parse_list(&text) {
                prop_assert_eq!(tags.len() * 2, text.matches('"').count());
            }
        }
    }
}
