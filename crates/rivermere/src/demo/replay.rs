//! The producer of the demo: it tells the year to three topics, through Kafka's protocol like any other client.
//!
//! It keeps nothing of its own. The last record of each batch has the header [`HEADER`] with its number in the sequence;
//! batches are appended whole, so after a kill at any moment the newest such header says what is there, also when others
//! have produced to the same topics. A topic that has fallen behind another one is caught up first.
//!
//! An arrival is sent after its departure has been acknowledged. At most one request a topic is in flight.

use super::template::Template;
use super::timeline::{Part, Sequence, Slice, Timeline, TimelineError};
use bytes::Bytes;
use rivermere_base::{Clock, Offset, PartitionId, TopicName, TopicNameError};
use rivermere_log::TopicOptions;
use rivermere_log::kafka::client::{ClientError, KafkaClient};
use rivermere_log::records::{self, Compression, Record, RecordsError};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// Header of the last record of each batch: its number in the sequence, in decimal digits.
pub const HEADER: &str = "replay";

/// The speed of the demo when nothing else is said: a day goes by in 4.3 seconds.
pub const DEFAULT_SPEED: f64 = 20_000.0;

const PARTITION: PartitionId = PartitionId(0);
/// How often records are sent when they are not sent as fast as possible.
const TICK_MS: f64 = 50.0;
/// The longest slice: about 1,900 departures and as many arrivals.
const LONGEST_SLICE_MS: i64 = 48 * 3_600_000;
const SHORTEST_SLICE_MS: i64 = 1_000;
/// Slices that are read ahead.
const SLICES_AHEAD: usize = 2;
/// Most records of one batch.
const BATCH_RECORDS: usize = 4_096;
/// How many records are looked at, at once, for the newest header.
const LOOK_BACK: i64 = 4_096;
const FETCH_BYTES: i32 = 4 << 20;
const FETCH_WAIT: Duration = Duration::from_millis(500);
/// A request is tried this often, with pauses that double.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// How fast the year goes by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many times faster than it was; more than 0.
    Times(f64),
    /// As fast as the records are taken.
    Max,
}

impl Default for Speed {
    fn default() -> Self {
        Self::Times(DEFAULT_SPEED)
    }
}

/// Why a text is no speed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no speed: give a number such as 20000 (times real time), or max")]
pub struct SpeedError(String);

impl FromStr for Speed {
    type Err = SpeedError;

    /// `max`, or a number with or without an `x` behind it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("max") {
            return Ok(Self::Max);
        }
        let number = text.strip_suffix(['x', 'X']).unwrap_or(text).replace(['_', ','], "");
        match number.parse() {
            Ok(times) if f64::is_finite(times) && times > 0.0 => Ok(Self::Times(times)),
            _ => Err(SpeedError(text.chars().take(40).collect())),
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(times) => write!(f, "{times} times real time"),
            Self::Max => f.write_str("full speed"),
        }
    }
}

/// Why the replay stopped early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Data(#[from] TimelineError),
    #[error(transparent)]
    Topic(#[from] TopicNameError),
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("the replay could not go on with topic '{topic}': {source}")]
    Kafka { topic: &'static str, source: ClientError },
    #[error(
        "RM-7202: topic '{topic}' goes on at record {found} of the replay, not at {expected}: is another demo running?"
    )]
    Overtaken { topic: &'static str, expected: u64, found: u64 },
    #[error("RM-7203: the replay's reader ended early")]
    Reader,
}

/// How far the replay has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Records of each sequence that are in its topic, those of earlier runs too; in the order of [`Sequence::ALL`].
    pub told: [u64; 3],
    /// Records that this run has sent, and the bytes of their JSON.
    pub sent: u64,
    pub sent_bytes: u64,
    /// Milliseconds of New York's wall clock, read as if it were UTC.
    pub event_time_ms: Option<i64>,
    /// Nothing is left to tell.
    pub is_over: bool,
}

impl Progress {
    /// Records of the year that are in the topics.
    pub fn records(&self) -> u64 {
        self.told.iter().sum()
    }
}

