//! What a machine must have before anything can be installed on it, with one line of advice for each.

use std::process::Command;

use crate::checkout;

const NODE_AT_LEAST: u32 = 20;
const PYTHON_AT_LEAST: u32 = 10;
const JAVA_AT_LEAST: u32 = 17;

/// One line for each thing that is missing.
pub fn missing() -> Vec<String> {
    let mut lines = Vec::new();
    let mut need = |there: bool, line: &str| {
        if !there {
            lines.push(line.to_owned());
        }
    };
    need(
        on_path(&["cc", "gcc", "clang"]),
        "a C compiler is missing: apt-get install gcc (macOS: xcode-select --install)",
    );
    need(on_path(&["make"]), "make is missing: apt-get install make (macOS: xcode-select --install)");
    need(
        major("node", "--version").is_some_and(|major| major >= NODE_AT_LEAST),
        "Node.js 20 or newer is missing: https://nodejs.org",
    );
    need(on_path(&["npm"]), "npm is missing: it comes with Node.js, or apt-get install npm");
    need(
        python().is_some_and(|minor| minor >= PYTHON_AT_LEAST),
        "Python 3.10 or newer is missing: apt-get install python3 python3-venv",
    );
    need(
        major("java", "-version").is_some_and(|major| major >= JAVA_AT_LEAST),
        "Java 17 or newer is missing: apt-get install openjdk-17-jdk-headless",
    );
    lines
}

fn on_path(names: &[&str]) -> bool {
    checkout::find_program(names).is_some()
}

/// The major version a program answers with.
fn major(program: &str, flag: &str) -> Option<u32> {
    numbers(&answer(program, flag)?).next()
}

/// The minor version of Python 3.
fn python() -> Option<u32> {
    let text = answer("python3", "--version")?;
    let mut numbers = numbers(&text);
    (numbers.next()? == 3).then(|| numbers.next())?
}

/// What a program says about its version, on whichever stream.
fn answer(program: &str, flag: &str) -> Option<String> {
    let output = Command::new(program).arg(flag).output().ok().filter(|output| output.status.success())?;
    Some(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// The numbers in a text like `v20.20.2` or `openjdk version "17.0.15"`.
fn numbers(text: &str) -> impl Iterator<Item = u32> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn versions_are_read_from_what_programs_answer() {
        assert_eq!(numbers("v20.20.2").next(), Some(20));
        assert_eq!(numbers("openjdk version \"17.0.15\" 2025-04-15").next(), Some(17));
        assert_eq!(numbers("Python 3.11.7").collect::<Vec<_>>(), [3, 11, 7]);
        assert_eq!(numbers("no version").next(), None);
    }
}
