//! `workers2`: what a request costs with two workers a proxy over what it costs with one. Both
//! pairs may use the load's processor too, so that nothing but the number of workers differs.

use std::time::Duration;

use anyhow::Result;

use super::ours::{Ours, Settings};
use super::pair::Pair;
use super::rounds::Patience;
use crate::figure::{Figure, median};
use crate::load::backend::Backend;
use crate::load::http1::{Callers, Request};
use crate::machine::Places;

const CONNECTIONS: usize = 256;
const LASTING: Duration = Duration::from_millis(1500);

pub(super) async fn figures(
    backend: &Backend,
    places: Places,
    patience: Patience,
) -> Result<Vec<Figure>> {
    let both = [places.measured, places.load];
    let (one, two) = (Settings::default(), Settings::with_workers(2));
    let one = Ours::start(backend, &one).await?;
    let two = Ours::start(backend, &two).await?;
    one.pair.pin(&both)?;
    two.pair.pin(&both)?;
    let (mut ratios, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..patience.rounds {
        let with_one = cost(&one.pair).await?;
        let with_two = cost(&two.pair).await?;
        ratios.push(with_two / with_one);
        costs.push(with_two);
    }
    Ok(vec![
        Figure::at_most("proxy.workers2.cpu_growth", median(ratios), "ratio", 1.15),
        Figure::stated("proxy.workers2.cpu_us", median(costs), "µs"),
    ])
}

async fn cost(pair: &Pair) -> Result<f64> {
    let door = &pair.doors.http1;
    let request = Request::get(&door.authority);
    let callers = Callers::connect(door.address, CONNECTIONS, &request).await?;
    let before = pair.cpu()?;
    let (_callers, outcome) = callers.closed(LASTING).await?;
    Ok((pair.cpu()? - before).as_secs_f64() * 1e6 / outcome.requests as f64)
}
