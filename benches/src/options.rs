//! Options of benchmarks: `--name value`.

use std::collections::BTreeMap;
use std::str::FromStr;

pub struct Options(BTreeMap<String, String>);

impl Options {
    /// Of the command line, when they are all among those `known`.
    ///
    /// # Errors
    /// With a sentence.
    pub fn read(known: &[&str]) -> Result<Self, String> {
        // Cargo itself passes `--bench`.
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        let mut options = BTreeMap::new();
        while let Some(argument) = arguments.next() {
            let name = argument.strip_prefix("--").filter(|name| known.contains(name)).ok_or_else(|| {
                let known: Vec<String> = known.iter().map(|name| format!("--{name}")).collect();
                format!("`{argument}` is none of {}", known.join(", "))
            })?;
            let value = arguments.next().ok_or_else(|| format!("--{name} takes a value"))?;
            options.insert(name.to_owned(), value);
        }
        Ok(Self(options))
    }

    /// # Errors
    /// For a value that is none of this type.
    pub fn get<T: FromStr>(&self, name: &str, usual: T) -> Result<T, String> {
        match self.0.get(name) {
            None => Ok(usual),
            Some(text) => text.parse().map_err(|_| format!("--{name} cannot be `{text}`")),
        }
    }

    /// Words with commas between, in their order.
    ///
    /// # Errors
    /// For a word that is none of the `usual` ones.
    pub fn some_of<'a>(&self, name: &str, usual: &[&'a str]) -> Result<Vec<&'a str>, String> {
        let Some(text) = self.0.get(name) else { return Ok(usual.to_vec()) };
        let known = |word: &str| usual.iter().find(|known| **known == word).copied();
        text.split(',')
            .filter(|word| !word.is_empty())
            .map(|word| known(word).ok_or_else(|| format!("--{name}: `{word}` is none of {}", usual.join(", "))))
            .collect()
    }
}
