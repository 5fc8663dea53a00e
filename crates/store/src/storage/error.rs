//! Why a storage cannot be used.

use super::address::Scheme;
use object_store::Error as StoreError;
use rivermere_base::Code;

/// Why a storage was not opened, or must not be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The part before the colon names nothing we know.
    #[error("RM-1110: '{scheme}:' is no storage: use {}{}", Scheme::all(), did_you_mean(suggestion))]
    UnknownScheme {
        scheme: String,
        /// The known scheme that was probably meant.
        suggestion: Option<&'static str>,
    },
    /// The URL is not of the form its storage wants. Nothing secret is in `url`.
    #[error("RM-1111: '{url}' {problem}: write it as {form}")]
    Address { url: String, problem: String, form: &'static str },
    /// An option that this kind of storage does not have.
    #[error("RM-1112: {storage} has no option '{option}'{}: it has {known}", did_you_mean(suggestion))]
    UnknownOption { storage: &'static str, option: String, suggestion: Option<&'static str>, known: String },
    /// An option whose value cannot be used. The value is not told: it may be a secret.
    #[error("RM-1113: the option '{option}' must be {expected}")]
    OptionValue { option: &'static str, expected: &'static str },
    /// Credentials would go over the network in the clear.
    #[error(
        "RM-1114: the endpoint {endpoint} is not encrypted: use https, or set allow_http = true if the network between \
         is trusted"
    )]
    NotEncrypted { endpoint: String },
    /// Credentials that are named, but missing or of no use.
    #[error("RM-1115: no credentials for {storage}: {problem}")]
    Credentials { storage: &'static str, problem: String },
    /// The client of the storage refused its configuration.
    #[error("RM-1116: {url} cannot be opened: {source}")]
    Client { url: String, source: StoreError },
    /// A second writer was told that it created what a first one had created.
    #[error(
        "RM-1117: {url} lets two writers create the same object, so two commits of a table could both succeed: {problem}. \
         Use a storage that honours If-None-Match (S3 itself does)"
    )]
    NotAtomic { url: String, problem: String },
    /// The storage does not answer as it should.
    #[error("RM-1118: {url} cannot be written: {source}")]
    Unusable { url: String, source: StoreError },
}

impl StorageError {
    /// The code that the text begins with.
    pub fn code(&self) -> Code {
        Code(match self {
            Self::UnknownScheme { .. } => 1110,
            Self::Address { .. } => 1111,
            Self::UnknownOption { .. } => 1112,
            Self::OptionValue { .. } => 1113,
            Self::NotEncrypted { .. } => 1114,
            Self::Credentials { .. } => 1115,
            Self::Client { .. } => 1116,
            Self::NotAtomic { .. } => 1117,
            Self::Unusable { .. } => 1118,
        })
    }
}

fn did_you_mean(suggestion: &Option<&'static str>) -> String {
    suggestion.map_or(String::new(), |suggestion| format!("; did you mean '{suggestion}'?"))
}

/// The candidate that a misspelt word most likely stands for: one slip for every four letters, and one more.
pub(super) fn suggest(wrong: &str, known: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    let wrong = wrong.to_ascii_lowercase();
    let slips = wrong.chars().count() / 4 + 1;
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&wrong, word), word))
        .filter(|(distance, _)| *distance <= slips)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}
