//! Why a message is refused: the rule that it breaks, and where the rule is written.

use http::StatusCode;

/// A rule of HTTP/1 that the bytes break. After it nothing more can be read from the connection:
/// where the next message would begin is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    #[error("a line ends in LF without CR (RFC 9112 section 2.2)")]
    BareLf,
    #[error("a CR without LF (RFC 9112 section 2.2)")]
    BareCr,
    #[error("more than one empty line before a request (RFC 9112 section 2.2)")]
    EmptyLines,
    #[error("white space before the first field (RFC 9112 section 2.2)")]
    LeadingWhitespace,
    #[error("the request line is not method, target and version (RFC 9112 section 3)")]
    RequestLine,
    #[error("the method is no token (RFC 9110 section 9.1)")]
    Method,
    #[error(
        "the request target is not in the form that the method asks for (RFC 9112 section 3.2)"
    )]
    Target,
    #[error("the request target is too long (RFC 9112 section 3)")]
    TargetTooLong,
    #[error("the version is not HTTP/1.0 or HTTP/1.1 (RFC 9112 section 2.3)")]
    Version,
    #[error("the status line is not version, status and reason (RFC 9112 section 4)")]
    StatusLine,
    #[error("the status is not within 100 to 599 (RFC 9110 section 15)")]
    Status,
    #[error("the head is larger than allowed (RFC 6585 section 5)")]
    HeadTooLarge,
    #[error("more fields than allowed (RFC 6585 section 5)")]
    TooManyFields,
    #[error("a field name is no token (RFC 9110 section 5.1)")]
    FieldName,
    #[error("white space between a field name and its colon (RFC 9112 section 5.1)")]
    SpaceBeforeColon,
    #[error("a folded line (RFC 9112 section 5.2)")]
    ObsFold,
    #[error("a control character in a field value (RFC 9110 section 5.5)")]
    FieldValue,
    #[error("a request without Host (RFC 9112 section 3.2)")]
    HostMissing,
    #[error("more than one Host (RFC 9112 section 3.2)")]
    HostRepeated,
    #[error("Host is not a host with an optional port (RFC 9110 section 7.2)")]
    HostSyntax,
    #[error("an expectation other than 100-continue (RFC 9110 section 10.1.1)")]
    Expectation,
    #[error("Transfer-Encoding and Content-Length in one message (RFC 9112 section 6.3)")]
    TwoFramings,
    #[error("Content-Length is not one decimal number (RFC 9110 section 8.6)")]
    ContentLength,
    #[error("Transfer-Encoding is not exactly chunked (RFC 9112 section 6.1)")]
    TransferEncoding,
    #[error("Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1)")]
    TransferEncodingInHttp10,
    #[error("a body is framed where none may be (RFC 9112 section 6.3)")]
    FramedWithoutBody,
    #[error("a chunk size is no hexadecimal number (RFC 9112 section 7.1)")]
    ChunkSize,
    #[error("a chunk is longer than a number can say (RFC 9112 section 7.1)")]
    ChunkTooLarge,
    #[error("a chunk extension holds a control character (RFC 9112 section 7.1.1)")]
    ChunkExtension,
    #[error("the chunk extensions are longer than allowed (RFC 9112 section 7.1.1)")]
    ChunkExtensionsTooLong,
    #[error("a chunk does not end where its size says (RFC 9112 section 7.1)")]
    ChunkEnd,
    #[error("a trailer frames or routes the message (RFC 9110 section 6.5.1)")]
    ForbiddenTrailer,
    #[error("the trailers are larger than allowed (RFC 6585 section 5)")]
    TrailersTooLarge,
    #[error("the connection ended within a message (RFC 9112 section 8)")]
    Truncated,
}

impl Malformed {
    /// What the sender of a malformed request is answered. A malformed response is a 502.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}
