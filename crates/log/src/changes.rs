//! Durable facts other than records: topics, settings, groups, producer ids. Each is one entry of a write-ahead frame,
//! and all of them together are in every snapshot.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::groups::{CommittedOffset, SavedGroup};

/// A change of the log's durable facts. Applying one twice equals applying it once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub(crate) enum Change {
    /// The process started; the epoch of all its batches.
    Started {
        leader_epoch: i32,
        log_id: Uuid,
    },
    TopicCreated {
        id: Uuid,
        name: String,
        partitions: i32,
        configs: BTreeMap<String, String>,
    },
    TopicDeleted {
        id: Uuid,
    },
    /// The topic has this many partitions from now on.
    PartitionsAdded {
        id: Uuid,
        partitions: i32,
    },
    ConfigsReplaced {
        id: Uuid,
        configs: BTreeMap<String, String>,
    },
    /// Records below `offset` are gone.
    StartMoved {
        id: Uuid,
        partition: i32,
        offset: i64,
    },
    /// Producer ids below this may have been given out.
    ProducerIds {
        next: i64,
    },
    OffsetsCommitted {
        group: String,
        offsets: Vec<(Uuid, i32, CommittedOffset)>,
    },
    OffsetsForgotten {
        group: String,
        partitions: Vec<(Uuid, i32)>,
    },
    GroupSaved {
        group: String,
        state: SavedGroup,
    },
    GroupDeleted {
        group: String,
    },
}
