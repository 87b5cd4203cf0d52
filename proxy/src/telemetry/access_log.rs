//! The access log: one line for each call, on standard output, written when the call has ended.
//!
//! It never holds up a call: lines are dropped, and counted, when the reader cannot follow.

use std::convert::Infallible;
use std::sync::Arc;

use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Journal;
use crate::config::AccessLogFormat;
use crate::record::CallRecord;

/// Writes records until the journal ends or `stop` resolves; then what is left.
/// An output that cannot be written ends the log, never a call.
///
/// # Errors
/// Never.
pub(crate) async fn write_access_log(
    journal: Journal,
    mut records: Receiver<Arc<CallRecord>>,
    format: AccessLogFormat,
    mut output: impl AsyncWrite + Unpin,
    stop: impl Future<Output = ()>,
) -> Result<(), Infallible> {
    let mut stop = std::pin::pin!(stop);
    loop {
        let received = tokio::select! {
            biased;
            received = records.recv() => received,
            () = stop.as_mut() => return Ok(()),
        };
        let written = match received {
            Ok(record) => output.write_all(line(&record, format).as_bytes()).await,
            Err(RecvError::Lagged(lost)) => {
                journal.records_lost("access-log", lost);
                Ok(())
            }
            Err(RecvError::Closed) => return Ok(()),
        };
        let flushed = match written {
            Ok(()) if records.is_empty() => output.flush().await,
            written => written,
        };
        if let Err(error) = flushed {
            tracing::error!(%error, "the access log ends: its output cannot be written");
            stop.await;
            return Ok(());
        }
    }
}

fn line(record: &CallRecord, format: AccessLogFormat) -> String {
    let mut line = match format {
        AccessLogFormat::Off => return String::new(),
        AccessLogFormat::Json => serde_json::to_string(record).unwrap_or_default(),
        AccessLogFormat::Text => text(record),
    };
    line.push('\n');
    line
}

fn text(record: &CallRecord) -> String {
    let line = format!(
        "{} {} {} {} -> {} {} {} {} {} rule={} reason={} decision={} trace={} us={} upstream_us={} in={} out={} retries={}",
        record.at.format(&Rfc3339).unwrap_or_default(),
        record.direction.as_str(),
        record.verdict.as_str(),
        or_dash(Some(&*record.source).filter(|it| !it.is_empty())),
        record.target,
        record.protocol.as_str(),
        or_dash(record.method.as_ref()),
        or_dash(record.path.as_ref()),
        or_dash(record.status),
        or_dash(record.rule.as_ref()),
        or_dash(record.reason),
        or_dash(record.decision_id.as_ref()),
        or_dash(record.trace.as_ref().map(|it| it.trace)),
        record.duration.as_micros(),
        or_dash(record.upstream_duration.map(|it| it.as_micros())),
        record.bytes_in,
        record.bytes_out,
        record.retries,
    );
    // A path or method holds no line break, but a log must not depend on it.
    line.replace(['\n', '\r'], " ")
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |it| it.to_string())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use prometheus_client::registry::Registry;

    use super::*;
    use crate::config::Metrics;
    use crate::record::tests::record;

    struct Broken;

    impl AsyncWrite for Broken {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn journal(registry: &mut Registry) -> Journal {
        Journal::register(registry, &Metrics::default(), None)
    }

    #[test]
    fn a_line_break_from_a_caller_begins_no_line() {
        let forged = CallRecord {
            path: Some("/a\n2026-01-01T00:00:00Z inbound allowed\r".to_owned()),
            ..record()
        };
        for format in [AccessLogFormat::Text, AccessLogFormat::Json] {
            let line = line(&forged, format);
            assert!(line.ends_with('\n') && line.trim_end_matches('\n').lines().count() == 1);
            assert!(!line.contains('\r'), "{line}");
        }
    }

    #[tokio::test]
    async fn an_output_that_breaks_ends_the_log_and_nothing_else() {
        let journal = journal(&mut Registry::default());
        let records = journal.subscribe();
        journal.tell(record());
        let log = write_access_log(journal, records, AccessLogFormat::Json, Broken, async {});
        assert_eq!(log.await, Ok(()));
    }

    #[tokio::test]
    async fn calls_that_were_told_before_the_end_are_written() {
        let journal = journal(&mut Registry::default());
        let records = journal.subscribe();
        journal.tell(record());
        journal.tell(record());
        let mut output = Vec::new();
        let format = AccessLogFormat::Text;
        write_access_log(journal, records, format, &mut output, async {})
            .await
            .unwrap();
        let text = String::from_utf8(output).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.starts_with(
            "2026-01-02T03:04:05.678Z inbound allowed spiffe://mesh.test/ns/shop/sa/checkout -> \
             shop/orders:http http/2 GET /v1/orders 200 rule=Policy shop/orders#checkout reason=- "
        ), "{text}");
    }

    #[tokio::test]
    async fn a_log_that_cannot_follow_loses_the_oldest_and_counts_them() {
        let mut registry = Registry::default();
        let journal = journal(&mut registry);
        let records = journal.subscribe();
        for _ in 0..1100 {
            journal.tell(record());
        }
        let mut output = Vec::new();
        let format = AccessLogFormat::Text;
        write_access_log(journal, records, format, &mut output, async {})
            .await
            .unwrap();
        let lines = output.iter().filter(|byte| **byte == b'\n').count();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let lost = format!(
            "call_records_lost_total{{reader=\"access-log\"}} {}",
            1100 - lines
        );
        assert!(text.contains(&lost), "{lines} lines: {text}");
    }
}
