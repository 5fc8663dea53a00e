//! Just enough of Rust's syntax to tell code from comments and text, and tests from the rest.

/// A source file, line by line.
#[derive(Debug, Default)]
pub struct Source {
    pub lines: Vec<Line>,
    /// Modules declared `#[cfg(test)] mod name;`, whose code is in another file.
    pub test_modules: Vec<String>,
}

#[derive(Debug, Default, Clone)]
pub struct Line {
    /// The code, with what stands between quotes left out.
    pub code: String,
    /// The line comment, from its first slash.
    pub comment: String,
    /// Whether the line belongs to something that exists only for tests.
    pub in_tests: bool,
}

impl Source {
    pub fn parse(text: &str) -> Source {
        let mut source = Source { lines: separate(text), test_modules: Vec::new() };
        source.mark_tests();
        source
    }

    /// Follows the braces after each `#[cfg(test)]` and `#[test]`.
    fn mark_tests(&mut self) {
        let mut depth = 0_usize;
        // Waiting for the item behind an attribute; the depth at which the item of tests began.
        let (mut pending, mut inside): (bool, Option<usize>) = (false, None);
        for line in &mut self.lines {
            let code = line.code.trim().to_owned();
            if inside.is_none() && is_for_tests(&code) {
                pending = true;
            }
            line.in_tests = pending || inside.is_some();
            let item = code.rsplit(']').next().unwrap_or(&code).trim();
            if pending && let Some(name) = item.strip_suffix(';').and_then(declared_module) {
                self.test_modules.push(name.to_owned());
            }
            for c in code.chars() {
                match c {
                    '{' => {
                        if pending {
                            (pending, inside) = (false, Some(depth));
                        }
                        depth += 1;
                    }
                    '}' => {
                        depth = depth.saturating_sub(1);
                        if inside == Some(depth) {
                            inside = None;
                        }
                    }
                    ';' => pending = false,
                    _ => {}
                }
            }
        }
    }
}

/// `#[test]`, `#[tokio::test]`, `#[cfg(test)]`, `#[cfg(all(test, unix))]`; not `#[cfg(not(test))]`.
fn is_for_tests(code: &str) -> bool {
    let Some(attribute) = code.strip_prefix("#[") else { return false };
    let attribute = attribute.split(']').next().unwrap_or(attribute);
    let name = attribute.split('(').next().unwrap_or(attribute);
    if name == "cfg" {
        let words: Vec<&str> = attribute.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        return words.contains(&"test") && !words.contains(&"not");
    }
    name == "test" || name.ends_with("::test")
}

/// `pub(crate) mod name` -> `name`
fn declared_module(item: &str) -> Option<&str> {
    let (before, name) = item.rsplit_once("mod ")?;
    let visibility = before.trim();
    (visibility.is_empty() || visibility.starts_with("pub")).then(|| name.trim())
}

