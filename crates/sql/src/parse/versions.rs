//! `t VERSION AS OF 3` and `t TIMESTAMP AS OF '…'` as calls, because DataFusion's planner would pass over them in silence.
//!
//! `t VERSION AS OF 3` becomes `table_as_of('t', 'version', 3)`; a text is the name of a branch or a tag then. What is named by its place has the version as an argument already:
//! `delta('place', 3)`. Named arguments become pairs, because that planner refuses them: `csv('place', header => 'false')`
//! is `csv('place', 'header', 'false')`.

use super::statements::normalise;
use crate::error::{Source, SqlError};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, Query, Spanned, TableFactor, TableFunctionArgs,
    TableVersion, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use std::ops::ControlFlow;

/// The table function that reads a named table at a version.
pub const TABLE_AS_OF: &str = "table_as_of";

/// Before a text that names a version: one that nobody writes.
const NAMED: char = '\u{0}';

/// `VERSION AS OF 'name'` as `TIMESTAMP AS OF` a marked text: the parser takes nothing but a number for a version.
pub(super) fn mark_names(tokens: &mut [TokenWithSpan]) {
    let is = |token: &Token, word: &str| matches!(token, Token::Word(found) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word));
    let written: Vec<usize> =
        (0..tokens.len()).filter(|at| !matches!(tokens[*at].token, Token::Whitespace(_))).collect();
    for places in written.windows(4) {
        let [version, r#as, of, text] = [places[0], places[1], places[2], places[3]];
        if !is(&tokens[version].token, "version") || !is(&tokens[r#as].token, "as") || !is(&tokens[of].token, "of") {
            continue;
        }
        if let Token::SingleQuotedString(name) = &mut tokens[text].token {
            name.insert(0, NAMED);
            tokens[version].token = Token::make_keyword("TIMESTAMP");
        }
    }
}

/// The name in a marked text.
pub(super) fn named(text: &str) -> Option<&str> {
    text.strip_prefix(NAMED)
}

/// Rewrites every table at a version of a query, in place.
pub(super) fn rewrite(query: &mut Query, source: &Source) -> Result<(), SqlError> {
    match query.visit(&mut Versions { source }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Versions<'a> {
    source: &'a Source,
}

impl VisitorMut for Versions<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        let TableFactor::Table { name, args, version, alias, .. } = factor else { return ControlFlow::Continue(()) };
        if let Some(args) = args.as_mut().filter(|_| READERS.contains(&name.to_string().to_lowercase().as_str())) {
            args.args = std::mem::take(&mut args.args).into_iter().flat_map(in_pairs).collect();
        }
        let wrong = |what: String, hint: &str| {
            let error = SqlError::new(SqlError::SYNTAX, what).hint(hint).at(self.source.location(name.span()));
            ControlFlow::Break(Box::new(error))
        };
        let at = match version.take() {
            None => return ControlFlow::Continue(()),
            Some(TableVersion::VersionAsOf(at)) => ("version", plain(at)),
            Some(TableVersion::TimestampAsOf(at)) => match plain(at) {
                Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), span }) => match named(&text) {
                    Some(name) => {
                        let value = Value::SingleQuotedString(name.to_owned());
                        ("version", Expr::Value(ValueWithSpan { value, span }))
                    }
                    None => {
                        let value = Value::SingleQuotedString(text);
                        ("timestamp", Expr::Value(ValueWithSpan { value, span }))
                    }
                },
                at => ("timestamp", at),
            },
            Some(other) => {
                return wrong(format!("'{name} {other}' is not there"), "VERSION AS OF n, or TIMESTAMP AS OF 'time'");
            }
        };
        let argument = |expr: Expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
        match (args.as_mut(), name.0.as_slice()) {
            (Some(_), _) => return wrong(format!("a version of '{name}'"), "delta('place', version)"),
            (None, [only]) => {
                let Some(ident) = only.as_ident().map(normalise) else { return ControlFlow::Continue(()) };
                let text = Expr::value(Value::SingleQuotedString(ident.value.clone()));
                let (kind, at) = at;
                let kind = Expr::value(Value::SingleQuotedString(kind.to_owned()));
                let given = vec![argument(text), argument(kind), argument(at)];
                *args = Some(TableFunctionArgs { args: given, settings: None });
                // It is still called by its name.
                if alias.is_none() {
                    *alias = Some(datafusion::sql::sqlparser::ast::TableAlias {
                        explicit: true,
                        name: ident,
                        columns: vec![],
                        at: None,
                    });
                }
                *name = ObjectName::from(vec![Ident::new(TABLE_AS_OF)]);
            }
            _ => return wrong(format!("'{name}' has a schema, which tables here have not"), "leave the schema out"),
        }
        ControlFlow::Continue(())
    }
}

/// The table functions whose arguments may have names.
const READERS: [&str; 6] = ["delta", "iceberg", "hudi", "parquet", "csv", "json"];

fn in_pairs(arg: FunctionArg) -> Vec<FunctionArg> {
    match arg {
        FunctionArg::Named { name, arg, .. } => {
            let name = Expr::value(Value::SingleQuotedString(normalise(&name).value));
            vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(name)), FunctionArg::Unnamed(arg)]
        }
        other => vec![other],
    }
}

/// `TIMESTAMP '…'` as the text alone.
fn plain(at: Expr) -> Expr {
    match at {
        Expr::TypedString(typed) => Expr::Value(typed.value),
        other => other,
    }
}
