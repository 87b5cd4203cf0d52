//! Blocks are decoded within bounds, and what was decoded is the same after our encoder wrote it.
#![no_main]

use arbitrary::Arbitrary;
use http2::hpack::{Decoded, Decoder, Encoder, Field};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    announced: u16,
    most: u16,
    blocks: Vec<(Option<u16>, Vec<u8>)>,
}

fuzz_target!(|input: Input| {
    let most = usize::from(input.most);
    let mut theirs = Decoder::new(input.announced.into());
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
    for (limit, block) in input.blocks {
        let mut fields = Vec::new();
        let Ok(decoded) = theirs.decode(&block, most, |field| fields.push(field)) else { return };
        let octets: usize = fields.iter().map(least).sum();
        assert!(octets <= most);
        fields.retain(|field| !matches!(field, Field::Malformed(_)));
        if let Some(limit) = limit {
            encoder.limit(limit.into());
        }
        let mut block = Vec::new();
        encoder.begin(&mut block);
        fields.iter().for_each(|field| encode(&mut encoder, field, &mut block));
        let mut again = Vec::new();
        let whole = decoder.decode(&block, usize::MAX, |field| again.push(field));
        assert_eq!(whole, Ok(Decoded::Complete), "after {decoded:?}");
        assert_eq!(plain(&again), plain(&fields));
    }
});

fn encode(encoder: &mut Encoder, field: &Field, out: &mut Vec<u8>) {
    match field {
        Field::Method(method) => encoder.method(method, out),
        Field::Scheme(scheme) => encoder.scheme(scheme.as_str(), out),
        Field::Authority(authority) => encoder.authority(authority.as_str(), out),
        Field::Path(path) => encoder.path(path.as_str(), out),
        Field::Status(status) => encoder.status(*status, out),
        Field::Regular(name, value) => encoder.field(name, value, out),
        Field::Malformed(_) => {}
    }
}

/// The octets that a field counts in a list, or fewer if it is malformed.
fn least(field: &Field) -> usize {
    let (name, value) = text(field);
    32 + name.len() + value.len()
}

fn plain(fields: &[Field]) -> Vec<(&str, &[u8])> {
    fields.iter().map(text).collect()
}

fn text(field: &Field) -> (&str, &[u8]) {
    match field {
        Field::Method(method) => (":method", method.as_str().as_bytes()),
        Field::Scheme(scheme) => (":scheme", scheme.as_str().as_bytes()),
        Field::Authority(authority) => (":authority", authority.as_str().as_bytes()),
        Field::Path(path) => (":path", path.as_str().as_bytes()),
        Field::Status(status) => (":status", status.as_str().as_bytes()),
        Field::Regular(name, value) => (name.as_str(), value.as_bytes()),
        Field::Malformed(_) => ("", b""),
    }
}
