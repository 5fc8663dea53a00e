//! Field names to slots. Records of one topic mostly name the same fields in the same order, so each name is first
//! compared with the one that came after its predecessor the last time.

use super::scan::Cell;
use super::text;
use std::collections::HashMap;

/// Names remembered beyond the wanted ones, so that maps written as objects do not fill the memory.
const MAX_LEARNED: usize = 1024;
/// Longest name that is remembered.
const MAX_NAME: usize = 256;

/// The wanted fields of an object, and what was learned about the others.
#[derive(Debug)]
pub(super) struct Keys {
    known: Vec<Known>,
    by_name: HashMap<Box<str>, usize>,
    /// Index of the name that likely opens an object.
    first: usize,
    /// Index of the name that was read last.
    last: Option<usize>,
    max_known: usize,
}

#[derive(Debug)]
struct Known {
    /// The name and its closing quote.
    quoted: Box<[u8]>,
    /// The first sixteen bytes of that, zeros behind, and which of them count.
    start: u128,
    mask: u128,
    slot: Option<usize>,
    /// Index of the name that likely follows.
    next: usize,
}

impl Known {
    fn new(quoted: Vec<u8>, slot: Option<usize>, next: usize) -> Self {
        let (mut start, mut mask) = ([0; 16], [0; 16]);
        for ((start, mask), byte) in start.iter_mut().zip(&mut mask).zip(&quoted) {
            (*start, *mask) = (*byte, u8::MAX);
        }
        let (start, mask) = (u128::from_le_bytes(start), u128::from_le_bytes(mask));
        Self { quoted: quoted.into(), start, mask, slot, next }
    }

    /// Whether `text` starts with the quoted name. Most names fit one word, which spares the call to compare memory.
    #[inline]
    fn begins(&self, text: &[u8]) -> bool {
        match text.first_chunk() {
            Some(word) if self.quoted.len() <= 16 => u128::from_le_bytes(*word) & self.mask == self.start,
            _ => text.starts_with(&self.quoted),
        }
    }
}

impl Keys {
    /// Slots are the places of the names; of equal names the first is meant.
    pub(super) fn new<'a>(wanted: impl IntoIterator<Item = &'a str>) -> Self {
        let mut keys = Self { known: Vec::new(), by_name: HashMap::new(), first: 0, last: None, max_known: usize::MAX };
        for (slot, name) in wanted.into_iter().enumerate() {
            if !keys.by_name.contains_key(name) {
                keys.learn(name, Some(slot));
            }
        }
        keys.max_known = keys.known.len() + MAX_LEARNED;
        keys
    }

    /// An object begins.
    #[inline]
    pub(super) fn start(&mut self) {
        self.last = None;
    }

    /// Whether `rest`, which starts behind a key's opening quote, is the likely name: its bytes with the closing quote,
    /// and its slot.
    #[inline]
    pub(super) fn predicted(&mut self, rest: &[u8]) -> Option<(usize, Option<usize>)> {
        let index = match self.last {
            Some(last) => self.known.get(last)?.next,
            None => self.first,
        };
        let known = self.known.get(index)?;
        if !known.begins(rest) {
            return None;
        }
        self.last = Some(index);
        Some((known.quoted.len(), known.slot))
    }

    /// The slot of a name that was not the likely one.
    pub(super) fn find(&mut self, name: &str) -> Option<usize> {
        let index = match self.by_name.get(name) {
            Some(index) => *index,
            None if self.known.len() >= self.max_known || name.len() > MAX_NAME => return None,
            None => self.learn(name, None),
        };
        match self.last.and_then(|last| self.known.get_mut(last)) {
            Some(last) => last.next = index,
            None => self.first = index,
        }
        self.last = Some(index);
        self.known.get(index).and_then(|known| known.slot)
    }

    /// The slot of a name written with escapes.
    #[cold]
    pub(super) fn find_escaped(&self, name: Cell<'_>) -> Option<usize> {
        let Cell::Escaped(raw) = name else { return None };
        let name = text::unescape(raw).ok()?;
        self.by_name.get(name.as_str()).and_then(|index| self.known.get(*index)).and_then(|known| known.slot)
    }

    fn learn(&mut self, name: &str, slot: Option<usize>) -> usize {
        let index = self.known.len();
        let mut quoted = name.as_bytes().to_vec();
        quoted.push(b'"');
        // A name that must be escaped in JSON never stands there as it is: it is found through `find_escaped` only.
        if name.bytes().any(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
            quoted.clear();
            quoted.push(0);
        }
        self.known.push(Known::new(quoted, slot, index + 1));
        self.by_name.insert(name.into(), index);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learned_order_is_predicted_and_a_change_of_order_is_found() {
        let mut keys = Keys::new(["b", "a"]);
        for names in [["x", "a", "b"], ["x", "a", "b"], ["a", "x", "b"]] {
            keys.start();
            for name in names {
                let rest = format!("{name}\": 1");
                let slot = match keys.predicted(rest.as_bytes()) {
                    Some((length, slot)) => {
                        assert_eq!(length, name.len() + 1);
                        slot
                    }
                    None => keys.find(name),
                };
                assert_eq!(slot, ["b", "a"].iter().position(|wanted| *wanted == name), "{name}");
            }
        }
        keys.start();
        assert_eq!(keys.predicted(b"a\""), Some((2, Some(1))));
        assert_eq!(keys.predicted(b"xy\""), None);
    }

    #[test]
    fn ever_new_names_stop_being_remembered() {
        let mut keys = Keys::new(["a"]);
        for number in 0..10_000 {
            assert_eq!(keys.find(&number.to_string()), None);
        }
        assert_eq!(keys.known.len(), 1 + MAX_LEARNED);
        assert_eq!(keys.find("a"), Some(0));
    }

    #[test]
    fn a_wanted_name_with_a_quote_is_found_by_its_escaped_form_only() {
        let mut keys = Keys::new(["a\"b"]);
        assert_eq!(keys.predicted(b"a\"b\""), None);
        assert_eq!(keys.find_escaped(Cell::Escaped("a\\\"b")), Some(0));
    }
}
