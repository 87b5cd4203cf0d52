//! What a benchmark prints: figures with the goal asked for and the limit of the hardware beside
//! them, as one JSON line or as a table.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::machine;

/// One run of one benchmark.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) name: &'static str,
    pub(crate) machine: String,
    /// What others were measured in the same run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) beside: Vec<String>,
    pub(crate) figures: Vec<Figure>,
}

/// A median of interleaved rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) id: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The number asked for.
    pub(crate) goal: Option<f64>,
    /// Whether the goal is met.
    pub(crate) ok: Option<bool>,
    /// What the hardware could do, in the same unit.
    pub(crate) limit: Option<f64>,
    /// The same of others, measured in the same rounds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) peers: BTreeMap<&'static str, f64>,
    /// What a reader must know to trust it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

impl Figure {
    pub(crate) fn stated(id: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            id: id.into(),
            value: rounded(value),
            unit,
            goal: None,
            ok: None,
            limit: None,
            peers: BTreeMap::new(),
            note: None,
        }
    }

    pub(crate) fn at_most(
        id: impl Into<String>,
        value: f64,
        unit: &'static str,
        goal: f64,
    ) -> Self {
        Self {
            goal: Some(goal),
            ok: Some(value <= goal),
            ..Self::stated(id, value, unit)
        }
    }

    pub(crate) fn at_least(
        id: impl Into<String>,
        value: f64,
        unit: &'static str,
        goal: f64,
    ) -> Self {
        Self {
            goal: Some(goal),
            ok: Some(value >= goal),
            ..Self::stated(id, value, unit)
        }
    }

    pub(crate) fn with_limit(self, limit: f64) -> Self {
        Self {
            limit: Some(rounded(limit)),
            ..self
        }
    }

    pub(crate) fn beside(mut self, peer: &'static str, value: f64) -> Self {
        self.peers.insert(peer, rounded(value));
        self
    }

    pub(crate) fn with_note(self, note: impl Into<String>) -> Self {
        Self {
            note: Some(note.into()),
            ..self
        }
    }
}

impl Report {
    pub(crate) fn new(name: &'static str, figures: Vec<Figure>) -> Self {
        Self {
            name,
            machine: machine::describe(),
            beside: Vec::new(),
            figures,
        }
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings serialize")
    }

    pub(crate) fn table(&self) -> String {
        let mut lines = vec![format!("{} on {}", self.name, self.machine)];
        lines.extend(self.beside.iter().map(|other| format!("beside {other}")));
        lines.push(format!(
            "{:<40} {:>12} {:<10} {:>10} {:>6} {:>10}",
            "figure", "value", "unit", "goal", "met", "limit"
        ));
        lines.extend(self.figures.iter().map(Figure::row));
        lines.join("\n")
    }
}

impl Figure {
    fn row(&self) -> String {
        let met = match self.ok {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        let [goal, limit] =
            [self.goal, self.limit].map(|number| number.map_or(String::new(), |it| it.to_string()));
        let mut row = format!(
            "{:<40} {:>12} {:<10} {goal:>10} {met:>6} {limit:>10}",
            self.id, self.value, self.unit
        );
        for (peer, value) in &self.peers {
            row.push_str(&format!("  {peer} {value}"));
        }
        if let Some(note) = &self.note {
            row.push_str(&format!("  ({note})"));
        }
        row
    }
}

/// # Panics
/// When there is no sample.
pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    quantile(&mut samples, 0.5)
}

/// # Panics
/// When there is no sample.
pub(crate) fn quantile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    let last = samples.len().checked_sub(1).expect("at least one sample");
    samples[((last as f64) * share).round() as usize]
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
