use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use runtime::Shutdown;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::*;
use crate::config::Takeover;
use crate::sockets::Sockets;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A running proxy's sockets and desk.
struct Running {
    sockets: Sockets,
    asked: Shutdown,
    handed_over: HandedOver,
    path: PathBuf,
    address: SocketAddr,
    _directory: TempDir,
    _tasks: JoinSet<()>,
}

impl Running {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("takeover.sock");
        let sockets = Sockets::new(NonZeroUsize::MIN);
        drop(sockets.tcp(&SocketName::Outbound, ANY).unwrap());
        let listener = sockets.unix(&SocketName::Takeover, &path, true).unwrap();
        let (trigger, asked) = Shutdown::pair();
        let desk = Desk {
            workload: workload(),
            sockets: sockets.clone(),
            trigger,
            handed_over: HandedOver::default(),
        };
        let mut tasks = JoinSet::new();
        let handed_over = desk.handed_over.clone();
        let listener = UnixListener::from_std(listener).unwrap();
        let never = Shutdown::pair();
        tasks.spawn(async move {
            let _trigger = never.0;
            desk.serve(listener, never.1).await.unwrap();
        });
        Self {
            address: sockets.address(&SocketName::Outbound).unwrap(),
            sockets,
            asked,
            handed_over,
            path,
            _directory: directory,
            _tasks: tasks,
        }
    }

    async fn ask(&self) -> Result<(Predecessor, Sockets), TakeoverError> {
        let asked = Predecessor::ask(&self.path, &workload()).await?;
        let (predecessor, inherited) = asked.expect("somebody is there");
        Ok((predecessor, Sockets::inherit(NonZeroUsize::MIN, inherited)))
    }

    fn serves(&self) -> bool {
        let held = self.sockets.address(&SocketName::Outbound);
        held.is_some() && !self.handed_over.is_set() && !self.asked.is_draining()
    }
}

fn workload() -> QualifiedName {
    "shop/orders".parse().unwrap()
}

#[tokio::test]
async fn a_predecessor_of_another_workload_keeps_its_sockets() {
    let running = Running::start();
    let other = "shop/checkout".parse().unwrap();

    let refused = Predecessor::ask(&running.path, &other).await.unwrap_err();

    let why = Refusal::OtherWorkload(workload());
    assert!(matches!(refused, TakeoverError::Refused(it) if it == why));
    assert!(running.serves());
}

#[tokio::test]
async fn a_second_successor_is_refused_while_the_first_prepares() {
    let running = Running::start();
    let first = running.ask().await.unwrap();

    let refused = running.ask().await.unwrap_err();

    assert!(matches!(refused, TakeoverError::Refused(Refusal::Busy)));
    drop(first);
}

#[tokio::test]
async fn another_major_version_is_refused_before_anything_is_said() {
    let running = Running::start();
    let mut stream = UnixStream::connect(&running.path).await.unwrap();
    stream.write_all(b"CSTO\x00\x02\x00\x00").await.unwrap();

    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();

    assert_eq!(said, b"CSTO\x00\x01\x00\x00");
    assert!(running.serves());
}

#[tokio::test]
async fn a_predecessor_of_another_version_is_not_relieved() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("takeover.sock");
    let newer = UnixListener::bind(&path).unwrap();
    let answer = async {
        let (mut stream, _) = newer.accept().await.unwrap();
        stream.write_all(b"CSTO\x00\x07\x00\x01").await.unwrap();
        stream
    };

    let name = workload();
    let (refused, _stream) = tokio::join!(Predecessor::ask(&path, &name), answer);

    let theirs = Version { major: 7, minor: 1 };
    assert!(matches!(refused, Err(TakeoverError::Version { theirs: it }) if it == theirs));
}

#[tokio::test]
async fn a_predecessor_outlives_a_successor_that_dies_before_it_is_ready() {
    let running = Running::start();
    let (predecessor, sockets) = running.ask().await.unwrap();

    drop((predecessor, sockets));

    // The next one gets its turn only once the end of this one was seen.
    loop {
        match running.ask().await {
            Err(TakeoverError::Refused(Refusal::Busy)) => tokio::task::yield_now().await,
            asked => break drop(asked.unwrap()),
        }
    }
    assert!(running.serves());
}

#[tokio::test]
async fn a_successor_that_is_not_ready_in_time_gives_up_and_the_old_one_goes_on() {
    let running = Running::start();
    let (predecessor, sockets) = running.ask().await.unwrap();
    let config = Takeover {
        socket: None,
        ready_within: Duration::ZERO.into(),
    };

    let gave_up = relieve(predecessor, &config, &sockets, std::future::pending()).await;

    assert!(matches!(gave_up, Err(TakeoverError::NotReady { .. })));
    assert!(running.serves());
}

#[tokio::test]
async fn where_nobody_runs_nothing_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("takeover.sock");
    drop(UnixListener::bind(&path).unwrap());

    let stale = Predecessor::ask(&path, &workload()).await.unwrap();
    let absent = directory.path().join("absent.sock");
    let absent = Predecessor::ask(&absent, &workload()).await.unwrap();

    assert!(stale.is_none() && absent.is_none());
}

#[tokio::test]
async fn a_predecessor_lets_go_once_the_successor_is_ready_and_not_before() {
    let running = Running::start();
    let (predecessor, sockets) = running.ask().await.unwrap();
    let listener = sockets.tcp(&SocketName::Outbound, ANY).unwrap().remove(0);
    let (ready, mut is_ready) = watch::channel(false);
    let waiting = TcpStream::connect(running.address).await.unwrap();
    let config = Takeover::default();

    let relieved = relieve(predecessor, &config, &sockets, async {
        drop(is_ready.wait_for(|ready| *ready).await);
    });
    let before = async {
        assert!(running.serves());
        ready.send_replace(true);
    };
    let (relieved, ()) = tokio::join!(relieved, before);

    relieved.unwrap();
    assert!(running.handed_over.is_set() && running.asked.is_draining());
    assert_eq!(running.sockets.address(&SocketName::Outbound), None);
    let (accepted, _) = listener.accept().unwrap();
    assert_eq!(accepted.peer_addr().unwrap(), waiting.local_addr().unwrap());
}

#[tokio::test]
async fn a_successor_serves_at_once_when_its_predecessor_dies() {
    let running = Running::start();
    let (predecessor, sockets) = running.ask().await.unwrap();
    let config = Takeover::default();
    let Running { _tasks: tasks, .. } = running;

    let relieved = relieve(predecessor, &config, &sockets, std::future::pending());
    drop(tasks);

    relieved.await.unwrap();
    sockets.admitted().await;
}
