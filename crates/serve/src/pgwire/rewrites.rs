//! Statements of clients in words that DataFusion has.
//!
//! datafusion-pg-catalog's parser has rewritten most already; this is what it leaves.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, Query, Select,
    SelectItem, SetExpr, Statement, ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::ops::ControlFlow;

/// The text of a view by its object id, in the place of `pg_get_viewdef(id)`.
const VIEW_TEXT: &str = "(SELECT max(_v.definition) FROM pg_catalog.pg_views AS _v JOIN pg_catalog.pg_class AS _c \
    ON _c.relname = _v.viewname WHERE _c.oid = $1)";

/// The object id of a type by its name, in the place of `to_regtype(name)`, and that of a relation.
const TYPE_ID: &str = "(SELECT max(_t.oid) FROM pg_catalog.pg_type AS _t WHERE _t.typname = $1)";
const RELATION_ID: &str = "(SELECT max(_c.oid) FROM pg_catalog.pg_class AS _c WHERE _c.relname = $1)";

pub(super) fn rewrite(statement: &mut Statement) {
    let _ = VisitMut::visit(statement, &mut Words);
}

struct Words;

impl VisitorMut for Words {
    type Break = ();

    /// `SELECT NULL, NULL`: columns of one name, which DataFusion refuses, get a number each.
    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let is_null = |item: &SelectItem| item.to_string() == "NULL";
        if let SetExpr::Select(select) = query.body.as_mut()
            && select.projection.iter().filter(|item| is_null(item)).count() > 1
        {
            for (index, item) in select.projection.iter_mut().enumerate() {
                if let SelectItem::UnnamedExpr(value) = item
                    && value.to_string() == "NULL"
                {
                    let alias = Ident::with_quote('"', format!("?column?{}", index + 1));
                    *item = SelectItem::ExprWithAlias { expr: value.clone(), alias };
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let accessed = match &*expr {
            Expr::CompoundFieldAccess { .. } => expr.to_string().split('[').next().is_some_and(is_key),
            _ => false,
        };
        let other = match expr {
            Expr::Function(function) => in_other_words(function),
            Expr::Subquery(query) => one_row(query),
            // `(information_schema._pg_expandarray(i.indkey)).n`, and the same behind a name: there are no keys.
            Expr::CompoundFieldAccess { root, .. } if accessed || is_expanded_array(root) => {
                expression("CAST(NULL AS SMALLINT)")
            }
            // The catalog that a row of a catalog is in: comments are looked up by it, and there are none.
            Expr::CompoundIdentifier(parts) if parts.last().is_some_and(|part| part.value == "tableoid") => {
                expression("CAST(0 AS INT)")
            }
            // JDBC asks which types are arrays by their input function, which the catalog has by name.
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } if is_input_function(left) => {
                **right = expression("'array_in'").unwrap_or_else(|| (**right).clone());
                None
            }
            Expr::Like { expr: value, pattern, escape_char, .. } => {
                unescaped(value, pattern, escape_char);
                None
            }
            _ => None,
        };
        if let Some(other) = other {
            *expr = other;
        }
        ControlFlow::Continue(())
    }
}

fn in_other_words(function: &mut Function) -> Option<Expr> {
    let name = function.name.0.last()?.as_ident()?.value.to_lowercase();
    match (name.as_str(), &mut function.args) {
        ("array", FunctionArguments::Subquery(query)) => gathered(query),
        (name @ ("unnest" | "generate_subscripts"), FunctionArguments::List(list)) => {
            let data_type = if name == "unnest" { "SMALLINT" } else { "INT" };
            is_key(&list.args.first()?.to_string()).then(|| expression(&format!("CAST(NULL AS {data_type})"))).flatten()
        }
        // Kinds of extended statistics, of which there are none: the parser has made this of `'d' = any(es.stxkind)`.
        ("array_contains" | "array_has", FunctionArguments::List(list))
            if list.args.iter().any(|argument| argument.to_string().ends_with("stxkind")) =>
        {
            expression("FALSE")
        }
        // Grants and settings of roles are texts in the catalog that is there, and there are none.
        ("array_to_string", FunctionArguments::List(list)) => {
            let argument = list.args.first()?.to_string().to_lowercase();
            let is_none = argument.ends_with("acl") || argument.ends_with("setconfig");
            is_none.then(|| expression("CAST(NULL AS TEXT)")).flatten()
        }
        (name, FunctionArguments::List(list)) => {
            let text = match name {
                "pg_get_viewdef" => VIEW_TEXT,
                "to_regtype" => TYPE_ID,
                "to_regclass" => RELATION_ID,
                _ => return None,
            };
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = list.args.first()? else { return None };
            let mut other = expression(text)?;
            let _ = VisitMut::visit(&mut other, &mut Argument(argument));
            Some(other)
        }
        _ => None,
    }
}

fn is_expanded_array(root: &Expr) -> bool {
    let root = root.to_string().to_lowercase();
    root.contains("_pg_expandarray(") || root.ends_with(".keys)")
}

/// `i.indkey` and its like, whatever the client has called it.
fn is_key(text: &str) -> bool {
    let text = text.to_lowercase();
    KEYS.iter().any(|key| text.ends_with(&format!(".{key}")) || text.ends_with(&format!("_{key}")))
}

fn is_input_function(value: &Expr) -> bool {
    value.to_string().rsplit('.').next() == Some("typinput")
}

/// Tables of `pg_catalog` that have no rows here.
const EMPTY: [&str; 4] =
    ["pg_catalog.pg_attrdef", "pg_catalog.pg_constraint", "pg_catalog.pg_index", "pg_catalog.pg_sequence"];

/// Columns of theirs that hold several numbers, which clients take apart.
const KEYS: [&str; 5] = ["conkey", "confkey", "indkey", "indoption", "indclass"];

/// A subquery about the catalog that takes one value.
///
/// `(SELECT c.relkind = 'c' FROM pg_class c WHERE c.oid = t.typrelid)` has one row because ids are unique, which DataFusion
/// cannot know: the first is taken. What reads an empty table is null, and so is the collation of a column, gathered as
/// JSON: all columns have the default one.
fn one_row(query: &mut Query) -> Option<Expr> {
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let first = select.from.first()?.relation.to_string();
    if !select.from.iter().all(|table| table.relation.to_string().starts_with("pg_catalog.")) {
        return None;
    }
    let [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] = select.projection.as_slice()
    else {
        return None;
    };
    let table = first.split_whitespace().next().unwrap_or_default();
    if EMPTY.contains(&table) || value.to_string().starts_with("json_build_object(") {
        return expression("NULL");
    }
    // A call may be an aggregate already.
    if query.limit_clause.is_none() && is_plain(select) && !matches!(value, Expr::Function(_)) {
        let first = expression(&format!("first_value({value})"))?;
        select.projection = vec![SelectItem::UnnamedExpr(first)];
    }
    None
}

/// `nspname NOT LIKE 'pg/_%' ESCAPE '/'` with the backslash, which is the one escape that DataFusion knows. Only for names
/// of the catalog, which have neither.
fn unescaped(value: &Expr, pattern: &mut Expr, escape: &mut Option<ValueWithSpan>) {
    let is_of_catalog = value.to_string().starts_with("pg_catalog.");
    if let Some(character) = escape.take_if(|_| is_of_catalog)
        && let Some(other) = expression(&format!("replace({pattern}, {character}, E'\\\\')"))
    {
        *pattern = other;
    }
}

fn expression(text: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(text).ok()?.parse_expr().ok()
}

/// Puts an expression in the place of `$1`.
struct Argument<'a>(&'a Expr);

