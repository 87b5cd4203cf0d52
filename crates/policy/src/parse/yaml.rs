//! Bounded YAML: text in, JSON values out.

use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, Options};

use super::{ParseCode, ParseError};

const LARGEST_INPUT: usize = 8 * 1024 * 1024;
const MOST_DOCUMENTS: usize = 20_000;

/// The documents of a text. Empty ones are left out.
pub(super) fn values(text: &str) -> Result<Vec<Value>, ParseError> {
    if text.len() > LARGEST_INPUT {
        let message = format!(
            "the text has {} bytes; at most {LARGEST_INPUT} are read",
            text.len()
        );
        return Err(ParseError::new(ParseCode::TooLarge, message));
    }
    let mut bytes = text.as_bytes();
    let mut values = Vec::new();
    for value in serde_saphyr::read_with_options::<_, Value>(&mut bytes, options()) {
        if values.len() == MOST_DOCUMENTS {
            let message = format!("the text has more than {MOST_DOCUMENTS} documents");
            return Err(ParseError::new(ParseCode::TooLarge, message));
        }
        let refuse = |error: serde_saphyr::Error| {
            let message = format!("this is not one valid YAML document: {error}");
            ParseError::new(ParseCode::Syntax, message).in_document(values.len())
        };
        values.push(value.map_err(refuse)?);
    }
    Ok(values)
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_anchors: 256,
            max_aliases: 4096,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    }
}
