//! The project's chores, as `cargo xtask WORD`.
//!
//! One file or folder per word. This file knows the words, their help and what to say about an unknown one. Every word
//! runs from any folder of the checkout and ends with exit code 0 (good), 1 (what it looked at is not good) or 2 (it was
//! asked wrongly).

mod bench;
mod checkout;
mod demo_data;
mod install;
mod peers;
mod test;
mod tidy;

use std::process::ExitCode;

/// What a word answers: whether what it looked at is good, or why it could not look.
pub type Outcome = Result<bool, Problem>;

/// Why a word could not do its work, in words for the person who typed it.
#[derive(Debug)]
pub enum Problem {
    /// The command line is wrong; exit code 2.
    Usage(String),
    /// Something else is; exit code 1.
    Other(String),
}

impl From<String> for Problem {
    fn from(message: String) -> Self {
        Problem::Other(message)
    }
}

struct Word {
    name: &'static str,
    line: &'static str,
    help: &'static str,
    run: fn(&[String]) -> Outcome,
}

const WORDS: &[Word] = &[
    Word { name: "test", line: "install what the tests need, then run everything", help: test::HELP, run: test::run },
    Word { name: "tidy", line: "check the rules that no compiler checks", help: tidy::HELP, run: tidy::run },
    Word { name: "bench", line: "run the benchmarks", help: bench::HELP, run: bench::run },
    Word {
        name: "demo-data",
        line: "make the demo's Parquet files from their source",
        help: demo_data::HELP,
        run: demo_data::run,
    },
    Word { name: "peers", line: "start a real system to compare with", help: peers::HELP, run: peers::run },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(Problem::Other(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(1)
        }
        Err(Problem::Usage(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(arguments: &[String]) -> Outcome {
    let Some((first, rest)) = arguments.split_first() else {
        print!("{}", help());
        return Ok(true);
    };
    if matches!(first.as_str(), "help" | "--help" | "-h") {
        match rest.first() {
            Some(name) => print!("{}", word(name)?.help),
            None => print!("{}", help()),
        }
        return Ok(true);
    }
    let word = word(first)?;
    if rest.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{}", word.help);
        return Ok(true);
    }
    (word.run)(rest)
}

fn help() -> String {
    let mut text = String::from("The project's chores.\n\nusage: cargo xtask WORD [ARGUMENTS]\n\n");
    for word in WORDS {
        text.push_str(&format!("  {:<10} {}\n", word.name, word.line));
    }
    text.push_str(
        "\n`cargo xtask WORD --help` says more about one.\n\nexamples:\n  cargo xtask test\n  cargo xtask tidy\n",
    );
    text
}

fn word(name: &str) -> Result<&'static Word, Problem> {
    WORDS.iter().find(|word| word.name == name).ok_or_else(|| unknown("word", name, WORDS.iter().map(|word| word.name)))
}

/// The error for something that is none of `known`, with the nearest of them when one is near.
pub fn unknown<'a>(kind: &str, given: &str, known: impl Iterator<Item = &'a str>) -> Problem {
    let known: Vec<&str> = known.collect();
    let nearest = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(given, candidate), *candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 3)
        .map(|(_, candidate)| format!(" Did you mean `{candidate}`?"));
    let list = if known.is_empty() { String::from("there are none") } else { known.join(", ") };
    Problem::Usage(format!("unknown {kind} `{given}`.{} Known: {list}.", nearest.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(problem: Problem) -> String {
        match problem {
            Problem::Usage(message) | Problem::Other(message) => message,
        }
    }

    #[test]
    fn a_word_with_a_typing_error_is_answered_with_the_word_that_was_meant() {
        let problem = message(dispatch(&["tset".to_owned()]).unwrap_err());
        assert!(problem.contains("unknown word `tset`. Did you mean `test`?"), "{problem}");
    }

    #[test]
    fn a_word_like_no_other_is_answered_with_the_list_only() {
        let problem = message(dispatch(&["photosynthesis".to_owned()]).unwrap_err());
        assert!(!problem.contains("Did you mean"), "{problem}");
        assert!(problem.contains("test, tidy, bench, demo-data, peers"), "{problem}");
    }

    #[test]
    fn every_help_shows_how_to_call_the_word() {
        for word in WORDS {
            assert!(word.help.contains(&format!("usage: cargo xtask {}", word.name)), "{}", word.name);
            assert!(word.help.contains("example"), "{}", word.name);
        }
    }
}
