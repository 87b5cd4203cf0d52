//! Bodies, read.

use bytes::{Bytes, BytesMut};

use super::super::{BodyReader, Framing, Limits, Malformed, Piece};
use super::{Read, read};

fn chunked(bytes: &[u8]) -> Result<(Read, BytesMut), Malformed> {
    let mut body = BodyReader::new(Framing::Chunked, &Limits::default());
    let mut buffer = BytesMut::from(bytes);
    let mut all = Read::default();
    read(&mut body, &mut buffer, &mut all)?;
    Ok((all, buffer))
}

#[track_caller]
fn refused(rule: Malformed, bodies: &[&str]) {
    for body in bodies {
        assert_eq!(chunked(body.as_bytes()).expect_err(body), rule, "{body:?}");
    }
}

#[test]
fn a_chunk_size_that_is_no_hexadecimal_number_is_refused() {
    refused(
        Malformed::ChunkSize,
        &[
            "\r\n",
            "+3\r\nabc\r\n",
            "-3\r\nabc\r\n",
            "0x3\r\nabc\r\n",
            " 3\r\nabc\r\n",
            "3 \r\nabc\r\n",
            "3\t\r\nabc\r\n",
            "g\r\n",
            "3,3\r\n",
            "3 3\r\n",
        ],
    );
    refused(
        Malformed::ChunkTooLarge,
        &["00000000000000003\r\nabc\r\n", "10000000000000000\r\n"],
    );
}

#[test]
fn a_chunk_extension_cannot_hide_a_line_end() {
    refused(Malformed::BareLf, &["3;a\nabc\r\n", "3\nabc\r\n"]);
    refused(Malformed::BareCr, &["3;a\rb\r\nabc\r\n", "3\r\r\nabc\r\n"]);
    refused(Malformed::ChunkExtension, &["3;a=\0\r\nabc\r\n"]);
}

#[test]
fn chunk_extensions_are_bounded_over_the_whole_body() {
    let one = format!("1;{}\r\na\r\n", "x".repeat(1 << 20));
    let many = "1;extension\r\na\r\n".repeat(1000);
    refused(Malformed::ChunkExtensionsTooLong, &[&one, &many]);
}

#[test]
fn a_chunk_that_does_not_end_where_it_says_is_refused() {
    refused(
        Malformed::ChunkEnd,
        &[
            "3\r\nabcd\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3\r\nabc\r0\r\n\r\n",
            "3\r\nab\r\n0\r\n\r\n",
        ],
    );
}

#[test]
fn a_trailer_that_frames_or_routes_is_refused() {
    refused(
        Malformed::ForbiddenTrailer,
        &[
            "0\r\nContent-Length: 3\r\n\r\n",
            "0\r\ntransfer-encoding: chunked\r\n\r\n",
            "0\r\nhost: other\r\n\r\n",
        ],
    );
}

#[test]
fn trailers_follow_the_rules_of_fields() {
    refused(
        Malformed::ObsFold,
        &["0\r\nx: a\r\n b\r\n\r\n", "0\r\n x: a\r\n\r\n"],
    );
    refused(Malformed::BareLf, &["0\r\nx: a\n\r\n", "0\r\n\n"]);
    refused(Malformed::SpaceBeforeColon, &["0\r\nx : a\r\n\r\n"]);
    refused(Malformed::FieldValue, &["0\r\nx: \0\r\n\r\n"]);
    refused(Malformed::FieldName, &["0\r\nGET / HTTP/1.1\r\n\r\n"]);
}

#[test]
fn trailers_are_bounded() {
    let large = format!("0\r\nx: {}\r\n\r\n", "a".repeat(1 << 20));
    let many = format!("0\r\n{}\r\n", "x: a\r\n".repeat(101));
    refused(Malformed::TrailersTooLarge, &[&large]);
    refused(Malformed::TooManyFields, &[&many]);
}

#[test]
fn a_body_cut_short_is_noticed() {
    for framing in [Framing::Length(3), Framing::Chunked] {
        let mut body = BodyReader::new(framing, &Limits::default());
        assert_eq!(body.end_of_stream(), Err(Malformed::Truncated));
    }
}

#[test]
fn a_body_until_close_ends_with_the_connection() {
    let mut body = BodyReader::new(Framing::UntilClose, &Limits::default());
    let mut all = Read::default();
    read(&mut body, &mut BytesMut::from(&b"abc"[..]), &mut all).expect("anything goes");
    assert!(!all.ended && !body.is_ended());
    body.end_of_stream().expect("this is its end");
    assert!(body.is_ended());
}

#[test]
fn chunks_are_read_without_their_extensions_up_to_the_next_message() {
    let (all, left) =
        chunked(b"3;a=\"b;c\"\r\nabc\r\n0A \t;x\r\n0123456789\r\n000\r\nX-Sum: 1\r\n\r\nGET")
            .expect("well formed");
    assert_eq!(all.content, b"abc0123456789");
    assert_eq!(all.trailers.expect("one trailer")["x-sum"], "1");
    assert!(all.ended);
    assert_eq!(&left[..], b"GET");
}

#[test]
fn a_body_of_known_length_leaves_the_next_message() {
    let mut body = BodyReader::new(Framing::Length(3), &Limits::default());
    let mut buffer = BytesMut::from(&b"abcGET"[..]);
    let piece = body.pull(&mut buffer).expect("no rule to break");
    assert_eq!(piece, Piece::Data(Bytes::from_static(b"abc")));
    assert_eq!(body.pull(&mut buffer), Ok(Piece::End));
    assert_eq!(&buffer[..], b"GET");
}

#[test]
fn content_is_a_part_of_the_buffer() {
    let mut body = BodyReader::new(Framing::Length(4096), &Limits::default());
    let mut buffer = BytesMut::from(&[b'a'; 4096][..]);
    let received = buffer.as_ptr();
    let Ok(Piece::Data(data)) = body.pull(&mut buffer) else {
        panic!("no data");
    };
    assert_eq!(data.as_ptr(), received);
}
