//! `slow_reader`: what one caller that reads 64 MiB a little at a time does to 255 quick ones.

use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::pair::{Door, Pair};
use super::rounds::Patience;
use crate::figure::{Figure, median, quantile};
use crate::load::http1::{Callers, Request};

const QUICK: usize = 255;
const LASTING: Duration = Duration::from_millis(1500);
const LARGE: usize = 64 << 20;
const SIP: usize = 4 << 10;
const PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn figures(ours: &Pair, patience: Patience) -> Result<Vec<Figure>> {
    let (mut ratios, mut grown) = (Vec::new(), Vec::new());
    let door = &ours.doors.http1;
    for _ in 0..patience.rounds {
        let alone = p50(door).await?;
        let before = ours.rss_mib();
        let mut slow = JoinSet::new();
        slow.spawn(sip(door.clone()));
        let beside = p50(door).await?;
        anyhow::ensure!(
            slow.try_join_next().is_none(),
            "the slow reader has ended early"
        );
        grown.push(ours.rss_mib() - before);
        slow.shutdown().await;
        ratios.push(beside / alone);
    }
    Ok(vec![
        Figure::at_most("proxy.slow_reader.p50_ratio", median(ratios), "ratio", 1.2),
        Figure::stated("proxy.slow_reader.grown_mib", median(grown), "MiB"),
    ])
}

async fn p50(door: &Door) -> Result<f64> {
    let request = Request::get(&door.authority);
    let callers = Callers::connect(door.address, QUICK, &request).await?;
    let (_callers, mut outcome) = callers.closed(LASTING).await?;
    Ok(quantile(&mut outcome.latencies, 0.5))
}

async fn sip(door: Door) -> Result<()> {
    let mut socket = TcpStream::connect(door.address).await?;
    let request = format!(
        "GET /bytes/{LARGE} HTTP/1.1\r\nhost: {}\r\n\r\n",
        door.authority
    );
    socket.write_all(request.as_bytes()).await?;
    let mut buffer = vec![0; SIP];
    while socket.read(&mut buffer).await? > 0 {
        sleep(PAUSE).await;
    }
    Ok(())
}
