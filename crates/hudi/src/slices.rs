//! File groups and their slices: which files have the rows of a version.
//!
//! Hudi technical specification, "File Layout": a file group is a base file, again and again, and the logs of what changed since.

use crate::place::{Found, Place};
use crate::timeline::{Action, Instant, version_of};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use rivermere_table::TableError;
use std::collections::{BTreeMap, HashSet};

/// Folders that are listed at a time.
const FOLDERS_AT_ONCE: usize = 8;

/// A base file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Base {
    pub(crate) path: Path,
    pub(crate) bytes: u64,
    /// The time of the instant that wrote it, as a number.
    pub(crate) instant: i64,
}

/// A log of changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    pub(crate) path: Path,
    pub(crate) bytes: u64,
    /// In its name: of the base file that it is about, or, since table version 8, of the instant that wrote it.
    pub(crate) instant: i64,
    number: u32,
    token: String,
}

/// What a file group is at a version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slice {
    pub(crate) partition: String,
    pub(crate) file_id: String,
    pub(crate) base: Option<Base>,
    /// In the order in which they were written.
    pub(crate) logs: Vec<Log>,
}

impl Slice {
    pub(crate) fn bytes(&self) -> u64 {
        self.base.iter().map(|base| base.bytes).chain(self.logs.iter().map(|log| log.bytes)).sum()
    }
}

/// Instants that a version has.
#[derive(Clone, Debug)]
pub(crate) struct Committed {
    times: HashSet<i64>,
    begins: i64,
}

impl Committed {
    pub(crate) fn new(found: &Found, instants: &[Instant]) -> Self {
        let times = instants.iter().map(|instant| version_of(&instant.time)).collect();
        Self { times, begins: found.timeline.begins().unwrap_or(i64::MAX) }
    }

    /// Whether what an instant wrote counts: it was completed, or so long ago that nobody remembers it.
    pub(crate) fn has(&self, instant: i64) -> bool {
        self.times.contains(&instant) || (instant < self.begins && !self.times.is_empty())
    }
}

/// A file group, by its partition and its id.
type Group = (String, String);
/// The files of file groups.
type Groups = BTreeMap<Group, (Vec<Base>, Vec<Log>)>;

/// All files by their group, and the groups that these instants replaced.
pub(crate) async fn grouped(
    place: &Place,
    found: &Found,
    instants: &[Instant],
) -> Result<(Groups, HashSet<Group>), TableError> {
    let mut replaced = HashSet::new();
    for instant in instants.iter().filter(|instant| instant.action == Action::ReplaceCommit) {
        for (partition, ids) in &place.commit(instant).await?.replaced {
            replaced.extend(ids.iter().map(|id| (partition.clone(), id.clone())));
        }
    }
    let committed = Committed::new(found, instants);
    let mut groups = Groups::new();
    let folder = place.location.path().clone();
    let listed = |error: object_store::Error| place.failed("listing the table's files", error);
    let store = place.location.store();
    // Not what is below `.hoodie`, which may be more than the rest.
    let top = store.list_with_delimiter(Some(&folder)).await.map_err(listed)?;
    let below: Vec<Path> = top.common_prefixes.into_iter().filter(|path| path.filename() != Some(".hoodie")).collect();
    let below = futures::stream::iter(below).map(|path| store.list(Some(&path))).flatten_unordered(FOLDERS_AT_ONCE);
    let mut files = futures::stream::iter(top.objects.into_iter().map(Ok)).chain(below);
    while let Some(file) = files.try_next().await.map_err(listed)? {
        let Some(parts) = file.location.prefix_match(&folder) else { continue };
        let mut parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
        let Some(name) = parts.pop() else { continue };
        let partition = parts.join("/");
        match File::of(&name) {
            Some(File::Log { id, instant, number, token }) if !token.ends_with(".cdc") => {
                let log = Log { path: file.location, bytes: file.size, instant, number, token };
                groups.entry((partition, id)).or_default().1.push(log);
            }
            Some(File::Base { id, instant, kind }) => {
                let group = (partition, id);
                if kind != "parquet" && committed.has(instant) && !replaced.contains(&group) {
                    return Err(place.unsupported(format!("base files in {}", kind.to_uppercase())));
                }
                let base = Base { path: file.location, bytes: file.size, instant };
                groups.entry(group).or_default().0.push(base);
            }
            _ => {}
        }
    }
    Ok((groups, replaced))
}

