//! Signals that this process gets and the program is meant to have.
//!
//! The terminal sends Ctrl-C to the whole foreground group, so the program has it already; passing
//! it on would deliver it twice.

use std::io;
use std::pin::Pin;

use rustix::process::{Signal, getpgrp};
use rustix::termios::tcgetpgrp;
use tokio::signal::unix::{self, SignalKind};
use tokio_stream::wrappers::SignalStream;
use tokio_stream::{Stream, StreamExt, StreamMap};

const RELAYED: [(Signal, fn() -> SignalKind); 6] = [
    (Signal::INT, SignalKind::interrupt),
    (Signal::TERM, SignalKind::terminate),
    (Signal::HUP, SignalKind::hangup),
    (Signal::QUIT, SignalKind::quit),
    (Signal::USR1, SignalKind::user_defined1),
    (Signal::USR2, SignalKind::user_defined2),
];

/// Signals for the program, and `CHILD` for us.
pub(super) struct Signals {
    streams: StreamMap<i32, Pin<Box<dyn Stream<Item = ()> + Send>>>,
}

impl Signals {
    /// From here on no signal ends this process by itself.
    pub(super) fn listen() -> io::Result<Self> {
        let mut streams = StreamMap::new();
        let children = (Signal::CHILD, SignalKind::child as fn() -> SignalKind);
        for (signal, kind) in RELAYED.into_iter().chain([children]) {
            let stream: Pin<Box<dyn Stream<Item = ()> + Send>> =
                Box::pin(SignalStream::new(unix::signal(kind())?));
            streams.insert(signal.as_raw(), stream);
        }
        Ok(Self { streams })
    }

    /// The next signal to pass on, or `CHILD`. Cancel safe.
    pub(super) async fn next(&mut self) -> Signal {
        loop {
            let Some((number, ())) = self.streams.next().await else {
                return std::future::pending().await;
            };
            let signal = Signal::from_named_raw(number);
            match signal {
                Some(Signal::INT | Signal::QUIT) if from_terminal() => {}
                Some(signal) => return signal,
                None => {}
            }
        }
    }

    /// Any signal that asks for the end.
    pub(super) async fn any(&mut self) {
        loop {
            match self.streams.next().await {
                Some((number, ())) if number == Signal::CHILD.as_raw() => {}
                Some(_) => return,
                None => return std::future::pending().await,
            }
        }
    }
}

/// Whether this process is in the foreground of its terminal.
fn from_terminal() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp())
}
