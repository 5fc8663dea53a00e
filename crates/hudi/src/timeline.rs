//! The timeline: what was done to a table, and when it was done.
//!
//! Hudi technical specification, "Timeline". In tables before version 8 an instant is known by one time, at which it began; since
//! then also by the time at which it was completed, and that is the order in which versions follow each other.

use crate::place::Place;
use crate::properties::Properties;
use apache_avro::types::Value as Avro;
use chrono::{DateTime, NaiveDateTime, Utc};
use object_store::path::Path;
use rivermere_table::TableError;
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What an instant did to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Base files, or a compaction.
    Commit,
    /// Base files and logs of a table that is merged on read.
    DeltaCommit,
    /// Files that take the place of others: an overwrite, a clustering.
    ReplaceCommit,
}

impl Action {
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name {
            "commit" => Some(Self::Commit),
            "deltacommit" => Some(Self::DeltaCommit),
            "replacecommit" => Some(Self::ReplaceCommit),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::DeltaCommit => "deltacommit",
            Self::ReplaceCommit => "replacecommit",
        }
    }
}

/// Something that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instant {
    /// When it began: what files are named by.
    pub(crate) time: String,
    /// When it was completed; before version 8 the same.
    pub(crate) completed: String,
    pub(crate) action: Action,
    pub(crate) file: Path,
}

impl Instant {
    /// What it is called in SQL: the time of its completion, as a number.
    pub(crate) fn version(&self) -> i64 {
        version_of(&self.completed)
    }

    pub(crate) fn completed_ms(&self, properties: &Properties) -> Option<i64> {
        let time = time_of(version_of(&self.completed))?;
        match is_utc(properties) {
            true => Some(time.timestamp_millis()),
            // In the zone of whoever wrote it, which nobody else knows.
            false => time.naive_utc().and_local_timezone(chrono::Local).earliest().map(|time| time.timestamp_millis()),
        }
    }
}

fn is_utc(properties: &Properties) -> bool {
    properties.get("hoodie.table.timeline.timezone").is_some_and(|zone| zone.eq_ignore_ascii_case("utc"))
}

/// A millisecond later.
pub(crate) fn time_after(time: &str) -> String {
    let version = version_of(time);
    match time_of(version) {
        Some(time) => text_of(time + chrono::TimeDelta::milliseconds(1)),
        None => format!("{:017}", version + 1),
    }
}

fn text_of(time: DateTime<Utc>) -> String {
    time.format("%Y%m%d%H%M%S%3f").to_string()
}

/// Times without milliseconds count as the end of their second, as Hudi has it.
pub(crate) fn version_of(time: &str) -> i64 {
    let number = time.parse::<i64>().unwrap_or_default();
    if time.len() == 14 { number * 1000 + 999 } else { number }
}

fn time_of(version: i64) -> Option<DateTime<Utc>> {
    let text = format!("{version:017}");
    let seconds = NaiveDateTime::parse_from_str(text.get(..14)?, "%Y%m%d%H%M%S").ok()?;
    let millis = text.get(14..)?.parse().ok()?;
    Some((seconds + chrono::TimeDelta::milliseconds(millis)).and_utc())
}

/// What an instant says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commit {
    pub(crate) operation: Option<String>,
    /// By partition, the file groups that are no more.
    pub(crate) replaced: BTreeMap<String, Vec<String>>,
    pub(crate) extra: BTreeMap<String, String>,
}

/// The part of the timeline that is not archived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timeline {
    /// In the order of their completion.
    pub(crate) instants: Vec<Instant>,
    /// Instants that began and are not completed.
    pub(crate) pending: HashSet<String>,
    /// The newest that removed files, or is about to.
    pub(crate) cleaned: Option<Path>,
    /// Those of them that put files together.
    pub(crate) planned: HashSet<String>,
    /// Instants whose versions somebody has saved.
    pub(crate) saved: HashSet<i64>,
}

