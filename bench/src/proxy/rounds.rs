//! Interleaved rounds: in each, every pair takes its sample of a topic, so that what the machine
//! does meanwhile meets all of them. A round that others disturbed is repeated.

use anyhow::{Context, Result};

use super::pair::Pair;
use super::topic::{Stage, Topic};
use crate::figure::{Figure, median};
use crate::machine::Accounts;

/// More of the machine used by others than this makes a round suspect.
const DISTURBED: f64 = 0.12;

/// How often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) rounds: usize,
    /// Of a disturbed round; then the least disturbed counts, and is marked.
    pub(crate) repeats: usize,
}

/// All rounds of one topic.
#[derive(Debug)]
pub(crate) struct Rounds {
    topic: Topic,
    names: Vec<&'static str>,
    rounds: Vec<Round>,
}

#[derive(Debug)]
struct Round {
    /// By pair, then by column.
    samples: Vec<Vec<f64>>,
    others: f64,
}

impl Rounds {
    pub(crate) fn new(topic: Topic, pairs: &[&Pair]) -> Self {
        Self {
            topic,
            names: pairs.iter().map(|pair| pair.name).collect(),
            rounds: Vec::new(),
        }
    }

    /// # Errors
    /// When a call of the load fails.
    pub(crate) async fn add(
        &mut self,
        pairs: &[&Pair],
        stage: &Stage<'_>,
        patience: Patience,
    ) -> Result<()> {
        let mut best = self.take(pairs, stage).await?;
        for _ in 0..patience.repeats {
            if best.others <= DISTURBED {
                break;
            }
            let again = self.take(pairs, stage).await?;
            if again.others < best.others {
                best = again;
            }
        }
        self.rounds.push(best);
        Ok(())
    }

    async fn take(&self, pairs: &[&Pair], stage: &Stage<'_>) -> Result<Round> {
        let before = Accounts::now()?;
        let mut samples = vec![Vec::new(); pairs.len()];
        for turn in 0..pairs.len() {
            // Nobody is always first.
            let place = (turn + self.rounds.len()) % pairs.len();
            let sample = self.topic.sample(pairs[place], stage).await;
            let context = || format!("{:?} of {}", self.topic, pairs[place].name);
            samples[place] = sample.with_context(context)?;
        }
        let others = Accounts::now()?.others_since(&before);
        Ok(Round { samples, others })
    }

    /// The medians of ours with the peers' beside them, and the ratios.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for (place, column) in self.topic.columns().iter().enumerate() {
            let Some(ours) = self.median(0, place) else {
                continue;
            };
            let mut figure = Figure::stated(column.id, ours, column.unit);
            let mut best: Option<(usize, f64)> = None;
            for (pair, name) in self.names.iter().enumerate().skip(1) {
                let Some(value) = self.median(pair, place) else {
                    continue;
                };
                figure = figure.beside(name, value);
                if best.is_none_or(|(_, least)| value < least) {
                    best = Some((pair, value));
                }
            }
            figures.push(figure.with_note(self.spread(place)));
            if let (Some((id, aim)), Some((best, _))) = (column.vs_best, best) {
                figures.push(self.ratio(id, aim, best, place));
            }
            let envoy = self.names.iter().position(|name| *name == "envoy");
            if let (Some((id, aim)), Some(envoy)) = (column.vs_envoy, envoy) {
                figures.push(self.ratio(id, Some(aim), envoy, place));
            }
        }
        figures
    }

    fn ratio(&self, id: &'static str, aim: Option<f64>, peer: usize, column: usize) -> Figure {
        let ratios = self.rounds.iter();
        let ratios = ratios.map(|round| round.samples[0][column] / round.samples[peer][column]);
        let ratio = median(ratios.collect());
        let figure = match aim {
            Some(aim) => Figure::at_most(id, ratio, "ratio", aim),
            None => Figure::stated(id, ratio, "ratio"),
        };
        figure.with_note(format!("over {}{}", self.names[peer], self.disturbance()))
    }

    /// None where this pair does not do this.
    fn median(&self, pair: usize, column: usize) -> Option<f64> {
        let samples = self.rounds.iter().map(|round| round.samples[pair][column]);
        let samples: Vec<f64> = samples.filter(|sample| !sample.is_nan()).collect();
        (!samples.is_empty()).then(|| median(samples))
    }

    fn spread(&self, column: usize) -> String {
        let samples = self.rounds.iter().map(|round| round.samples[0][column]);
        let (least, most) = samples.fold((f64::INFINITY, 0.0_f64), |(least, most), sample| {
            (least.min(sample), most.max(sample))
        });
        let digits = if most < 10.0 { 2 } else { 0 };
        format!("{least:.digits$} to {most:.digits$}{}", self.disturbance())
    }

    fn disturbance(&self) -> String {
        let disturbed = self.rounds.iter().filter(|round| round.others > DISTURBED);
        match disturbed.count() {
            0 => String::new(),
            some => {
                let worst = self.rounds.iter().map(|round| round.others);
                let worst = worst.fold(0.0, f64::max) * 100.0;
                format!(
                    "; {some} of {} rounds disturbed, up to {worst:.0} % used by others",
                    self.rounds.len()
                )
            }
        }
    }
}
