//! The fenced blocks of a document, with what the comment above them says.

/// A fenced block.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// Line of the opening fence, from 1.
    pub line: usize,
    /// The word behind the fence.
    pub kind: String,
    pub note: Option<Note>,
    pub text: String,
}

/// A comment directly above a block: how it is run when that is not the usual way.
#[derive(Debug, PartialEq, Eq)]
pub enum Note {
    /// `<!-- not run: REASON -->`
    NotRun(String),
    /// `<!-- file: PATH -->`: the reader writes this file.
    File(String),
    /// `<!-- fails -->`: it is shown for its error.
    Fails,
    /// `<!-- goes on -->`: what the command that still runs has printed since.
    GoesOn,
}

/// All blocks in their order.
///
/// # Errors
/// A fence that is not closed, or a note that says nothing known.
pub fn blocks(markdown: &str) -> Result<Vec<Block>, String> {
    let mut found = vec![];
    let mut above = "";
    let mut lines = markdown.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if let Some(kind) = line.trim().strip_prefix("```") {
            let mut text = String::new();
            loop {
                let Some((_, line)) = lines.next() else { return Err(format!("{}: the block has no end", index + 1)) };
                if line.trim() == "```" {
                    break;
                }
                text.push_str(line.get(indent..).unwrap_or_default());
                text.push('\n');
            }
            let note = note(above).map_err(|error| format!("{index}: {error}"))?;
            found.push(Block { line: index + 1, kind: kind.trim().into(), note, text });
        }
        above = line.trim();
    }
    Ok(found)
}

fn note(line: &str) -> Result<Option<Note>, String> {
    let Some(text) = line.strip_prefix("<!--").and_then(|line| line.strip_suffix("-->")) else { return Ok(None) };
    Ok(Some(match text.trim().split_once(": ") {
        Some(("not run", reason)) => Note::NotRun(reason.into()),
        Some(("file", path)) => Note::File(path.into()),
        None if text.trim() == "fails" => Note::Fails,
        None if text.trim() == "goes on" => Note::GoesOn,
        // Some other comment of the document.
        _ if !text.contains("run") => return Ok(None),
        _ => return Err(format!("'{line}' is no note: <!-- not run: REASON -->, file: PATH, fails or goes on")),
    }))
}

/// The commands of a shell block: lines, with those that a backslash joins, and with the rest of a here-document.
pub fn commands(text: &str) -> Vec<String> {
    let mut commands = vec![];
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let mut command = line.to_string();
        while command.ends_with('\\') {
            let Some(next) = lines.next() else { break };
            command = format!("{command}\n{next}");
        }
        if let Some((_, end)) = command.split_once("<<") {
            let end = end.trim().trim_matches('\'').to_string();
            for next in lines.by_ref() {
                command = format!("{command}\n{next}");
                if next == end {
                    break;
                }
            }
        }
        commands.push(command);
    }
    commands
}

#[test]
fn blocks_have_their_kind_line_and_note() {
    let text = "one\n<!-- not run: it costs money -->\n```sh\nbuy\n```\n\n```sql\nSELECT 1;\n```\n";
    let found = blocks(text).unwrap();
    let expected =
        Block { line: 3, kind: "sh".into(), note: Some(Note::NotRun("it costs money".into())), text: "buy\n".into() };
    assert_eq!(found[0], expected);
    assert_eq!((found[1].line, found[1].kind.as_str(), &found[1].note), (7, "sql", &None));
    assert!(blocks("```sh\nls\n").is_err());
    assert!(blocks("<!-- not run -->\n```sh\nls\n```\n").is_err());
}

#[test]
fn commands_are_joined_by_backslash_and_here_document() {
    let text = "# a comment\nls \\\n  -l\n\ncat > f <<'END'\na\nEND\npwd\n";
    assert_eq!(commands(text), ["ls \\\n  -l", "cat > f <<'END'\na\nEND", "pwd"]);
}
