//! What was counted, and how it is said.

/// The tests of one test binary, or the rules of `tidy`.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Suite {
    pub name: String,
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    pub seconds: f64,
    /// The names of what failed.
    pub failures: Vec<String>,
}

impl Suite {
    pub fn new(name: &str) -> Suite {
        Suite { name: name.to_owned(), ..Suite::default() }
    }
}

/// One line per suite that has anything to say, then the names of what failed.
pub fn table(suites: &[Suite]) -> String {
    let width = suites.iter().map(|suite| suite.name.len()).max().unwrap_or(0).max(5);
    let mut text = format!("\n{:<width$}  passed  failed  skipped  seconds\n", "suite");
    for suite in suites.iter().filter(|suite| suite.passed + suite.failed + suite.skipped > 0) {
        text.push_str(&format!(
            "{:<width$}  {:>6}  {:>6}  {:>7}  {:>7.1}\n",
            suite.name, suite.passed, suite.failed, suite.skipped, suite.seconds
        ));
    }
    for suite in suites {
        for failure in &suite.failures {
            text.push_str(&format!("FAILED {}: {failure}\n", suite.name));
        }
    }
    text
}

/// `N passed, M failed`, and `, K skipped` when something was.
pub fn verdict(suites: &[Suite]) -> String {
    let sum = |count: fn(&Suite) -> u64| suites.iter().map(count).sum::<u64>();
    let mut text = format!("{} passed, {} failed", sum(|suite| suite.passed), sum(|suite| suite.failed));
    match sum(|suite| suite.skipped) {
        0 => {}
        skipped => text.push_str(&format!(", {skipped} skipped")),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_adds_up_all_suites_and_names_skipped_ones_only_when_there_are_any() {
        let mut suites =
            vec![Suite { passed: 3, ..Suite::new("a") }, Suite { passed: 4, failed: 1, ..Suite::new("b") }];
        assert_eq!(verdict(&suites), "7 passed, 1 failed");
        suites[0].skipped = 2;
        assert_eq!(verdict(&suites), "7 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn the_table_leaves_out_empty_suites_and_names_failures() {
        let failed = Suite { failed: 1, failures: vec!["some::test".to_owned()], ..Suite::new("b") };
        let text = table(&[Suite::new("empty"), failed]);
        assert!(!text.contains("empty"), "{text}");
        assert!(text.contains("FAILED b: some::test"), "{text}");
    }
}
