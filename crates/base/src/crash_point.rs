//! Named places where a crash must change nothing.
//!
//! Code names a place by `disk.crash_point(CrashPoint::X)`. On the real disk that is one relaxed load, and the process
//! aborts there when `RIVERMERE_CRASH_AT` names the point; on the simulated disk everything un-synced is lost at that
//! moment and every later operation fails.

macro_rules! crash_points {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A place before or after a write, fsync, rename or commit.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum CrashPoint { $($(#[$doc])* $name,)* }

        impl CrashPoint {
            /// Every point, in the order of the list.
            pub const ALL: &'static [CrashPoint] = &[$(CrashPoint::$name,)*];

            /// The name used by `RIVERMERE_CRASH_AT` and by project tests.
            pub fn name(self) -> &'static str {
                match self { $(CrashPoint::$name => $text,)* }
            }

            /// The point of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(CrashPoint::$name),)* _ => None }
            }
        }
    };
}

crash_points! {
    BeforeWalCreate = "before_wal_create",
    AfterWalCreate = "after_wal_create",
    BeforeWalWrite = "before_wal_write",
    AfterWalWrite = "after_wal_write",
    AfterWalSync = "after_wal_sync",
    BeforeSegmentWrite = "before_segment_write",
    AfterSegmentWrite = "after_segment_write",
    AfterSegmentSync = "after_segment_sync",
    BeforeLogSnapshotWrite = "before_log_snapshot_write",
    AfterLogSnapshotWrite = "after_log_snapshot_write",
    AfterLogSnapshotSync = "after_log_snapshot_sync",
    AfterLogSnapshotRename = "after_log_snapshot_rename",
    AfterWalRecycle = "after_wal_recycle",
    BeforeRunWrite = "before_run_write",
    AfterRunWrite = "after_run_write",
    AfterRunSync = "after_run_sync",
    BeforeStageWrite = "before_stage_write",
    AfterStageWrite = "after_stage_write",
    AfterStageSync = "after_stage_sync",
    BeforeManifestWrite = "before_manifest_write",
    AfterManifestWrite = "after_manifest_write",
    AfterManifestSync = "after_manifest_sync",
    AfterManifestPut = "after_manifest_put",
    BeforeDeadLetterAppend = "before_dead_letter_append",
    AfterDeadLetterAppend = "after_dead_letter_append",
    BeforeStateCleanup = "before_state_cleanup",
    AfterStateCleanup = "after_state_cleanup",
    BeforeSinkCommit = "before_sink_commit",
    BeforeObjectWrite = "before_object_write",
    AfterObjectWrite = "after_object_write",
    AfterObjectSync = "after_object_sync",
    AfterObjectRename = "after_object_rename",
    AfterSinkCommit = "after_sink_commit",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_found_by_its_name() {
        for point in CrashPoint::ALL {
            assert_eq!(CrashPoint::from_name(point.name()), Some(*point));
        }
        assert_eq!(CrashPoint::from_name("nowhere"), None);
    }
}
