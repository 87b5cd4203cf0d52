//! Whether a request asks for another protocol on its connection (RFC 9110 section 7.8).
//!
//! Invariant: an [`Upgrade`] names exactly one protocol, and none that carries requests: those
//! would pass unjudged. Refused is what two hops could read in two ways: several protocols, an
//! offer that `Connection` does not nominate exactly once, or one that comes with content.

use http::Version;
use http::header::{self, HeaderMap, HeaderValue};

use super::HeadError;

/// The one protocol that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upgrade {
    protocol: HeaderValue,
}

/// What the names begin with of HTTP itself, in every version and draft, and of TLS, under which
/// HTTP goes on (RFC 2817 section 3).
const CARRIES_REQUESTS: [&[u8]; 6] = [b"http", b"h2", b"h3", b"tls", b"ssl", b"spdy"];

impl Upgrade {
    /// `None` where nothing is asked for: no field, HTTP/1.0, or an offer of `h2c` alone, which
    /// may be ignored (RFC 9113 section 3.1).
    pub(super) fn asked(
        version: Version,
        fields: &HeaderMap,
    ) -> Result<Option<Box<Self>>, HeadError> {
        let mut offers = fields.get_all(header::UPGRADE).iter();
        let Some(offer) = offers.next() else {
            return Ok(None);
        };
        match version {
            Version::HTTP_09 | Version::HTTP_10 => return Ok(None),
            Version::HTTP_11 => {}
            // RFC 9113 section 8.2.2.
            _ => return Err(HeadError::UpgradeSyntax),
        }
        if tokens(fields, &header::UPGRADE).all(|it| it.eq_ignore_ascii_case(b"h2c")) {
            return Ok(None);
        }
        let protocol = offer.as_bytes();
        if offers.next().is_some() || !is_protocol(protocol) || !is_nominated(fields) {
            return Err(HeadError::UpgradeSyntax);
        }
        let carries = |it: &&[u8]| {
            let begin = protocol.get(..it.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(it))
        };
        if CARRIES_REQUESTS.iter().any(carries) {
            return Err(HeadError::UpgradeToRequests);
        }
        if has_content(fields) {
            return Err(HeadError::UpgradeWithContent);
        }
        let protocol = offer.clone();
        Ok(Some(Box::new(Self { protocol })))
    }

    /// As the caller wrote it.
    pub(crate) fn protocol(&self) -> &HeaderValue {
        &self.protocol
    }

    /// Whether these fields of a 101 switch to the protocol that was asked for, and to no other.
    pub(crate) fn is_taken_by(&self, fields: &HeaderMap) -> bool {
        let mut taken = fields.get_all(header::UPGRADE).iter();
        let same = |it: &HeaderValue| it.as_bytes().eq_ignore_ascii_case(self.protocol.as_bytes());
        taken.next().is_some_and(same) && taken.next().is_none() && is_nominated(fields)
    }
}

/// Whether `Connection` says `upgrade` once, and not also that the connection ends.
fn is_nominated(fields: &HeaderMap) -> bool {
    let said = |option: &[u8]| {
        let options = tokens(fields, &header::CONNECTION);
        options.filter(|it| it.eq_ignore_ascii_case(option)).count()
    };
    said(b"upgrade") == 1 && said(b"close") == 0
}

/// `token [ "/" token ]`.
fn is_protocol(bytes: &[u8]) -> bool {
    let mut parts = bytes.split(|byte| *byte == b'/');
    let is_token = |part: &[u8]| !part.is_empty() && part.iter().copied().all(is_token);
    parts.next().is_some_and(is_token)
        && parts.next().is_none_or(is_token)
        && parts.next().is_none()
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn has_content(fields: &HeaderMap) -> bool {
    let length = fields.get(header::CONTENT_LENGTH);
    fields.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|it| it != "0")
}

