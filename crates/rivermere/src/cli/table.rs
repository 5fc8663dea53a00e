//! Rows as aligned text.

use super::terminal::harmless;
use std::io::{self, Write};
use unicode_width::UnicodeWidthStr;

/// A table: columns with a name and a side, cells as text.
#[derive(Debug, Default)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

#[derive(Debug)]
struct Column {
    name: String,
    right: bool,
    width: usize,
}

impl Table {
    pub fn new() -> Self {
        Self::default()
    }

    /// A column of text.
    #[must_use]
    pub fn left(self, name: &str) -> Self {
        self.column(name, false)
    }

    /// A column of numbers.
    #[must_use]
    pub fn right(self, name: &str) -> Self {
        self.column(name, true)
    }

    #[must_use]
    pub fn column(mut self, name: &str, right: bool) -> Self {
        let name = harmless(name);
        self.columns.push(Column { width: name.width(), name, right });
        self
    }

    /// A row; cells beyond the last column are left out, missing ones are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().map(|cell| harmless(&cell)).collect();
        row.resize(self.columns.len(), String::new());
        for (column, cell) in self.columns.iter_mut().zip(&row) {
            column.width = column.width.max(cell.width());
        }
        self.rows.push(row);
    }

    /// Writes the table in psql's look.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        if self.columns.is_empty() {
            return Ok(());
        }
        self.line(out, self.columns.iter().map(|column| column.name.as_str()))?;
        let rules: Vec<String> = self.columns.iter().map(|column| "-".repeat(column.width + 2)).collect();
        writeln!(out, "{}", rules.join("+"))?;
        for row in &self.rows {
            self.line(out, row.iter().map(String::as_str))?;
        }
        Ok(())
    }

    fn line<'a>(&self, out: &mut impl Write, cells: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let mut line = String::new();
        for (index, (column, cell)) in self.columns.iter().zip(cells).enumerate() {
            let padding = " ".repeat(column.width.saturating_sub(cell.width()));
            line.push_str(if index == 0 { " " } else { " | " });
            let (before, after) = if column.right { (padding.as_str(), "") } else { ("", padding.as_str()) };
            line.push_str(before);
            line.push_str(cell);
            line.push_str(after);
        }
        writeln!(out, "{}", line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_seen() {
        let mut table = Table::new().left("name").right("rows");
        table.row(["東京".to_owned(), "1,234".to_owned()]);
        table.row(["a\u{1b}".to_owned()]);
        let mut text = Vec::new();
        table.write(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text, " name  |  rows\n-------+-------\n 東京  | 1,234\n a\\x1b |\n");
    }
}
