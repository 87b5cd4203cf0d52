//! What blocks become, as anyone may read it: names, values and whether a value is sensitive.

mod agreement;
mod examples;
mod learning;
mod malformed;
mod refusals;

use super::{DecodeError, Decoded, Decoder, Field};

/// A name, a value, and `!` for what is sensitive; or `malformed` and the rule.
pub(super) fn plain(field: &Field) -> String {
    match field {
        Field::Method(method) => format!(":method: {method}"),
        Field::Scheme(scheme) => format!(":scheme: {scheme}"),
        Field::Authority(authority) => format!(":authority: {authority}"),
        Field::Path(path) => format!(":path: {path}"),
        Field::Status(status) => format!(":status: {}", status.as_str()),
        Field::Regular(name, value) => {
            let mark = if value.is_sensitive() { "!" } else { "" };
            format!("{name}: {}{mark}", value.as_bytes().escape_ascii())
        }
        Field::Malformed(rule) => format!("malformed: {rule}"),
    }
}

pub(super) fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, DecodeError> {
    let mut fields = Vec::new();
    let decoded = decoder.decode(block, usize::MAX, |field| fields.push(plain(&field)))?;
    assert_eq!(decoded, Decoded::Complete);
    Ok(fields)
}

/// The octets that `text` writes in hexadecimal digits.
pub(super) fn octets(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}
