//! The scan: checks the syntax of one value (RFC 8259) and notes where its parts are, without building anything.

use super::keys::Keys;

/// Deepest nesting that is read; deeper is a flaw.
pub(super) const MAX_DEPTH: usize = 64;

/// The flaw of a text that goes beyond it.
pub(super) const TOO_DEEP: &str = "nested too deeply";

/// One value of one column, still as text. The text of a cell has passed the scan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    /// No value and no complaint: the record is rejected already, or the parent is null.
    Absent,
    /// The object has no such field.
    Missing,
    Null,
    Boolean(bool),
    Number(&'a str),
    /// What stands between the quotes, and has no escapes.
    Text(&'a str),
    /// What stands between the quotes, escapes included.
    Escaped(&'a str),
    /// With its braces.
    Object(&'a str),
    /// With its brackets.
    Array(&'a str),
}

/// Where and how a text breaks the syntax.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Flaw {
    /// Byte of the value.
    pub(super) at: usize,
    pub(super) what: &'static str,
}

/// A place in a text.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0 }
    }

    /// The byte under the cursor, after white space.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Only white space is left.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    pub(super) fn flaw(&self, what: &'static str) -> Flaw {
        Flaw { at: self.at, what }
    }

    /// The fields of the object under the cursor: `found` is called with the slot of each wanted one.
    pub(super) fn fields(
        &mut self,
        depth: usize,
        keys: &mut Keys,
        mut found: impl FnMut(usize, Cell<'a>),
    ) -> Result<(), Flaw> {
        keys.start();
        self.object(depth, |cursor, depth| {
            let slot = match keys.predicted(cursor.rest()) {
                Some((length, slot)) => {
                    cursor.at += length;
                    slot
                }
                None => match cursor.string()? {
                    Cell::Text(name) => keys.find(name),
                    escaped => keys.find_escaped(escaped),
                },
            };
            cursor.colon()?;
            let cell = cursor.value(depth)?;
            if let Some(slot) = slot {
                found(slot, cell);
            }
            Ok(())
        })
    }

    /// The entries of the object under the cursor, keys as cells of text.
    pub(super) fn entries(&mut self, depth: usize, mut found: impl FnMut(Cell<'a>, Cell<'a>)) -> Result<(), Flaw> {
        self.object(depth, |cursor, depth| {
            let key = cursor.string()?;
            cursor.colon()?;
            found(key, cursor.value(depth)?);
            Ok(())
        })
    }

    /// The elements of the array under the cursor.
    pub(super) fn elements(&mut self, depth: usize, mut found: impl FnMut(Cell<'a>)) -> Result<(), Flaw> {
        let depth = self.deeper(depth)?;
        self.at += 1;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            found(self.value(depth)?);
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => return Err(self.flaw("expected ',' or ']' after an element")),
                None => return Err(self.flaw("the array has no end")),
            }
        }
    }

    /// Walks the object under the cursor; `field` is called behind the opening quote of each key.
    #[inline]
    fn object(
        &mut self,
        depth: usize,
        mut field: impl FnMut(&mut Self, usize) -> Result<(), Flaw>,
    ) -> Result<(), Flaw> {
        let depth = self.deeper(depth)?;
        self.at += 1;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            match self.peek() {
                Some(b'"') => self.at += 1,
                Some(_) => return Err(self.flaw("expected a field name in double quotes")),
                None => return Err(self.flaw("the object has no end")),
            }
            field(self, depth)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => return Err(self.flaw("expected ',' or '}' after a field")),
                None => return Err(self.flaw("the object has no end")),
            }
        }
    }

    /// One value of any kind.
    pub(super) fn value(&mut self, depth: usize) -> Result<Cell<'a>, Flaw> {
        let kind = self.peek();
        let start = self.at;
        match kind {
            Some(b'"') => {
                self.at += 1;
                self.string()
            }
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                Ok(Cell::Number(self.since(start)))
            }
            Some(b'n') => self.literal("null", Cell::Null),
            Some(b't') => self.literal("true", Cell::Boolean(true)),
            Some(b'f') => self.literal("false", Cell::Boolean(false)),
            Some(b'{') => {
                self.entries(depth, |_, _| {})?;
                Ok(Cell::Object(self.since(start)))
            }
            Some(b'[') => {
                self.elements(depth, |_| {})?;
                Ok(Cell::Array(self.since(start)))
            }
            Some(_) => Err(self.flaw("expected a value")),
            None => Err(self.flaw("expected a value, found the end")),
        }
    }

    fn deeper(&self, depth: usize) -> Result<usize, Flaw> {
        if depth >= MAX_DEPTH { Err(self.flaw(TOO_DEEP)) } else { Ok(depth + 1) }
    }

    #[inline]
    fn colon(&mut self) -> Result<(), Flaw> {
        if self.peek() != Some(b':') {
            return Err(self.flaw("expected ':' after a field name"));
        }
        self.at += 1;
        Ok(())
    }

    /// The rest of a string whose opening quote is behind the cursor.
    #[inline]
    fn string(&mut self) -> Result<Cell<'a>, Flaw> {
        let start = self.at;
        let mut escaped = false;
        loop {
            while let Some(word) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
                let stops = string_stops(u64::from_le_bytes(*word));
                if stops != 0 {
                    self.at += stops.trailing_zeros() as usize / 8;
                    break;
                }
                self.at += 8;
            }
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    let text = self.since(start);
                    self.at += 1;
                    return Ok(if escaped { Cell::Escaped(text) } else { Cell::Text(text) });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0..=0x1f) => return Err(self.flaw("a control character in a string must be escaped")),
                Some(_) => self.at += 1,
                None => return Err(self.flaw("the string has no end")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Flaw> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let digits = self.bytes.get(self.at + 2..self.at + 6).unwrap_or_default();
                if digits.len() != 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(self.flaw("\\u needs four hexadecimal digits"));
                }
                self.at += 6;
            }
            _ => return Err(self.flaw("unknown escape in a string")),
        }
        Ok(())
    }

    #[inline]
    fn number(&mut self) -> Result<(), Flaw> {
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.flaw("a number needs a digit")),
        }
        if let Some(b'0'..=b'9') = self.bytes.get(self.at) {
            return Err(self.flaw("a number has no leading zeros"));
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Ok(())
    }

    fn some_digits(&mut self) -> Result<(), Flaw> {
        if !self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            return Err(self.flaw("a number needs a digit"));
        }
        self.digits();
        Ok(())
    }

    #[inline]
    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    #[inline]
    fn literal(&mut self, word: &'static str, cell: Cell<'a>) -> Result<Cell<'a>, Flaw> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(self.flaw("expected a value"));
        }
        self.at += word.len();
        Ok(cell)
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Both ends stand on ASCII, so the slice is never cut inside a character.
    #[inline]
    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }
}

