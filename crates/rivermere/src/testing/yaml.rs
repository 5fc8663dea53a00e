//! YAML whose errors have a place.
//!
//! The values of `serde_norway` do not know where they stood. A wrong one is found again by its path: the text is read
//! once more by a reader that goes down the path and stops there.

use crate::Problem;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_norway::Value;
use std::fmt;
use std::sync::Arc;

/// A file's text and what it says.
#[derive(Debug)]
struct Document {
    /// The file's name in messages.
    shown: String,
    text: String,
}

/// One turn on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Turn {
    Key(String),
    Item(usize),
}

/// Where a value stands.
#[derive(Clone, Debug)]
pub(super) struct Place {
    document: Arc<Document>,
    path: Vec<Turn>,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// Reads a file's text. Merge keys (`<<: *other`) are resolved.
///
/// # Errors
/// When it is no YAML.
pub(super) fn parse(shown: &str, text: String) -> Result<Node, Problem> {
    let parsed = serde_norway::from_str::<Value>(&text).and_then(|mut value| {
        value.apply_merge()?;
        Ok(value)
    });
    let document = Arc::new(Document { shown: shown.to_owned(), text });
    match parsed {
        Ok(value) => Ok(Node { value, place: Place { document, path: vec![] } }),
        Err(error) => {
            let place = error.location().map(|location| (location.line(), location.column()));
            let text = error.to_string();
            // The place is told with its line.
            let message = text.split(" at line ").next().unwrap_or(&text);
            Err(document.wrong(place, &format!("this is no YAML: {message}")))
        }
    }
}

impl Document {
    fn wrong(&self, place: Option<(usize, usize)>, message: &str) -> Problem {
        let Some((line, column)) = place else {
            return Problem::new(7301, format!("{message}\n --> {}", self.shown));
        };
        let source = self.text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        let keep_tabs = |char| if char == '\t' { '\t' } else { ' ' };
        let indent: String = source.chars().take(column.saturating_sub(1)).map(keep_tabs).collect();
        Problem::new(
            7301,
            format!(
                "{message}\n{margin} --> {}:{line}:{column}\n{margin} |\n{number} | {source}\n{margin} | {indent}^",
                self.shown
            ),
        )
    }
}

impl Place {
    /// `tests/late.yaml:12`, the line of its key.
    pub(super) fn shown(&self) -> String {
        match self.find(true) {
            Some((line, _)) => format!("{}:{line}", self.document.shown),
            None => self.document.shown.clone(),
        }
    }

    /// The file's name, as it is shown.
    pub(super) fn file(&self) -> &str {
        &self.document.shown
    }

    /// The problem with this value.
    pub(super) fn wrong(&self, message: impl AsRef<str>) -> Problem {
        self.document.wrong(self.find(false), message.as_ref())
    }

    /// The problem with the key of this value.
    pub(super) fn wrong_key(&self, message: impl AsRef<str>) -> Problem {
        self.document.wrong(self.find(true), message.as_ref())
    }

    /// Line and column. What a merge has put here is written elsewhere: then it is the value around it.
    fn find(&self, at_key: bool) -> Option<(usize, usize)> {
        (0..=self.path.len()).rev().find_map(|length| {
            let path = self.path.get(..length).unwrap_or_default();
            let seek = Seek { path, at_key: at_key && length == self.path.len() };
            let error = seek.deserialize(serde_norway::Deserializer::from_str(&self.document.text)).err()?;
            error.to_string().contains(FOUND).then_some(())?;
            error.location().map(|location| (location.line(), location.column()))
        })
    }

    fn inner(&self, turn: Turn) -> Self {
        let mut path = self.path.clone();
        path.push(turn);
        Self { document: self.document.clone(), path }
    }
}

impl Node {
    /// The fields of a mapping, all of which must be known.
    pub(super) fn fields(&self, what: &str, known: &[&str]) -> Result<Vec<(String, Node)>, Problem> {
        let fields = self.any_fields(what)?;
        for (name, node) in &fields {
            if !known.contains(&name.as_str()) {
                let problem = node.place.wrong_key(format!("{what} has no '{name}'; it may have {}", known.join(", ")));
                return Err(suggesting(problem, name, known.iter().copied()));
            }
        }
        Ok(fields)
    }

    /// The fields of a mapping whose names mean something to the caller.
    pub(super) fn any_fields(&self, what: &str) -> Result<Vec<(String, Node)>, Problem> {
        let Value::Mapping(mapping) = &self.value else {
            return Err(self.place.wrong(format!("{what} is a mapping, and this is {}", kind(&self.value))));
        };
        let field = |(key, value): (&Value, &Value)| {
            let Some(name) = scalar(key) else {
                return Err(self.place.wrong(format!("the names in {what} are texts, and one is {}", kind(key))));
            };
            let place = self.place.inner(Turn::Key(name.clone()));
            Ok((name, Node { value: value.clone(), place }))
        };
        mapping.iter().map(field).collect()
    }