/// Separates code from comments, and empties what stands between quotes.
fn separate(text: &str) -> Vec<Line> {
    #[derive(PartialEq)]
    enum Inside {
        Code,
        LineComment,
        /// How deep block comments are nested.
        BlockComment(usize),
        Text,
        /// How many `#` close it.
        RawText(usize),
    }
    let mut lines = vec![Line::default()];
    let mut inside = Inside::Code;
    let characters: Vec<char> = text.chars().collect();
    let at = |index: usize| characters.get(index).copied().unwrap_or('\0');
    let mut i = 0;
    while i < characters.len() {
        let (c, next) = (at(i), at(i + 1));
        if c == '\n' {
            if inside == Inside::LineComment {
                inside = Inside::Code;
            }
            lines.push(Line::default());
            i += 1;
            continue;
        }
        let Some(line) = lines.last_mut() else { break };
        i += 1;
        match &mut inside {
            Inside::Code => match (c, next) {
                ('/', '/') => {
                    line.comment.push(c);
                    inside = Inside::LineComment;
                }
                ('/', '*') => {
                    i += 1;
                    inside = Inside::BlockComment(1);
                }
                ('"', _) => {
                    line.code.push(c);
                    let hashes = raw_hashes(&line.code);
                    inside = hashes.map_or(Inside::Text, Inside::RawText);
                }
                // A character, unless it is a lifetime: 'a' and '\n', but not 'a.
                ('\'', _) => {
                    line.code.push(c);
                    if next == '\\' {
                        i += 2;
                        while i < characters.len() && at(i) != '\'' && at(i) != '\n' {
                            i += 1;
                        }
                        i += usize::from(at(i) == '\'');
                    } else if at(i + 1) == '\'' {
                        i += 2;
                    }
                }
                _ => line.code.push(c),
            },
            Inside::LineComment => line.comment.push(c),
            Inside::BlockComment(depth) => match (c, next) {
                ('/', '*') => {
                    *depth += 1;
                    i += 1;
                }
                ('*', '/') => {
                    *depth -= 1;
                    i += 1;
                    if *depth == 0 {
                        inside = Inside::Code;
                    }
                }
                _ => {}
            },
            Inside::Text => match c {
                '\\' if next != '\n' => i += 1,
                '"' => {
                    line.code.push(c);
                    inside = Inside::Code;
                }
                _ => {}
            },
            Inside::RawText(hashes) => {
                if c == '"' && (0..*hashes).all(|offset| at(i + offset) == '#') {
                    line.code.push(c);
                    i += *hashes;
                    inside = Inside::Code;
                }
            }
        }
    }
    lines
}

/// For code that ends with the opening quote of raw text, `r#"` or `br"`: how many `#` it has.
fn raw_hashes(code: &str) -> Option<usize> {
    let before = code.strip_suffix('"')?;
    let without = before.trim_end_matches('#');
    let prefix = without.strip_suffix('r')?;
    let prefix = prefix.strip_suffix(['b', 'c']).unwrap_or(prefix);
    (!prefix.ends_with(|c: char| c.is_alphanumeric() || c == '_')).then(|| before.len() - without.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Vec<String> {
        Source::parse(text).lines.into_iter().map(|line| line.code.trim().to_owned()).collect()
    }

    #[test]
    fn comments_and_text_are_not_code() {
        assert_eq!(code("a(\"x // y\"); // z"), ["a(\"\");"]);
        assert_eq!(code("a /* b /* c */ d */ e"), ["a  e"]);
        assert_eq!(code("a(\"one\\\"two\", 'x')"), ["a(\"\", ')"]);
        assert_eq!(code("a(r#\"say \"hi\" \"#, b)"), ["a(r#\"\", b)"]);
    }

    #[test]
    fn a_brace_in_a_character_is_not_counted_and_a_lifetime_is_not_a_character() {
        let text = "#[cfg(test)]\nmod tests {\n    const OPEN: char = '{';\n    const QUOTE: char = '\\'';\n}\nfn f<'a>(x: &'a str) {}\n";
        let source = Source::parse(text);
        assert!(source.lines[3].in_tests);
        assert!(!source.lines[5].in_tests, "{:?}", source.lines);
        assert_eq!(source.lines[5].code, "fn f<'a>(x: &'a str) {}");
    }

    #[test]
    fn text_over_several_lines_keeps_the_line_numbers() {
        assert_eq!(code("a(\"one\n two {\n three\");\nb"), ["a(\"", "", "\");", "b"]);
    }

    #[test]
    fn what_is_for_tests_is_known_by_its_attribute() {
        assert!(is_for_tests("#[cfg(test)]"));
        assert!(is_for_tests("#[cfg(all(test, unix))]"));
        assert!(is_for_tests("#[tokio::test(flavor = \"\")]"));
        assert!(!is_for_tests("#[cfg(not(test))]"));
        assert!(!is_for_tests("#[cfg(feature = \"\")]"));
    }
}
