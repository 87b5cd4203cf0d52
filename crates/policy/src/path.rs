//! The one form of an HTTP path that is judged, and passed on.
//!
//! What two programs could read differently is refused, not repaired: the received text is
//! checked, escapes that hide ordinary characters are decoded, and the result is checked again by
//! the same rules. The result is a fixed point. The query is no part of it.

use std::fmt;

mod template;

pub use template::{InvalidTemplate, PathTemplate};

/// A path in canonical form (RFC 3986 §3.3, §6.2.2): `/` first; `//`, dot segments and `;` absent;
/// every character that may stand for itself does; other bytes escaped with capital digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CanonicalPath(String);

/// Why a path has more than one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PathAmbiguous {
    /// It does not begin with `/`.
    #[error("the path must begin with `/`")]
    NotAbsolute,
    /// `//`.
    #[error("the path has an empty segment (`//`)")]
    EmptySegment,
    /// `.` or `..`, escaped or not.
    #[error("the path has a dot segment (`.` or `..`)")]
    DotSegment,
    /// `%2F` or `%5C`.
    #[error("the path has an escaped slash or backslash")]
    EscapedSeparator,
    /// `%00`.
    #[error("the path has an escaped NUL")]
    EscapedNul,
    /// `%25` before two hex digits.
    #[error("the path is escaped twice (`%25` before two hex digits)")]
    EscapedTwice,
    /// `\`.
    #[error("the path has a backslash")]
    Backslash,
    /// `#`.
    #[error("the path has a `#`")]
    Fragment,
    /// `;`.
    #[error("the path has a `;`")]
    Parameter,
    /// `?`: the caller has not cut the query off.
    #[error("the path has a `?`")]
    Query,
    /// `%` without two hex digits.
    #[error("the path has a malformed escape")]
    MalformedEscape,
    /// A byte below 0x21 or 0x7F.
    #[error("the path has a control byte or a space")]
    ControlByte,
    /// The bytes, with escapes decoded, are not UTF-8.
    #[error("the path is not UTF-8")]
    NotUtf8,
}

impl CanonicalPath {
    /// Brings a path, without its query, to its one form.
    pub fn parse(raw: impl AsRef<[u8]>) -> Result<Self, PathAmbiguous> {
        let raw = raw.as_ref();
        check(raw)?;
        let canonical = decode(raw);
        if canonical.as_bytes() != raw {
            check(canonical.as_bytes())?;
        }
        Ok(Self(canonical))
    }

    /// The form that is judged and passed on.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What lies between the slashes; the last is empty when the path ends with a slash.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0[1..].split('/')
    }
}

impl fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Cuts a request target at its first `?` (RFC 9112 §3.2.1). The query is passed on as it came.
pub fn split_target(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

fn check(path: &[u8]) -> Result<(), PathAmbiguous> {
    if path.first() != Some(&b'/') {
        return Err(PathAmbiguous::NotAbsolute);
    }
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        rest = match byte {
            b'%' => check_escape(tail)?,
            _ => check_plain(*byte).map(|()| tail)?,
        };
    }
    check_utf8(path)?;
    check_segments(&path[1..])
}

fn check_plain(byte: u8) -> Result<(), PathAmbiguous> {
    match byte {
        b'\\' => Err(PathAmbiguous::Backslash),
        b'#' => Err(PathAmbiguous::Fragment),
        b';' => Err(PathAmbiguous::Parameter),
        b'?' => Err(PathAmbiguous::Query),
        0..=b' ' | 0x7F => Err(PathAmbiguous::ControlByte),
        _ => Ok(()),
    }
}

/// `tail` is what follows a `%`; gives what follows the escape.
fn check_escape(tail: &[u8]) -> Result<&[u8], PathAmbiguous> {
    let octet = escaped(tail).ok_or(PathAmbiguous::MalformedEscape)?;
    match octet {
        b'/' | b'\\' => Err(PathAmbiguous::EscapedSeparator),
        0 => Err(PathAmbiguous::EscapedNul),
        b'%' if escaped(&tail[2..]).is_some() => Err(PathAmbiguous::EscapedTwice),
        _ => Ok(&tail[2..]),
    }
}

/// Escapes count as what they stand for: an overlong slash (`%C0%AF`) is no UTF-8 either.
fn check_utf8(path: &[u8]) -> Result<(), PathAmbiguous> {
    if path.is_ascii() && !path.contains(&b'%') {
        return Ok(());
    }
    let mut octets = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        let escape = (*byte == b'%').then(|| escaped(tail)).flatten();
        octets.push(escape.unwrap_or(*byte));
        rest = if escape.is_some() { &tail[2..] } else { tail };
    }
    std::str::from_utf8(&octets)
        .map(|_| ())
        .map_err(|_| PathAmbiguous::NotUtf8)
}

/// Empty ones first, wherever they are: the reason is then the same however dots are spelled.
fn check_segments(path: &[u8]) -> Result<(), PathAmbiguous> {
    if path.starts_with(b"/") || path.windows(2).any(|pair| pair == b"//") {
        return Err(PathAmbiguous::EmptySegment);
    }
    let mut segments = path.split(|byte| *byte == b'/');
    match segments.any(|segment| matches!(segment, b"." | b"..")) {
        true => Err(PathAmbiguous::DotSegment),
        false => Ok(()),
    }
}

/// Decodes escapes of what may stand for itself, and escapes what may not. `path` is checked.
fn decode(path: &[u8]) -> String {
    let mut canonical = String::with_capacity(path.len());
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        let escape = (*byte == b'%').then(|| escaped(tail)).flatten();
        let octet = escape.unwrap_or(*byte);
        if octet == b'/' || is_pchar(octet) {
            canonical.push(char::from(octet));
        } else {
            canonical.push('%');
            canonical.push(hex_digit(octet >> 4));
            canonical.push(hex_digit(octet & 0xF));
        }
        rest = if escape.is_some() { &tail[2..] } else { tail };
    }
    canonical
}

/// RFC 3986 §3.3, without `%`. `;` is one too: its escape is decoded, and then refused.
fn is_pchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

fn escaped(digits: &[u8]) -> Option<u8> {
    let [high, low, ..] = digits else { return None };
    let value = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(value(*high)? * 16 + value(*low)?).ok()
}

fn hex_digit(nibble: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(nibble & 0xF)])
}

#[cfg(test)]
mod tests;
