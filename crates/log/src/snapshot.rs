//! The snapshot of everything but records, `meta/snapshot-<LSN>.json`: the state after that frame, with the synced
//! length of every segment. Frames up to it are not needed any more.
//!
//! The first line names format and checksum, the rest is JSON, so that a person can read it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rivermere_base::{CrashPoint, Disk, OpenMode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::LogError;
use crate::groups::{CommittedOffset, SavedGroup};
use crate::producers::ProducerState;
use crate::segments::SavedSegment;

const TITLE: &str = "rivermere-log snapshot 1 crc32c ";

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub lsn: u64,
    /// The write-ahead file that holds or follows frame `lsn`.
    pub wal_sequence: u64,
    pub log_id: Uuid,
    pub leader_epoch: i32,
    pub next_producer_id: i64,
    pub markers: BTreeMap<String, String>,
    pub offsets: BTreeMap<String, Vec<(Uuid, i32, CommittedOffset)>>,
    pub groups: BTreeMap<String, SavedGroup>,
    pub topics: Vec<SavedTopic>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedTopic {
    pub id: Uuid,
    pub name: String,
    pub configs: BTreeMap<String, String>,
    pub partitions: Vec<SavedPartition>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedPartition {
    pub start: i64,
    pub next_offset: i64,
    pub epochs: Vec<(i32, i64)>,
    pub producers: Vec<(i64, ProducerState)>,
    pub segments: Vec<SavedSegment>,
}

impl Snapshot {
    /// The newest snapshot, or the empty one of a new log.
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, LogError> {
        let Some((_, path)) = list(disk, dir)?.pop() else { return Ok(Self { wal_sequence: 1, ..Self::default() }) };
        let bytes = disk.read(&path).map_err(|error| LogError::io("read", &path, error))?;
        let text = std::str::from_utf8(&bytes).ok().and_then(|text| text.strip_prefix(TITLE));
        let (crc, json) = text
            .and_then(|text| text.split_once('\n'))
            .ok_or_else(|| LogError::corrupt(&path, "it is no snapshot of this version"))?;
        if crc != format!("{:08x}", crc32c::crc32c(json.as_bytes())) {
            return Err(LogError::corrupt(&path, "its checksum is wrong"));
        }
        serde_json::from_str(json).map_err(|error| LogError::corrupt(&path, error.to_string()))
    }

    /// Makes this the newest snapshot, durably, and removes the older ones.
    pub fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
        let path = dir.join(format!("snapshot-{:020}.json", self.lsn));
        let temporary = path.with_extension("tmp");
        let json = serde_json::to_string(self).map_err(|error| LogError::invalid(error.to_string()))?;
        let text = format!("{TITLE}{:08x}\n{json}", crc32c::crc32c(json.as_bytes()));
        let write = || {
            disk.crash_point(CrashPoint::BeforeLogSnapshotWrite);
            let file = disk.open(&temporary, OpenMode::Write)?;
            file.set_len(0)?;
            file.write_all_at(text.as_bytes(), 0)?;
            disk.crash_point(CrashPoint::AfterLogSnapshotWrite);
            file.sync_data()?;
            disk.crash_point(CrashPoint::AfterLogSnapshotSync);
            disk.rename(&temporary, &path)?;
            disk.sync_dir(dir)?;
            disk.crash_point(CrashPoint::AfterLogSnapshotRename);
            Ok(())
        };
        write().map_err(|error| LogError::io("write", &path, error))?;
        for (lsn, path) in list(disk, dir)? {
            if lsn < self.lsn {
                disk.remove_file(&path).map_err(|error| LogError::io("remove", &path, error))?;
            }
        }
        Ok(())
    }

    /// Every partition with its topic's id and its number.
    pub fn partitions_mut(&mut self) -> impl Iterator<Item = (Uuid, i32, &mut SavedPartition)> {
        self.topics.iter_mut().flat_map(|topic| {
            let id = topic.id;
            topic.partitions.iter_mut().enumerate().map(move |(index, saved)| (id, index as i32, saved))
        })
    }
}

fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<(u64, PathBuf)>, LogError> {
    let entries = disk.read_dir(dir).map_err(|error| LogError::io("list", dir, error))?;
    let number =
        |path: &Path| path.file_name()?.to_str()?.strip_prefix("snapshot-")?.strip_suffix(".json")?.parse().ok();
    let mut found: Vec<_> = entries.into_iter().filter_map(|entry| Some((number(&entry.path)?, entry.path))).collect();
    found.sort();
    Ok(found)
}
