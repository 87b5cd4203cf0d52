//! Refusals: the one place where a reason becomes a response.

use std::fmt::Write;

use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use super::body::Download;
use super::call::Call;
use crate::failure::Reason;
use crate::head::{DECISION, REASON};

/// How the caller expects to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Http,
    /// Status 200, and the refusal in `grpc-status` (gRPC over HTTP/2, "Trailers-Only").
    Grpc,
}

impl Manner {
    pub(crate) fn of(is_grpc: bool) -> Self {
        if is_grpc { Self::Grpc } else { Self::Http }
    }
}

/// Answers a call that is not passed on.
pub(crate) fn refuse(
    mut call: Call,
    reason: Reason,
    detail: &str,
    manner: Manner,
) -> Response<Download> {
    call.fail(reason, detail);
    call.complete();
    let decision = call
        .decision()
        .and_then(|id| HeaderValue::from_str(&id.to_string()).ok());
    let mut response = match manner {
        Manner::Http => plain(call, reason, detail),
        Manner::Grpc => grpc(call, reason, detail),
    };
    let fields = response.headers_mut();
    fields.insert(REASON, HeaderValue::from_static(reason.code()));
    if let Some(decision) = decision {
        fields.insert(DECISION, decision);
    }
    response
}

fn plain(mut call: Call, reason: Reason, detail: &str) -> Response<Download> {
    let status = reason.status();
    call.answered(status);
    let text = format!("{reason}: {detail}\n{}\n", reason.next_step());
    let mut response = Response::new(Download::words(text, call));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn grpc(mut call: Call, reason: Reason, detail: &str) -> Response<Download> {
    call.answered(StatusCode::OK);
    let mut response = Response::new(Download::words("", call));
    let fields = response.headers_mut();
    fields.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    fields.insert(
        "grpc-status",
        HeaderValue::from(u16::from(reason.grpc_status())),
    );
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&format!("{reason}: {detail}"))) {
        fields.insert("grpc-message", message);
    }
    response
}

/// gRPC's encoding of messages: everything but printable ASCII, and the percent sign.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_messages_hold_printable_ascii_only() {
        assert_eq!(percent_encoded("50% ä\n"), "50%25 %C3%A4%0A");
    }
}
