//! Waiting for conditions: looked at often, given up at a deadline, never slept for.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, MissedTickBehavior};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Waits until `look` gives a value.
///
/// # Errors
/// After `seconds` without one, naming `what`; or the error of `look`.
pub async fn until<T, F, Fut>(what: &str, seconds: u64, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut poll = tokio::time::interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        poll.tick().await;
        // A look that hangs must not outlive the deadline either.
        match tokio::time::timeout_at(deadline, look()).await {
            Ok(looked) => {
                if let Some(value) = looked? {
                    return Ok(value);
                }
            }
            Err(_) => bail!("after {seconds} s still looking for: {what}"),
        }
        if Instant::now() > deadline {
            bail!("after {seconds} s still waiting for: {what}");
        }
    }
}

/// Runs `work`, at most `seconds` long.
///
/// # Errors
/// When it takes longer, or its own error.
pub async fn within<T>(
    what: &str,
    seconds: u64,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(Duration::from_secs(seconds), work).await {
        Ok(result) => result,
        Err(_) => bail!("{what} took longer than {seconds} s"),
    }
}
