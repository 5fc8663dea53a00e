//! Newtypes for the numbers and names that must never be mixed up.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The one after this.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A checkpoint of the whole pipeline: its manifest decides state, source positions and sinks together.
    /// Epochs are dense and start at 1; 0 means "before the first".
    Epoch(u64)
);
number!(
    /// A micro-batch of input, run through all operators once. Steps restart at 0 with each process.
    Step(u64)
);
number!(
    /// The place of a record in a partition; dense from 0.
    Offset(i64)
);
number!(
    /// A partition of a topic; dense from 0.
    PartitionId(i32)
);

/// A topic's name: 1 to 249 of `A-Z a-z 0-9 . _ -`, and neither `.` nor `..` (Kafka's rule).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(std::sync::Arc<str>);

/// Why a text is no topic name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("RM-1001: '{name}' is not a topic name: use 1 to 249 of A-Z a-z 0-9 . _ - (and not '.' or '..')")]
pub struct TopicNameError {
    name: String,
}

impl TopicName {
    /// # Errors
    /// When the name is empty, too long or has another character.
    pub fn new(name: impl AsRef<str>) -> Result<Self, TopicNameError> {
        let name = name.as_ref();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 249 || name == "." || name == ".." || !name.chars().all(allowed) {
            return Err(TopicNameError { name: name.chars().take(300).collect() });
        }
        Ok(Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for TopicName {
    type Error = TopicNameError;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(name)
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> Self {
        name.0.to_string()
    }
}

/// A stable error code, printed as `RM-1234`. Thousands name the room: 1 base and files, 2 topics, 3 SQL, 4 streams,
/// 5 tables, 6 serving, 7 the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code(pub u16);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RM-{:04}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rule() {
        for good in ["flights", "a.b_c-D9", &"x".repeat(249)] {
            assert!(TopicName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(TopicName::new(bad).is_err(), "{bad}");
        }
    }
}
