//! What the person at the terminal is told.

use rivermere_base::Code;
use std::fmt;

/// Why something could not be done, where, and what to do next. `Display` is the whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `RM-1234`; none when the text of another room carries its own.
    pub code: Option<Code>,
    pub message: String,
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        Self { code: Some(Code(code)), message: message.into(), hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The text of another room's error, which has its code.
    pub fn told(error: impl fmt::Display) -> Self {
        Self { code: None, message: error.to_string(), hint: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = self.code {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}
