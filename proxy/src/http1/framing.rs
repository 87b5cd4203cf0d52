//! How a body is delimited (RFC 9112 section 6.3): in one way, or not at all.

use http::header::{self, HeaderMap};
use http::{Method, StatusCode, Version};

use super::Malformed;

/// Where a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After its head.
    Empty,
    /// After so many bytes of body.
    Length(u64),
    /// After the last chunk and the trailers.
    Chunked,
    /// With the connection; responses only.
    UntilClose,
    /// The head was the last of HTTP: what follows belongs to the tunnel or the new protocol.
    Tunnel,
}

/// Lengths above this are refused, as hyper does; nobody can send so much.
const MOST_LENGTH: u64 = u64::MAX >> 1;

impl Framing {
    pub(super) fn of_request(version: Version, fields: &HeaderMap) -> Result<Self, Malformed> {
        let declared = Self::declared(version, fields)?;
        Ok(declared.unwrap_or(Self::Empty))
    }

    pub(super) fn of_response(
        method: &Method,
        status: StatusCode,
        version: Version,
        fields: &HeaderMap,
    ) -> Result<Self, Malformed> {
        let declared = Self::declared(version, fields)?;
        if status == StatusCode::SWITCHING_PROTOCOLS
            || (method == Method::CONNECT && status.is_success())
        {
            return bodiless(declared, Self::Tunnel);
        }
        if status.is_informational() || status == StatusCode::NO_CONTENT {
            return bodiless(declared, Self::Empty);
        }
        // Both may declare the framing that a GET would have had (RFC 9112 section 6.1).
        if method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
            return Ok(Self::Empty);
        }
        Ok(declared.unwrap_or(Self::UntilClose))
    }

    /// The framing for a response of our own making: `length` if it is known, otherwise chunks,
    /// or until close for a client that knows no chunks.
    #[must_use]
    pub fn for_response(
        method: &Method,
        status: StatusCode,
        client: Version,
        length: Option<u64>,
    ) -> Self {
        let bodiless = status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        match length {
            _ if status == StatusCode::SWITCHING_PROTOCOLS => Self::Tunnel,
            _ if method == Method::CONNECT && status.is_success() => Self::Tunnel,
            _ if bodiless || method == Method::HEAD => Self::Empty,
            Some(length) => Self::Length(length),
            None if client < Version::HTTP_11 => Self::UntilClose,
            None => Self::Chunked,
        }
    }

    fn declared(version: Version, fields: &HeaderMap) -> Result<Option<Self>, Malformed> {
        let length = content_length(fields)?;
        let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
        let Some(coding) = codings.next() else {
            return Ok(length.map(Self::Length));
        };
        if length.is_some() {
            return Err(Malformed::TwoFramings);
        }
        if version < Version::HTTP_11 {
            return Err(Malformed::TransferEncodingInHttp10);
        }
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Malformed::TransferEncoding);
        }
        Ok(Some(Self::Chunked))
    }
}

/// The one Content-Length, if there is any.
fn content_length(fields: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else {
        return Ok(None);
    };
    let number = decimal(length.as_bytes()).filter(|number| *number <= MOST_LENGTH);
    match number {
        Some(number) if lengths.next().is_none() => Ok(Some(number)),
        _ => Err(Malformed::ContentLength),
    }
}

/// Digits only: no sign, no list, no white space.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// A length of nothing says nothing wrong.
fn bodiless(declared: Option<Framing>, framing: Framing) -> Result<Framing, Malformed> {
    match declared {
        None | Some(Framing::Length(0)) => Ok(framing),
        Some(_) => Err(Malformed::FramedWithoutBody),
    }
}
