//! Durations and fractions: values with a unit, read exactly or refused.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Node, ParseError};
use crate::resource::Fraction;

impl Node<'_> {
    /// A duration such as `250ms` or `1m 30s`, in whole milliseconds and within the range.
    pub(crate) fn duration(&self, range: RangeInclusive<Duration>) -> Result<Duration, ParseError> {
        let text = self.text()?;
        let rule = || {
            let (least, most) = (shown(*range.start()), shown(*range.end()));
            format!(
                "`{}` must be a duration in whole milliseconds, from {least} to {most}",
                self.label()
            )
        };
        let duration = humantime::parse_duration(text)
            .map_err(|error| self.invalid(format!("{}: {error}", rule())))?;
        if !duration.subsec_nanos().is_multiple_of(1_000_000) || !range.contains(&duration) {
            return Err(self.invalid(rule()));
        }
        Ok(duration)
    }

    /// A whole number within the range.
    pub(crate) fn within(&self, range: RangeInclusive<u32>) -> Result<u32, ParseError> {
        let number: u32 = self.number(u64::from(*range.start()))?;
        if number > *range.end() {
            let (least, most) = (range.start(), range.end());
            let rule = format!(
                "`{}` must be a whole number from {least} up to {most}",
                self.label()
            );
            return Err(self.invalid(rule));
        }
        Ok(number)
    }

    /// A number above 0 and up to 100, with at most two decimals.
    pub(crate) fn percent(&self) -> Result<Fraction, ParseError> {
        self.fraction(
            100.0,
            "a number above 0 and up to 100, with at most two decimals",
        )
    }

    /// A number above 0 and up to 1, with at most four decimals.
    pub(crate) fn ratio(&self) -> Result<Fraction, ParseError> {
        self.fraction(
            10_000.0,
            "a number above 0 and up to 1, with at most four decimals",
        )
    }

    fn fraction(&self, scale: f64, rule: &str) -> Result<Fraction, ParseError> {
        let parts = self.decimal().and_then(|number| exact(number * scale));
        parts
            .and_then(Fraction::from_parts)
            .ok_or_else(|| self.wrong_type(rule))
    }
}

/// As people write it, and as it is read again.
pub(crate) fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A decimal fraction is not exact in binary; one this near to a whole number of parts was meant
/// to be it.
fn exact(parts: f64) -> Option<u16> {
    let whole = parts.round();
    let near = (parts - whole).abs() < 1e-6 && (0.0..=10_000.0).contains(&whole);
    near.then_some(whole)
        .and_then(|whole| format!("{whole:.0}").parse().ok())
}
