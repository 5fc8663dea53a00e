//! Short words for the tests.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rivermere_base::{Disk, Doors, Offset, PartitionId, SeededRng, SystemClock, TopicName};
use rivermere_log::records::{Compression, Record, decode, encode};
use rivermere_log::{Log, LogError, LogOptions, TopicOptions};

pub fn doors(disk: Arc<dyn Disk>) -> Doors {
    Doors { clock: Arc::new(SystemClock::new()), rng: Arc::new(SeededRng::new(7)), disk }
}

pub fn local() -> Doors {
    doors(Arc::new(rivermere_store::LocalDisk::new()))
}

pub fn open(dir: &Path, options: LogOptions) -> Log {
    Log::open(local(), dir, options).expect("the log opens")
}

pub fn topic(name: &str) -> TopicName {
    TopicName::new(name).expect("a good name")
}

pub fn create(log: &Log, name: &str, partitions: i32) -> TopicName {
    let name = topic(name);
    log.create_topic(&name, TopicOptions { partitions, ..TopicOptions::default() }).expect("the topic is new");
    name
}

pub fn batch(values: &[&str]) -> Bytes {
    let record = |value: &&str| Record { value: Some(Bytes::from(value.to_string())), ..Record::default() };
    encode(&values.iter().map(record).collect::<Vec<_>>(), Compression::None).expect("records fit")
}

pub fn append(log: &Log, topic: &TopicName, partition: i32, values: &[&str]) -> Result<i64, LogError> {
    Ok(log.append(topic, PartitionId(partition), batch(values)).wait()?.base_offset.0)
}

/// All values of a partition, checking that offsets are dense.
pub fn values(log: &Log, topic: &TopicName, partition: i32) -> Vec<String> {
    let partition = PartitionId(partition);
    let range = log.offsets(topic, partition).expect("the partition exists");
    let (mut next, mut out) = (range.start, Vec::new());
    while next < range.high_watermark {
        let fetched = log.read(topic, partition, next, 300).expect("readable");
        decode(&fetched.batches, |record| {
            if record.offset >= next {
                assert_eq!(record.offset, next, "offsets are dense");
                out.push(String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned());
                next = Offset(record.offset.0 + 1);
            }
        })
        .expect("decodable");
    }
    out
}
