//! The prompt: several lines up to a semicolon, history over sessions, names by Tab.

use super::super::failure::{Failure, Outcome};
use super::super::instance::Instance;
use super::super::terminal;
use super::commands::{self, Next, Settings};
use super::{Output, Shown, answer, split};
use reedline::{
    Completer, DefaultHinter, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder, Prompt, PromptEditMode,
    PromptHistorySearch, Reedline, ReedlineEvent, ReedlineMenu, Signal, Span, Suggestion, ValidationResult, Validator,
    default_emacs_keybindings,
};
use rivermere_base::{Clock, SystemClock};
use rivermere_serve::ViewInfo;
use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// Rows that the prompt draws of one answer.
const SHOWN_ROWS: usize = 1_000;
const HISTORY_LINES: usize = 10_000;
const MENU: &str = "names";

const KEYWORDS: &[&str] = &[
    "AND",
    "AS",
    "ASC",
    "AVG",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COUNT",
    "CREATE",
    "DESC",
    "DESCRIBE",
    "DESCRIPTOR",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EXPLAIN",
    "FROM",
    "GROUP",
    "HAVING",
    "HOP",
    "IN",
    "INSERT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MATERIALIZED",
    "MAX",
    "MIN",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "ORDER",
    "OVER",
    "PARTITION",
    "ROW_NUMBER",
    "SELECT",
    "SHOW",
    "STREAMING",
    "SUM",
    "TABLE",
    "TABLES",
    "THEN",
    "TOPICS",
    "TUMBLE",
    "UNION",
    "VALUES",
    "VIEW",
    "VIEWS",
    "WATERMARK",
    "WATERMARKS",
    "WHEN",
    "WHERE",
    "WITH",
];

/// Reads and runs statements until Ctrl-D. A statement that fails ends nothing.
pub fn run(instance: &Instance, output: Output) -> Outcome {
    let status = instance.status()?;
    let name = terminal::harmless(&status.name);
    terminal::tell(&format!("{} on {}; \\? lists what there is beside SQL", terminal::bold(&name), instance.url()));
    let mut editor = editor(instance)?;
    let prompt = SqlPrompt { name };
    let mut settings = Settings { output, timing: false };
    let clock = SystemClock::new();
    loop {
        let read = editor.read_line(&prompt);
        let text = match read {
            Ok(Signal::Success(text)) => text,
            Ok(Signal::CtrlC) => continue,
            Ok(_) => return Ok(()),
            Err(error) => return Err(Failure::new(format!("RM-7144: the terminal could not be read: {error}"))),
        };
        let started = clock.monotonic();
        let mut out = BufWriter::new(io::stdout().lock());
        let done = run_text(&text, instance, &mut settings, &mut out);
        out.flush()?;
        drop(out);
        match done {
            Ok(Next::Prompt) => {}
            Ok(Next::End) => return Ok(()),
            Err(failure) if failure.is_reader_left() => return Ok(()),
            Err(failure) => failure.print(),
        }
        if settings.timing && !text.trim_start().starts_with('\\') {
            let took = clock.monotonic().saturating_sub(started);
            terminal::tell(&terminal::dim(format!("{:.1} ms", took.as_secs_f64() * 1000.0)));
        }
    }
}

fn run_text(text: &str, instance: &Instance, settings: &mut Settings, out: &mut impl Write) -> Result<Next, Failure> {
    if text.trim_start().starts_with('\\') {
        return commands::run(text, instance, settings, out);
    }
    if matches!(text.trim().trim_end_matches(';').to_ascii_lowercase().as_str(), "quit" | "exit") {
        return Ok(Next::End);
    }
    for statement in split::statements(text) {
        answer::run(instance, statement.text, settings.output, Shown::First(SHOWN_ROWS), out)?;
    }
    Ok(Next::Prompt)
}

fn editor(instance: &Instance) -> Result<Reedline, Failure> {
    let mut keys = default_emacs_keybindings();
    let complete = vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext];
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, ReedlineEvent::UntilFound(complete));
    let menu = reedline::ColumnarMenu::default().with_name(MENU);
    let editor = Reedline::create()
        .with_validator(Box::new(UntilSemicolon))
        .with_completer(Box::new(Names::of(instance)))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_hinter(Box::new(DefaultHinter::default()))
        .with_ansi_colors(terminal::may_color())
        .use_bracketed_paste(true);
    // A folder that cannot be written costs the history of this session and nothing else.
    let history = history_file().and_then(|path| FileBackedHistory::with_file(HISTORY_LINES, path).ok());
    Ok(match history {
        Some(history) => editor.with_history(Box::new(history)),
        None => editor,
    })
}

/// `$XDG_STATE_HOME/rivermere/sql_history`, which is below `~/.local/state` by default.
fn history_file() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("rivermere/sql_history"))
}

struct SqlPrompt {
    name: String,
}

impl Prompt for SqlPrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Owned(format!("{:>width$} ", ".", width = self.name.chars().count() + 1))
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Owned(format!("(search '{}') ", search.term))
    }
}

struct UntilSemicolon;

impl Validator for UntilSemicolon {
    fn validate(&self, text: &str) -> ValidationResult {
        let is_word = matches!(text.trim().to_ascii_lowercase().as_str(), "quit" | "exit");
        if is_word || split::is_complete(text) { ValidationResult::Complete } else { ValidationResult::Incomplete }
    }
}

/// Names of views, their columns and topics, and the words of the dialect.
struct Names(Vec<String>);

impl Names {
    fn of(instance: &Instance) -> Self {
        let mut names: Vec<String> = KEYWORDS.iter().map(|word| (*word).to_owned()).collect();
        // Without names there is still a prompt.
        let views: Vec<ViewInfo> = instance.get("/v1/views").unwrap_or_default();
        for view in views {
            names.extend(view.columns.into_iter().map(|column| column.name));
            names.push(view.name);
        }
        let nodes = instance.status().map(|status| status.nodes).unwrap_or_default();
        names.extend(nodes.into_iter().map(|node| node.label));
        names.sort_unstable();
        names.dedup();
        Self(names)
    }
}

impl Completer for Names {
    fn complete(&mut self, line: &str, position: usize) -> Vec<Suggestion> {
        let before = line.get(..position).unwrap_or_default();
        let start = before
            .rfind(|char: char| !char.is_alphanumeric() && char != '_')
            .map_or(0, |at| at + before.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8));
        let typed = before.get(start..).unwrap_or_default().to_lowercase();
        if typed.is_empty() {
            return vec![];
        }
        let found = self.0.iter().filter(|name| name.to_lowercase().starts_with(&typed));
        found
            .map(|name| Suggestion {
                value: name.clone(),
                span: Span { start, end: position },
                append_whitespace: true,
                ..Suggestion::default()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_in_any_case_and_after_any_sign() {
        let mut names = Names(vec!["SELECT".into(), "delays".into(), "départ".into()]);
        let mut complete = |line: &str| -> Vec<String> {
            names.complete(line, line.len()).into_iter().map(|found| found.value).collect()
        };
        assert_eq!(complete("sel"), ["SELECT"]);
        assert_eq!(complete("SELECT (del"), ["delays"]);
        assert_eq!(complete("SELECT é.dé"), ["départ"]);
        assert!(complete("SELECT ").is_empty());
    }
}