impl VisitorMut for Argument<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if matches!(expr, Expr::Value(value) if value.to_string() == "$1") {
            *expr = self.0.clone();
        }
        ControlFlow::Continue(())
    }
}

/// `ARRAY(SELECT x …)` as `(SELECT array_agg(x) …)`. An array of no rows is null then, which clients show as they show
/// an empty one.
fn gathered(query: &mut Query) -> Option<Expr> {
    let order = query.order_by.take();
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] = select.projection.as_slice()
    else {
        return None;
    };
    if is_of_options(select) || is_of_policies(select) {
        return expression("CAST(NULL AS TEXT[])");
    }
    if !is_plain(select) || query.limit_clause.is_some() {
        return None;
    }
    let order = order.map_or(String::new(), |_| format!(" ORDER BY {value}"));
    let text = format!("array_agg({value}{order})");
    let gathered = expression(&text)?;
    select.projection = vec![SelectItem::UnnamedExpr(gathered)];
    Some(Expr::Subquery(Box::new(query.clone())))
}

/// `… FROM unnest(c.reloptions) x`: psql takes options of relations apart, and no relation here has any.
fn is_of_options(select: &Select) -> bool {
    let [table] = select.from.as_slice() else { return false };
    table.relation.to_string().to_lowercase().contains("unnest(")
}

