//! The durable facts in memory. Changes are applied here by the writer after their fsync, and by recovery.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rivermere_base::{Disk, TopicName};
use uuid::Uuid;

use crate::LogError;
use crate::changes::Change;
use crate::groups::{CommittedOffset, SavedGroup};
use crate::producers::Producers;
use crate::segments::{FlushItem, Segments};
use crate::snapshot::{SavedPartition, SavedTopic, Snapshot};
use crate::topics::{Partition, Published, Topic, Written, partition_dir};

pub(crate) type GroupOffsets = BTreeMap<(Uuid, i32), CommittedOffset>;

#[derive(Debug, Default)]
pub(crate) struct State {
    pub log_id: Uuid,
    pub leader_epoch: i32,
    pub next_producer_id: i64,
    pub topics: BTreeMap<TopicName, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
    pub markers: BTreeMap<String, Bytes>,
    pub offsets: BTreeMap<String, GroupOffsets>,
    pub groups: BTreeMap<String, SavedGroup>,
}

impl State {
    pub fn topic_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.by_id.get(&id).cloned()
    }

    pub fn partition_count(&self) -> usize {
        self.topics.values().map(|topic| topic.partitions().len()).sum()
    }

    /// Applies a durable change; what it returns is for the flusher.
    pub fn apply(&mut self, change: Change, topics_dir: &Path) -> Option<FlushItem> {
        match change {
            Change::Started { leader_epoch, log_id } => {
                self.leader_epoch = leader_epoch;
                self.log_id = log_id;
            }
            Change::TopicCreated { id, name, partitions, configs } => {
                if let (false, Ok(name)) = (self.by_id.contains_key(&id), TopicName::new(name)) {
                    let topic = Arc::new(Topic::new(id, name, configs));
                    topic.grow(partitions, topics_dir);
                    self.insert(topic);
                }
            }
            Change::TopicDeleted { id } => {
                let topic = self.by_id.remove(&id)?;
                self.topics.remove(&topic.name);
                for offsets in self.offsets.values_mut() {
                    offsets.retain(|(of, _), _| *of != id);
                }
                topic.delete();
                return Some(FlushItem::TopicDeleted { topic });
            }
            Change::PartitionsAdded { id, partitions } => self.by_id.get(&id)?.grow(partitions, topics_dir),
            Change::ConfigsReplaced { id, configs } => self.by_id.get(&id)?.set_configs(configs),
            Change::StartMoved { id, partition, offset } => {
                let partition = self.by_id.get(&id)?.partition(partition)?;
                {
                    let mut published = partition.published.lock();
                    published.start = published.start.max(offset);
                }
                return Some(FlushItem::StartMoved { partition, start: offset });
            }
            Change::ProducerIds { next } => self.next_producer_id = self.next_producer_id.max(next),
            Change::OffsetsCommitted { group, offsets } => {
                let known = self.offsets.entry(group).or_default();
                known.extend(offsets.into_iter().map(|(topic, partition, offset)| ((topic, partition), offset)));
            }
            Change::OffsetsForgotten { group, partitions } => {
                let known = self.offsets.get_mut(&group)?;
                partitions.into_iter().for_each(|place| drop(known.remove(&place)));
            }
            Change::GroupSaved { group, state } => drop(self.groups.insert(group, state)),
            Change::GroupDeleted { group } => {
                self.groups.remove(&group);
                self.offsets.remove(&group);
            }
        }
        None
    }

    fn insert(&mut self, topic: Arc<Topic>) {
        self.by_id.insert(topic.id, topic.clone());
        self.topics.insert(topic.name.clone(), topic);
    }

    /// Everything but the lengths of segments, which the flusher knows. For the writer thread, between two frames.
    pub fn save(&self, lsn: u64, wal_sequence: u64) -> Snapshot {
        let partition = |partition: &Arc<Partition>| {
            let written = partition.written.lock();
            SavedPartition {
                start: partition.published.lock().start,
                next_offset: written.next_offset,
                epochs: written.epochs.clone(),
                producers: written.producers.save(),
                segments: Vec::new(),
            }
        };
        let topic = |topic: &Arc<Topic>| SavedTopic {
            id: topic.id,
            name: topic.name.to_string(),
            configs: (*topic.configs()).clone(),
            partitions: topic.partitions().iter().map(partition).collect(),
        };
        let offsets = |(group, offsets): (&String, &GroupOffsets)| {
            let each =
                |((topic, partition), offset): (&(Uuid, i32), &CommittedOffset)| (*topic, *partition, offset.clone());
            (group.clone(), offsets.iter().map(each).collect())
        };
        Snapshot {
            lsn,
            wal_sequence,
            log_id: self.log_id,
            leader_epoch: self.leader_epoch,
            next_producer_id: self.next_producer_id,
            markers: self.markers.iter().map(|(sink, bytes)| (sink.clone(), hex(bytes))).collect(),
            offsets: self.offsets.iter().map(offsets).collect(),
            groups: self.groups.clone(),
            topics: self.topics.values().map(topic).collect(),
        }
    }

    /// The state of a snapshot, with its segments cut to what is known to be durable.
    pub fn load(snapshot: Snapshot, disk: &dyn Disk, topics_dir: &Path) -> Result<Self, LogError> {
        let unreadable = |what: &str| LogError::corrupt(topics_dir, format!("the snapshot has an unreadable {what}"));
        let mut state = Self {
            log_id: snapshot.log_id,
            leader_epoch: snapshot.leader_epoch,
            next_producer_id: snapshot.next_producer_id,
            groups: snapshot.groups,
            ..Self::default()
        };
        for (sink, bytes) in snapshot.markers {
            state.markers.insert(sink, unhex(&bytes).ok_or_else(|| unreadable("marker"))?);
        }
        for (group, offsets) in snapshot.offsets {
            let offsets = offsets.into_iter().map(|(topic, partition, offset)| ((topic, partition), offset));
            state.offsets.insert(group, offsets.collect());
        }
        for saved in snapshot.topics {
            let name = TopicName::new(&saved.name).map_err(|_| unreadable("topic name"))?;
            let topic = Arc::new(Topic::new(saved.id, name, saved.configs));
            for (index, saved) in saved.partitions.into_iter().enumerate() {
                let dir = partition_dir(topics_dir, topic.id, index as i32);
                let segments = Segments::restore(disk, &dir, &saved.segments)?;
                let mut partition = Partition::new(Arc::downgrade(&topic), index as i32, segments);
                partition.written = Written {
                    next_offset: saved.next_offset,
                    producers: Producers::load(saved.producers),
                    epochs: saved.epochs,
                }
                .into();
                partition.published =
                    Published { start: saved.start, high_watermark: saved.next_offset, ..Published::default() }.into();
                topic.push(partition);
            }
            state.insert(topic);
        }
        Ok(state)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Bytes> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.as_bytes().chunks(2).map(pair).collect::<Option<Vec<_>>>().map(Bytes::from)
}
