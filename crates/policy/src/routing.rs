//! Which rule of a Route, or route of a Gateway's listener, a request follows: the one whose match
//! has the most literal path segments, then names a method, then names the most headers, then
//! stands first.
//!
//! Invariant: the rule found is the first of all that match in that order, and finding it
//! allocates nothing. What fits is judged as for Policy, by [`HttpMatch::fits`]. Proxies follow
//! these rules, and `explain` asks the same ones.

use std::collections::HashMap;

use crate::question::{Request, RequestPath};
use crate::resource::HttpMatch;

/// Rules in the order in which they are asked.
#[derive(Clone, Debug)]
pub struct RouteRules<R> {
    rules: Vec<R>,
    /// The most specific first.
    entries: Vec<Entry>,
    /// Positions in `entries` by their path's first segment, where that is literal.
    by_segment: HashMap<Box<str>, Vec<u32>>,
    /// Those whose path is any, or begins with a placeholder.
    others: Vec<u32>,
}

/// A rule, and its entry that fits the request.
#[derive(Debug)]
pub struct Followed<'a, R> {
    /// The rule.
    pub rule: &'a R,
    /// `None`: the rule is for every request.
    pub matching: Option<&'a HttpMatch>,
}

/// What decides between matches that fit the same request; the greater is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) literal_segments: usize,
    pub(crate) names_methods: bool,
    pub(crate) headers: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    matching: Option<HttpMatch>,
    rule: usize,
}

impl<R> RouteRules<R> {
    /// Each rule with its matches; without any, it is for every request.
    pub fn new(rules: impl IntoIterator<Item = (Vec<HttpMatch>, R)>) -> Self {
        let mut compiled = Self {
            rules: Vec::new(),
            entries: Vec::new(),
            by_segment: HashMap::new(),
            others: Vec::new(),
        };
        for (matches, rule) in rules {
            let rule_at = compiled.rules.len();
            compiled.rules.push(rule);
            let every_request = matches.is_empty().then_some(None);
            let entries = matches.into_iter().map(Some).chain(every_request);
            compiled.entries.extend(entries.map(|matching| Entry {
                matching,
                rule: rule_at,
            }));
        }
        // Stable: among equals, the first stays first.
        compiled
            .entries
            .sort_by_key(|entry| std::cmp::Reverse(entry.rank()));
        for (position, entry) in compiled.entries.iter().enumerate() {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            match entry.first_literal() {
                Some(first) => compiled
                    .by_segment
                    .entry(first.into())
                    .or_default()
                    .push(position),
                None => compiled.others.push(position),
            }
        }
        compiled
    }

    /// The rule that the request follows. A connection follows none.
    pub fn find(&self, request: &Request<'_>) -> Option<&R> {
        self.matching(request).next().map(|found| found.rule)
    }

    /// All that fit the request, in order: the first is followed. A rule comes once for each of
    /// its entries that fit.
    pub fn matching<'a>(&'a self, request: &Request<'_>) -> impl Iterator<Item = Followed<'a, R>> {
        let (mut literal, mut others) = self.positions(request);
        std::iter::from_fn(move || {
            loop {
                let entry = &self.entries[next(&mut literal, &mut others)? as usize];
                if entry.fits(request) {
                    return Some(Followed {
                        rule: &self.rules[entry.rule],
                        matching: entry.matching.as_ref(),
                    });
                }
            }
        })
    }

    /// The rules as they were given.
    pub fn iter(&self) -> impl Iterator<Item = &R> {
        self.rules.iter()
    }

    /// Positions of the entries that can fit, by the path's first segment and beside it.
    fn positions<'a>(&'a self, request: &Request<'_>) -> (&'a [u32], &'a [u32]) {
        let path = match request {
            Request::Connection => return (&[], &[]),
            Request::Http { path, .. } => path,
        };
        let first = match path {
            RequestPath::Canonical(path) => path.segments().next(),
            _ => None,
        };
        let literal = first.and_then(|first| self.by_segment.get(first));
        (literal.map_or(&[][..], Vec::as_slice), &self.others)
    }
}

/// Takes the lower of two first positions; both lists ascend.
fn next<'a>(one: &mut &'a [u32], other: &mut &'a [u32]) -> Option<u32> {
    let from = match (one.first(), other.first()) {
        (Some(here), Some(there)) if here > there => other,
        (None, _) => other,
        _ => one,
    };
    let (first, rest) = from.split_first()?;
    *from = rest;
    Some(*first)
}

impl Rank {
    pub(crate) fn of(entry: &HttpMatch) -> Self {
        let path = entry.path.as_ref();
        Self {
            literal_segments: path.map_or(0, |path| path.literal_segments()),
            names_methods: !entry.methods.is_empty(),
            headers: entry.headers.len(),
        }
    }
}

impl Entry {
    fn rank(&self) -> Rank {
        self.matching.as_ref().map(Rank::of).unwrap_or_default()
    }

    fn first_literal(&self) -> Option<&str> {
        self.matching.as_ref()?.path.as_ref()?.first_literal()
    }

    fn fits(&self, request: &Request<'_>) -> bool {
        let matching = self.matching.as_ref();
        matching.is_none_or(|entry| entry.fits(request))
    }
}

#[cfg(test)]
mod tests;
