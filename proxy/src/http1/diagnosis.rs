//! Which rule a head breaks that the parser refused. Slow and exact; nothing is decided here.

use super::{Limits, Malformed};

pub(super) fn of_request(head: &[u8], limits: &Limits) -> Malformed {
    of_head(head, limits, of_request_line)
}

pub(super) fn of_response(head: &[u8], limits: &Limits) -> Malformed {
    of_head(head, limits, |_| Malformed::StatusLine)
}

/// What is wrong with lines of fields that the parser refused.
pub(super) fn of_fields(lines: &[u8], limits: &Limits) -> Malformed {
    first_broken(lines_of(lines)).unwrap_or_else(|| too_many(lines, limits))
}

fn of_head(head: &[u8], limits: &Limits, of_line: fn(&[u8]) -> Malformed) -> Malformed {
    let mut lines = lines_of(head);
    let start = lines.next().unwrap_or_default();
    if start.contains(&b'\r') {
        return Malformed::BareCr;
    }
    let fields = lines.clone();
    if starts_with_space(lines.next().unwrap_or_default()) {
        return Malformed::LeadingWhitespace;
    }
    let broken = first_broken(fields);
    if let Some(broken) = broken {
        return broken;
    }
    let wanted = limits.fields.min(Limits::MOST_FIELDS);
    if lines_of(head).count() > wanted.saturating_add(1) {
        return Malformed::TooManyFields;
    }
    of_line(start)
}

fn too_many(lines: &[u8], limits: &Limits) -> Malformed {
    if lines_of(lines).count() > limits.fields.min(Limits::MOST_FIELDS) {
        return Malformed::TooManyFields;
    }
    Malformed::FieldName
}

fn of_request_line(line: &[u8]) -> Malformed {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let &[method, target, version] = words.as_slice() else {
        return Malformed::RequestLine;
    };
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return Malformed::Method;
    }
    if is_version(version) {
        return match version {
            b"HTTP/1.0" | b"HTTP/1.1" => target_or_line(target),
            _ => Malformed::Version,
        };
    }
    Malformed::RequestLine
}

fn target_or_line(target: &[u8]) -> Malformed {
    if target.is_empty() {
        return Malformed::RequestLine;
    }
    Malformed::Target
}

fn first_broken<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Malformed> {
    lines.filter_map(broken_field).next()
}

fn broken_field(line: &[u8]) -> Option<Malformed> {
    if starts_with_space(line) {
        return Some(Malformed::ObsFold);
    }
    if line.contains(&b'\r') {
        return Some(Malformed::BareCr);
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return Some(Malformed::FieldName);
    };
    let (name, value) = line.split_at(colon);
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Some(Malformed::SpaceBeforeColon);
    }
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Some(Malformed::FieldName);
    }
    let control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    value.iter().any(control).then_some(Malformed::FieldValue)
}

fn starts_with_space(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

/// The lines without their ends, up to the empty one.
fn lines_of(head: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    head.split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
}

fn is_version(word: &[u8]) -> bool {
    matches!(word, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
