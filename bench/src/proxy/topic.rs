//! What is compared with the peers: each topic takes one sample of one pair, a few seconds long.

use anyhow::Result;
use clap::ValueEnum;

use super::pair::Pair;
use crate::load::backend::Backend;
use crate::load::handshakes::Client;

mod bodies;
mod h2;
mod handshake;
mod http1;
mod latency;
mod tcp;

/// In the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Topic {
    #[value(name = "h1_c32")]
    H1C32,
    #[value(name = "h1_c256")]
    H1C256,
    #[value(name = "h1_c1")]
    H1C1,
    #[value(name = "lat2000")]
    Lat2000,
    #[value(name = "h2")]
    H2,
    #[value(name = "tcp")]
    Tcp,
    #[value(name = "handshake")]
    Handshake,
    #[value(name = "large_down")]
    LargeDown,
    #[value(name = "large_up")]
    LargeUp,
    #[value(name = "post64k")]
    Post64k,
}

/// What every sample may use.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) backend: &'a Backend,
    /// `shop/checkout`, with X25519.
    pub(crate) x25519: Client,
    /// The same with X25519MLKEM768; none where this build has it not.
    pub(crate) hybrid: Option<Client>,
}

/// One number of a sample; less is better.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) id: &'static str,
    pub(crate) unit: &'static str,
    /// The id of the ratio to the best peer, and its aim.
    pub(crate) vs_best: Option<(&'static str, Option<f64>)>,
    pub(crate) vs_envoy: Option<(&'static str, f64)>,
}

impl Column {
    const fn stated(id: &'static str, unit: &'static str) -> Self {
        Self {
            id,
            unit,
            vs_best: None,
            vs_envoy: None,
        }
    }

    const fn compared(
        id: &'static str,
        unit: &'static str,
        ratio: &'static str,
        aim: Option<f64>,
    ) -> Self {
        Self {
            vs_best: Some((ratio, aim)),
            ..Self::stated(id, unit)
        }
    }
}

impl Topic {
    pub(crate) fn columns(self) -> &'static [Column] {
        match self {
            Self::H1C32 => http1::C32,
            Self::H1C256 => http1::C256,
            Self::H1C1 => http1::C1,
            Self::Lat2000 => latency::COLUMNS,
            Self::H2 => h2::COLUMNS,
            Self::Tcp => tcp::COLUMNS,
            Self::Handshake => handshake::COLUMNS,
            Self::LargeDown => bodies::DOWN,
            Self::LargeUp => bodies::UP,
            Self::Post64k => bodies::POST,
        }
    }

    /// As in `--only` and in the figures' ids.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value().expect("no topic is skipped");
        value.get_name().to_owned()
    }

    /// A number for each column; NaN where this pair has none.
    ///
    /// # Errors
    /// When a call fails.
    pub(crate) async fn sample(self, pair: &Pair, stage: &Stage<'_>) -> Result<Vec<f64>> {
        match self {
            Self::H1C32 => http1::added(pair, 32, stage).await,
            Self::H1C256 => http1::closed(pair, 256).await,
            Self::H1C1 => http1::closed(pair, 1).await,
            Self::Lat2000 => latency::sample(pair, stage).await,
            Self::H2 => h2::sample(pair).await,
            Self::Tcp => tcp::sample(pair).await,
            Self::Handshake => handshake::sample(pair, stage).await,
            Self::LargeDown => bodies::down(pair).await,
            Self::LargeUp => bodies::up(pair).await,
            Self::Post64k => bodies::post(pair).await,
        }
    }
}

fn micros(span: std::time::Duration) -> f64 {
    span.as_secs_f64() * 1e6
}