/// Tells the year to a broker.
#[derive(Debug)]
pub struct Replayer {
    clock: Arc<dyn Clock>,
    kafka: SocketAddr,
    speed: Speed,
    progress: watch::Sender<Progress>,
}

impl Replayer {
    pub fn new(clock: Arc<dyn Clock>, kafka: SocketAddr, speed: Speed) -> Self {
        Self { clock, kafka, speed, progress: watch::Sender::default() }
    }

    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Goes on where the topics end, until the year is over. May be dropped at any moment.
    ///
    /// # Errors
    /// When the broker is gone or refuses, or somebody else tells the same year to it.
    pub async fn run(self) -> Result<(), ReplayError> {
        let [mut departures, mut arrivals, mut weather] = [
            Teller::open(&self, Sequence::Departures).await?,
            Teller::open(&self, Sequence::Arrivals).await?,
            Teller::open(&self, Sequence::Weather).await?,
        ];
        let from = [departures.next, arrivals.next, weather.next];
        self.progress.send_modify(|progress| progress.told = from);

        let mut slices = read_ahead(from, self.slice_ms());
        let mut origin = None;
        // Arrivals go one slice later: all departures of their slice are there then.
        let mut landed = Part::default();
        while let Some(slice) = slices.recv().await {
            let slice = slice?;
            if let Speed::Times(times) = self.speed {
                let (origin_ms, started) = *origin.get_or_insert((slice.start_ms, self.clock.monotonic()));
                let due = started + Duration::from_secs_f64((slice.until_ms - origin_ms).max(0) as f64 / 1e3 / times);
                sleep(due.saturating_sub(self.clock.monotonic())).await;
            }
            let before = std::mem::replace(&mut landed, slice.arrivals);
            tokio::try_join!(departures.tell(slice.departures), weather.tell(slice.weather), arrivals.tell(before))?;
            self.progress.send_modify(|progress| progress.event_time_ms = Some(slice.until_ms));
        }
        arrivals.tell(landed).await?;
        let told = [departures.next, arrivals.next, weather.next];
        if told.iter().zip(Sequence::ALL).any(|(told, sequence)| *told < sequence.records()) {
            return Err(ReplayError::Reader);
        }
        self.progress.send_modify(|progress| progress.is_over = true);
        Ok(())
    }

    fn slice_ms(&self) -> i64 {
        match self.speed {
            Speed::Max => LONGEST_SLICE_MS,
            Speed::Times(times) => ((times * TICK_MS) as i64).clamp(SHORTEST_SLICE_MS, LONGEST_SLICE_MS),
        }
    }
}

