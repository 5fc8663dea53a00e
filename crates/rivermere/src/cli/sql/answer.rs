//! The rows of an answer, as the terminal or a program wants them.
//!
//! JSON and CSV are passed on as they come. A table is made of newline-delimited JSON: its numbers keep the digits that
//! they came with, and nulls differ from empty text.

use super::super::failure::{Failure, Outcome};
use super::super::instance::Instance;
use super::super::table::Table;
use super::super::terminal::harmless;
use super::{Output, caret};
use rivermere::quantities::{count, counted};
use serde::de::IgnoredAny;
use std::io::{self, BufRead, BufReader, Read, Write};

/// The longest row of a table.
const MAX_ROW_BYTES: u64 = 64 << 20;
/// The largest answer that is drawn as a table: its widths are known only at the end.
const MAX_TABLE_BYTES: usize = 256 << 20;

/// How much of an answer a table shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    All,
    First(usize),
}

/// Runs one statement and writes its rows.
pub fn run(instance: &Instance, statement: &str, output: Output, shown: Shown, out: &mut impl Write) -> Outcome {
    let accept = match output {
        Output::Table => "application/x-ndjson",
        Output::Json => "application/json",
        Output::Csv => "text/csv",
    };
    let answered = instance.sql(statement, accept);
    let body =
        answered.map_err(|failure| failure.pointing(|message| caret::point_at(message, statement)))?.into_reader();
    match output {
        Output::Table => write_table(body, shown, out),
        Output::Json => copy(body, out).and_then(|()| Ok(out.write_all(b"\n")?)),
        Output::Csv => copy(body, out),
    }
}

/// A body that breaks off is no answer, even though rows were written: the exit code says so.
fn broken_off(error: &io::Error) -> Failure {
    Failure::new(format!("RM-7142: the answer broke off: {error}")).hint(
        "the statement failed on the way or has too many rows (1,000,000 at most); the log of the process says which",
    )
}

fn copy(mut body: impl Read, out: &mut impl Write) -> Outcome {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => out.write_all(buffer.get(..length).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken_off(&error)),
        }
    }
}

fn write_table(body: impl Read, shown: Shown, out: &mut impl Write) -> Outcome {
    let mut body = BufReader::with_capacity(64 * 1024, body);
    let limit = match shown {
        Shown::All => usize::MAX,
        Shown::First(rows) => rows,
    };
    let mut rows = Vec::new();
    let (mut total, mut bytes) = (0_u64, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut body).take(MAX_ROW_BYTES).read_until(b'\n', &mut line).map_err(|error| broken_off(&error))?;
        if read == 0 {
            break;
        }
        total += 1;
        if rows.len() < limit {
            bytes += read;
            if bytes > MAX_TABLE_BYTES {
                return Err(Failure::new("RM-7143: the answer is too large to be drawn as a table")
                    .hint("add a LIMIT, or ask for --output csv"));
            }
            rows.push(read_row(&line).ok_or_else(|| {
                Failure::new("RM-7142: the answer holds a line that is no row")
                    .hint("does another program listen there?")
            })?);
        }
    }
    draw(&rows, out)?;
    let more =
        if total > rows.len() as u64 { format!(", the first {}", count(rows.len() as u64)) } else { String::new() };
    writeln!(out, "({}{more})", counted(total, "row"))?;
    Ok(())
}

fn draw(rows: &[Vec<(String, Cell)>], out: &mut impl Write) -> Outcome {
    let Some(first) = rows.first() else { return Ok(()) };
    // What EXPLAIN answers is a text with lines, not a table.
    if first.last().is_some_and(|(name, _)| name == "plan") && first.len() <= 2 {
        for line in rows.iter().flat_map(|row| row.iter().map(|(_, cell)| cell.text())) {
            line.lines().try_for_each(|line| writeln!(out, "{}", harmless(line)))?;
        }
        return Ok(());
    }
    let mut table = Table::new();
    for (index, (name, _)) in first.iter().enumerate() {
        let cells = || rows.iter().filter_map(|row| row.get(index)).map(|(_, cell)| cell);
        let is_number = cells().all(|cell| matches!(cell, Cell::Number(_) | Cell::Null))
            && cells().any(|cell| matches!(cell, Cell::Number(_)));
        table = table.column(name, is_number);
    }
    for row in rows {
        table.row(row.iter().map(|(_, cell)| cell.text()));
    }
    table.write(out)?;
    Ok(())
}

/// A value of a row, in the digits and words that it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cell {
    Null,
    Number(String),
    Text(String),
    /// Truth values, lists and objects.
    Json(String),
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Number(text) | Self::Text(text) | Self::Json(text) => text.clone(),
        }
    }
}

/// The columns of a JSON object in their order. Values are cut out of the text instead of parsed, so that a decimal or a
/// long integer keeps its digits.
fn read_row(line: &[u8]) -> Option<Vec<(String, Cell)>> {
    let mut rest = Rest(line);
    let mut row = Vec::new();
    rest.take(b'{')?;
    if rest.take(b'}').is_some() {
        return Some(row);
    }
    loop {
        let name = serde_json::from_slice(rest.value()?).ok()?;
        rest.take(b':')?;
        let value = rest.value()?;
        let text = || String::from_utf8_lossy(value).into_owned();
        let cell = match value.first()? {
            b'"' => Cell::Text(serde_json::from_slice(value).ok()?),
            b'n' => Cell::Null,
            b'-' | b'0'..=b'9' => Cell::Number(text()),
            _ => Cell::Json(text()),
        };
        row.push((name, cell));
        if rest.take(b',').is_none() {
            return rest.take(b'}').map(|()| row);
        }
    }
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, wanted: u8) -> Option<()> {
        let (byte, rest) = self.0.trim_ascii_start().split_first()?;
        (*byte == wanted).then(|| self.0 = rest)
    }

    /// The bytes of the next JSON value.
    fn value(&mut self) -> Option<&'a [u8]> {
        let text = self.0.trim_ascii_start();
        let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        let (value, rest) = text.split_at_checked(values.byte_offset())?;
        self.0 = rest;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, shown: Shown, expected: &str) {
        let mut text = Vec::new();
        write_table(body.as_bytes(), shown, &mut text).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn tables_keep_digits_and_align_numbers() {
        let body = "{\"origin\":\"JFK\",\"n\":9007199254740993,\"part\":1.10,\"list\":[1,{\"a\":\"}\"}]}\n\
            {\"origin\":null,\"n\":2,\"part\":null,\"list\":null}\n";
        let expected = "\
\x20origin |                n | part | list
--------+------------------+------+---------------
 JFK    | 9007199254740993 | 1.10 | [1,{\"a\":\"}\"}]
        |                2 |      |
(2 rows)
";
        check(body, Shown::All, expected);
    }

    #[test]
    fn a_prompt_shows_the_first_rows_and_counts_all() {
        check("{\"n\":1}\n{\"n\":2}\n", Shown::First(1), " n\n---\n 1\n(2 rows, the first 1)\n");
        check("", Shown::All, "(0 rows)\n");
        check("{\"plan\":\"Aggregate\\n  Scan\"}\n", Shown::All, "Aggregate\n  Scan\n(1 row)\n");
    }

    #[test]
    fn a_line_that_is_no_row_is_an_error() {
        for body in ["x\n", "{\"a\":}\n", "{\"a\":1\n", "[1]\n"] {
            assert!(write_table(body.as_bytes(), Shown::All, &mut Vec::new()).is_err(), "{body}");
        }
    }
}