/// Whether a text is exactly one JSON number.
pub(super) fn is_number(text: &str) -> bool {
    let mut cursor = Cursor::new(text);
    cursor.number().is_ok() && cursor.at == text.len()
}

/// The high bit of each byte that ends a plain run in a string: a quote, a backslash or a control character. Bits above
/// the lowest set one may be wrong: the subtraction borrows only from a byte that stops.
#[inline]
fn string_stops(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let zero_in = |word: u64| word.wrapping_sub(ONES) & !word;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (zero_in(quote) | zero_in(backslash) | control) & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Result<Cell<'_>, Flaw> {
        let mut cursor = Cursor::new(text);
        let cell = cursor.value(0)?;
        if cursor.is_at_end() { Ok(cell) } else { Err(cursor.flaw("more")) }
    }

    #[test]
    fn the_first_stop_is_found_at_every_place() {
        for place in 0..8 {
            for stop in [b'"', b'\\', 0, 0x1f] {
                let mut word = *b"abc\x7f\xc3\xa4 z";
                word[place] = stop;
                assert_eq!(string_stops(u64::from_le_bytes(word)).trailing_zeros() as usize / 8, place);
            }
        }
        assert_eq!(string_stops(u64::from_le_bytes(*b"abc\x7f\xc3\xa4 !")), 0);
    }

    #[test]
    fn valid_values_are_found_whole() {
        assert_eq!(scan(r#" "a long text with \" in it" "#), Ok(Cell::Escaped(r#"a long text with \" in it"#)));
        assert_eq!(scan(r#""ä€😀 and more""#), Ok(Cell::Text("ä€😀 and more")));
        assert_eq!(scan("-0.5e+10"), Ok(Cell::Number("-0.5e+10")));
        assert_eq!(scan(" [1, {\"a\": []}] "), Ok(Cell::Array("[1, {\"a\": []}]")));
        assert_eq!(scan("{ }"), Ok(Cell::Object("{ }")));
    }

    #[test]
    fn invalid_values_are_flawed_where_they_break() {
        let cases = [
            ("", 0),
            ("tru", 0),
            ("01", 1),
            ("1.", 2),
            ("-", 1),
            ("1e", 2),
            ("+1", 0),
            (".5", 0),
            ("NaN", 0),
            ("'a'", 0),
            ("\"a", 2),
            ("\"\\x\"", 1),
            ("\"\\u12g4\"", 1),
            ("\"a\nb\"", 2),
            ("[1,]", 3),
            ("[1 2]", 3),
            ("[", 1),
            ("{\"a\" 1}", 5),
            ("{\"a\":1,}", 7),
            ("{a:1}", 1),
            ("{\"a\":1", 6),
            ("1 2", 2),
            ("//", 0),
        ];
        for (text, at) in cases {
            assert_eq!(scan(text).map_err(|flaw| flaw.at), Err(at), "{text}");
        }
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(scan(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(scan(&nested(MAX_DEPTH + 1)).unwrap_err().what, TOO_DEEP);
        assert!(scan(&"[".repeat(1_000_000)).is_err());
    }
}
