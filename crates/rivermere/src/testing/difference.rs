//! What is expected against what is there: as multisets, floats to a tolerance, and the difference as a table.
//!
//! ```text
//!     origin | departures | avg_delay
//!   - JFK    |          1 |        10
//!   + LGA    |          1 |        -4
//!   ~ EWR    |     2 -> 3 |       2.5
//! ```

use super::rows::{Cell, Column, Rows};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use unicode_width::UnicodeWidthStr;

/// Relative to the larger number, and absolute below 1.
const TOLERANCE: f64 = 1e-9;
/// Rows of a difference that are shown.
const SHOWN_ROWS: usize = 40;
/// Columns wider than this are cut.
const SHOWN_WIDTH: usize = 60;
/// Pairs that are tried when floats alone tell rows apart.
const TRIED_PAIRS: usize = 1_000_000;

/// How rows differ from what was expected of them. `Display` is a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    columns: Vec<Column>,
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq)]
enum Line {
    Missing(Vec<Cell>),
    Unexpected(Vec<Cell>),
    /// Both have a row of this key: expected and found.
    Changed(Vec<Cell>, Vec<Cell>),
}

/// Compares rows of the same columns. `key` names columns that tell rows apart, if any do.
pub(super) fn difference(expected: &Rows, found: &Rows, key: &[String]) -> Option<Difference> {
    let mut groups: BTreeMap<Vec<&str>, (Vec<&Vec<Cell>>, Vec<&Vec<Cell>>)> = BTreeMap::new();
    for row in &expected.rows {
        groups.entry(exact(row)).or_default().0.push(row);
    }
    for row in &found.rows {
        groups.entry(exact(row)).or_default().1.push(row);
    }
    let (mut missing, mut unexpected) = (vec![], vec![]);
    for (expected, found) in groups.into_values() {
        let (left, right) = unmatched(expected, found);
        missing.extend(left);
        unexpected.extend(right);
    }
    if missing.is_empty() && unexpected.is_empty() {
        return None;
    }
    Some(Difference { columns: found.columns.clone(), lines: lines(missing, unexpected, &found.columns, key) })
}

/// What two rows must have in common to the letter.
fn exact(row: &[Cell]) -> Vec<&str> {
    let text = |cell| match cell {
        &Cell::Null => "null",
        Cell::Float(_) => "",
        Cell::Json(json) => json.as_str(),
    };
    row.iter().map(text).collect()
}

type Refs<'a> = Vec<&'a Vec<Cell>>;

/// Takes rows that are the same away in pairs. Sorted rows match side by side; what is left after that, because floats
/// that are almost the same were sorted the other way round, is tried with each other.
fn unmatched<'a>(mut expected: Refs<'a>, mut found: Refs<'a>) -> (Refs<'a>, Refs<'a>) {
    expected.sort_by(|a, b| order(a, b));
    found.sort_by(|a, b| order(a, b));
    let (mut missing, mut unexpected) = (vec![], vec![]);
    let (mut left, mut right) = (expected.into_iter().peekable(), found.into_iter().peekable());
    loop {
        match (left.peek(), right.peek()) {
            (Some(a), Some(b)) if same(a, b) => {
                left.next();
                right.next();
            }
            (Some(a), Some(b)) if order(a, b) == Ordering::Less => missing.extend(left.next()),
            (_, Some(_)) => unexpected.extend(right.next()),
            (Some(_), None) => missing.extend(left.next()),
            (None, None) => break,
        }
    }
    if missing.len().saturating_mul(unexpected.len()) <= TRIED_PAIRS {
        missing.retain(|row| match unexpected.iter().position(|other| same(row, other)) {
            Some(index) => {
                unexpected.remove(index);
                false
            }
            None => true,
        });
    }
    (missing, unexpected)
}

fn order(a: &[Cell], b: &[Cell]) -> Ordering {
    let float = |cell: &Cell| match cell {
        Cell::Float(float) => *float,
        _ => 0.0,
    };
    let orders = a.iter().zip(b).map(|(a, b)| float(a).total_cmp(&float(b)));
    orders.fold(Ordering::Equal, Ordering::then)
}

fn same(a: &[Cell], b: &[Cell]) -> bool {
    a.iter().zip(b).all(|(a, b)| match (a, b) {
        (Cell::Float(a), Cell::Float(b)) => close(*a, *b),
        _ => a == b,
    })
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0)
}

