//! Refusals: the one place where a reason becomes a response.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::body::Incoming;
use super::call::Call;
use super::failure::Failure;
use super::hop::is_turned_away;
use super::http_server::Answer;
use crate::failure::Reason;
use crate::head::{self, DECISION, REASON};

/// When to come back where nothing else is known.
const LATER: Duration = Duration::from_secs(1);

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
pub(crate) fn refuse(call: Box<Call>, reason: Reason, detail: &str, manner: Manner) -> Answer {
    refuse_for(call, &Failure::new(reason, detail), manner)
}

/// Answers a call that failed, with the status and the time that the failure names.
pub(crate) fn refuse_for(mut call: Box<Call>, failure: &Failure, manner: Manner) -> Answer {
    let reason = failure.reason;
    call.failed(failure);
    call.complete();
    let (status, mut fields, body) = match manner {
        Manner::Http => plain(failure),
        Manner::Grpc => grpc(failure),
    };
    if reason.passes_later() {
        let wait = failure.retry_after.unwrap_or(LATER).as_secs_f64().ceil();
        fields.insert(header::RETRY_AFTER, HeaderValue::from(wait as u64));
    }
    fields.insert(REASON, HeaderValue::from_static(reason.code()));
    let decision = call.decision().map(ToString::to_string);
    if let Some(Ok(decision)) = decision.map(HeaderValue::try_from) {
        fields.insert(DECISION, decision);
    }
    call.answered(status, Instant::now());
    Answer {
        status,
        fields,
        body,
        upload: None,
        call,
    }
}

/// Of a refusal, be it ours or the other proxy's, the word and nothing else; of every answer, no
/// decision.
pub(crate) fn for_outside(mut answer: Answer, manner: Manner) -> Answer {
    answer.fields.remove(DECISION);
    let Some(reason) = answer.fields.get(REASON).cloned() else {
        return answer;
    };
    let mut fields = HeaderMap::new();
    if let Some(wait) = answer.fields.remove(header::RETRY_AFTER) {
        fields.insert(header::RETRY_AFTER, wait);
    }
    let word = Bytes::copy_from_slice(reason.as_bytes());
    answer.body = match manner {
        Manner::Http => {
            let plain = HeaderValue::from_static("text/plain; charset=utf-8");
            fields.insert(header::CONTENT_TYPE, plain);
            Incoming::words(word)
        }
        Manner::Grpc => {
            let grpc = HeaderValue::from_static("application/grpc");
            fields.insert(header::CONTENT_TYPE, grpc);
            let status = answer.fields.remove("grpc-status");
            let unavailable = HeaderValue::from_static("14");
            fields.insert("grpc-status", status.unwrap_or(unavailable));
            fields.insert("grpc-message", reason.clone());
            Incoming::Empty
        }
    };
    fields.insert(REASON, reason);
    answer.fields = fields;
    answer.upload = None;
    answer
}

/// A gRPC client reads no status of gRPC beside one of HTTP that tells of a failure; the other
/// proxy's word for us alone ends here.
pub(crate) fn status_for_the_caller(status: StatusCode, fields: &HeaderMap) -> StatusCode {
    match is_turned_away(status, fields) && head::is_grpc(fields) {
        true => StatusCode::OK,
        false => status,
    }
}

fn plain(failure: &Failure) -> (StatusCode, HeaderMap, Incoming) {
    let Failure { reason, detail, .. } = failure;
    let text = format!("{reason}: {detail}\n{}\n", reason.next_step());
    let mut fields = HeaderMap::new();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    fields.insert(header::CONTENT_TYPE, plain);
    let status = failure.status.unwrap_or_else(|| reason.status());
    (status, fields, Incoming::words(text))
}

fn grpc(failure: &Failure) -> (StatusCode, HeaderMap, Incoming) {
    let Failure { reason, detail, .. } = failure;
    let mut fields = HeaderMap::new();
    let grpc = HeaderValue::from_static("application/grpc");
    fields.insert(header::CONTENT_TYPE, grpc);
    let code = failure
        .status
        .map_or_else(|| reason.grpc_status(), grpc_status_of);
    fields.insert("grpc-status", HeaderValue::from(u16::from(code)));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&format!("{reason}: {detail}"))) {
        fields.insert("grpc-message", message);
    }
    // A proxy on the other side sees by it that nobody has looked at the call.
    let status = match failure.is_for_the_connection() {
        true => reason.status(),
        false => StatusCode::OK,
    };
    (status, fields, Incoming::Empty)
}

/// What a gRPC client makes of an HTTP status (grpc/http-grpc-status-mapping.md).
fn grpc_status_of(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
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
    fn a_grpc_call_that_was_looked_at_is_never_turned_away() {
        let is_turned_away = |failure: Failure| {
            let (status, mut fields, _) = grpc(&failure);
            fields.insert(REASON, HeaderValue::from_static(failure.reason.code()));
            assert_eq!(fields["grpc-status"], "14");
            assert_eq!(status_for_the_caller(status, &fields), StatusCode::OK);
            is_turned_away(status, &fields)
        };
        assert!(!is_turned_away(Failure::cut_off(Reason::PeerExpired, "")));
        assert!(!is_turned_away(Failure::new(Reason::ConnectFailed, "")));
        assert!(is_turned_away(Failure::new(Reason::PeerExpired, "")));
    }

    #[test]
    fn grpc_messages_hold_printable_ascii_only() {
        assert_eq!(percent_encoded("50% ä\n"), "50%25 %C3%A4%0A");
    }
}
