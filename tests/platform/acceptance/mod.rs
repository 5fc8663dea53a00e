//! Data of other projects with the answers that an implementation must give; `RIVERMERE_ACCEPTANCE` names its folder.

use crate::harness::{assert_views_equal_batch, eventually, produce, sql, start, stop, write_project};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The folder of acceptance data; without it the test says that it is skipped.
fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("RIVERMERE_ACCEPTANCE").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: RIVERMERE_ACCEPTANCE is not set");
    }
    folder
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file's header and its rows.
fn csv(path: &Path) -> (Vec<String>, Vec<Vec<String>>) {
    let text = read(path);
    let mut records = text.lines().map(fields);
    let header = records.next().unwrap_or_else(|| panic!("{} is empty", path.display()));
    (header, records.collect())
}

/// The fields of a line, some of them in quotes.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (vec![], String::new(), false);
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => field.extend(rest.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

/// A value as text that does not depend on who wrote it: numbers to twelve digits, times without zeros at their ends.
fn plain(text: &str) -> String {
    if let Ok(number) = text.parse::<f64>() {
        return format!("{number:.11e}");
    }
    let is_time = text.len() >= 19 && text.as_bytes()[4] == b'-' && text.as_bytes()[13] == b':';
    match is_time {
        true if text.contains('.') => text.replace('T', " ").trim_end_matches('0').trim_end_matches('.').into(),
        true => text.replace('T', " "),
        false => text.into(),
    }
}

fn of_json(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::String(text) => plain(text),
        other => plain(&other.to_string()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nexmark_in_batch_and_as_views_gives_the_rows_of_others() {
    let Some(data) = data().map(|data| data.join("nexmark")) else { return };
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), include_str!("nexmark.sql"));
    let assembly =
        start(folder.path(), &folder.path().join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    // In pieces and turns, so that views change many times.
    let inputs = ["person", "auction", "bid"].map(|table| (table, csv(&data.join(format!("inputs/{table}.csv")))));
    for turn in 0..8 {
        for (table, (header, rows)) in &inputs {
            let object = |row: &Vec<String>| {
                let is_number = |name: &str| {
                    ["id", "initial_bid", "reserve", "seller", "category", "auction", "bidder", "price"].contains(&name)
                };
                let field = |(name, value): (&String, &String)| match is_number(name) {
                    true => (name.clone(), Value::from(value.parse::<i64>().unwrap())),
                    false => (name.clone(), Value::from(value.as_str())),
                };
                Value::Object(header.iter().zip(row).map(field).collect::<Map<_, _>>()).to_string()
            };
            let records: Vec<String> = rows.iter().skip(turn).step_by(8).map(object).collect();
            produce(&assembly, table, &records).await;
        }
    }
    eventually("the views", || assembly.is_settled().then_some(())).await;
    let catalogue: Value = serde_json::from_str(&read(&data.join("catalogue.json"))).unwrap();
    let mut right = 0;
    for entry in catalogue["entries"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        let (header, rows) = csv(&data.join(entry["expected"].as_str().unwrap()));
        let mut expected: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|value| plain(value)).collect()).collect();
        expected.sort();
        for from in [name.to_string(), format!("batch('{name}')")] {
            let found = sql(&assembly, &format!("SELECT * FROM {from}")).unwrap_or_else(|error| panic!("{error}"));
            let row = |row: &Value| header.iter().map(|column| of_json(&row[column])).collect::<Vec<_>>();
            let mut found: Vec<Vec<String>> = found.as_array().unwrap().iter().map(row).collect();
            found.sort();
            let different = found.iter().zip(&expected).find(|(found, expected)| found != expected);
            assert_eq!(different, None, "{from}: a row, and the one in its place");
            assert_eq!(found.len(), expected.len(), "{from}");
        }
        println!("{name}: {} rows, as expected", expected.len());
        right += 1;
    }
    assert_eq!(right, 16, "all of the catalogue");
    assert_views_equal_batch(&assembly);
    stop(assembly).await;
}