/// Rows of one key are told as one change. Of the key's columns those that are compared count, as long as they still
/// tell the rows apart.
fn lines(missing: Refs<'_>, unexpected: Refs<'_>, columns: &[Column], key: &[String]) -> Vec<Line> {
    let places: Vec<usize> =
        key.iter().filter_map(|name| columns.iter().position(|column| column.name == *name)).collect();
    let mut by_key: BTreeMap<Vec<String>, (Refs<'_>, Refs<'_>)> = BTreeMap::new();
    let key_of = |row: &Vec<Cell>| places.iter().filter_map(|place| row.get(*place)).map(Cell::shown).collect();
    for row in missing {
        by_key.entry(key_of(row)).or_default().0.push(row);
    }
    for row in unexpected {
        by_key.entry(key_of(row)).or_default().1.push(row);
    }
    let (mut lines, mut unexpected, mut changed) = (vec![], vec![], vec![]);
    for (_, (left, right)) in by_key {
        match (left.as_slice(), right.as_slice()) {
            ([expected], [found]) if !places.is_empty() => {
                changed.push(Line::Changed((*expected).clone(), (*found).clone()));
            }
            _ => {
                lines.extend(left.into_iter().cloned().map(Line::Missing));
                unexpected.extend(right.into_iter().cloned().map(Line::Unexpected));
            }
        }
    }
    lines.extend(unexpected);
    lines.extend(changed);
    lines
}

impl Line {
    fn mark(&self) -> char {
        match self {
            Self::Missing(_) => '-',
            Self::Unexpected(_) => '+',
            Self::Changed(..) => '~',
        }
    }

    fn cells(&self) -> Vec<String> {
        let cells = match self {
            Self::Missing(cells) | Self::Unexpected(cells) => cells.iter().map(Cell::shown).collect::<Vec<_>>(),
            Self::Changed(expected, found) => expected
                .iter()
                .zip(found)
                .map(|(a, b)| match same(std::slice::from_ref(a), std::slice::from_ref(b)) {
                    true => b.shown(),
                    false => format!("{} -> {}", a.shown(), b.shown()),
                })
                .collect(),
        };
        cells.into_iter().map(cut).collect()
    }
}

fn cut(text: String) -> String {
    if text.width() <= SHOWN_WIDTH {
        return text;
    }
    let mut cut: String = text.chars().take(SHOWN_WIDTH - 1).collect();
    cut.push('…');
    cut
}

impl Difference {
    /// For programs: the rows of each kind as objects.
    pub fn json(&self) -> serde_json::Value {
        let object = |cells: &[Cell]| -> serde_json::Value {
            let fields = self.columns.iter().zip(cells).map(|(column, cell)| (column.name.clone(), cell.json()));
            serde_json::Value::Object(fields.collect())
        };
        let (mut missing, mut unexpected, mut changed) = (vec![], vec![], vec![]);
        for line in &self.lines {
            match line {
                Line::Missing(cells) => missing.push(object(cells)),
                Line::Unexpected(cells) => unexpected.push(object(cells)),
                Line::Changed(expected, found) => {
                    changed.push(serde_json::json!({ "expected": object(expected), "found": object(found) }));
                }
            }
        }
        serde_json::json!({ "missing": missing, "unexpected": unexpected, "changed": changed })
    }

