//! One connection between two proxies: a preamble, frames, and descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::unistd::geteuid;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{ANSWER_WITHIN, TakeoverError, VERSION, Version};

const MAGIC: [u8; 4] = *b"CSTO";
const LONGEST_MESSAGE: u32 = 256 * 1024;
/// The kernel passes at most 253 at once.
const AT_ONCE: usize = 64;

/// A connection to a process of the same uid, which speaks our version.
#[derive(Debug)]
pub(super) struct Line {
    stream: UnixStream,
}

impl Line {
    /// Checks who is at the other end before anything is said, and then what it speaks.
    pub(super) async fn open(stream: UnixStream) -> Result<Self, TakeoverError> {
        let peer = stream.peer_cred()?;
        let ours = geteuid().as_raw();
        if peer.uid() != ours {
            return Err(TakeoverError::OtherUser {
                pid: peer.pid().unwrap_or(0),
                theirs: peer.uid(),
                ours,
            });
        }
        let mut line = Self { stream };
        in_time(line.greet()).await?;
        Ok(line)
    }

    pub(super) fn pid(&self) -> i32 {
        let peer = self.stream.peer_cred();
        peer.ok().and_then(|it| it.pid()).unwrap_or(0)
    }

    pub(super) async fn send(&mut self, message: &impl Serialize) -> Result<(), TakeoverError> {
        let text = serde_json::to_vec(message)?;
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        if length > LONGEST_MESSAGE {
            return Err(TakeoverError::TooLong(length));
        }
        self.stream.write_u32(length).await?;
        Ok(self.stream.write_all(&text).await?)
    }

    /// Waits as long as the other side lives.
    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> Result<T, TakeoverError> {
        let length = self.stream.read_u32().await?;
        if length > LONGEST_MESSAGE {
            return Err(TakeoverError::TooLong(length));
        }
        let mut text = vec![0; length as usize];
        self.stream.read_exact(&mut text).await?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// As [`Line::receive`], and not for longer than an answer takes.
    pub(super) async fn answer<T: DeserializeOwned>(&mut self) -> Result<T, TakeoverError> {
        in_time(self.receive()).await
    }

    /// Resolves when the other process is gone. It has nothing to say meanwhile.
    pub(super) async fn gone(&mut self) {
        // Whatever it says now is not due, and as good as the end.
        drop(self.stream.read_u8().await);
    }

    pub(super) async fn pass(&self, descriptors: &[OwnedFd]) -> Result<(), TakeoverError> {
        for some in descriptors.chunks(AT_ONCE) {
            let some: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
            let send = || send_batch(&self.stream, &some);
            in_time(async { Ok(self.stream.async_io(Interest::WRITABLE, send).await?) }).await?;
        }
        Ok(())
    }

    pub(super) async fn take(&self, count: usize) -> Result<Vec<OwnedFd>, TakeoverError> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let receive = || receive_batch(&self.stream);
            let some =
                in_time(async { Ok(self.stream.async_io(Interest::READABLE, receive).await?) })
                    .await?;
            if some.is_empty() {
                break;
            }
            taken.extend(some);
        }
        if taken.len() != count {
            return Err(TakeoverError::Count {
                listed: count,
                received: taken.len(),
            });
        }
        Ok(taken)
    }

    async fn greet(&mut self) -> Result<(), TakeoverError> {
        let mut ours = [0; 8];
        ours[..4].copy_from_slice(&MAGIC);
        ours[4..6].copy_from_slice(&VERSION.major.to_be_bytes());
        ours[6..].copy_from_slice(&VERSION.minor.to_be_bytes());
        self.stream.write_all(&ours).await?;
        let mut theirs = [0; 8];
        self.stream.read_exact(&mut theirs).await?;
        let [m0, m1, m2, m3, a0, a1, b0, b1] = theirs;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(TakeoverError::NotTakeover);
        }
        let theirs = Version {
            major: u16::from_be_bytes([a0, a1]),
            minor: u16::from_be_bytes([b0, b1]),
        };
        if theirs.major != VERSION.major {
            return Err(TakeoverError::Version { theirs });
        }
        Ok(())
    }
}

async fn in_time<T>(
    answer: impl Future<Output = Result<T, TakeoverError>>,
) -> Result<T, TakeoverError> {
    timeout(ANSWER_WITHIN, answer)
        .await
        .unwrap_or(Err(TakeoverError::Slow))
}

/// One byte carries a batch of descriptors.
fn send_batch(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors at once"));
    }
    sendmsg(
        stream,
        &[IoSlice::new(&[0])],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

fn receive_batch(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut received = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            received.extend(descriptors);
        }
    }
    Ok(received)
}
