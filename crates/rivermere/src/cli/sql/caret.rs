//! Where in a statement an error is, when its message only names what is wrong.
//!
//! Messages with a place of their own are left as they are. Otherwise the first quoted name that stands exactly once in
//! the statement is pointed at.

/// The line of the statement with a caret below, to be printed after the message.
pub fn point_at(message: &str, statement: &str) -> Option<String> {
    if message.contains('\n') {
        return None;
    }
    let at = quoted_names(message).find_map(|name| only_place(statement, name))?;
    let before = statement.get(..at)?;
    let number = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = statement.get(start..)?.lines().next()?;
    let margin = " ".repeat(number.to_string().len());
    let indent: String = before.get(start..)?.chars().map(|char| if char == '\t' { '\t' } else { ' ' }).collect();
    let shown: String = line.chars().filter(|char| *char == '\t' || !char.is_control()).collect();
    Some(format!("{margin} |\n{number} | {shown}\n{margin} | {indent}^"))
}

/// What stands between single quotes; of `a.b.c` the last part.
fn quoted_names(message: &str) -> impl Iterator<Item = &str> {
    // An apostrophe leaves a rest that no quote closes.
    let closed = message.rfind('\'').and_then(|end| message.get(..end)).unwrap_or_default();
    let quoted = closed.split('\'').skip(1).step_by(2);
    quoted.filter_map(|name| name.rsplit('.').next()).filter(|name| !name.is_empty())
}

/// The one place of a name as a whole word, in any case.
fn only_place(statement: &str, name: &str) -> Option<usize> {
    // Offsets stay the same: only ASCII letters change.
    let (text, name) = (statement.to_ascii_lowercase(), name.to_ascii_lowercase());
    let is_part = |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || char == '_');
    let mut places = text.match_indices(&name).map(|(at, _)| at).filter(|at| {
        let before = text.get(..*at).and_then(|text| text.chars().next_back());
        let after = text.get(at + name.len()..).and_then(|text| text.chars().next());
        !is_part(before) && !is_part(after)
    });
    places.next().filter(|_| places.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, statement: &str, expected: Option<&str>) {
        assert_eq!(point_at(message, statement).as_deref(), expected, "{message}");
    }

    #[test]
    fn the_one_place_of_a_named_thing_is_pointed_at() {
        let statement = "SELECT country,\n\tcontry FROM t";
        check("column 'contry' does not exist", statement, Some("  |\n2 | \tcontry FROM t\n  | \t^"));
        check("table 'rivermere.public.t' not found", statement, Some("  |\n2 | \tcontry FROM t\n  | \t            ^"));
        check("column 'x' does not exist", statement, None);
        check("column 'a' does not exist", "SELECT a, a", None);
        check("'a' is wrong\n --> place", "SELECT a", None);
        check("it's", "SELECT s", None);
    }
}