    /// What the marks of the table mean, for those that are in it.
    pub fn legend(&self) -> String {
        let marks = [
            ('-', "- expected and not there"),
            ('+', "+ there and not expected"),
            ('~', "~ another value than expected: expected -> found"),
        ];
        let used = marks.iter().filter(|(mark, _)| self.lines.iter().any(|line| line.mark() == *mark));
        used.map(|(_, text)| *text).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header: Vec<String> = self.columns.iter().map(|column| cut(column.name.clone())).collect();
        let lines: Vec<(char, Vec<String>)> =
            self.lines.iter().take(SHOWN_ROWS).map(|line| (line.mark(), line.cells())).collect();
        let width = |index: usize| {
            let cells = lines.iter().filter_map(|(_, cells)| cells.get(index)).chain(header.get(index));
            cells.map(|cell| cell.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        let line = |mark: char, cells: &[String]| {
            let mut text = format!("{mark} ");
            for (index, (cell, column)) in cells.iter().zip(&self.columns).enumerate() {
                let padding = " ".repeat(widths.get(index).copied().unwrap_or(0).saturating_sub(cell.width()));
                let (before, after) = if column.is_number { (padding.as_str(), "") } else { ("", padding.as_str()) };
                text.push_str(if index == 0 { "" } else { " | " });
                text.push_str(before);
                text.push_str(cell);
                text.push_str(after);
            }
            text.trim_end().to_owned()
        };
        f.write_str(&line(' ', &header))?;
        for (mark, cells) in &lines {
            write!(f, "\n{}", line(*mark, cells))?;
        }
        match self.lines.len().saturating_sub(lines.len()) {
            0 => Ok(()),
            more => write!(f, "\n  … and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(&str, i64, f64)]) -> Rows {
        let column = |name: &str, is_number| Column { name: name.into(), is_number };
        let cells = |(origin, count, delay): &(&str, i64, f64)| {
            vec![Cell::Json(format!("\"{origin}\"")), Cell::Json(count.to_string()), Cell::Float(*delay)]
        };
        Rows {
            columns: vec![column("origin", false), column("departures", true), column("avg_delay", true)],
            rows: rows.iter().map(cells).collect(),
        }
    }

    fn shown(expected: &Rows, found: &Rows, key: &[&str]) -> String {
        let key: Vec<String> = key.iter().map(|name| (*name).to_string()).collect();
        difference(expected, found, &key).map(|difference| difference.to_string()).unwrap_or_default()
    }

    #[test]
    fn order_does_not_matter_and_number_does() {
        let twice = rows(&[("EWR", 1, 0.5), ("JFK", 2, 1.0), ("EWR", 1, 0.5)]);
        assert_eq!(shown(&rows(&[("JFK", 2, 1.0), ("EWR", 1, 0.5), ("EWR", 1, 0.5)]), &twice, &[]), "");
        let once = rows(&[("JFK", 2, 1.0), ("EWR", 1, 0.5)]);
        let table = "  origin | departures | avg_delay\n+ EWR    |          1 |       0.5";
        assert_eq!(shown(&once, &twice, &[]), table);
    }

    #[test]
    fn floats_are_compared_to_nine_digits() {
        let expected = rows(&[("EWR", 1, 0.3), ("EWR", 1, 1e12), ("EWR", 1, f64::NAN)]);
        assert_eq!(
            shown(&expected, &rows(&[("EWR", 1, 1e12 + 10.0), ("EWR", 1, f64::NAN), ("EWR", 1, 0.1 + 0.2)]), &[]),
            ""
        );
        assert!(!shown(&rows(&[("EWR", 1, 0.3)]), &rows(&[("EWR", 1, 0.300_000_01)]), &[]).is_empty());
        // Sorted by the first float they stand crosswise.
        let cells = |pairs: [(f64, f64); 2]| Rows {
            columns: ["a", "b"].map(|name| Column { name: name.into(), is_number: true }).to_vec(),
            rows: pairs.iter().map(|(a, b)| vec![Cell::Float(*a), Cell::Float(*b)]).collect(),
        };
        assert_eq!(shown(&cells([(1.0, 5.0), (1.0 + 1e-12, 7.0)]), &cells([(1.0 + 1e-12, 5.0), (1.0, 7.0)]), &[]), "");
    }

    #[test]
    fn a_row_of_the_same_key_is_one_change() {
        let expected = rows(&[("EWR", 2, 2.5), ("JFK", 1, 10.0)]);
        let found = rows(&[("EWR", 3, 2.5), ("LGA", 1, -4.0)]);
        let table = "  origin | departures | avg_delay\n\
                     - JFK    |          1 |        10\n\
                     + LGA    |          1 |        -4\n\
                     ~ EWR    |     2 -> 3 |       2.5";
        assert_eq!(shown(&expected, &found, &["origin"]), table);
        assert!(shown(&expected, &found, &[]).contains("- EWR    |          2"), "without a key there are only rows");
        assert!(!shown(&expected, &found, &["window"]).contains('~'), "a key that is not compared tells nothing");
        assert_eq!(shown(&expected, &found, &["origin", "window"]), table, "a part of a key may be enough");
        let twice = rows(&[("EWR", 3, 2.5), ("EWR", 4, 2.5)]);
        assert!(!shown(&expected, &twice, &["origin", "window"]).contains('~'), "and it may not");
    }

    #[test]
    fn programs_get_objects() {
        let found = difference(&rows(&[("EWR", 2, 2.5)]), &rows(&[("EWR", 3, 2.5)]), &["origin".into()]).unwrap();
        assert_eq!(found.legend(), "~ another value than expected: expected -> found");
        let changed = &found.json()["changed"][0];
        assert_eq!((&changed["expected"]["departures"], &changed["found"]["departures"]), (&2.into(), &3.into()));
    }

    #[test]
    fn a_long_difference_is_cut() {
        let many: Vec<(&str, i64, f64)> = (0..100).map(|n| ("EWR", n, 0.0)).collect();
        let table = shown(&rows(&[]), &rows(&many), &[]);
        assert_eq!(table.lines().count(), 1 + SHOWN_ROWS + 1);
        assert!(table.ends_with("… and 60 more"), "{table}");
    }
}