/// `… FROM pg_policy`: what a policy says is an array of a query again, and there are none.
fn is_of_policies(select: &Select) -> bool {
    select.from.first().is_some_and(|table| table.relation.to_string().starts_with("pg_catalog.pg_policy"))
}

fn is_plain(select: &Select) -> bool {
    let grouped = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(expressions, _) => !expressions.is_empty(),
    };
    !grouped && select.distinct.is_none() && select.having.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let mut parsed = Parser::parse_sql(&PostgreSqlDialect {}, text).unwrap();
        rewrite(&mut parsed[0]);
        assert_eq!(parsed[0].to_string(), expected);
    }

    #[test]
    fn arrays_of_a_query_are_aggregates() {
        check(
            "SELECT ARRAY(SELECT b.x FROM b WHERE b.y = a.y ORDER BY 1) FROM a",
            "SELECT (SELECT array_agg(b.x ORDER BY b.x) FROM b WHERE b.y = a.y) FROM a",
        );
        check("SELECT ARRAY(SELECT 'a' || x FROM unnest(t.o) x) FROM t", "SELECT CAST(NULL AS TEXT[]) FROM t");
        check("SELECT ARRAY[1, 2]", "SELECT ARRAY[1, 2]");
    }

    #[test]
    fn a_lookup_by_id_has_one_row() {
        check(
            "SELECT 1 FROM t WHERE (SELECT c.k = 'c' FROM pg_catalog.pg_class c WHERE c.oid = t.id)",
            "SELECT 1 FROM t WHERE (SELECT first_value(c.k = 'c') FROM pg_catalog.pg_class c WHERE c.oid = t.id)",
        );
        check(
            "SELECT CASE WHEN a.h THEN (SELECT d.x FROM pg_catalog.pg_attrdef d WHERE d.y = a.y) END FROM a",
            "SELECT CASE WHEN a.h THEN NULL END FROM a",
        );
        check("SELECT 1 FROM t WHERE a = (SELECT b FROM u)", "SELECT 1 FROM t WHERE a = (SELECT b FROM u)");
    }

    #[test]
    fn escapes_in_names_of_the_catalog_are_backslashes() {
        check(
            "SELECT 1 FROM n WHERE pg_catalog.n.name NOT LIKE 'pg/_%' ESCAPE '/'",
            "SELECT 1 FROM n WHERE pg_catalog.n.name NOT LIKE replace('pg/_%', '/', E'\\\\')",
        );
        check("SELECT 1 FROM n WHERE a LIKE 'b/_' ESCAPE '/'", "SELECT 1 FROM n WHERE a LIKE 'b/_' ESCAPE '/'");
    }

    #[test]
    fn nulls_without_a_name_get_one() {
        check("SELECT NULL, a, NULL FROM t", "SELECT NULL AS \"?column?1\", a, NULL AS \"?column?3\" FROM t");
    }

    #[test]
    fn grants_are_none_and_input_functions_have_names() {
        check("SELECT array_to_string(n.nspacl, ',') FROM n", "SELECT CAST(NULL AS TEXT) FROM n");
        check("SELECT array_to_string(n.list, ',') FROM n", "SELECT array_to_string(n.list, ',') FROM n");
        check("SELECT typinput = (SELECT 7) FROM t", "SELECT typinput = 'array_in' FROM t");
    }

    #[test]
    fn keys_of_indexes_are_none() {
        check("SELECT (information_schema._pg_expandarray(i.indkey)).n FROM i", "SELECT CAST(NULL AS SMALLINT) FROM i");
        check("SELECT unnest(i.indkey) AS k FROM i", "SELECT CAST(NULL AS SMALLINT) AS k FROM i");
        check("SELECT unnest(i.list) AS k FROM i", "SELECT unnest(i.list) AS k FROM i");
        check("SELECT t.I_INDOPTION[t.n - 1] FROM t", "SELECT CAST(NULL AS SMALLINT) FROM t");
        check("SELECT l.tableoid FROM l", "SELECT CAST(0 AS INT) FROM l");
        check("SELECT array_contains(e.stxkind, 'd') FROM e", "SELECT false FROM e");
    }

    #[test]
    fn the_text_of_a_view_is_looked_up() {
        check(
            "SELECT pg_catalog.pg_get_viewdef(7, true)",
            "SELECT (SELECT max(_v.definition) FROM pg_catalog.pg_views AS _v JOIN pg_catalog.pg_class AS _c ON \
             _c.relname = _v.viewname WHERE _c.oid = 7)",
        );
    }
}