fn tokens<'a>(fields: &'a HeaderMap, name: &header::HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let values = fields.get_all(name).iter();
    values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;
    use proptest::prelude::*;

    use super::*;

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| {
            (
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        let mut fields = HeaderMap::new();
        for (name, value) in lines.iter().map(parse) {
            fields.append(name, value);
        }
        fields
    }

    fn asked(lines: &[(&str, &str)]) -> Result<Option<String>, HeadError> {
        let asked = Upgrade::asked(Version::HTTP_11, &fields(lines))?;
        Ok(asked.map(|it| it.protocol().to_str().unwrap().to_owned()))
    }

    const NOMINATED: (&str, &str) = ("connection", "keep-alive, Upgrade");

    #[test]
    fn what_two_hops_could_read_in_two_ways_is_refused() {
        for lines in [
            &[("upgrade", "websocket")][..],
            &[("connection", "upgrade, upgrade"), ("upgrade", "websocket")],
            &[("connection", "close, upgrade"), ("upgrade", "websocket")],
            &[("connection", "x-upgrade"), ("upgrade", "websocket")],
            &[NOMINATED, ("upgrade", "websocket, h2c")],
            &[NOMINATED, ("upgrade", "h2c, websocket")],
            &[
                NOMINATED,
                ("upgrade", "websocket"),
                ("upgrade", "websocket"),
            ],
            &[NOMINATED, ("upgrade", "h2c"), ("upgrade", "websocket")],
            &[NOMINATED, ("upgrade", "")],
            &[NOMINATED, ("upgrade", "web socket")],
            &[NOMINATED, ("upgrade", "a/b/c")],
            &[NOMINATED, ("upgrade", "/1")],
        ] {
            assert_eq!(asked(lines), Err(HeadError::UpgradeSyntax), "{lines:?}");
        }
    }

    #[test]
    fn a_protocol_under_which_requests_go_on_is_refused() {
        for protocol in ["HTTP/2.0", "http/1.1", "TLS/1.0", "h2", "H2C/1", "HTTP"] {
            let lines = [NOMINATED, ("upgrade", protocol)];
            assert_eq!(
                asked(&lines),
                Err(HeadError::UpgradeToRequests),
                "{protocol}"
            );
        }
    }

    #[test]
    fn content_before_another_protocol_is_refused() {
        for framing in [("content-length", "1"), ("transfer-encoding", "chunked")] {
            let lines = [NOMINATED, ("upgrade", "websocket"), framing];
            assert_eq!(asked(&lines), Err(HeadError::UpgradeWithContent));
        }
    }

    #[test]
    fn in_http2_nobody_asks_so() {
        let upgrade = fields(&[NOMINATED, ("upgrade", "websocket")]);
        let asked = Upgrade::asked(Version::HTTP_2, &upgrade);
        assert_eq!(asked, Err(HeadError::UpgradeSyntax));
    }

    #[test]
    fn what_may_be_ignored_asks_for_nothing() {
        assert_eq!(asked(&[("connection", "upgrade")]), Ok(None));
        assert_eq!(asked(&[NOMINATED, ("upgrade", "h2c, H2C")]), Ok(None));
        let old = fields(&[NOMINATED, ("upgrade", "websocket")]);
        assert_eq!(Upgrade::asked(Version::HTTP_10, &old), Ok(None));
    }

    #[test]
    fn one_nominated_protocol_is_asked_for() {
        for protocol in ["websocket", "WebSocket", "IRC/6.9"] {
            let lines = [NOMINATED, ("upgrade", protocol), ("content-length", "0")];
            assert_eq!(asked(&lines), Ok(Some(protocol.to_owned())));
        }
    }

    #[test]
    fn only_the_protocol_that_was_asked_for_is_switched_to() {
        let upgrade = fields(&[NOMINATED, ("upgrade", "websocket")]);
        let asked = Upgrade::asked(Version::HTTP_11, &upgrade).unwrap().unwrap();
        let taken = |lines: &[(&str, &str)]| asked.is_taken_by(&fields(lines));
        assert!(!taken(&[NOMINATED]));
        assert!(!taken(&[("upgrade", "websocket")]));
        assert!(!taken(&[NOMINATED, ("upgrade", "h2c")]));
        assert!(!taken(&[NOMINATED, ("upgrade", "websocket, h2c")]));
        assert!(!taken(&[
            NOMINATED,
            ("upgrade", "websocket"),
            ("upgrade", "websocket")
        ]));
        assert!(taken(&[NOMINATED, ("upgrade", "WebSocket")]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn what_is_asked_for_is_one_token_that_carries_no_requests(
            offers in prop::collection::vec("[hH]2[cC]|websocket|HTTP/2|[ -~]{0,12}", 0..3),
            options in prop::collection::vec("upgrade|close|[ -~]{0,12}", 0..3),
        ) {
            let mut lines: Vec<_> = offers.iter().map(|it| ("upgrade", it.as_str())).collect();
            lines.extend(options.iter().map(|it| ("connection", it.as_str())));
            if let Ok(Some(protocol)) = asked(&lines) {
                prop_assert_eq!(&offers, std::slice::from_ref(&protocol));
                let name = protocol.split('/').next().unwrap_or_default().to_lowercase();
                prop_assert!(!["http", "h2", "h2c", "tls"].contains(&name.as_str()));
                prop_assert!(protocol.bytes().all(|it| is_token(it) || it == b'/'));
                prop_assert!(options.iter().any(|it| it.contains("upgrade")));
            }
        }
    }
}
