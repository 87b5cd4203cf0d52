//! Which rule of a Route a request follows: the one whose match has the most literal path
//! segments, then names a method, then names the most headers, then stands first.
//!
//! Invariant: the rule found is the first of all that match in that order, and finding it
//! allocates nothing. Paths are compared as Policy compares them, in their one form.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use policy::{CanonicalPath, PathTemplate};

/// One entry of a rule's `match`; all that it states must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RouteMatch {
    /// Any path when `None`; `OPTIONS *` has none.
    pub path: Option<PathTemplate>,
    /// Any method when empty.
    pub methods: Vec<Method>,
    /// Each must occur exactly once, with exactly this value.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// The rules of one Route, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Rules<R> {
    rules: Vec<R>,
    /// The most specific first.
    entries: Vec<Entry>,
    /// Positions in `entries` by their path's first segment, where that is literal.
    by_segment: HashMap<Box<str>, Vec<u32>>,
    /// Those whose path is any, or begins with a placeholder.
    others: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Entry {
    matches: RouteMatch,
    rule: usize,
}

/// What a rule is chosen by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub method: &'a Method,
    /// None for `OPTIONS *`.
    pub path: Option<&'a CanonicalPath>,
    pub fields: &'a HeaderMap,
}

impl<R> Rules<R> {
    /// Each rule with its matches; without any, it matches every request.
    pub(crate) fn new(rules: impl IntoIterator<Item = (Vec<RouteMatch>, R)>) -> Self {
        let mut compiled = Self {
            rules: Vec::new(),
            entries: Vec::new(),
            by_segment: HashMap::new(),
            others: Vec::new(),
        };
        for (mut matches, rule) in rules {
            if matches.is_empty() {
                matches.push(RouteMatch::default());
            }
            let rule_at = compiled.rules.len();
            compiled.rules.push(rule);
            let entries = matches.into_iter().map(|matches| Entry {
                matches,
                rule: rule_at,
            });
            compiled.entries.extend(entries);
        }
        // Stable: among equals, the first stays first.
        compiled
            .entries
            .sort_by_key(|entry| std::cmp::Reverse(entry.matches.rank()));
        for (position, entry) in compiled.entries.iter().enumerate() {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            match entry.matches.first_literal() {
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

    /// The rule that the request follows.
    pub(crate) fn find(&self, asked: Asked<'_>) -> Option<&R> {
        let first = asked.path.and_then(|path| path.segments().next());
        let literal = first.and_then(|first| self.by_segment.get(first));
        let mut literal = literal.map_or(&[][..], Vec::as_slice);
        let mut others = self.others.as_slice();
        while let Some(position) = next(&mut literal, &mut others) {
            let entry = &self.entries[position as usize];
            if entry.matches.hold(asked) {
                return Some(&self.rules[entry.rule]);
            }
        }
        None
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &R> {
        self.rules.iter()
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

impl RouteMatch {
    fn rank(&self) -> (usize, bool, usize) {
        let literals = self.segments().filter(|it| !it.starts_with('{')).count();
        (literals, !self.methods.is_empty(), self.headers.len())
    }

    fn first_literal(&self) -> Option<&str> {
        self.segments().next().filter(|it| !it.starts_with('{'))
    }

    /// Of the path as written. A segment is a placeholder if and only if it begins with a brace.
    fn segments(&self) -> impl Iterator<Item = &str> {
        let path = self.path.as_ref().map(|path| &path.as_str()[1..]);
        path.into_iter().flat_map(|path| path.split('/'))
    }

    fn hold(&self, asked: Asked<'_>) -> bool {
        let method = self.methods.is_empty() || self.methods.contains(asked.method);
        let path = |template: &PathTemplate| asked.path.is_some_and(|path| template.matches(path));
        method
            && self.path.as_ref().is_none_or(path)
            && self.headers.iter().all(|(name, value)| {
                let mut values = asked.fields.get_all(name).iter();
                values.next() == Some(value) && values.next().is_none()
            })
    }
}

#[cfg(test)]
mod tests;
