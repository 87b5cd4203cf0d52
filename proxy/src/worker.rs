//! Workers: operating-system threads that carry calls, each with everything that it needs.
//!
//! Invariant: a call stays on the worker that accepted it. A worker has its own runtime,
//! listeners, pools and connections; what it shares with others (the configuration, credentials,
//! counters) it only reads, or adds to. It ends with the proxy, however the proxy ends.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::gateway::Front;
use crate::service_port::ServicePort;

pub(crate) mod leaving;
pub(crate) mod tasks;
mod thread_main;

pub(crate) use thread_main::Seed;

/// What the control plane has of the workers. Cheap to clone; calls go nowhere near it.
#[derive(Clone, Debug)]
pub(crate) struct Workers {
    commands: Vec<mpsc::UnboundedSender<Open>>,
    ended: Vec<CancellationToken>,
}

/// One worker's thread. Dropping it ends the thread without a drain.
#[derive(Debug)]
pub(crate) struct Thread {
    handle: JoinHandle<()>,
    ended: CancellationToken,
    _kill: DropGuard,
}

/// A way in for a worker to accept at.
#[derive(Debug)]
pub(crate) enum Open {
    /// For one port that our workload serves, until `closed`.
    Mesh {
        listener: TcpListener,
        target: ServicePort,
        closed: CancellationToken,
    },
    /// For one port of our workload's Gateways, until `closed`.
    Gateway {
        listener: TcpListener,
        front: Arc<ArcSwap<Front>>,
        closed: CancellationToken,
    },
    /// For our workload's HTTP calls.
    Outbound(TcpListener),
    OutboundUnix(UnixListener),
    /// What our workload connects to, whatever it was.
    RedirectedOut(TcpListener),
    /// What others connect to past the mesh.
    RedirectedIn(TcpListener),
    /// In front of one TCP service.
    Reach {
        listener: TcpListener,
        name: ServicePort,
    },
}

/// A worker ended as it must not.
#[derive(Debug, thiserror::Error)]
#[error("the worker panicked: {0}")]
pub(crate) struct Panicked(String);

impl Workers {
    /// Starts a thread for each seed.
    ///
    /// # Errors
    /// If a thread or its runtime cannot be had; none runs then.
    pub(crate) fn start(seeds: Vec<Seed>) -> io::Result<(Self, Vec<Thread>)> {
        let mut workers = Self {
            commands: Vec::with_capacity(seeds.len()),
            ended: Vec::with_capacity(seeds.len()),
        };
        let mut threads = Vec::with_capacity(seeds.len());
        for (index, seed) in seeds.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let (commands, received) = mpsc::unbounded_channel();
            let main = move |killed| thread_main::run(&runtime, seed, received, killed);
            let thread = Thread::start(index, main)?;
            workers.commands.push(commands);
            workers.ended.push(thread.ended.clone());
            threads.push(thread);
        }
        Ok((workers, threads))
    }

    /// Gives each worker its listener: worker `i` of `n` those whose index is `i` modulo `n`.
    pub(crate) fn distribute(
        &self,
        listeners: Vec<TcpListener>,
        way_in: impl Fn(TcpListener) -> Open,
    ) {
        for (index, listener) in listeners.into_iter().enumerate() {
            self.open(index, way_in(listener));
        }
    }

    /// Gives all workers the same listener, of which each takes what it can.
    ///
    /// # Errors
    /// If the system has no descriptors left.
    pub(crate) fn share(&self, listener: &UnixListener) -> io::Result<()> {
        for worker in 0..self.commands.len() {
            self.open(worker, Open::OutboundUnix(listener.try_clone()?));
        }
        Ok(())
    }

    /// Hands one worker a way in. A worker that has ended accepts nothing.
    pub(crate) fn open(&self, worker: usize, open: Open) {
        if let Some(commands) = self.commands.get(worker % self.commands.len().max(1)) {
            // Who drains opens nothing more.
            drop(commands.send(open));
        }
    }

    /// Resolves once every worker has ended: after its last call when it drains.
    pub(crate) async fn ended(&self) {
        for ended in &self.ended {
            ended.cancelled().await;
        }
    }
}

impl Thread {
    fn start(
        index: usize,
        main: impl FnOnce(CancellationToken) + Send + 'static,
    ) -> io::Result<Self> {
        let (kill, ended) = (CancellationToken::new(), CancellationToken::new());
        let (killed, end) = (kill.clone(), ended.clone().drop_guard());
        let handle = thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                // Dropped last, in a panic too.
                let _end = end;
                main(killed);
            })?;
        Ok(Self {
            handle,
            ended,
            _kill: kill.drop_guard(),
        })
    }

    /// Resolves when the worker has ended.
    ///
    /// # Errors
    /// If it panicked.
    pub(crate) async fn join(self) -> Result<(), Panicked> {
        self.ended.cancelled().await;
        // It has nothing left to do but to return.
        self.handle.join().map_err(|payload| {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
            Panicked(text.unwrap_or("no message").to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn a_worker_that_panics_says_what() {
        let thread = Thread::start(0, |_| panic!("no such table")).unwrap();
        let failed = thread.join().await.unwrap_err();
        assert_eq!(failed.to_string(), "the worker panicked: no such table");
    }

    #[test]
    fn a_worker_that_nobody_holds_is_killed() {
        let (tell, told) = channel();
        let thread = Thread::start(0, move |killed| {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.unwrap().block_on(killed.cancelled());
            tell.send(()).unwrap();
        });
        drop(thread.unwrap());
        told.recv().unwrap();
    }
}
