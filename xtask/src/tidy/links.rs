//! Links in Markdown: to a file or folder of the checkout, and to a heading of that file.
//!
//! Links to other sites are not followed; a test must not depend on them.

use std::path::Path;

use crate::checkout;

pub fn check() -> Result<Vec<String>, String> {
    let mut findings = Vec::new();
    for file in checkout::files_below(&checkout::root(), ".md")? {
        // A project's data folder holds what a run made.
        if checkout::shown(&file).starts_with("target/") {
            continue;
        }
        for (line, target) in links(&checkout::read(&file)?) {
            if let Some(what) = broken(&file, &target)? {
                findings.push(format!("{}:{line}: {what}", checkout::shown(&file)));
            }
        }
    }
    Ok(findings)
}

/// What is wrong with one link of a file.
fn broken(file: &Path, target: &str) -> Result<Option<String>, String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(None);
    }
    let (path, heading) = target.split_once('#').map_or((target, None), |(path, heading)| (path, Some(heading)));
    let to = if path.is_empty() { file.to_path_buf() } else { file.parent().unwrap_or(file).join(path) };
    if !to.exists() {
        return Ok(Some(format!("`{target}` leads nowhere")));
    }
    let Some(heading) = heading else { return Ok(None) };
    if to.extension().is_some_and(|ending| ending == "md") && !headings(&checkout::read(&to)?).any(|h| h == heading) {
        return Ok(Some(format!("`{target}`: there is no such heading")));
    }
    Ok(None)
}

/// The lines outside fenced code, with their numbers from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((index + 1, line))
    })
}

/// `[text](target)` and `[text]: target`, with their line numbers.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(line);
        let mut rest = line.as_str();
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            found.push((number, target.to_owned()));
        }
        if line.starts_with('[')
            && let Some((_, target)) = line.split_once("]: ")
        {
            found.push((number, target.trim().to_owned()));
        }
    }
    found
}

/// A line with what stands between backticks removed.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

/// Headings as they appear after `#` in a link.
fn headings(text: &str) -> impl Iterator<Item = String> {
    prose(text).filter_map(|(_, line)| {
        let title = line.strip_prefix('#')?.trim_start_matches('#');
        let title = title.strip_prefix(' ')?.trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        Some(kept.map(|c| if c == ' ' { '-' } else { c }).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_in_prose_and_not_in_code() {
        let text = "See [a](one.md) and [b](two.md#part).\n```\n[c](three.md)\n```\n`[d](four.md)`\n[e]: five.md\n";
        let found: Vec<String> = links(text).into_iter().map(|(line, target)| format!("{line} {target}")).collect();
        assert_eq!(found, ["1 one.md", "1 two.md#part", "6 five.md"]);
    }

    #[test]
    fn headings_become_what_links_name() {
        let found: Vec<String> = headings("# The house, room by room\n## `CREATE TABLE` and *views*\n").collect();
        assert_eq!(found, ["the-house-room-by-room", "create-table-and-views"]);
    }
}