    /// The items of a list.
    pub(super) fn items(&self, what: &str) -> Result<Vec<Node>, Problem> {
        let Value::Sequence(items) = &self.value else {
            return Err(self.place.wrong(format!("{what} is a list, and this is {}", kind(&self.value))));
        };
        let item =
            |(index, value): (usize, &Value)| Node { value: value.clone(), place: self.place.inner(Turn::Item(index)) };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// A text; numbers are taken as they are written.
    pub(super) fn text(&self, what: &str) -> Result<String, Problem> {
        scalar(&self.value)
            .ok_or_else(|| self.place.wrong(format!("{what} is a text, and this is {}", kind(&self.value))))
    }

    /// A whole number in a range.
    pub(super) fn whole(&self, what: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, Problem> {
        self.value.as_u64().filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = range.into_inner();
            self.place.wrong(format!("{what} is a whole number from {least} to {most}"))
        })
    }
}

/// Adds a did-you-mean, when a name is close.
pub(super) fn suggesting<'a>(problem: Problem, wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Problem {
    match rivermere_sql::suggestion(wrong, names) {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(bool) => Some(bool.to_string()),
        _ => None,
    }
}

/// What a value is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
        Value::Tagged(_) => "a value with a tag",
    }
}

/// What the reader says when it is where it was sent.
const FOUND: &str = "here it is";

/// Goes down a path and fails where it ends, since a failure is what has a place.
struct Seek<'a> {
    path: &'a [Turn],
    at_key: bool,
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.path {
            [] => deserializer.deserialize_any(Stop),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Turn::Key(wanted), rest)) = self.path.split_first() else {
            return Err(serde::de::Error::custom("it is a mapping"));
        };
        let stop = self.at_key && rest.is_empty();
        while let Some(is_wanted) = map.next_key_seed(SeekKey { wanted, stop })? {
            if is_wanted {
                map.next_value_seed(Seek { path: rest, at_key: self.at_key })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some((Turn::Item(wanted), rest)) = self.path.split_first() else {
            return Err(serde::de::Error::custom("it is a list"));
        };
        for _ in 0..*wanted {
            items.next_element::<IgnoredAny>()?;
        }
        items.next_element_seed(Seek { path: rest, at_key: self.at_key })?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Fails on whatever it is given.
struct Stop;

impl<'de> Visitor<'de> for Stop {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FOUND)
    }
}

struct SeekKey<'a> {
    wanted: &'a str,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for SeekKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

/// Keys are compared as they are written.
impl Visitor<'_> for SeekKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<bool, E> {
        match (name == self.wanted, self.stop) {
            (true, true) => Err(E::custom(FOUND)),
            (is_wanted, _) => Ok(is_wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a:\n  - b: 1\n    c: [2,\n        3]\nd: &d {e: 4}\nf: {<<: *d}\n";

    fn find(path: &[Turn], at_key: bool) -> Option<(usize, usize)> {
        let node = parse("t.yaml", TEXT.into()).unwrap();
        Place { path: path.to_vec(), ..node.place }.find(at_key)
    }

    #[test]
    fn values_and_keys_are_found_again() {
        let [a, c, d, e, f] = ["a", "c", "d", "e", "f"].map(|name| Turn::Key(name.into()));
        let item = Turn::Item;
        assert_eq!(find(std::slice::from_ref(&a), true), Some((1, 1)));
        assert_eq!(find(&[a.clone(), item(0), c.clone(), item(1)], false), Some((4, 9)));
        assert_eq!(find(&[a, item(0), c], true), Some((3, 5)));
        assert_eq!(find(&[d, e.clone()], false), Some((5, 11)));
        // A merged value is told where it was merged.
        assert_eq!(find(&[f, e], true), Some((6, 4)));
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let told = parse("t.yaml", "a: [1\nb: 2\n".into()).unwrap_err().to_string();
        assert!(told.contains("RM-7301: this is no YAML") && told.contains("t.yaml:2:"), "{told}");
        let told = parse("t.yaml", "a: 1\na: 2\n".into()).unwrap_err().to_string();
        assert!(told.contains("duplicate"), "{told}");
    }

    #[test]
    fn an_unknown_name_is_pointed_at() {
        let node = parse("t.yaml", "given: []\nexpcet: {}\n".into()).unwrap();
        let told = node.fields("a test", &["given", "expect"]).unwrap_err().to_string();
        let expected = "RM-7301: a test has no 'expcet'; it may have given, expect\n  --> t.yaml:2:1\n  |\n\
                        2 | expcet: {}\n  | ^\n  hint: did you mean 'expect'?";
        assert_eq!(told, expected);
    }
}
