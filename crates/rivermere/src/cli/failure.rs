//! Why a word failed, as the terminal shows it: `error: …`, then what to do next.

use super::terminal;
use std::io;
use std::process::ExitCode;

/// Exit code of a wrong command line.
pub const USAGE: u8 = 2;
const FAILED: u8 = 1;

/// What a word that did not succeed has to say.
#[derive(Debug)]
pub struct Failure {
    text: String,
    hint: Option<String>,
    exit: u8,
}

pub type Outcome = Result<(), Failure>;

impl Failure {
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None, exit: FAILED }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What to do next, unless that is said already.
    #[must_use]
    pub fn or_hint(mut self, hint: &str) -> Self {
        self.hint = self.hint.or_else(|| Some(hint.to_owned()));
        self
    }

    /// Ends with this exit code.
    #[must_use]
    pub fn exit(mut self, code: u8) -> Self {
        self.exit = code;
        self
    }

    /// The command line is at fault.
    #[must_use]
    pub fn usage(mut self) -> Self {
        self.exit = USAGE;
        self
    }

    /// The reader of our output went away: there is nobody to tell, and nothing went wrong.
    pub fn reader_left() -> Self {
        Self { text: String::new(), hint: None, exit: 0 }
    }

    /// Says in which of several statements it happened.
    #[must_use]
    pub fn in_statement(mut self, place: Option<&str>) -> Self {
        if let Some(place) = place.filter(|_| !self.text.is_empty()) {
            self.text = format!("{}\n  in {place}", self.text);
        }
        self
    }

    /// Adds lines below the message, such as the line that it is about.
    #[must_use]
    pub fn pointing(mut self, lines: impl FnOnce(&str) -> Option<String>) -> Self {
        if let Some(lines) = lines(&self.text) {
            self.text = format!("{}\n{lines}", self.text);
        }
        self
    }

    /// Whether the word may end without a message.
    pub fn is_reader_left(&self) -> bool {
        self.exit == 0
    }

    /// Writes the failure to stderr.
    pub fn print(&self) {
        if !self.text.is_empty() {
            let hint = self.hint.as_ref().map(|hint| format!("\n  hint: {}", hint.replace('\n', "\n        ")));
            terminal::tell(&format!("{} {}{}", terminal::red("error:"), self.text, hint.unwrap_or_default()));
        }
    }

    /// Prints the failure and gives the exit code.
    pub fn report(&self) -> ExitCode {
        self.print();
        ExitCode::from(self.exit)
    }
}

/// For writes to stdout.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::reader_left(),
            _ => Self::new(format!("RM-7101: the output could not be written: {error}")),
        }
    }
}

impl From<rivermere_log::kafka::client::ClientError> for Failure {
    fn from(error: rivermere_log::kafka::client::ClientError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<rivermere::Problem> for Failure {
    fn from(problem: rivermere::Problem) -> Self {
        let code = problem.code.map(|code| format!("{code}: ")).unwrap_or_default();
        Self { text: format!("{code}{}", problem.message), hint: problem.hint, exit: FAILED }
    }
}
