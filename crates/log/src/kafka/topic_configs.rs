//! The settings a topic can have, with Kafka's names, types and defaults (KIP-133, topic configs of Kafka 4).
//!
//! Followed by the log: `max.message.bytes` and `message.timestamp.type`. The others are kept and shown, because clients
//! set them and tools list them; nothing is deleted or compacted by them yet, so the defaults say so.

use std::collections::BTreeMap;

/// Kafka's numbers of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub(super) enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
}

const fn config(name: &'static str, kind: Kind, default: &'static str) -> Config {
    Config { name, kind, default }
}

const MAX_LONG: &str = "9223372036854775807";

pub(super) const CONFIGS: &[Config] = &[
    config("cleanup.policy", Kind::List, "delete"),
    config("compression.gzip.level", Kind::Int, "-1"),
    config("compression.lz4.level", Kind::Int, "9"),
    config("compression.type", Kind::String, "producer"),
    config("compression.zstd.level", Kind::Int, "3"),
    config("delete.retention.ms", Kind::Long, "86400000"),
    config("file.delete.delay.ms", Kind::Long, "60000"),
    config("flush.messages", Kind::Long, "1"),
    config("flush.ms", Kind::Long, MAX_LONG),
    config("follower.replication.throttled.replicas", Kind::List, ""),
    config("index.interval.bytes", Kind::Int, "16384"),
    config("leader.replication.throttled.replicas", Kind::List, ""),
    config("local.retention.bytes", Kind::Long, "-2"),
    config("local.retention.ms", Kind::Long, "-2"),
    config("max.compaction.lag.ms", Kind::Long, MAX_LONG),
    config("max.message.bytes", Kind::Int, "1048588"),
    config("message.timestamp.after.max.ms", Kind::Long, MAX_LONG),
    config("message.timestamp.before.max.ms", Kind::Long, MAX_LONG),
    config("message.timestamp.type", Kind::String, "CreateTime"),
    config("min.cleanable.dirty.ratio", Kind::Double, "0.5"),
    config("min.compaction.lag.ms", Kind::Long, "0"),
    config("min.insync.replicas", Kind::Int, "1"),
    config("preallocate", Kind::Boolean, "false"),
    config("remote.log.copy.disable", Kind::Boolean, "false"),
    config("remote.log.delete.on.disable", Kind::Boolean, "false"),
    config("remote.storage.enable", Kind::Boolean, "false"),
    config("retention.bytes", Kind::Long, "-1"),
    config("retention.ms", Kind::Long, "-1"),
    config("segment.bytes", Kind::Int, "134217728"),
    config("segment.index.bytes", Kind::Int, "10485760"),
    config("segment.jitter.ms", Kind::Long, "0"),
    config("segment.ms", Kind::Long, "604800000"),
    config("unclean.leader.election.enable", Kind::Boolean, "false"),
];

/// A setting with the value that counts.
#[derive(Clone, Debug)]
pub(super) struct Effective {
    pub config: &'static Config,
    pub value: String,
    pub is_default: bool,
}

impl Effective {
    /// Kafka's number for where the value comes from.
    pub fn source(&self) -> i8 {
        const TOPIC: i8 = 1;
        const DEFAULT: i8 = 5;
        if self.is_default { DEFAULT } else { TOPIC }
    }
}

/// All settings of a topic that sets `configs`.
pub(super) fn effective(configs: &BTreeMap<String, String>) -> impl Iterator<Item = Effective> {
    CONFIGS.iter().map(|config| {
        let set = configs.get(config.name);
        Effective { config, value: set.map_or(config.default, |value| value).to_owned(), is_default: set.is_none() }
    })
}

/// Whether the setting exists and the value fits, else what is wrong.
pub(super) fn check(name: &str, value: &str) -> Result<(), String> {
    let Some(config) = CONFIGS.iter().find(|config| config.name == name) else {
        return Err(format!("RM-2078: there is no topic setting '{name}'"));
    };
    let fits = match config.kind {
        Kind::Boolean => matches!(value, "true" | "false"),
        Kind::Int => value.parse::<i32>().is_ok(),
        Kind::Long => value.parse::<i64>().is_ok(),
        Kind::Double => value.parse::<f64>().is_ok_and(f64::is_finite),
        Kind::String | Kind::List => match name {
            "cleanup.policy" => value.split(',').all(|word| matches!(word.trim(), "delete" | "compact")),
            "message.timestamp.type" => matches!(value, "CreateTime" | "LogAppendTime"),
            "compression.type" => {
                matches!(value, "producer" | "uncompressed" | "none" | "gzip" | "snappy" | "lz4" | "zstd")
            }
            _ => true,
        },
    };
    if fits { Ok(()) } else { Err(format!("RM-2079: '{value}' is no value of the topic setting '{name}'")) }
}

/// The largest batch that clients may send.
pub(super) fn max_message_bytes(configs: &BTreeMap<String, String>) -> usize {
    const DEFAULT: usize = 1_048_588;
    configs.get("max.message.bytes").and_then(|value| value.parse().ok()).unwrap_or(DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_setting() {
        for config in CONFIGS {
            assert_eq!(check(config.name, config.default), Ok(()), "{}", config.name);
        }
        let max = CONFIGS.iter().find(|config| config.name == "max.message.bytes").unwrap();
        assert_eq!(max.default, max_message_bytes(&BTreeMap::new()).to_string());
    }

    #[test]
    fn an_unknown_setting_or_value_is_refused() {
        assert!(check("retention.weeks", "1").unwrap_err().starts_with("RM-2078"));
        assert!(check("retention.ms", "soon").unwrap_err().starts_with("RM-2079"));
        assert!(check("cleanup.policy", "compact,delete").is_ok());
    }
}
