//! What the demo's lines say: rates, lag and time, in words.

use super::replay::Progress;
use super::timeline::Sequence;
use crate::quantities::count;
use chrono::DateTime;
use rivermere_base::Clock;
use rivermere_serve::{NodeKind, Status};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Rates are over this time.
const WINDOW: Duration = Duration::from_secs(3);

/// Measures how many records go through the views.
pub(super) struct Meter {
    clock: Arc<dyn Clock>,
    /// Moment and records in views, oldest first.
    samples: VecDeque<(Duration, u64)>,
}

impl Meter {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, samples: VecDeque::new() }
    }

    pub(super) fn sample(&mut self, progress: Progress, status: &Status, elapsed: Duration) -> Sample {
        let (topics, read) = records(status);
        let now = self.clock.monotonic();
        while self.samples.len() > 1
            && self.samples.get(1).is_some_and(|(moment, _)| now.saturating_sub(*moment) >= WINDOW)
        {
            self.samples.pop_front();
        }
        let rate = match self.samples.front() {
            Some((moment, before)) if now > *moment => {
                read.saturating_sub(*before) as f64 / now.saturating_sub(*moment).as_secs_f64()
            }
            _ => 0.0,
        };
        self.samples.push_back((now, read));
        Sample { progress, rate, lag: topics.saturating_sub(read), elapsed, rss_bytes: status.rss_bytes }
    }
}

/// Records in the topics that tables read, and how many of them the views have.
fn records(status: &Status) -> (u64, u64) {
    let rows = |id: &str, kind: NodeKind| status.nodes.iter().find(|node| node.id == id && node.kind == kind);
    let pairs = status
        .edges
        .iter()
        .filter_map(|(topic, table)| Some((rows(topic, NodeKind::Topic)?.rows, rows(table, NodeKind::Source)?.rows)));
    pairs.fold((0, 0), |(topics, read), (topic, table)| (topics + topic, read + table.min(topic)))
}

/// The demo at one moment.
#[derive(Debug)]
pub(super) struct Sample {
    progress: Progress,
    /// Records a second through the views.
    rate: f64,
    /// Records that are in topics and not in views.
    pub(super) lag: u64,
    /// Since the program began.
    pub(super) elapsed: Duration,
    pub(super) rss_bytes: u64,
}

impl Sample {
    /// Everything is in the topics.
    pub(super) fn is_over(&self) -> bool {
        self.progress.is_over
    }

    /// Records of the year that are in the topics.
    pub(super) fn records(&self) -> String {
        count(self.progress.records())
    }

    /// The moving line.
    pub(super) fn line(&self) -> String {
        let all: u64 = Sequence::ALL.iter().map(|sequence| sequence.records()).sum();
        let time = self.progress.event_time_ms.and_then(DateTime::from_timestamp_millis);
        let time = match time {
            Some(time) => time.format("%Y-%m-%d %H:%M").to_string(),
            None if self.is_over() => "2013 is over".into(),
            None => "starting".into(),
        };
        format!(
            "{time}  {} events/s  lag {}  {} of {} records  {} MB",
            count(self.rate.round() as u64),
            count(self.lag),
            self.records(),
            count(all),
            self.rss_bytes / 1_000_000
        )
    }

    /// What `--once` ends with.
    pub(super) fn summary(&self) -> Vec<String> {
        let seconds = self.elapsed.as_secs_f64();
        let sent = self.progress.sent;
        vec![
            format!("The year is over: {} records are in every view and table.", self.records()),
            format!(
                "{} records ({} MB of JSON) in {seconds:.1} s from start to the last commit: {} records/s, {} MB resident",
                count(sent),
                self.progress.sent_bytes / 1_000_000,
                count((sent as f64 / seconds.max(1e-3)) as u64),
                self.rss_bytes / 1_000_000
            ),
        ]
    }
}

/// A word for a POSIX shell.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ',' | ':' | '@');
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_command_survive_the_shell() {
        assert_eq!(quoted("flights-demo/data"), "flights-demo/data");
        assert_eq!(quoted("my data"), "'my data'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
