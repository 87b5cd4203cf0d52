//! The access log: one line for each call, on standard output, written when the call has ended.
//!
//! It never holds up a call: lines are dropped, and counted, when the reader cannot follow.

use std::io;
use std::sync::Arc;

use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Journal;
use crate::config::AccessLogFormat;
use crate::record::CallRecord;

/// Writes records until the journal ends or `stop` resolves; then what is left.
///
/// # Errors
/// If the output cannot be written.
pub(crate) async fn write_access_log(
    journal: Journal,
    mut records: Receiver<Arc<CallRecord>>,
    format: AccessLogFormat,
    mut output: impl AsyncWrite + Unpin,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut stop = std::pin::pin!(stop);
    loop {
        let received = tokio::select! {
            biased;
            received = records.recv() => received,
            () = stop.as_mut() => return output.flush().await,
        };
        match received {
            Ok(record) => output.write_all(line(&record, format).as_bytes()).await?,
            Err(RecvError::Lagged(lost)) => journal.records_lost("access-log", lost),
            Err(RecvError::Closed) => return output.flush().await,
        }
        if records.is_empty() {
            output.flush().await?;
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
        "{} {} {} {} -> {} {} {} {} {} rule={} reason={} decision={} us={} upstream_us={} in={} out={} retries={}",
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
