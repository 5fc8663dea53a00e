//! The replay against a real broker in this process, killed and started again.

use super::*;
use crate::demo::timeline::{Slice, Timeline};
use rivermere_base::{Doors, SeededRng, SystemClock};
use rivermere_log::kafka::{KafkaOptions, KafkaServer};
use rivermere_log::{Log, LogOptions};
use std::net::Ipv4Addr;
use std::path::Path;
use tokio::sync::oneshot;

/// A log with a listener.
struct Broker {
    log: Log,
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
}

impl Broker {
    async fn start(dir: &Path) -> Self {
        let doors = Doors {
            clock: Arc::new(SystemClock::new()),
            rng: Arc::new(SeededRng::new(7)),
            disk: Arc::new(rivermere_store::LocalDisk::new()),
        };
        let log = Log::open(doors, dir, LogOptions::default()).unwrap();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = KafkaServer::bind(log.clone(), addr, KafkaOptions::default()).await.unwrap();
        let addr = server.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(server.serve(async move { drop(stopped.await) }));
        Self { log, addr, stop, served }
    }

    /// All connections end; nothing is written afterwards.
    async fn stop(self) {
        let _ = self.stop.send(());
        self.served.await.unwrap();
        self.log.close().unwrap();
    }

    fn replayer(&self) -> Replayer {
        Replayer::new(Arc::new(SystemClock::new()), self.addr, Speed::Max)
    }

    /// Replays until so many records are in the topics, or to the end.
    async fn replay_until(&self, records: u64) -> bool {
        let replayer = self.replayer();
        let mut progress = replayer.progress();
        tokio::select! {
            ended = replayer.run() => { ended.unwrap(); true }
            _ = progress.wait_for(|progress| progress.records() >= records) => false,
        }
    }

    fn values(&self, sequence: Sequence) -> Vec<Bytes> {
        let topic = TopicName::new(sequence.topic()).unwrap();
        let range = self.log.offsets(&topic, PARTITION).unwrap();
        let (mut at, mut values) = (range.start, vec![]);
        while at < range.high_watermark {
            let fetched = self.log.read(&topic, PARTITION, at, 4 << 20).unwrap();
            records::decode(&fetched.batches, |record| {
                if record.offset >= at {
                    assert_eq!(record.offset, at, "offsets are dense");
                    values.push(Bytes::copy_from_slice(record.value.unwrap_or_default()));
                    at = Offset(record.offset.0 + 1);
                }
            })
            .unwrap();
        }
        values
    }

    async fn produce(&self, sequence: Sequence, value: &'static [u8], records: usize) {
        let mut client = KafkaClient::connect(self.addr).await.unwrap();
        let record = Record { value: Some(Bytes::from_static(value)), ..Record::default() };
        let batch = records::encode(&vec![record; records], Compression::None).unwrap();
        let topic = TopicName::new(sequence.topic()).unwrap();
        client.create_topic(&topic, &TopicOptions::default()).await.unwrap();
        client.produce(&topic, PARTITION, batch).await.unwrap();
    }
}

/// What should be in the topics.
fn expected() -> [Vec<Bytes>; 3] {
    let data = |name| Bytes::from_static(Template::Flights.file(name));
    let (flights, weather) = (data("data/flights.parquet"), data("data/weather.parquet"));
    let mut timeline = Timeline::new(flights, weather, [0; 3], 24 * 3_600_000).unwrap();
    let mut all = [vec![], vec![], vec![]];
    while let Some(Slice { departures, arrivals, weather, .. }) = timeline.next_slice().unwrap() {
        for (all, part) in all.iter_mut().zip([departures, arrivals, weather]) {
            all.extend(part.values);
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for records in [1, 5_000, 40_000, 41_000, 300_000, 500_000] {
        let broker = Broker::start(dir.path()).await;
        assert!(!broker.replay_until(records).await, "{records} are not the end");
        broker.stop().await;
    }
    let broker = Broker::start(dir.path()).await;
    assert!(broker.replay_until(u64::MAX).await);
    let expected = expected();
    for (sequence, expected) in Sequence::ALL.into_iter().zip(&expected) {
        let values = broker.values(sequence);
        assert_eq!(values.len() as u64, sequence.records(), "{sequence:?}");
        assert!(values == *expected, "{sequence:?}");
    }
    // Once more: there is nothing to add.
    let replayer = broker.replayer();
    let progress = replayer.progress();
    replayer.run().await.unwrap();
    let progress = progress.borrow().clone();
    assert!(progress.is_over);
    assert_eq!((progress.sent, progress.records()), (0, 690_954));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_others_do_not_move_the_place() {
    const MINE: &[u8] = br#"{"origin":"XXX"}"#;
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    // Others were there first, and came after, in more records than are looked back at once.
    broker.produce(Sequence::Weather, MINE, 3).await;
    assert!(!broker.replay_until(2_000).await);
    broker.stop().await;
    let broker = Broker::start(dir.path()).await;
    for sequence in Sequence::ALL {
        for _ in 0..3 {
            broker.produce(sequence, MINE, LOOK_BACK as usize - 1).await;
        }
    }
    assert!(broker.replay_until(u64::MAX).await);
    let expected = expected();
    for (sequence, expected) in Sequence::ALL.into_iter().zip(&expected) {
        let mut values = broker.values(sequence);
        values.retain(|value| value != MINE);
        assert!(values == *expected, "{sequence:?}");
    }
    broker.stop().await;
}

#[test]
fn speeds_are_numbers_or_max() {
    assert_eq!("max".parse(), Ok(Speed::Max));
    assert_eq!("20000".parse(), Ok(Speed::Times(20_000.0)));
    assert_eq!("20_000x".parse(), Ok(Speed::Times(20_000.0)));
    assert_eq!("0.5".parse(), Ok(Speed::Times(0.5)));
    for text in ["", "x", "0", "-1", "inf", "nan", "fast", "1e400"] {
        assert!(text.parse::<Speed>().is_err(), "{text}");
    }
}
