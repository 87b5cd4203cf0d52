//! Which of several rules a request follows, and why that one: the rules of a Route, or the
//! routes of a Gateway's listener. Rules are counted from 1.
//!
//! Invariant: the rule is found by what the proxies themselves ask.

use std::cmp::Reverse;

use serde_json::Value;

use super::{MOST_MISSES, RouteMiss, nearest_entry};
use crate::question::Request;
use crate::resource::HttpMatch;
use crate::routing::{Rank, RouteRules};

/// What a request follows.
#[derive(Debug)]
pub(super) struct Followed {
    /// None if none matches.
    pub(super) number: Option<usize>,
    /// The entry of the rule that fits; none for a rule that is for every request.
    pub(super) matching: Option<Value>,
    /// Why that rule, in a sentence; none if none matches.
    pub(super) message: Option<String>,
    /// Rules that match too, and come after it.
    pub(super) others: Vec<usize>,
    /// Rules that would have come before it, had one thing or a few been different.
    pub(super) misses: Vec<RouteMiss>,
}

/// A rule by its number, and its entry that fits.
type Found<'a> = (usize, Option<&'a HttpMatch>);

/// Each rule by its matches; without any, it is for every request. `noun` is what one is called.
pub(super) fn follow(noun: &str, matches: &[&[HttpMatch]], request: &Request<'_>) -> Followed {
    let numbered = matches.iter().zip(1..);
    let rules = RouteRules::new(numbered.map(|(matches, number)| (matches.to_vec(), number)));
    let found: Vec<Found<'_>> = rules
        .matching(request)
        .map(|found| (*found.rule, found.matching))
        .collect();
    let first = found.first();
    Followed {
        number: first.map(|(number, _)| *number),
        matching: first.and_then(|(_, entry)| Some(entry.as_ref()?.to_json())),
        message: first.map(|first| message(noun, first, &found[1..])),
        others: others(&found),
        misses: misses(matches, &found, request),
    }
}

fn message(noun: &str, (number, entry): &Found<'_>, rest: &[Found<'_>]) -> String {
    let Some((other, next)) = rest.iter().find(|(other, _)| other != number) else {
        return format!("{noun} {number} is the only one that matches");
    };
    let [rank, next] = [entry, next].map(|entry| entry.map(Rank::of).unwrap_or_default());
    let because = if rank.literal_segments != next.literal_segments {
        "its path has more literal segments"
    } else if rank.names_methods != next.names_methods {
        "it names a method"
    } else if rank.headers != next.headers {
        "it names more headers"
    } else {
        "it stands first"
    };
    format!("{noun} {number} goes before {noun} {other}, which matches too: {because}")
}

fn others(found: &[Found<'_>]) -> Vec<usize> {
    let mut others: Vec<usize> = Vec::new();
    let followed = found.first().map(|(number, _)| *number);
    for (number, _) in found {
        if Some(*number) != followed && !others.contains(number) {
            others.push(*number);
        }
    }
    others
}

/// Of the rules that do not match, those that would be followed if they did.
fn misses(matches: &[&[HttpMatch]], found: &[Found<'_>], request: &Request<'_>) -> Vec<RouteMiss> {
    let followed = found.first().map(|(number, entry)| {
        let rank = entry.map(Rank::of).unwrap_or_default();
        (rank, Reverse(*number))
    });
    let matched = |number: usize| found.iter().any(|(it, _)| *it == number);
    let misses = matches.iter().zip(1..).filter_map(|(matches, rule)| {
        if matched(rule) {
            return None;
        }
        let before = |entry: &&HttpMatch| {
            let rank = (Rank::of(entry), Reverse(rule));
            followed.is_none_or(|followed| rank > followed)
        };
        let (_, failures) = nearest_entry(matches.iter().filter(before), request);
        let (condition, wanted, got) = failures.into_iter().next()?;
        Some(RouteMiss {
            rule,
            condition,
            wanted,
            got,
        })
    });
    misses.take(MOST_MISSES).collect()
}
