//! Refusals: the one place where a reason becomes a response.

use std::fmt::Write;

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};

use super::body::Incoming;
use super::call::Call;
use super::http_server::Answer;
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
pub(crate) fn refuse(mut call: Call, reason: Reason, detail: &str, manner: Manner) -> Answer {
    call.fail(reason, detail);
    call.complete();
    let (status, mut fields, body) = match manner {
        Manner::Http => plain(reason, detail),
        Manner::Grpc => grpc(reason, detail),
    };
    fields.insert(REASON, HeaderValue::from_static(reason.code()));
    let decision = call.decision().map(ToString::to_string);
    if let Some(Ok(decision)) = decision.map(HeaderValue::try_from) {
        fields.insert(DECISION, decision);
    }
    call.answered(status);
    Answer {
        status,
        fields,
        body,
        upload: None,
        call,
    }
}

fn plain(reason: Reason, detail: &str) -> (StatusCode, HeaderMap, Incoming) {
    let text = format!("{reason}: {detail}\n{}\n", reason.next_step());
    let mut fields = HeaderMap::new();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    fields.insert(header::CONTENT_TYPE, plain);
    (reason.status(), fields, Incoming::words(text))
}

fn grpc(reason: Reason, detail: &str) -> (StatusCode, HeaderMap, Incoming) {
    let mut fields = HeaderMap::new();
    let grpc = HeaderValue::from_static("application/grpc");
    fields.insert(header::CONTENT_TYPE, grpc);
    let status = HeaderValue::from(u16::from(reason.grpc_status()));
    fields.insert("grpc-status", status);
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&format!("{reason}: {detail}"))) {
        fields.insert("grpc-message", message);
    }
    (StatusCode::OK, fields, Incoming::Empty)
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
