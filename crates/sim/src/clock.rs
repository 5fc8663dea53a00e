//! Time that moves only when told.

use rivermere_base::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Where a new clock stands: 2024-01-01T00:00:00Z.
const START_MS: i64 = 1_704_067_200_000;

/// A settable [`Clock`]. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct SimClock(Arc<Hands>);

#[derive(Debug)]
struct Hands {
    wall_ms: AtomicI64,
    monotonic_ns: AtomicU64,
}

impl SimClock {
    /// A clock at 2024-01-01T00:00:00Z.
    pub fn new() -> Self {
        Self::at_ms(START_MS)
    }

    /// A clock at the given milliseconds since 1970-01-01 UTC.
    pub fn at_ms(wall_ms: i64) -> Self {
        Self(Arc::new(Hands { wall_ms: AtomicI64::new(wall_ms), monotonic_ns: AtomicU64::new(0) }))
    }

    /// Moves the wall clock only, forwards or back, as an administrator or NTP does.
    pub fn set_ms(&self, wall_ms: i64) {
        self.0.wall_ms.store(wall_ms, Ordering::SeqCst);
    }

    /// Lets time pass: both clocks go forward. The wall clock counts whole milliseconds.
    pub fn advance(&self, by: Duration) {
        let by_ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let before = self.0.monotonic_ns.fetch_add(by_ns, Ordering::SeqCst);
        // Whole milliseconds of the running total, so that many small steps do not round to nothing.
        let passed_ms = before.wrapping_add(by_ns) / 1_000_000 - before / 1_000_000;
        self.0.wall_ms.fetch_add(passed_ms as i64, Ordering::SeqCst);
    }
}

impl Default for SimClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        self.0.wall_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.0.monotonic_ns.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advance_moves_both_clocks_and_set_only_the_wall() {
        let clock = SimClock::at_ms(1000);
        clock.advance(Duration::from_millis(5));
        assert_eq!((clock.now_ms(), clock.monotonic()), (1005, Duration::from_millis(5)));
        clock.set_ms(10);
        assert_eq!((clock.now_ms(), clock.monotonic()), (10, Duration::from_millis(5)));
    }

    #[test]
    fn many_small_steps_add_up() {
        let clock = SimClock::at_ms(0);
        for _ in 0..10 {
            clock.advance(Duration::from_micros(300));
        }
        assert_eq!(clock.now_ms(), 3);
    }
}