impl Timeline {
    pub(crate) async fn read(place: &Place, properties: &Properties) -> Result<Self, TableError> {
        let folder = place.timeline_folder(properties);
        let mut timeline = Self::default();
        let (mut began, mut planned) = (HashSet::new(), HashSet::new());
        let mut cleaned: Option<(String, bool, Path)> = None;
        // Not what is below: archives, and the index of the table's files.
        let files = place.location.store().list_with_delimiter(Some(&folder)).await;
        for file in files.map_err(|error| place.failed("reading the timeline", error))?.objects {
            let Some(name) = file.location.filename().map(str::to_owned) else { continue };
            if let Some((times, "savepoint")) = name.split_once('.') {
                timeline.saved.insert(version_of(times.split('_').next().unwrap_or(times)));
            }
            if let Some((times, "clean" | "clean.requested")) = name.split_once('.') {
                let (time, is_done) =
                    times.split_once('_').map_or((times, name.ends_with(".clean")), |(time, _)| (time, true));
                cleaned = cleaned.max(Some((time.to_owned(), is_done, file.location.clone())));
            }
            match instant(&name, &file.location) {
                Some(instant) => timeline.instants.push(instant),
                None => {
                    let service =
                        ["compaction", "clustering", "logcompaction"].iter().any(|service| name.contains(service));
                    let time = begun(&name).map(str::to_owned);
                    planned.extend(time.clone().filter(|_| service));
                    began.extend(time);
                }
            }
        }
        timeline.instants.sort_by(|one, other| {
            (version_of(&one.completed), version_of(&one.time))
                .cmp(&(version_of(&other.completed), version_of(&other.time)))
        });
        let done: HashSet<&str> = timeline.instants.iter().map(|instant| instant.time.as_str()).collect();
        let is_open = |time: &String| !done.contains(time.as_str());
        let (pending, planned) =
            (began.into_iter().filter(is_open).collect(), planned.into_iter().filter(is_open).collect());
        (timeline.pending, timeline.planned) = (pending, planned);
        timeline.cleaned = cleaned.map(|(.., file)| file);
        Ok(timeline)
    }

    pub(crate) fn newest(&self) -> Option<&Instant> {
        self.instants.last()
    }

    /// The instants of a version, which is the time at which the last one was completed, or at which it began.
    pub(crate) fn at(&self, version: i64) -> Option<&[Instant]> {
        if version == 0 {
            return Some(&[]);
        }
        let by_completion = self.instants.iter().rposition(|instant| instant.version() == version);
        let by_start = || self.instants.iter().rposition(|instant| version_of(&instant.time) == version);
        self.instants.get(..=by_completion.or_else(by_start)?)
    }

    /// A time that is later than all there are, and not before now.
    pub(crate) fn next_time(&self, properties: &Properties) -> String {
        let now = Utc::now();
        let now = match is_utc(properties) {
            true => text_of(now),
            false => text_of(now.with_timezone(&chrono::Local).naive_local().and_utc()),
        };
        let known = self.instants.iter().flat_map(|instant| [&instant.time, &instant.completed]);
        let last = known.chain(&self.pending).max_by_key(|time| version_of(time));
        match last {
            Some(last) if version_of(last) >= version_of(&now) => time_after(last),
            _ => now,
        }
    }

    /// When the first instant that is remembered began: files that are older are of instants that were archived. What is saved may
    /// have been left behind by the archiving of what came after it.
    pub(crate) fn begins(&self) -> Option<i64> {
        let done = self.instants.iter().map(|instant| version_of(&instant.time));
        let all = done.chain(self.pending.iter().map(|time| version_of(time)));
        all.clone().filter(|time| !self.saved.contains(time)).min().or_else(|| all.min())
    }
}

/// `<time>[_<completed>].<action>`
fn instant(name: &str, file: &Path) -> Option<Instant> {
    let (times, action) = name.split_once('.')?;
    let action = Action::of(action)?;
    let (time, completed) = times.split_once('_').unwrap_or((times, times));
    let is_time = |text: &str| matches!(text.len(), 14 | 17) && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_time(time) && is_time(completed)).then(|| Instant {
        time: time.to_owned(),
        completed: completed.to_owned(),
        action,
        file: file.clone(),
    })
}

