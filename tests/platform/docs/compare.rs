//! What a document shows against what was printed. `…` stands for any text of a line; alone on a line, for any lines.

const ANY: char = '…';

/// Whether all lines fit. Space at the ends of lines and empty lines at the end of the text do not matter.
pub fn text_fits(shown: &str, printed: &str) -> bool {
    let lines = |text: &str| text.trim_end().lines().map(|line| line.trim_end().to_string()).collect::<Vec<_>>();
    lines_fit(&lines(shown), &lines(printed))
}

/// As [`text_fits`], whatever the white space between values.
pub fn json_fits(shown: &str, printed: &str) -> bool {
    fits(&squeezed(shown), &squeezed(printed))
}

fn lines_fit(shown: &[String], printed: &[String]) -> bool {
    match (shown.split_first(), printed.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first.trim() == ANY.to_string() => {
            (0..=printed.len()).any(|skipped| lines_fit(rest, &printed[skipped..]))
        }
        (Some((first, rest)), Some((line, others))) => fits(first, line) && lines_fit(rest, others),
        _ => false,
    }
}

fn fits(shown: &str, printed: &str) -> bool {
    let mut parts = shown.split(ANY);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// JSON without the white space outside its strings.
fn squeezed(text: &str) -> String {
    let mut in_string = false;
    let mut escaped = false;
    let keep = |c: &char| {
        if in_string {
            in_string = escaped || *c != '"';
            escaped = !escaped && *c == '\\';
            return true;
        }
        in_string = *c == '"';
        !c.is_whitespace()
    };
    text.chars().filter(keep).collect()
}

#[test]
fn an_ellipsis_stands_for_text_and_for_lines() {
    assert!(text_fits("took … ms\n", "took 12 ms"));
    assert!(!text_fits("took … ms", "took 12 s"));
    assert!(text_fits("a\n…\nz", "a\nb\nc\nz\n\n"));
    assert!(text_fits("a\n…", "a"));
    assert!(!text_fits("a\n…\nz", "a\nb"));
    assert!(!text_fits("a", "a\nb"));
}

#[test]
fn json_may_be_laid_out_in_any_way() {
    assert!(json_fits("[\n  {\"a b\": 1, \"c\": …}\n]", "[{\"a b\":1,\"c\":[2, 3]}]"));
    assert!(!json_fits("{\"a b\": 1}", "{\"ab\":1}"));
    assert!(json_fits(r#"{"a": "\" ", "b": 1}"#, r#"{"a":"\" ","b":1}"#));
}
