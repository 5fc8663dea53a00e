//! `hoodie.properties`: what a table says of itself, as Java writes properties.

use std::collections::BTreeMap;

/// The words of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Properties(BTreeMap<String, String>);

impl Properties {
    /// `java.util.Properties`, "load": a name and a value in each line, with escapes; `#` and `!` begin comments.
    pub(crate) fn parse(text: &str) -> Self {
        let mut all = BTreeMap::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let mut line = line.trim_start().to_owned();
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            while continues(&line) {
                line.pop();
                line.push_str(lines.next().unwrap_or_default().trim_start());
            }
            let (name, value) = split(&line);
            all.insert(unescaped(name), unescaped(value));
        }
        Self(all)
    }

    /// A property that is there and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// As [`Properties::parse`] reads it.
    pub(crate) fn text(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{}={}\n", escaped(name), escaped(value))).collect()
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The name of a property that begins so and is not empty.
    pub(crate) fn beginning(&self, name: &str) -> Option<&str> {
        let mut all = self.0.iter().filter(|(own, value)| own.starts_with(name) && !value.is_empty());
        all.next().map(|(own, _)| own.as_str())
    }

    /// Names in one property, between commas.
    pub(crate) fn names(&self, name: &str) -> Vec<String> {
        let names = self.get(name).unwrap_or_default().split(',').map(str::trim);
        // Of a custom generator each is followed by its kind.
        let names = names.map(|name| name.split_once(':').map_or(name, |(name, _)| name));
        names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }
}

fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn split(line: &str) -> (&str, &str) {
    let mut is_escaped = false;
    for (at, char) in line.char_indices() {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '=' | ':' => return (line[..at].trim_end(), line[at + 1..].trim_start()),
            _ => {}
        }
    }
    (line, "")
}

/// With what has a meaning of its own behind a backslash, and what is not ASCII by its number.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for unit in text.encode_utf16() {
        match char::from_u32(u32::from(unit)) {
            Some('\n') => escaped.push_str("\\n"),
            Some('\r') => escaped.push_str("\\r"),
            Some('\t') => escaped.push_str("\\t"),
            Some(char @ ('\\' | '=' | ':' | '#' | '!' | ' ')) => escaped.extend(['\\', char]),
            Some(char) if char.is_ascii() && !char.is_ascii_control() => escaped.push(char),
            _ => escaped.push_str(&format!("\\u{unit:04x}")),
        }
    }
    escaped
}

fn unescaped(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let push = |plain: &mut Vec<u16>, char: char| plain.extend(char.encode_utf16(&mut [0; 2]).iter());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            push(&mut plain, char);
            continue;
        }
        match chars.next() {
            Some('n') => push(&mut plain, '\n'),
            Some('t') => push(&mut plain, '\t'),
            Some('r') => push(&mut plain, '\r'),
            Some('f') => push(&mut plain, '\u{c}'),
            Some('u') => {
                let code: String = chars.by_ref().take(4).collect();
                plain.extend(u16::from_str_radix(&code, 16).ok());
            }
            Some(other) => push(&mut plain, other),
            None => {}
        }
    }
    String::from_utf16_lossy(&plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_as_java_writes_them() {
        let text = "#Sat Mar 07\n! also\n\nhoodie.table.name=a\\:b\\=c\n schema = {\"a\"\\:1,\\\n   \"b\"\\:\\u00e9}\nempty=\nkeys=a:SIMPLE, b\n";
        let properties = Properties::parse(text);
        assert_eq!(properties.get("hoodie.table.name"), Some("a:b=c"));
        assert_eq!(properties.get("schema"), Some("{\"a\":1,\"b\":é}"));
        assert_eq!((properties.get("empty"), properties.get("none")), (None, None));
        assert_eq!(properties.names("keys"), ["a", "b"]);
        let mut odd = Properties::default();
        odd.set("a name:1", " =#!\\\té𝄞\n");
        assert_eq!(Properties::parse(&odd.text()).0, odd.0, "{}", odd.text());
    }
}
