//! Consumer groups: committed offsets, and the classic rebalance protocol.

mod coordinator;

pub(crate) use coordinator::{Group, JoinRequest, Joined, Member, Phase, SyncStep, Synced};

use serde::{Deserialize, Serialize};

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    pub offset: i64,
    #[serde(default = "unknown_epoch", skip_serializing_if = "is_unknown")]
    pub leader_epoch: i32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
}

fn unknown_epoch() -> i32 {
    -1
}

fn is_unknown(epoch: &i32) -> bool {
    *epoch == -1
}

/// A stable group as it is kept over restarts, so that its members need not join again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedGroup {
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    pub members: Vec<SavedMember>,
}

/// A member of a [`SavedGroup`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMember {
    pub id: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocols: Vec<(String, Vec<u8>)>,
    pub assignment: Vec<u8>,
}