/// The slices of the version whose instants these are.
pub(crate) async fn slices(place: &Place, found: &Found, instants: &[Instant]) -> Result<Vec<Slice>, TableError> {
    if instants.is_empty() {
        return Ok(vec![]);
    }
    let committed = Committed::new(found, instants);
    let (groups, replaced) = grouped(place, found, instants).await?;
    let by_completion = found.table_version() >= 8;
    let completed: BTreeMap<i64, i64> =
        instants.iter().map(|instant| (version_of(&instant.time), instant.version())).collect();
    let slice = |((partition, file_id), (mut bases, mut logs)): (Group, (Vec<Base>, Vec<Log>))| {
        bases.retain(|base| committed.has(base.instant));
        bases.sort_by_key(|base| base.instant);
        logs.sort_by(|one, other| {
            (one.instant, one.number, &one.token).cmp(&(other.instant, other.number, &other.token))
        });
        let base = bases.pop();
        // What a log adds to an older base file is in the newer one.
        let since = base.as_ref().map_or(i64::MIN, |base| base.instant);
        logs.retain(|log| match by_completion {
            true => {
                let forgotten = committed.has(log.instant).then_some(log.instant);
                completed.get(&log.instant).copied().or(forgotten).is_some_and(|when| when >= since)
            }
            false => log.instant >= since,
        });
        (base.is_some() || !logs.is_empty()).then_some(Slice { partition, file_id, base, logs })
    };
    Ok(groups.into_iter().filter(|(group, _)| !replaced.contains(group)).filter_map(slice).collect())
}

/// What a name says.
enum File {
    Base { id: String, instant: i64, kind: String },
    Log { id: String, instant: i64, number: u32, token: String },
}

impl File {
    fn of(name: &str) -> Option<Self> {
        let time = |text: &str| {
            let is_time = matches!(text.len(), 14 | 17) && text.bytes().all(|byte| byte.is_ascii_digit());
            is_time.then(|| version_of(text))
        };
        if let Some(name) = name.strip_prefix('.') {
            // `.<id>_<instant>.log.<number>_<token>`
            let (front, back) = name.split_once(".log.")?;
            let (id, instant) = front.rsplit_once('_')?;
            let (number, token) = back.split_once('_').unwrap_or((back, ""));
            let number = number.parse().ok()?;
            return Some(Self::Log { id: id.to_owned(), instant: time(instant)?, number, token: token.to_owned() });
        }
        // `<id>_<token>_<instant>.<kind>`
        let (front, kind) = name.rsplit_once('.')?;
        let (front, instant) = front.rsplit_once('_')?;
        let (id, _) = front.rsplit_once('_')?;
        Some(Self::Base { id: id.to_owned(), instant: time(instant)?, kind: kind.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_understood() {
        match File::of(".dcae9272-b2c6-0_20260307162641811.log.1_0-157-346") {
            Some(File::Log { id, instant, number, token }) => {
                assert_eq!((&*id, instant, number, &*token), ("dcae9272-b2c6-0", 20260307162641811, 1, "0-157-346"));
            }
            _ => panic!("it is a log"),
        }
        match File::of("dcae9272-b2c6-0_2-26-56_20260307162628304.parquet") {
            Some(File::Base { id, instant, kind }) => {
                assert_eq!((&*id, instant, &*kind), ("dcae9272-b2c6-0", 20260307162628304, "parquet"));
            }
            _ => panic!("it is a base file"),
        }
        for name in [".hoodie_partition_metadata", "_SUCCESS", "part-0.parquet", "a_b_c.parquet"] {
            assert!(File::of(name).is_none(), "{name}");
        }
    }
}
