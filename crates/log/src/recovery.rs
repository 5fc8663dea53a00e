//! From the files of an earlier process to the state in memory: snapshot, then every frame after it.

use std::path::Path;
use std::sync::Arc;

use rivermere_base::{Doors, TopicName};

use crate::metrics::Counters;
use crate::records::Batches;
use crate::segments::{FlushItem, Flusher};
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::state::State;
use crate::topics::TailBatch;
use crate::wal::{Entry, Scan, WalFiles, scan};
use crate::{LogError, LogOptions};

pub(crate) fn recover(
    doors: &Doors,
    dir: &Path,
    options: LogOptions,
) -> Result<(Arc<Shared>, Flusher, Scan), LogError> {
    let disk = doors.disk.clone();
    let (wal_dir, meta_dir, topics_dir) = (dir.join("wal"), dir.join("meta"), dir.join("topics"));
    for dir in [&wal_dir, &meta_dir, &topics_dir] {
        disk.create_dir_all(dir).map_err(|error| LogError::io("create", dir, error))?;
    }
    let snapshot = Snapshot::read(&*disk, &meta_dir)?;
    let from = (snapshot.wal_sequence, snapshot.lsn);
    let state = State::load(snapshot, &*disk, &topics_dir)?;
    let files = WalFiles::new(wal_dir, options.wal_file_bytes);
    files.tidy(&*disk)?;
    let shared = Arc::new(Shared::new(options, (doors.clock.clone(), disk.clone()), dir, state, files));
    let mut flusher = Flusher::new(shared.clone());

    let mut flush = Vec::new();
    let scan = scan(&*disk, &shared.wal, from, |entries| {
        for entry in entries {
            apply(&shared, entry, &mut flush)?;
        }
        Counters::add(&shared.counters.frames_recovered, 1);
        flusher.handle(&mut flush).map(drop)
    })?;

    // Folders of topics that were deleted, or created in a frame that nobody was told about.
    let folders = disk.read_dir(&topics_dir).map_err(|error| LogError::io("list", &topics_dir, error))?;
    for folder in folders {
        let id = folder.path.file_name().and_then(|name| uuid::Uuid::try_parse(name.to_str()?).ok());
        if id.is_some_and(|id| shared.state.read().topic_by_id(id).is_none()) {
            flusher.doom(folder.path);
        }
    }
    Ok((shared, flusher, scan))
}

fn apply(shared: &Shared, entry: Entry, flush: &mut Vec<FlushItem>) -> Result<(), LogError> {
    match entry {
        Entry::Marker { sink, bytes } => drop(shared.state.write().markers.insert(sink, bytes)),
        Entry::Change(change) => flush.extend(shared.state.write().apply(change, &shared.topics_dir)),
        Entry::Batch { topic, partition, batches } => {
            let Some(topic) = shared.state.read().topic_by_id(topic) else { return Ok(()) };
            let Some(found) = topic.partition(partition) else {
                let detail = format!("a frame is for partition {partition} of '{}', which it has not", topic.name);
                return Err(LogError::corrupt(&shared.wal.dir, detail));
            };
            for batch in Batches::new(&batches) {
                let batch = batch?;
                let mut written = found.written.lock();
                if batch.base_offset != written.next_offset {
                    return Err(LogError::corrupt(&shared.wal.dir, gap(&topic.name, partition, &written, &batch)));
                }
                written.producers.remember(&batch, batch.base_offset, shared.options.producers_per_partition);
                if written.epochs.last().is_none_or(|(epoch, _)| *epoch != batch.leader_epoch) {
                    written.epochs.push((batch.leader_epoch, batch.base_offset));
                }
                written.next_offset = batch.last_offset() + 1;
                let tail = TailBatch {
                    base_offset: batch.base_offset,
                    last_offset: batch.last_offset(),
                    max_timestamp_ms: batch.max_timestamp_ms,
                    bytes: batches.slice_ref(batch.bytes()),
                };
                found.published.lock().publish(tail.clone());
                flush.push(FlushItem::Batch { partition: found.clone(), batch: tail });
            }
        }
    }
    Ok(())
}

fn gap(
    topic: &TopicName,
    partition: i32,
    written: &crate::topics::Written,
    batch: &crate::records::Batch<'_>,
) -> String {
    format!("{topic}/{partition} goes on with offset {} instead of {}", batch.base_offset, written.next_offset)
}
