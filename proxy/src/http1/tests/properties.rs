//! For any input: how it is split does not matter, and what is written is read back.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{Method, StatusCode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::{
    BodyReader, BodyWriter, Connection, Framing, HeadReader, Limits, Malformed, RequestLine,
    WriteQueue, write_request_head, write_response_head,
};
use super::{Read, drain, read};

/// All that one connection carried.
#[derive(Debug, Default, PartialEq)]
struct Carried {
    messages: Vec<(String, HeaderMap, Read)>,
    error: Option<Malformed>,
    left: Vec<u8>,
}

/// Reads requests from bytes that arrive in these pieces.
fn carried(pieces: &[&[u8]]) -> Carried {
    let mut reader = HeadReader::new(Limits::default());
    let mut buffer = BytesMut::new();
    let mut all = Carried::default();
    let mut body: Option<BodyReader> = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if let Err(error) = step(&mut reader, &mut body, &mut buffer, &mut all) {
            all.error = Some(error);
            return all;
        }
    }
    all.left = buffer.to_vec();
    all
}

fn step(
    reader: &mut HeadReader,
    body: &mut Option<BodyReader>,
    buffer: &mut BytesMut,
    all: &mut Carried,
) -> Result<(), Malformed> {
    loop {
        if let (Some(reading), Some((.., into))) = (body.as_mut(), all.messages.last_mut()) {
            read(reading, buffer, into)?;
            if !into.ended {
                return Ok(());
            }
        }
        let Some(head) = reader.request(buffer)? else {
            *body = None;
            return Ok(());
        };
        let start = format!("{} {} {:?}", head.method, head.target, head.framing);
        all.messages.push((start, head.fields, Read::default()));
        *body = Some(BodyReader::new(head.framing, &Limits::default()));
    }
}

fn nearly_http() -> impl Strategy<Value = Vec<u8>> {
    let words = select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a HTTP/1.1\r\n",
        "host: a\r\n",
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        "content-length: 3\r\n",
        "transfer-encoding: chunked\r\n",
        "3\r\nabc\r\n",
        "0\r\n",
        "abc",
        "0\r\n\r\n",
        "x: y\r\n",
        "expect: 100-continue\r\n",
        " ",
        "3;a=b\r\n",
        "\0",
        "HTTP/1.0",
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
    ]);
    vec(words, 0..12).prop_map(|words| words.concat().into_bytes())
}

fn plain_fields() -> impl Strategy<Value = HeaderMap> {
    let name = "[a-z][a-z0-9_-]{0,8}".prop_map(|name| format!("x-{name}"));
    let value = "[!-~]([ -~\t]{0,20}[!-~])?";
    vec((name, value), 0..6).prop_map(|fields| {
        let field = |(name, value): (String, String)| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a token");
            (name, HeaderValue::from_str(&value).expect("visible"))
        };
        fields.into_iter().map(field).collect()
    })
}

fn contents() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let size = prop_oneof![0..40usize, 2000..5000usize];
    vec(size.prop_flat_map(|size| vec(any::<u8>(), size)), 0..4)
}

fn write_body(
    framing: Framing,
    contents: &[Vec<u8>],
    trailers: &HeaderMap,
    queue: &mut WriteQueue,
) {
    let mut writer = BodyWriter::new(framing);
    for content in contents {
        writer
            .data(Bytes::copy_from_slice(content), queue)
            .expect("it fits");
    }
    let trailers = writer.takes_trailers().then_some(trailers);
    writer.end(trailers, queue).expect("all was written");
}

proptest! {
    #[test]
    fn any_split_of_the_input_gives_the_same_messages(
        bytes in nearly_http(),
        cuts in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let whole = carried(&[&bytes]);
        prop_assert_eq!(&carried(&pieces), &whole);
        prop_assert_eq!(&carried(&single), &whole);
    }

    #[test]
    fn a_request_is_read_back_as_written(
        path in "/[a-z0-9/%._~-]{0,20}",
        query in proptest::option::of("[a-z0-9=&]{0,10}"),
        fields in plain_fields(),
        trailers in plain_fields(),
        contents in contents(),
        chunked in any::<bool>(),
    ) {
        let length: usize = contents.iter().map(Vec::len).sum();
        let framing = if chunked { Framing::Chunked } else { Framing::Length(length as u64) };
        let authority = Authority::from_static("orders.shop:80");
        let line = RequestLine {
            method: &Method::PUT,
            target: &path,
            query: query.as_deref(),
            authority: Some(&authority),
        };
        let mut queue = WriteQueue::new();
        write_request_head(&mut queue, line, &fields, framing, &Connection::Persists)
            .expect("sendable");
        write_body(framing, &contents, &trailers, &mut queue);
        let bytes = drain(&mut queue);
        let read = carried(&[&bytes]);
        prop_assert_eq!(read.error, None);
        prop_assert!(read.left.is_empty());
        let [(start, mut got, body)] = <[_; 1]>::try_from(read.messages).expect("one message");
        let target = query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
        prop_assert_eq!(start, format!("PUT {target} {framing:?}"));
        prop_assert_eq!(got.remove("host"), Some(HeaderValue::from_static("orders.shop:80")));
        got.remove("content-length");
        got.remove("transfer-encoding");
        prop_assert_eq!(got, fields);
        prop_assert_eq!(body.content, contents.concat());
        let expected = (chunked && !trailers.is_empty()).then_some(trailers);
        prop_assert_eq!(body.trailers, expected);
    }

    #[test]
    fn a_response_is_read_back_as_written(
        fields in plain_fields(),
        contents in contents(),
        status in 200u16..600,
        chunked in any::<bool>(),
        head in any::<bool>(),
    ) {
        let status = StatusCode::from_u16(status).expect("in range");
        let method = if head { Method::HEAD } else { Method::GET };
        let length: usize = contents.iter().map(Vec::len).sum();
        let length = (!chunked).then_some(length as u64);
        let framing = Framing::for_response(&method, status, http::Version::HTTP_11, length);
        let contents = if framing == Framing::Empty { vec![] } else { contents };
        let mut queue = WriteQueue::new();
        write_response_head(&mut queue, &method, status, &fields, framing, &Connection::Persists)
            .expect("sendable");
        write_body(framing, &contents, &HeaderMap::new(), &mut queue);
        let mut buffer = BytesMut::from(drain(&mut queue));
        let read_head = HeadReader::new(Limits::default()).response(&mut buffer, &method);
        let mut got = read_head.expect("well formed").expect("all of it");
        prop_assert_eq!(got.status, status);
        prop_assert_eq!(got.framing, framing);
        got.fields.remove("content-length");
        got.fields.remove("transfer-encoding");
        prop_assert_eq!(got.fields, fields);
        let mut body = Read::default();
        let mut reader = BodyReader::new(framing, &Limits::default());
        read(&mut reader, &mut buffer, &mut body).expect("well formed");
        prop_assert_eq!(body.content, contents.concat());
        prop_assert!(body.ended && buffer.is_empty());
    }

    #[test]
    fn a_queue_gives_back_what_was_pushed_however_it_is_read(
        pieces in contents(),
        steps in vec(1..3000usize, 1..20),
    ) {
        let mut queue = WriteQueue::new();
        for piece in &pieces {
            queue.push(Bytes::copy_from_slice(piece));
        }
        let mut got = Vec::new();
        for step in steps.into_iter().cycle() {
            if !queue.has_remaining() {
                break;
            }
            let step = step.min(queue.chunk().len());
            got.extend_from_slice(&queue.chunk()[..step]);
            queue.advance(step);
        }
        prop_assert_eq!(got, pieces.concat());
    }
}
