//! The chunked transfer coding, read (RFC 9112 section 7.1).
//!
//! Refuses what two readers could delimit in two ways: sizes with signs, spaces or too many
//! digits, extensions that hold a bare CR or LF, and trailers that frame the message. Extensions
//! are bounded over the whole body and dropped.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http::header;

use super::body::take;
use super::lines::Lines;
use super::request::collect;
use super::{Limits, Malformed, Piece, diagnosis};

/// Bytes of chunk extensions in one body. Nobody needs any (RFC 9112 section 7.1.1 asks for a
/// limit of the whole).
const MOST_EXTENSIONS: usize = 4096;
/// Bytes of trailers, if the limit of a head allows so many.
const MOST_TRAILERS: usize = 8192;
/// As many as a `u64` has.
const MOST_DIGITS: usize = 16;

#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    limits: Limits,
    extensions_left: usize,
}

#[derive(Debug)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers(Lines),
    Ended,
}

impl Chunked {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            state: State::Size,
            limits,
            extensions_left: MOST_EXTENSIONS,
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    pub(super) fn pull(&mut self, buffer: &mut BytesMut) -> Result<Piece, Malformed> {
        loop {
            match &mut self.state {
                State::Size => match self.size(buffer)? {
                    None => return Ok(Piece::NeedMore),
                    Some(0) => self.state = State::Trailers(Lines::default()),
                    Some(size) => self.state = State::Data(size),
                },
                State::Data(left) => {
                    let piece = take(buffer, *left);
                    if let Piece::Data(data) = &piece {
                        *left -= data.len() as u64;
                        if *left == 0 {
                            self.state = State::DataEnd;
                        }
                    }
                    return Ok(piece);
                }
                State::DataEnd => {
                    if !data_end(buffer)? {
                        return Ok(Piece::NeedMore);
                    }
                    self.state = State::Size;
                }
                State::Trailers(lines) => {
                    let Some(section) = section(lines, buffer, &self.limits)? else {
                        return Ok(Piece::NeedMore);
                    };
                    self.state = State::Ended;
                    return match section.len() {
                        2 => Ok(Piece::End),
                        _ => trailers(&section, &self.limits).map(Piece::Trailers),
                    };
                }
                State::Ended => return Ok(Piece::End),
            }
        }
    }

    /// The size that the next line says, if all of the line is there.
    fn size(&mut self, buffer: &mut BytesMut) -> Result<Option<u64>, Malformed> {
        let most = MOST_DIGITS + self.extensions_left + 2;
        let within = &buffer[..buffer.len().min(most)];
        let Some(end) = memchr::memchr(b'\n', within) else {
            return match within.len() {
                few if few < most => Ok(None),
                _ => Err(Malformed::ChunkExtensionsTooLong),
            };
        };
        let line = within[..end].strip_suffix(b"\r").ok_or(Malformed::BareLf)?;
        let digits = line
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let (digits, extensions) = line.split_at(digits);
        check_extensions(extensions)?;
        let size = hexadecimal(digits)?;
        self.extensions_left = self
            .extensions_left
            .checked_sub(extensions.len())
            .ok_or(Malformed::ChunkExtensionsTooLong)?;
        buffer.advance(end + 1);
        Ok(Some(size))
    }
}

fn hexadecimal(digits: &[u8]) -> Result<u64, Malformed> {
    match digits.len() {
        0 => return Err(Malformed::ChunkSize),
        1..=MOST_DIGITS => {}
        _ => return Err(Malformed::ChunkTooLarge),
    }
    let value = |digit: &u8| match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    };
    let add = |size: u64, digit: &u8| size << 4 | u64::from(value(digit));
    Ok(digits.iter().fold(0, add))
}

/// Nothing, or white space and a semicolon before anything that shows.
fn check_extensions(bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.is_empty() {
        return Ok(());
    }
    if bytes.contains(&b'\r') {
        return Err(Malformed::BareCr);
    }
    if !bytes.trim_ascii_start().starts_with(b";") {
        return Err(Malformed::ChunkSize);
    }
    let control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    match bytes.iter().any(control) {
        true => Err(Malformed::ChunkExtension),
        false => Ok(()),
    }
}

/// Whether the line end after a chunk's data came.
fn data_end(buffer: &mut BytesMut) -> Result<bool, Malformed> {
    let came = buffer.len().min(2);
    if buffer[..came] != b"\r\n"[..came] {
        return Err(Malformed::ChunkEnd);
    }
    if came == 2 {
        buffer.advance(2);
    }
    Ok(came == 2)
}

fn section(
    lines: &mut Lines,
    buffer: &mut BytesMut,
    limits: &Limits,
) -> Result<Option<Bytes>, Malformed> {
    let most = limits.head_bytes.min(MOST_TRAILERS);
    let within = &buffer[..buffer.len().min(most)];
    let Some(end) = lines.end(within)? else {
        return match buffer.len() {
            few if few < most => Ok(None),
            _ => Err(Malformed::TrailersTooLarge),
        };
    };
    let section = Bytes::copy_from_slice(&buffer[..end]);
    buffer.advance(end);
    Ok(Some(section))
}

fn trailers(section: &Bytes, limits: &Limits) -> Result<HeaderMap, Malformed> {
    let mut room = [httparse::EMPTY_HEADER; Limits::MOST_FIELDS];
    let room = &mut room[..limits.fields.min(Limits::MOST_FIELDS)];
    let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(section, room) else {
        return Err(diagnosis::of_fields(section, limits));
    };
    let trailers = collect(section, parsed, HeaderMap::new())?;
    let forbidden = [
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::HOST,
    ];
    match forbidden.iter().any(|name| trailers.contains_key(name)) {
        true => Err(Malformed::ForbiddenTrailer),
        false => Ok(trailers),
    }
}