/// Reads and encodes on a thread of its own, a little ahead of what is sent.
fn read_ahead(from: [u64; 3], slice_ms: i64) -> mpsc::Receiver<Result<Slice, TimelineError>> {
    let (sender, receiver) = mpsc::channel(SLICES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let data = |name| Bytes::from_static(Template::Flights.file(name));
        let timeline = Timeline::new(data("data/flights.parquet"), data("data/weather.parquet"), from, slice_ms);
        let mut timeline = match timeline {
            Ok(timeline) => timeline,
            Err(error) => return drop(sender.blocking_send(Err(error))),
        };
        // A receiver that is gone ends the thread.
        while let Some(slice) = timeline.next_slice().transpose() {
            let failed = slice.is_err();
            if sender.blocking_send(slice).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// One sequence on its way into its topic.
struct Teller<'a> {
    replayer: &'a Replayer,
    sequence: Sequence,
    topic: TopicName,
    client: KafkaClient,
    /// Number of the next record.
    next: u64,
}

impl<'a> Teller<'a> {
    /// Connects, and finds out where to go on.
    async fn open(replayer: &'a Replayer, sequence: Sequence) -> Result<Self, ReplayError> {
        let topic = TopicName::new(sequence.topic())?;
        let failed = |source| ReplayError::Kafka { topic: sequence.topic(), source };
        let mut client = KafkaClient::connect(replayer.kafka).await.map_err(failed)?;
        client.create_topic(&topic, &TopicOptions::default()).await.map_err(failed)?;
        let mut teller = Self { replayer, sequence, topic, client, next: 0 };
        teller.next = teller.find_end().await?;
        Ok(teller)
    }

    fn failed(&self, source: ClientError) -> ReplayError {
        ReplayError::Kafka { topic: self.sequence.topic(), source }
    }

    /// One more than the newest number in the topic; 0 when there is none.
    async fn find_end(&mut self) -> Result<u64, ReplayError> {
        let range = self.client.list_offsets(&self.topic, PARTITION).await.map_err(|source| self.failed(source))?;
        let mut end = range.high_watermark.0;
        while end > range.start.0 {
            let from = (end - LOOK_BACK).max(range.start.0);
            let mut newest = None;
            let mut at = from;
            while at < end {
                let fetched = self.client.fetch(&self.topic, PARTITION, Offset(at), FETCH_BYTES, FETCH_WAIT).await;
                let fetched = fetched.map_err(|source| self.failed(source))?;
                let before = at;
                records::decode(&fetched.batches, |record| {
                    at = at.max(record.offset.0 + 1);
                    newest = newest.max(number(record.headers));
                })?;
                if at == before {
                    break;
                }
            }
            if let Some(newest) = newest {
                return Ok(newest + 1);
            }
            end = from;
        }
        Ok(0)
    }

    async fn tell(&mut self, part: Part) -> Result<(), ReplayError> {
        let mut first = part.first;
        for values in part.values.chunks(BATCH_RECORDS) {
            if first != self.next {
                return Err(self.overtaken(first));
            }
            let after = first + values.len() as u64;
            self.send(batch(values, after - 1, self.replayer.clock.now_ms())?, after).await?;
            let bytes: usize = values.iter().map(Bytes::len).sum();
            let index = self.sequence as usize;
            self.replayer.progress.send_modify(|progress| {
                progress.sent += values.len() as u64;
                progress.sent_bytes += bytes as u64;
                if let Some(told) = progress.told.get_mut(index) {
                    *told = after;
                }
            });
            first = after;
        }
        Ok(())
    }

    /// Sends one batch, after which the sequence goes on at `after`. Before it is sent again the topic is asked whether
    /// it came through, since only the answer may have been lost.
    async fn send(&mut self, batch: Bytes, after: u64) -> Result<(), ReplayError> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            let Err(error) = self.client.produce(&self.topic, PARTITION, batch.clone()).await else { break };
            if attempt == ATTEMPTS {
                return Err(self.failed(error));
            }
            attempt += 1;
            tracing::debug!(topic = %self.topic, %error, "a batch of the replay is tried again");
            sleep(pause).await;
            pause *= 2;
            let Ok(client) = KafkaClient::connect(self.replayer.kafka).await else { continue };
            self.client = client;
            match self.find_end().await {
                Ok(end) if end == after => break,
                Ok(end) if end == self.next => {}
                Ok(end) => return Err(self.overtaken(end)),
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(_) => {}
            }
        }
        self.next = after;
        Ok(())
    }

    fn overtaken(&self, found: u64) -> ReplayError {
        ReplayError::Overtaken { topic: self.sequence.topic(), expected: self.next, found }
    }
}

fn number(mut headers: records::Headers<'_>) -> Option<u64> {
    let value = headers.find_map(|(name, value)| (name == HEADER).then_some(value))??;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// One batch whose last record has number `last`.
fn batch(values: &[Bytes], last: u64, now_ms: i64) -> Result<Bytes, RecordsError> {
    let record = |value: &Bytes| Record { value: Some(value.clone()), timestamp_ms: now_ms, ..Record::default() };
    let mut records: Vec<Record> = values.iter().map(record).collect();
    if let Some(record) = records.last_mut() {
        record.headers.push((HEADER.to_string(), Some(Bytes::from(last.to_string()))));
    }
    records::encode(&records, Compression::Lz4)
}

#[cfg(test)]
mod tests;
