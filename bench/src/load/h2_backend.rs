//! Answers every HTTP/2 request with 200 and 1 KiB. It reads no header field, so it keeps no HPACK
//! state; it obeys the peer's connection window.

use std::collections::VecDeque;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frames::{
    self, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE,
};
use super::{ANSWER_BYTES, CHUNK, FILLED};

/// `:status: 200`, then `content-length` (static index 28) with a literal value of four digits.
const HEAD: &[u8] = b"\x88\x0f\x0d\x041024";
const FIRST_WINDOW: usize = 65_535;

#[derive(Debug)]
struct Answers {
    out: Vec<u8>,
    window: usize,
    asked: VecDeque<u32>,
}

pub(super) async fn serve(mut socket: TcpStream) -> Result<()> {
    let mut preface = [0; PREFACE.len()];
    socket.read_exact(&mut preface).await?;
    ensure!(preface == PREFACE, "no HTTP/2 preface");
    let mut answers = Answers {
        out: Vec::with_capacity(CHUNK),
        window: FIRST_WINDOW,
        asked: VecDeque::new(),
    };
    frames::push(&mut answers.out, SETTINGS, 0, 0, &[]);
    let mut input = Vec::with_capacity(CHUNK);
    loop {
        socket.write_all(&answers.out).await?;
        answers.out.clear();
        input.reserve(CHUNK);
        if socket.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let mut rest = input.as_slice();
        while let Some((frame, after)) = Frame::first(rest) {
            answers.take(&frame);
            rest = after;
        }
        let read = input.len() - rest.len();
        input.drain(..read);
        answers.answer();
    }
}

impl Answers {
    fn take(&mut self, frame: &Frame<'_>) {
        match frame.kind {
            WINDOW_UPDATE if frame.stream == 0 => self.window += frame.number() as usize,
            HEADERS | DATA if frame.is(END_STREAM) => self.asked.push_back(frame.stream),
            _ => frames::acknowledge(&mut self.out, frame),
        }
    }

    fn answer(&mut self) {
        while self.window >= ANSWER_BYTES
            && let Some(stream) = self.asked.pop_front()
        {
            self.window -= ANSWER_BYTES;
            frames::push(&mut self.out, HEADERS, END_HEADERS, stream, HEAD);
            let body = &FILLED[..ANSWER_BYTES];
            frames::push(&mut self.out, DATA, END_STREAM, stream, body);
        }
    }
}
