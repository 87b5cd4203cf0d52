//! How the demonstration looks in a terminal: a pure function from what is known to text.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use humantime::format_duration;
use identity::SpiffeId;
use proxy::CallRecord;
use time::OffsetDateTime;
use time::macros::format_description;
use workload_agent::status::IdentityStatus;

use super::tally::Tally;
use crate::output::{Table, remark};
use crate::screen;

/// Everything that is shown at one moment.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) now: OffsetDateTime,
    pub(super) running: Duration,
    pub(super) url: &'a str,
    pub(super) revision: &'a str,
    pub(super) identities: &'a [IdentityStatus],
    pub(super) tally: &'a Tally,
    /// The last decisions of the proxy in front of `shop/orders`.
    pub(super) decisions: &'a [Arc<CallRecord>],
    /// Commands to try, one a line.
    pub(super) next_steps: &'a str,
}

impl Scene<'_> {
    /// The whole screen.
    pub(super) fn screen(&self) -> String {
        let tally = self.tally;
        let mut text = format!(
            "Countersign demo · REST {} · revision {} · {}\n\n",
            self.url,
            self.revision,
            seconds(self.running),
        );
        text.push_str(&self.identity_table());
        text.push_str(&format!(
            "\ncalls  allowed {}  denied {}  failed {}  (shop/checkout may call, shop/intruder may not)\n\n",
            tally.allowed,
            tally.denied,
            tally.failed + tally.passed,
        ));
        text.push_str(&self.decision_table());
        text.push_str(&format!(
            "\nin another terminal:\n{}Ctrl-C ends it\n",
            self.next_steps
        ));
        text
    }

    /// One line, for logs.
    pub(super) fn line(&self) -> String {
        let renewals: u64 = self
            .identities
            .iter()
            .map(|identity| identity.renewals)
            .sum();
        let shortest = self
            .identities
            .iter()
            .map(|identity| identity.not_after)
            .min();
        let life = shortest.map_or_else(|| "-".to_owned(), |end| left(end, self.now));
        let tally = self.tally;
        format!(
            "{}: {} identities, {renewals} renewals, shortest life {life}; calls allowed {}, denied {}, failed {}; revision {}",
            seconds(self.running),
            self.identities.len(),
            tally.allowed,
            tally.denied,
            tally.failed + tally.passed,
            self.revision,
        )
    }

    fn identity_table(&self) -> String {
        let mut table = Table::new(&["IDENTITY", "LIFE LEFT", "RENEWS IN", "RENEWED", "SERIAL"]);
        for identity in self.identities {
            table.row([
                identity.spiffe_id.to_string(),
                left(identity.not_after, self.now),
                left(identity.renews_at, self.now),
                identity.renewals.to_string(),
                identity.serial.to_string(),
            ]);
        }
        table.render()
    }

    fn decision_table(&self) -> String {
        let clock = format_description!("[hour]:[minute]:[second].[subsecond digits:3]");
        let mut table = Table::new(&[
            "LAST DECISIONS",
            "VERDICT",
            "CALLER",
            "BY",
            "DECISION",
            "REQUEST",
        ]);
        for call in self.decisions {
            let reason = || call.reason.map(|reason| reason.code().to_owned());
            table.row([
                call.at.format(clock).unwrap_or_default(),
                call.verdict.as_str().to_owned(),
                path(&call.source).to_owned(),
                call.rule
                    .clone()
                    .or_else(reason)
                    .unwrap_or_else(|| "-".to_owned()),
                text(call.decision_id.as_ref()),
                format!(
                    "{} {}",
                    text(call.method.as_ref()),
                    text(call.path.as_ref())
                ),
            ]);
        }
        table.render()
    }
}

/// Where the demonstration is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Display {
    /// Redrawn in place on standard output.
    Screen,
    /// A line now and then on standard error.
    Lines,
}

impl Display {
    /// The screen if a person looks at one; standard output is left alone for JSON and pipes.
    pub(super) fn choose(json: bool) -> Self {
        if !json && io::stdout().is_terminal() {
            Self::Screen
        } else {
            Self::Lines
        }
    }

    /// How often it is worth showing again.
    pub(super) fn period(self) -> Duration {
        match self {
            Self::Screen => Duration::from_millis(250),
            Self::Lines => Duration::from_secs(5),
        }
    }

    /// Shows the scene.
    pub(super) fn show(self, scene: &Scene<'_>) -> io::Result<()> {
        match self {
            Self::Screen => screen::draw(&scene.screen()),
            Self::Lines => {
                remark(&scene.line());
                Ok(())
            }
        }
    }

    /// Clears the screen before the first scene.
    pub(super) fn begin(self) -> io::Result<()> {
        match self {
            Self::Screen => screen::clear(),
            Self::Lines => Ok(()),
        }
    }
}

/// All callers are of one trust domain, so it is left out.
fn path(spiffe_id: &str) -> &str {
    let id: Option<SpiffeId> = spiffe_id.parse().ok();
    id.map_or(spiffe_id, |id| {
        &spiffe_id[spiffe_id.len() - id.path().len()..]
    })
}

fn text(value: Option<&impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

fn seconds(span: Duration) -> String {
    format_duration(Duration::from_secs(span.as_secs())).to_string()
}

fn left(end: OffsetDateTime, now: OffsetDateTime) -> String {
    let tenths = (end - now).whole_milliseconds() / 100;
    format!(
        "{}{}.{} s",
        if tenths < 0 { "-" } else { "" },
        tenths.abs() / 10,
        tenths.abs() % 10
    )
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

    #[test]
    fn life_left_is_shown_in_tenths_also_when_it_is_over() {
        assert_eq!(left(NOW + Duration::from_millis(8150), NOW), "8.1 s");
        assert_eq!(left(NOW - Duration::from_millis(300), NOW), "-0.3 s");
    }

    #[test]
    fn caller_is_shown_by_its_path() {
        assert_eq!(path("spiffe://a.example/ns/shop/sa/web"), "/ns/shop/sa/web");
        assert_eq!(path(""), "");
    }

    #[test]
    fn screen_shows_identity_serial_and_counts() {
        let identity = IdentityStatus {
            spiffe_id: "spiffe://demo.example/ns/shop/sa/orders".parse().unwrap(),
            serial: "70112233445566778899aabbccddeeff".parse().unwrap(),
            not_after: NOW + Duration::from_secs(9),
            renews_at: NOW + Duration::from_secs(4),
            renewals: 3,
        };
        let tally = Tally {
            allowed: 7,
            denied: 5,
            ..Tally::default()
        };
        let scene = Scene {
            now: NOW,
            running: Duration::from_millis(12_345),
            url: "https://127.0.0.1:8443",
            revision: "0a-7",
            identities: &[identity],
            tally: &tally,
            decisions: &[],
            next_steps: "",
        };
        let screen = scene.screen();
        assert!(screen.contains(
            "spiffe://demo.example/ns/shop/sa/orders  9.0 s      4.0 s      3        70112233445566778899aabbccddeeff\n"
        ), "{screen}");
        assert!(screen.contains("allowed 7  denied 5  failed 0"));
        assert!(
            scene
                .line()
                .starts_with("12s: 1 identities, 3 renewals, shortest life 9.0 s")
        );
    }
}
