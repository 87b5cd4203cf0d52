//! `renewal`: 1,000 requests a second, while each workload's leaf is renewed every 10 s and a
//! policy changes every second, over the same load in peace.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, interval};

use super::ours::{Ours, Settings};
use super::pair::Pair;
use super::rounds::Patience;
use crate::figure::{Figure, median, quantile};
use crate::load::backend::Backend;
use crate::load::http1::{Callers, Request};
use crate::machine::Places;

const EACH_SECOND: f64 = 1000.0;
const CONNECTIONS: usize = 32;
/// At least one renewal falls into it.
const LASTING: Duration = Duration::from_secs(12);

pub(super) async fn figures(
    calm: &Pair,
    backend: &Backend,
    places: Places,
    patience: Patience,
) -> Result<Vec<Figure>> {
    let settings = Settings {
        life: "20s",
        ..Settings::default()
    };
    let busy = Ours::start(backend, &settings).await?;
    busy.pair.pin(&[places.measured])?;
    let (mut ratios, mut in_peace, mut amid) = (Vec::new(), Vec::new(), Vec::new());
    let mut changes = 0;
    for _ in 0..patience.rounds {
        let peace = p99(calm).await?;
        let measured = tokio::join!(p99(&busy.pair), change(&busy, &mut changes));
        let (busy, ()) = (measured.0?, measured.1?);
        ratios.push(busy / peace);
        in_peace.push(peace);
        amid.push(busy);
    }
    Ok(vec![
        Figure::at_most("proxy.renewal_p99_ratio", median(ratios), "ratio", 1.25)
            .with_note(format!("{changes} policy changes")),
        Figure::stated("proxy.renewal.p99_us", median(amid), "µs").with_limit(median(in_peace)),
    ])
}

async fn p99(pair: &Pair) -> Result<f64> {
    let door = &pair.doors.http1;
    let request = Request::get(&door.authority);
    let callers = Callers::connect(door.address, CONNECTIONS, &request).await?;
    let (_callers, mut outcome) = callers.open(EACH_SECOND, LASTING).await?;
    Ok(quantile(&mut outcome.latencies, 0.99))
}

async fn change(mesh: &Ours, changes: &mut usize) -> Result<()> {
    let end = Instant::now() + LASTING;
    let mut seconds = interval(Duration::from_secs(1));
    while seconds.tick().await < end {
        *changes += 1;
        mesh.change_policy(*changes).await?;
    }
    Ok(())
}
