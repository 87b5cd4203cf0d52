//! Waiting for a value, with a deadline. The only place of the tests that lets time pass.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Generous, since it only bounds a failure: a test that passes never waits this long.
pub const DEADLINE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// Asks until there is an answer.
///
/// # Panics
/// When there is none within [`DEADLINE`]; `what` says what was waited for.
pub async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "waited {DEADLINE:?} in vain: {what}"
        );
        sleep(PAUSE).await;
    }
}
