//! Whether threads stand in each other's way: CPU for an SVID with two of them, over that with one.

use std::sync::Arc;

use anyhow::Result;
use mesh_tests::stranger::Line;

use super::load::{LIMITS, agent, load};
use super::{BATCH, SVIDS_A_ROUND, micros};
use crate::figure::{Figure, median};
use crate::machine::{Places, pin};
use crate::operator::Operator;

const ROUNDS: usize = 7;

struct Replica {
    operator: Operator,
    line: Arc<Line>,
}

/// Nothing on a machine with one processor.
pub(super) async fn run() -> Result<Option<Figure>> {
    let Places { measured, load } = Places::find()?;
    if measured == load {
        return Ok(None);
    }
    let (both, us) = ([measured, load], std::process::id());
    // As many threads as the processors that it starts on.
    pin(us, &[measured])?;
    let one = Replica::start().await?;
    pin(us, &both)?;
    let two = Replica::start().await?;
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        pin(us, &[load])?;
        let alone = one.cost().await?;
        pin(us, &both)?;
        ratios.push(two.cost().await? / alone);
    }
    one.operator.stop().await?;
    two.operator.stop().await?;
    let growth = Figure::at_most("issue.cpu_growth_2_threads", median(ratios), "ratio", 1.15);
    Ok(Some(growth.with_limit(1.0)))
}

impl Replica {
    async fn start() -> Result<Self> {
        let operator = Operator::start(LIMITS).await?;
        let line = agent(&operator).await?;
        Ok(Self { operator, line })
    }

    async fn cost(&self) -> Result<f64> {
        let calls = SVIDS_A_ROUND / BATCH;
        let cost = load(&self.line, self.operator.ca.pid(), BATCH, calls).await?;
        Ok(micros(cost.cpu_each))
    }
}
