//! What a demonstration program tells `up`, one JSON object a line.

use std::io::{self, Write};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// One line of a program's standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Report {
    /// The server listens here.
    Listening { address: SocketAddr },
    /// A call was answered.
    Answered {
        status: u16,
        reason: Option<String>,
        decision: Option<String>,
    },
    /// A call got no answer.
    Broken { error: String },
}

impl Report {
    /// Writes the line; fails when nobody reads any more.
    pub(crate) fn print(&self) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        let mut stdout = io::stdout().lock();
        stdout.write_all(&line)?;
        stdout.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_read_as_it_was_written() {
        let report = Report::Answered {
            status: 403,
            reason: Some("policy-denied".into()),
            decision: None,
        };
        let line = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&line).unwrap(), report);
    }
}
