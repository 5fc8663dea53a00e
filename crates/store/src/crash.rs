//! Crashing the process on purpose, for tests that kill a child at a named place.
//!
//! `RIVERMERE_CRASH_AT=after_wal_sync` aborts at the first hit of that point, `after_wal_sync:3` at the third. An unarmed
//! process pays one relaxed load a point.

use rivermere_base::CrashPoint;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The environment variable that names the point.
pub const CRASH_AT_VARIABLE: &str = "RIVERMERE_CRASH_AT";

const UNARMED: u32 = u32::MAX;

static ARMED: AtomicU32 = AtomicU32::new(UNARMED);
static HITS_LEFT: AtomicU64 = AtomicU64::new(0);
static READ_ENVIRONMENT: Once = Once::new();

/// Why the value of [`CRASH_AT_VARIABLE`] is not usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "RM-1101: {CRASH_AT_VARIABLE}='{value}' names no crash point: use NAME or NAME:N (the N-th hit, from 1) with NAME \
     one of {}",
    names()
)]
pub struct CrashPlanError {
    value: String,
}

fn names() -> String {
    CrashPoint::ALL.iter().map(|point| point.name()).collect::<Vec<_>>().join(", ")
}

/// Reads [`CRASH_AT_VARIABLE`] and arms this process. Every [`LocalDisk`](crate::LocalDisk) does so when it is made;
/// call it at start to have a wrong value refused instead of ignored.
///
/// # Errors
/// When the variable is set and names no point; nothing is armed then.
pub fn arm_crash_from_environment() -> Result<(), CrashPlanError> {
    let Some(value) = std::env::var_os(CRASH_AT_VARIABLE) else { return Ok(()) };
    let (point, hits) = parse(&value.to_string_lossy())?;
    READ_ENVIRONMENT.call_once(|| {
        HITS_LEFT.store(hits, Ordering::Relaxed);
        ARMED.store(point as u32, Ordering::Relaxed);
    });
    Ok(())
}

fn parse(value: &str) -> Result<(CrashPoint, u64), CrashPlanError> {
    let (name, hits) = match value.split_once(':') {
        Some((name, hits)) => (name, hits.parse().ok().filter(|hits| *hits > 0)),
        None => (value, Some(1)),
    };
    CrashPoint::from_name(name).zip(hits).ok_or_else(|| CrashPlanError { value: value.to_owned() })
}

#[inline]
pub(crate) fn reached(point: CrashPoint) {
    if ARMED.load(Ordering::Relaxed) == point as u32 {
        count_down(point);
    }
}

#[cold]
#[allow(clippy::print_stderr, reason = "the last words of a process that is about to abort")]
fn count_down(point: CrashPoint) {
    if HITS_LEFT.fetch_sub(1, Ordering::Relaxed) == 1 {
        eprintln!("crash point {} reached: aborting", point.name());
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_a_name_and_a_hit() {
        assert_eq!(parse("after_wal_sync"), Ok((CrashPoint::AfterWalSync, 1)));
        assert_eq!(parse("after_wal_sync:3"), Ok((CrashPoint::AfterWalSync, 3)));
    }

    #[test]
    fn a_misspelt_plan_is_refused_with_the_names() {
        for bad in ["after_wal_synch", "after_wal_sync:0", "after_wal_sync:x", ""] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.starts_with("RM-1101") && error.contains("after_wal_sync,"), "{error}");
        }
    }
}
