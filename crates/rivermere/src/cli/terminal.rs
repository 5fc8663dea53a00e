//! What the terminal can do, and lines that do not tear each other: the status line stays below everything else.

use clap::builder::styling::{AnsiColor, Style};
use parking_lot::Mutex;
use rivermere_base::{Clock, SystemClock};
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// The status line on stderr, when one is shown. Every other line goes through this lock.
static STATUS: Mutex<Option<String>> = Mutex::new(None);

/// Whether stderr is a terminal that a person looks at.
pub fn is_interactive() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// <https://no-color.org>: any value that is not empty.
pub fn may_color() -> bool {
    is_interactive() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

pub fn red(text: impl Display) -> String {
    styled(AnsiColor::Red.on_default().bold(), text)
}

pub fn bold(text: impl Display) -> String {
    styled(Style::new().bold(), text)
}

pub fn dim(text: impl Display) -> String {
    styled(Style::new().dimmed(), text)
}

fn styled(style: Style, text: impl Display) -> String {
    if may_color() { format!("{style}{text}{style:#}") } else { text.to_string() }
}

/// A line on stderr, above the status line. A terminal that is gone is no reason to stop.
pub fn tell(line: &str) {
    let status = STATUS.lock();
    let mut out = io::stderr().lock();
    let _ = match status.as_deref() {
        Some(status) => write!(out, "\r\x1b[2K{line}\n{status}"),
        None => writeln!(out, "{line}"),
    };
    let _ = out.flush();
}

/// Writes to stdout above the status line: on a terminal both are the same screen.
pub fn above_status<T>(write: impl FnOnce() -> T) -> T {
    let status = STATUS.lock();
    let mut err = io::stderr().lock();
    if status.is_some() {
        let _ = write!(err, "\r\x1b[2K").and_then(|()| err.flush());
    }
    let written = write();
    if let Some(line) = status.as_deref() {
        let _ = write!(err, "{line}").and_then(|()| err.flush());
    }
    written
}

/// Replaces the status line; cut to the terminal's width, since a wrapped line cannot be replaced.
fn set_status(line: &str) {
    let mut status = STATUS.lock();
    let line: String = line.chars().take(width().saturating_sub(1)).collect();
    let mut out = io::stderr().lock();
    let _ = write!(out, "\r\x1b[2K{line}").and_then(|()| out.flush());
    *status = Some(line);
}

/// Shows a state that changes: as the status line, or without a terminal as a line now and then.
#[derive(Debug)]
pub struct Moving {
    clock: SystemClock,
    last: Option<Duration>,
}

/// How often the state is written without a terminal.
const WRITTEN: Duration = Duration::from_secs(10);

impl Moving {
    pub fn new() -> Self {
        Self { clock: SystemClock::new(), last: None }
    }

    pub fn show(&mut self, line: &str) {
        if is_interactive() {
            return set_status(line);
        }
        let now = self.clock.monotonic();
        if self.last.is_none_or(|last| now.saturating_sub(last) >= WRITTEN) {
            self.last = Some(now);
            tell(line);
        }
    }
}

/// Takes the status line away.
pub fn clear_status() {
    if STATUS.lock().take().is_some() {
        let mut out = io::stderr().lock();
        let _ = write!(out, "\r\x1b[2K").and_then(|()| out.flush());
    }
}

/// Columns of the terminal; 80 when nobody knows.
pub fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns >= 20).unwrap_or(80)
}

/// Where log lines go: stderr, above the status line.
pub struct LogLines;

impl Write for LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        tell(String::from_utf8_lossy(line).trim_end_matches('\n'));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Log lines of `warn` and above, or what `RIVERMERE_LOG` asks for (`info`, `rivermere_log=debug`, …).
pub fn start_log() {
    use tracing_subscriber::EnvFilter;
    let filter = std::env::var("RIVERMERE_LOG").ok().and_then(|wanted| EnvFilter::try_new(wanted).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new("warn"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(may_color()).with_writer(|| LogLines);
    // A second start in one process keeps the first.
    let _ = lines.try_init();
}

/// Text of others without what could steer the terminal: control characters are shown as `\x1b`.
pub fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            '\r' => shown.push_str("\\r"),
            char if char.is_control() => shown.push_str(&format!("\\x{:02x}", u32::from(char))),
            char => shown.push(char),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\n\u{9b}ä"), "a\\x1b[2Jb\\n\\x9bä");
    }
}