/// The time of what began to change rows: `<time>.<action>.requested`, `.inflight`.
fn begun(name: &str) -> Option<&str> {
    let (time, rest) = name.split_once('.')?;
    let action = match rest {
        "inflight" => "commit",
        rest => rest.strip_suffix(".requested").or_else(|| rest.strip_suffix(".inflight"))?,
    };
    ["commit", "deltacommit", "replacecommit", "compaction", "clustering", "logcompaction"]
        .contains(&action)
        .then_some(time)
}

/// The metadata of a completed instant: JSON, or, in the layout of version 8, an Avro file.
///
/// # Errors
/// With what is wrong with it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Commit, String> {
    if bytes.is_empty() {
        return Ok(Commit::default());
    }
    if bytes.starts_with(b"Obj\x01") {
        let mut reader = apache_avro::Reader::new(bytes).map_err(|error| error.to_string())?;
        let value = reader.next().ok_or("it is empty")?.map_err(|error| error.to_string())?;
        return Ok(of_avro(&value));
    }
    let json: Json = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let texts = |value: &Json| value.as_str().map(str::to_owned);
    let extra = json["extraMetadata"].as_object().into_iter().flatten();
    let replaced = json["partitionToReplaceFileIds"].as_object().into_iter().flatten();
    Ok(Commit {
        operation: texts(&json["operationType"]),
        extra: extra.filter_map(|(name, value)| Some((name.clone(), texts(value)?))).collect(),
        replaced: replaced
            .map(|(partition, ids)| {
                (partition.clone(), ids.as_array().into_iter().flatten().filter_map(texts).collect())
            })
            .collect(),
    })
}

fn of_avro(value: &Avro) -> Commit {
    let field = |name: &str| match value {
        Avro::Record(fields) => fields.iter().find(|(own, _)| own == name).map(|(_, value)| plain(value)),
        _ => None,
    };
    let text = |value: &Avro| match plain(value) {
        Avro::String(text) | Avro::Enum(_, text) => Some(text.clone()),
        _ => None,
    };
    let map = |name: &str| -> Option<&HashMap<String, Avro>> {
        match field(name)? {
            Avro::Map(map) => Some(map),
            _ => None,
        }
    };
    let ids = |value: &Avro| match plain(value) {
        Avro::Array(ids) => ids.iter().filter_map(text).collect(),
        _ => vec![],
    };
    let extra = map("extraMetadata").into_iter().flatten();
    let replaced = map("partitionToReplaceFileIds").into_iter().flatten();
    Commit {
        operation: field("operationType").and_then(text),
        extra: extra.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect(),
        replaced: replaced.map(|(partition, value)| (partition.clone(), ids(value))).collect(),
    }
}

fn plain(value: &Avro) -> &Avro {
    match value {
        Avro::Union(_, value) => plain(value),
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_instants_are_understood() {
        let of = |name: &str| instant(name, &Path::from(name)).map(|instant| (instant.time, instant.completed));
        let both = |time: &str, completed: &str| Some((time.to_owned(), completed.to_owned()));
        assert_eq!(
            of("20260307162649840_20260307162651009.replacecommit"),
            both("20260307162649840", "20260307162651009")
        );
        assert_eq!(of("20250126040823628.deltacommit"), both("20250126040823628", "20250126040823628"));
        assert_eq!(of("20260307162649840.clustering.requested"), None);
        assert_eq!(of("20260307162652504_20260307162653301.indexing"), None);
        assert_eq!(begun("20260307162649840.clustering.requested"), Some("20260307162649840"));
        assert_eq!(begun("20260307162649840.inflight"), Some("20260307162649840"));
        assert_eq!((begun("20260307162649840.clean.requested"), begun("hoodie.properties")), (None, None));
        assert_eq!(
            (version_of("20250126040823"), version_of("20250126040823628")),
            (20250126040823999, 20250126040823628)
        );
        assert_eq!(time_of(20250126040823628).unwrap().to_rfc3339(), "2025-01-26T04:08:23.628+00:00");
    }
}
