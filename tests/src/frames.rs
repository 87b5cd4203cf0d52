//! HTTP/2 frame by frame (RFC 9113 section 4), to say what no library would.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::waiting::DEADLINE;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Who takes nothing for so long has stopped to listen. A machine that is slower makes a claim
/// about it easier to meet, never harder.
const STALLED: Duration = Duration::from_secs(1);

const ENHANCE_YOUR_CALM: u32 = 11;

/// What became of a flood.
#[derive(Debug, Default, Clone, Copy)]
pub struct Outcome {
    /// The error code of its GOAWAY.
    pub goaway: Option<u32>,
    pub ended: bool,
    /// Bytes that were taken.
    pub taken: usize,
}

impl Outcome {
    /// Ended before all of it was taken, and if a word of it got past the reset of a connection
    /// that holds unread bytes, then with ENHANCE_YOUR_CALM.
    pub fn is_cut_off(self, most: usize) -> bool {
        let calm = self.goaway.is_none_or(|code| code == ENHANCE_YOUR_CALM);
        self.ended && self.taken < most && calm
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The preface and a SETTINGS frame with these parameters.
pub fn opening(settings: &[(u16, u32)]) -> Vec<u8> {
    let parameter = |(id, value): &(u16, u32)| {
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.extend(value.to_be_bytes());
        bytes
    };
    let payload: Vec<u8> = settings.iter().flat_map(parameter).collect();
    [PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat()
}

/// A header block without Huffman coding or dynamic table (RFC 7541 section 6.2.2).
pub fn block(method: &str, path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let pairs = [
        (2, method),
        (6, "http"),
        (1, "orders.shop.mesh.internal"),
        (4, path),
    ];
    for (index, value) in pairs {
        let length = u8::try_from(value.len()).expect("a short value");
        bytes.extend([index, length]);
        bytes.extend(value.as_bytes());
    }
    bytes
}

/// Says `opening` and then what `next` makes, until nobody takes it any more or `most` bytes are
/// taken. Everything that is said back is read.
pub async fn flood(
    address: SocketAddr,
    opening: &[u8],
    next: impl FnMut() -> Vec<u8>,
    most: usize,
) -> Outcome {
    let socket = TcpStream::connect(address).await.expect("somebody listens");
    let (mut reader, mut writer) = socket.into_split();
    let mut said = Vec::new();
    let mut outcome = Outcome::default();
    let reading = async {
        // A reset is an end too; what came before it counts.
        drop(reader.read_to_end(&mut said).await);
    };
    let writing = async {
        let taken = pour(&mut writer, opening, next, most).await;
        drop(writer.shutdown().await);
        taken
    };
    let both = async { tokio::join!(reading, writing) };
    if let Ok(((), taken)) = timeout(DEADLINE, both).await {
        outcome.ended = true;
        outcome.taken = taken;
    }
    outcome.goaway = goaway(&said);
    outcome
}

/// [`flood`] by one who never reads. Returns the bytes that were taken.
pub async fn flood_unread(
    address: SocketAddr,
    opening: &[u8],
    next: impl FnMut() -> Vec<u8>,
    most: usize,
) -> usize {
    let socket = TcpStream::connect(address).await.expect("somebody listens");
    let (_unread, mut writer) = socket.into_split();
    pour(&mut writer, opening, next, most).await
}

async fn pour(
    writer: &mut (impl AsyncWriteExt + Unpin),
    opening: &[u8],
    mut next: impl FnMut() -> Vec<u8>,
    most: usize,
) -> usize {
    if writer.write_all(opening).await.is_err() {
        return 0;
    }
    let mut taken = opening.len();
    while taken < most {
        let mut batch = Vec::new();
        while batch.len() < 16 * 1024 {
            batch.extend(next());
        }
        let mut left = &batch[..];
        while !left.is_empty() {
            match timeout(STALLED, writer.write(left)).await {
                Ok(Ok(count @ 1..)) => {
                    taken += count;
                    left = &left[count..];
                }
                _ => return taken,
            }
        }
    }
    taken
}

/// The error code of the first GOAWAY that is not NO_ERROR.
fn goaway(mut said: &[u8]) -> Option<u32> {
    while let Some((head, rest)) = said.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (payload, rest) = rest.split_at_checked(length)?;
        if head[3] == GOAWAY {
            let code: [u8; 4] = payload.get(4..8)?.try_into().ok()?;
            if code != [0; 4] {
                return Some(u32::from_be_bytes(code));
            }
        }
        said = rest;
    }
    None
}
