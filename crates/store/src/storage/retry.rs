//! Repeating what failed for a reason that may pass.

use super::options::Limits;
use rivermere_base::Rng;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The pause before the first repetition, at most. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How often and for how long to repeat.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    limits: Limits,
    rng: Arc<dyn Rng>,
}

impl Patience {
    pub(super) fn new(limits: Limits, rng: Arc<dyn Rng>) -> Self {
        Self { limits, rng }
    }

    /// The outcome, or a failure when there is none in the time of one request.
    pub(super) async fn within<T, E: From<std::io::Error>>(
        &self,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let late =
            || std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer in {:?}", self.limits.timeout));
        tokio::time::timeout(self.limits.timeout, request).await.unwrap_or_else(|_| Err(late().into()))
    }

    /// The outcome of the first attempt that succeeds or fails for good, or of the last one before the deadline. The
    /// pauses are random, so that many who were refused together do not come back together.
    pub(super) async fn repeat<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        may_pass: impl Fn(&E) -> bool,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, E> {
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        for _ in 0..self.limits.retries {
            match attempt().await {
                Err(error) if may_pass(&error) => {
                    let share = (self.rng.next_u64() % 1_000) as u32;
                    let wait = pause / 2 + pause / 2 * share / 1_000;
                    if start.elapsed() + wait >= self.limits.deadline {
                        return Err(error);
                    }
                    tokio::time::sleep(wait).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                done => return done,
            }
        }
        attempt().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivermere_base::SeededRng;

    fn patience(retries: usize, deadline: Duration) -> Patience {
        let limits = Limits { connections: 1, timeout: Duration::from_millis(10), retries, deadline };
        Patience::new(limits, Arc::new(SeededRng::new(1)))
    }

    async fn attempts(patience: Patience, outcome: impl Fn(u32) -> Result<u32, u32>) -> (u32, Result<u32, u32>) {
        let mut count = 0;
        let last = patience
            .repeat(
                |error| *error < 500,
                || {
                    count += 1;
                    std::future::ready(outcome(count))
                },
            )
            .await;
        (count, last)
    }

    #[tokio::test]
    async fn what_may_pass_is_repeated_until_it_does() {
        let long = Duration::from_secs(60);
        assert_eq!(attempts(patience(5, long), |n| if n < 3 { Err(n) } else { Ok(n) }).await, (3, Ok(3)));
        assert_eq!(attempts(patience(5, long), |_| Err(500)).await, (1, Err(500)));
    }

    #[tokio::test]
    async fn a_request_without_an_answer_fails() {
        let never = std::future::pending::<Result<(), std::io::Error>>();
        let error = patience(1, Duration::from_secs(1)).within(never).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn it_ends_with_the_number_of_attempts_or_the_deadline() {
        assert_eq!(attempts(patience(2, Duration::from_secs(60)), Err).await, (3, Err(3)));
        assert_eq!(attempts(patience(0, Duration::from_secs(60)), Err).await, (1, Err(1)));
        assert_eq!(attempts(patience(1_000, Duration::ZERO), Err).await, (1, Err(1)));
    }
}
