//! The documents, taken at their word: every block that a reader would type is run, in order, and what a document shows
//! after it is what must come out.
//!
//! | kind of block | what happens |
//! |---|---|
//! | `sh` | runs in bash, in a temporary folder with the built `rivermere` on the PATH |
//! | `sql` | goes to the running platform through `rivermere sql` |
//! | `python` | runs in the Python that the tests have |
//! | `text`, `json` | is what the block before it must print |
//! | `mermaid` | is a picture |
//!
//! `rivermere run` and the demo keep running, as they do for a reader, on free ports: the addresses of the documents are
//! replaced on the way in and back again on the way out. A command that only reads is asked again until it answers as
//! shown, for a while: views follow a moment later than records, and tables some seconds.
//!
//! A comment above a block changes that: see [`blocks::Note`]. Anything else fails, so that no block is forgotten.

mod blocks;
mod compare;
mod session;

use crate::process::checkout;
use blocks::{Block, Note, blocks};
use session::Session;

/// Where a document starts.
enum World {
    /// In an empty folder; the document starts what it needs.
    Nothing,
    /// With the project that getting-started.md makes, running.
    Orders,
    /// With a running project that has no statements, and the demo's files in its data folder.
    Files,
}

fn read(document: &str) -> Vec<Block> {
    let text = std::fs::read_to_string(checkout().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
    blocks(&text).unwrap_or_else(|error| panic!("{document}:{error}"))
}

/// Runs a document to its end. Its first mistake fails the test.
fn check(document: &str, world: &World) {
    let mut session = Session::new();
    match world {
        World::Nothing => {}
        World::Orders => {
            for block in read("docs/getting-started.md") {
                if let Some(Note::File(path)) = &block.note {
                    session.write(path, &block.text);
                }
            }
            session.start(&["run", "orders"]);
        }
        World::Files => {
            session.write("project/rivermere.toml", "name = \"project\"\n");
            for file in ["planes.parquet", "airports.parquet"] {
                session.copy(&checkout().join("projects/flights/data").join(file), &format!("project/data/{file}"));
            }
            session.start(&["run", "project"]);
        }
    }
    let all = read(document);
    let mut blocks = all.iter().peekable();
    while let Some(block) = blocks.next() {
        let place = format!("{document}:{}", block.line);
        let shown = |next: &&Block| matches!(next.kind.as_str(), "text" | "json") && next.note.is_none();
        match (block.kind.as_str(), &block.note) {
            (_, Some(Note::NotRun(reason))) => println!("{place}: not run: {reason}"),
            (_, Some(Note::File(path))) => session.write(path, &block.text),
            ("text", Some(Note::GoesOn)) => session.goes_on(&place, &block.text),
            ("sh" | "sql" | "python", note @ (None | Some(Note::Fails))) => {
                let expected = blocks.next_if(shown);
                println!("{place}: {}", block.text.trim_end());
                session.run(&place, block, expected, note.is_some());
            }
            ("mermaid", None) => {}
            ("text" | "json", None) => {
                panic!("{place}: this is no output of a block before it; say why with <!-- not run: REASON -->")
            }
            (kind, note) => panic!("{place}: nobody knows how to run '{kind}' ({note:?})"),
        }
    }
}

#[test]
fn the_readme_does_what_it_says() {
    check("README.md", &World::Nothing);
}

#[test]
fn getting_started_does_what_it_says() {
    check("docs/getting-started.md", &World::Nothing);
}

#[test]
fn sql_does_what_it_says() {
    check("docs/sql.md", &World::Files);
}

#[test]
fn topics_does_what_it_says() {
    check("docs/topics.md", &World::Orders);
}

#[test]
fn tables_does_what_it_says() {
    check("docs/tables.md", &World::Orders);
}

#[test]
fn http_does_what_it_says() {
    check("docs/http.md", &World::Orders);
}

#[test]
fn operations_does_what_it_says() {
    check("docs/operations.md", &World::Orders);
}

#[test]
fn other_documents_do_what_they_say() {
    let here = include_str!("mod.rs");
    for entry in std::fs::read_dir(checkout().join("docs")).unwrap() {
        let document = format!("docs/{}", entry.unwrap().file_name().to_str().unwrap());
        if document.ends_with(".md") && !here.contains(&format!("check(\"{document}\"")) {
            check(&document, &World::Orders);
        }
    }
}
