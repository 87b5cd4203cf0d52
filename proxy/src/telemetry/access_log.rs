//! The access log: one line for each call, on standard output, written when the call has ended.
//!
//! It never holds up a call: lines are dropped, and counted, when the reader cannot follow.

use std::io;

use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Journal;
use crate::config::AccessLogFormat;
use crate::failure::Reason;
use crate::record::CallRecord;

/// Writes records until the journal ends or `stop` resolves; then what is left.
///
/// # Errors
/// If the output cannot be written.
pub(crate) async fn write_access_log(
    journal: Journal,
    mut records: Receiver<CallRecord>,
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
            Err(RecvError::Lagged(lost)) => journal.records_lost(lost),
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
    let or_dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let source = match record.source.as_str() {
        "" => "-",
        known => known,
    };
    let line = format!(
        "{} {} {} {} -> {} {} {} {} rule={} reason={} decision={} us={} in={} out={} retries={}",
        record.at.format(&Rfc3339).unwrap_or_default(),
        record.direction.as_str(),
        record.verdict.as_str(),
        source,
        record.target,
        or_dash(&record.method),
        or_dash(&record.path),
        record
            .status
            .map_or_else(|| "-".to_owned(), |it| it.to_string()),
        or_dash(&record.rule),
        record.reason.map_or("-", Reason::code),
        or_dash(&record.decision_id),
        record.duration.as_micros(),
        record.bytes_in,
        record.bytes_out,
        record.retries,
    );
    // A path or method holds no line break, but a log must not depend on it.
    line.replace(['\n', '\r'], " ")
}
