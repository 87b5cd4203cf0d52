//! The serial number of a certificate (RFC 5280 §4.1.2.2).
//!
//! Invariant: positive, at most 20 octets. Numbers made here have exactly 16 octets, at least 80 of
//! their bits random; those of other issuers may be shorter or longer.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crypto::random::Random;
use data_encoding::HEXLOWER;
use thiserror::Error;
use time::OffsetDateTime;

use crate::serde_text::serde_as_text;

const MAX_OCTETS: usize = 20;
const GENERATED_OCTETS: usize = 16;
/// Of them, those that say when: milliseconds since the Unix epoch.
const TIME_OCTETS: usize = 6;
/// From 2004 to 6429: the numbers of all these times are positive, and have as many octets.
const MILLIS: RangeInclusive<i128> = 1 << 40..=(1 << 47) - 1;

/// A serial number; ordered as a number. Its text is lowercase hex of whole octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SerialNumber([u8; MAX_OCTETS]);

impl SerialNumber {
    pub fn random(random: &mut dyn Random) -> Self {
        let mut number = [0; MAX_OCTETS];
        let octets = &mut number[MAX_OCTETS - GENERATED_OCTETS..];
        random.fill(octets);
        // Top bits 01: positive without a padding octet, and always of the same length.
        octets[0] = (octets[0] & 0x3f) | 0x40;
        Self(number)
    }

    /// Numbers of one time are near one another, so whoever keeps them in order adds to one end;
    /// the rest is random.
    pub fn at(time: OffsetDateTime, random: &mut dyn Random) -> Self {
        let millis = time.unix_timestamp_nanos() / 1_000_000;
        let millis = millis.clamp(*MILLIS.start(), *MILLIS.end()).to_be_bytes();
        let mut number = [0; MAX_OCTETS];
        let octets = &mut number[MAX_OCTETS - GENERATED_OCTETS..];
        let (when, rest) = octets.split_at_mut(TIME_OCTETS);
        when.copy_from_slice(&millis[millis.len() - TIME_OCTETS..]);
        random.fill(rest);
        Self(number)
    }

    /// From a big-endian magnitude; leading zero octets are dropped.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SerialNumberError> {
        let first = bytes.iter().position(|&octet| octet != 0);
        let magnitude = &bytes[first.ok_or(SerialNumberError::Zero)?..];
        if magnitude.len() > MAX_OCTETS {
            let octets = magnitude.len();
            return Err(SerialNumberError::TooLong { octets });
        }
        let mut number = [0; MAX_OCTETS];
        number[MAX_OCTETS - magnitude.len()..].copy_from_slice(magnitude);
        Ok(Self(number))
    }

    /// The big-endian magnitude without leading zeros.
    pub fn as_bytes(&self) -> &[u8] {
        let first = self.0.iter().position(|&octet| octet != 0);
        &self.0[first.expect("a serial number is never zero")..]
    }
}

impl FromStr for SerialNumber {
    type Err = SerialNumberError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let octets = HEXLOWER
            .decode(text.as_bytes())
            .map_err(|_| SerialNumberError::NotHex)?;
        if octets.first() == Some(&0) && octets.len() > 1 {
            return Err(SerialNumberError::LeadingZero);
        }
        Self::from_bytes(&octets)
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(self.as_bytes()))
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerialNumber({self})")
    }
}

serde_as_text!(SerialNumber);

/// Why something is not a serial number.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SerialNumberError {
    #[error("a serial number is written as pairs of lowercase hex digits")]
    NotHex,
    #[error("a serial number is written without leading zero octets")]
    LeadingZero,
    #[error("a serial number is not zero")]
    Zero,
    #[error("a serial number has at most 20 octets, this one has {octets}")]
    TooLong { octets: usize },
}

#[cfg(test)]
mod tests {
    use crypto::random::{SeededRandom, SystemRandom};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zero_and_more_than_20_octets_are_refused() {
        assert_eq!(SerialNumber::from_bytes(&[]), Err(SerialNumberError::Zero));
        assert_eq!(
            SerialNumber::from_bytes(&[0; 16]),
            Err(SerialNumberError::Zero)
        );
        let octets = 21;
        assert_eq!(
            SerialNumber::from_bytes(&[1; 21]),
            Err(SerialNumberError::TooLong { octets })
        );
    }

    #[test]
    fn one_number_has_one_text() {
        for (text, error) in [
            ("0A", SerialNumberError::NotHex),
            ("a", SerialNumberError::NotHex),
            ("", SerialNumberError::Zero),
            ("00", SerialNumberError::Zero),
            ("000a", SerialNumberError::LeadingZero),
        ] {
            assert_eq!(text.parse::<SerialNumber>(), Err(error), "{text}");
        }
    }

    #[test]
    fn order_is_numeric() {
        let number = |bytes: &[u8]| SerialNumber::from_bytes(bytes).unwrap();
        assert!(number(&[2]) < number(&[1, 0]));
        assert_eq!(number(&[0, 7]), number(&[7]));
    }

    #[test]
    fn random_numbers_differ() {
        let mut random = SystemRandom;
        assert_ne!(
            SerialNumber::random(&mut random),
            SerialNumber::random(&mut random)
        );
    }

    #[test]
    fn numbers_of_one_moment_differ_and_follow_those_before_it() {
        let mut random = SystemRandom;
        let moment = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let (first, second) = (
            SerialNumber::at(moment, &mut random),
            SerialNumber::at(moment, &mut random),
        );
        assert_ne!(first, second);
        assert!(SerialNumber::at(moment - time::Duration::MILLISECOND, &mut random) < first);
    }

    proptest! {
        #[test]
        fn numbers_of_any_time_are_positive_and_have_16_octets(
            seed: u64, seconds in -2_000_000_000_i64..253_402_300_799,
        ) {
            let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
            let serial = SerialNumber::at(time, &mut SeededRandom::new(seed));
            prop_assert_eq!(serial.as_bytes().len(), 16);
            prop_assert!(serial.as_bytes()[0] < 0x80);
        }

        #[test]
        fn random_numbers_are_positive_and_have_16_octets(seed: u64) {
            let serial = SerialNumber::random(&mut SeededRandom::new(seed));
            prop_assert_eq!(serial.as_bytes().len(), 16);
            prop_assert_eq!(serial.as_bytes()[0] >> 6, 1);
            prop_assert_eq!(serial.to_string().parse(), Ok(serial));
        }

        #[test]
        fn no_text_panics(text in "[0-9a-fA-Fg]{0,44}") {
            if let Ok(serial) = text.parse::<SerialNumber>() {
                prop_assert_eq!(serial.to_string(), text);
            }
        }
    }
}
