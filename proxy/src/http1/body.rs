//! Takes bodies out of what was received, without copying them.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::chunked::Chunked;
use super::{Framing, Limits, Malformed};

/// What comes next of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// At least one byte of content. A part of the buffer, not a copy.
    Data(Bytes),
    /// The trailers, if there are any; `End` follows.
    Trailers(HeaderMap),
    /// What is left in the buffer belongs to the next message.
    End,
    /// All of the buffer is taken.
    NeedMore,
}

/// Reads one body.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
}

#[derive(Debug)]
enum State {
    Length(u64),
    Chunked(Box<Chunked>),
    UntilClose,
    Ended,
}

impl BodyReader {
    #[must_use]
    pub fn new(framing: Framing, limits: &Limits) -> Self {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::Ended,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Box::new(Chunked::new(*limits))),
            Framing::UntilClose | Framing::Tunnel => State::UntilClose,
        };
        Self { state }
    }

    /// Takes the next piece out of `buffer`.
    ///
    /// # Errors
    /// The rule of the chunked coding that the bytes break.
    pub fn pull(&mut self, buffer: &mut BytesMut) -> Result<Piece, Malformed> {
        match &mut self.state {
            State::Ended => Ok(Piece::End),
            State::UntilClose => Ok(take(buffer, u64::MAX)),
            State::Length(left) => {
                let piece = take(buffer, *left);
                if let Piece::Data(data) = &piece {
                    *left -= data.len() as u64;
                    if *left == 0 {
                        self.state = State::Ended;
                    }
                }
                Ok(piece)
            }
            State::Chunked(chunked) => {
                let piece = chunked.pull(buffer)?;
                if chunked.is_ended() {
                    self.state = State::Ended;
                }
                Ok(piece)
            }
        }
    }

    /// Whether the body has ended: what is in the buffer belongs to the next message.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// How many bytes of content are still to come, if that is known.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Ended => Some(0),
            State::Length(left) => Some(left),
            State::Chunked(_) | State::UntilClose => None,
        }
    }

    /// The peer sends nothing more, and the buffer is empty.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] if the body does not end with the connection.
    pub fn end_of_stream(&mut self) -> Result<(), Malformed> {
        match self.state {
            State::Ended | State::UntilClose => {
                self.state = State::Ended;
                Ok(())
            }
            State::Length(_) | State::Chunked(_) => Err(Malformed::Truncated),
        }
    }
}

/// As much as there is, at most `most`.
pub(super) fn take(buffer: &mut BytesMut, most: u64) -> Piece {
    let length = usize::try_from(most)
        .unwrap_or(usize::MAX)
        .min(buffer.len());
    match length {
        0 => Piece::NeedMore,
        _ => Piece::Data(buffer.split_to(length).freeze()),
    }
}
