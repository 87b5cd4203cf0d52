//! A TCP line between a client and a server that a claim can spoil: cut it, or let it fall silent
//! with every connection still open.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How the line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Whole,
    /// Each new connection waits so long before it carries anything.
    Slow(Duration),
    /// Open connections end, and new ones are closed at once.
    Cut,
    /// Nothing is carried any more, and nobody is told. What was silent once stays so.
    Silent,
}

/// Carries bytes from a port of its own for as long as it lives.
#[derive(Debug)]
pub struct FaultyLine {
    address: SocketAddr,
    state: watch::Sender<(Line, SocketAddr)>,
    _carrying: JoinSet<()>,
}

impl FaultyLine {
    /// A line to this address.
    ///
    /// # Panics
    /// Loopback has no port left.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a bound listener has one");
        let (state, line) = watch::channel((Line::Whole, server));
        let mut carrying = JoinSet::new();
        carrying.spawn(accept(listener, line));
        Self {
            address,
            state,
            _carrying: carrying,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn is(&self, line: Line) {
        self.state.send_modify(|(state, _)| *state = line);
    }

    /// Whoever connects from now on reaches this server.
    pub fn leads_to(&self, server: SocketAddr) {
        self.state.send_modify(|(_, leads_to)| *leads_to = server);
    }
}

type State = watch::Receiver<(Line, SocketAddr)>;

async fn accept(listener: TcpListener, line: State) {
    let mut carried = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while carried.try_join_next().is_some() {}
        carried.spawn(carry(client, line.clone()));
    }
}

async fn carry(mut client: TcpStream, mut line: State) {
    let (state, server) = *line.borrow_and_update();
    match state {
        Line::Cut => return,
        Line::Slow(pause) => sleep(pause).await,
        Line::Whole | Line::Silent => {}
    }
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    let silent = tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server), if state != Line::Silent => false,
        state = spoilt(&mut line) => state == Line::Silent,
    };
    if silent {
        // Both ends stay open, and wait.
        std::future::pending().await
    }
}

/// Resolves when the line is cut or falls silent.
async fn spoilt(line: &mut State) -> Line {
    let spoilt = line.wait_for(|(it, _)| matches!(it, Line::Cut | Line::Silent));
    spoilt.await.map_or(Line::Cut, |it| it.0)
}
