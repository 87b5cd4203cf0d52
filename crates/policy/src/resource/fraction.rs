//! A share of something: exact, and never nothing.

use std::num::NonZeroU16;

use serde_json::{Value, json};

/// More than nothing and at most all, in ten-thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fraction(NonZeroU16);

impl Fraction {
    /// All of it.
    pub const ALL: Self = Self(NonZeroU16::new(10_000).expect("ten thousand is not zero"));

    /// From ten-thousandths, 1 to 10,000.
    pub const fn from_parts(parts: u16) -> Option<Self> {
        match NonZeroU16::new(parts) {
            Some(parts) if parts.get() <= 10_000 => Some(Self(parts)),
            _ => None,
        }
    }

    /// In ten-thousandths, 1 to 10,000.
    pub fn parts(self) -> u16 {
        self.0.get()
    }

    /// Above 0 and at most 1.
    pub fn as_f64(self) -> f64 {
        f64::from(self.parts()) / 10_000.0
    }

    pub(super) fn to_percent(self) -> Value {
        match self.parts() {
            parts if parts % 100 == 0 => json!(parts / 100),
            parts => json!(f64::from(parts) / 100.0),
        }
    }

    pub(super) fn to_ratio(self) -> Value {
        match self {
            Self::ALL => json!(1),
            _ => json!(self.as_f64()),
        }
    }
}
