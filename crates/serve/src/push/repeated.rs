//! The status, once a second, and the dashboards, when they have changed.

use super::{EventSource, HELLO, KEEP_ALIVE, event};
use crate::endpoint::Shared;
use crate::{Limits, Platform};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// Asks the platform for a value again and again.
pub(crate) struct Repeated {
    shared: Arc<Shared>,
    name: &'static str,
    value: fn(&dyn Platform) -> Option<String>,
    /// The last text, when only another one is worth an event.
    last: Option<String>,
    skip_same: bool,
    interval: Interval,
    last_sent: Instant,
    greeted: bool,
}

impl Repeated {
    pub(crate) fn status(shared: Arc<Shared>) -> Self {
        let every = shared.limits.status_interval;
        Self::new(shared, "status", every, false, |platform| serde_json::to_string(&platform.status()).ok())
    }

    pub(crate) fn dashboards(shared: Arc<Shared>) -> Self {
        let every = shared.limits.dashboards_interval;
        Self::new(shared, "dashboards", every, true, |platform| serde_json::to_string(&platform.dashboards()).ok())
    }

    fn new(
        shared: Arc<Shared>,
        name: &'static str,
        every: Duration,
        skip_same: bool,
        value: fn(&dyn Platform) -> Option<String>,
    ) -> Self {
        let mut interval = tokio::time::interval(every.max(Duration::from_millis(1)));
        // A client that was slow gets the newest value, not all that it missed.
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { shared, name, value, last: None, skip_same, interval, last_sent: Instant::now(), greeted: false }
    }
}

impl EventSource for Repeated {
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.greeted, true) {
            return Some(HELLO);
        }
        let Limits { keep_alive, .. } = self.shared.limits;
        loop {
            self.interval.tick().await;
            let text = (self.value)(&*self.shared.platform)?;
            let now = Instant::now();
            if !self.skip_same || self.last.as_ref() != Some(&text) {
                let event = event(self.name, None, &text);
                self.last = self.skip_same.then_some(text);
                self.last_sent = now;
                return Some(event);
            }
            if now >= self.last_sent + keep_alive {
                self.last_sent = now;
                return Some(KEEP_ALIVE);
            }
        }
    }
}
