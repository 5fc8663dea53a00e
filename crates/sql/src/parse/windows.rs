//! Window table functions as ordinary subqueries.
//!
//! `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR))` becomes
//! `(SELECT *, tumble_start(ts, i) AS window_start, tumble_end(ts, i) AS window_end FROM t)`, and HOP unnests the
//! starts of its windows. So batch and stream share one meaning, and no planner needs a node of its own.

use super::dialect::{StreamDialect, TABLE_ARGUMENT};
use crate::error::{Source, SqlError};
use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use datafusion::sql::sqlparser::ast::{
    DateTimeField, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, Query, Spanned, TableFactor,
    TableFunctionArgs, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::parser::Parser;
use std::ops::ControlFlow;

/// Most windows that one row may fall into.
const WINDOWS_LIMIT: i64 = 10_000;

/// Rewrites every window function of a query, in place.
pub(super) fn rewrite(query: &mut Query, source: &Source) -> Result<(), SqlError> {
    match query.visit(&mut Rewriter { source }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Rewriter<'a> {
    source: &'a Source,
}

impl VisitorMut for Rewriter<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        let (call, alias) = match factor {
            TableFactor::TableFunction { expr: Expr::Function(function), alias } => {
                let FunctionArguments::List(list) = &function.args else { return ControlFlow::Continue(()) };
                ((function.name.clone(), list.args.clone()), alias.clone())
            }
            TableFactor::Table { name, args: Some(TableFunctionArgs { args, .. }), alias, .. }
            | TableFactor::Function { name, args, alias, .. } => ((name.clone(), args.clone()), alias.clone()),
            _ => return ControlFlow::Continue(()),
        };
        let (name, args) = call;
        match self.subquery(&name, &args) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(subquery)) => {
                *factor = TableFactor::Derived { lateral: false, subquery, alias, sample: None };
                ControlFlow::Continue(())
            }
            Err(error) => {
                let location = error.location.clone().or_else(|| self.source.location(name.span()));
                ControlFlow::Break(Box::new(error.at(location)))
            }
        }
    }
}

impl Rewriter<'_> {
    fn subquery(&self, name: &ObjectName, args: &[FunctionArg]) -> Result<Option<Box<Query>>, SqlError> {
        let function = name.to_string().to_uppercase();
        let usage = match function.as_str() {
            "TUMBLE" => "TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR)",
            "HOP" => "HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE, INTERVAL '1' HOUR): slide, then size",
            "CUMULATE" => "CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE, INTERVAL '1' HOUR): step, then size",
            "SESSION" => "SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '10' MINUTE)",
            _ => return Ok(None),
        };
        let wrong = |what: &str| SqlError::new(SqlError::SYNTAX, format!("{function}: {what}")).hint(usage);
        let args: Vec<&Expr> = args
            .iter()
            .map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
                | FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. } => Ok(expr),
                _ => Err(wrong("arguments are a table, a column and intervals")),
            })
            .collect::<Result<_, _>>()?;
        let intervals = if matches!(function.as_str(), "TUMBLE" | "SESSION") { 1 } else { 2 };
        if args.len() != 2 + intervals {
            return Err(wrong(&format!("takes {} arguments, not {}", 2 + intervals, args.len())));
        }
        let (table, keys) = relation(args[0]).ok_or_else(|| wrong("the first argument is a table"))?;
        if !keys.is_empty() && function != "SESSION" {
            return Err(wrong("only SESSION has a PARTITION BY: group by its columns instead"));
        }
        let column = descriptor(args[1]).ok_or_else(|| wrong("the second argument is DESCRIPTOR(column)"))?;
        for interval in &args[2..] {
            match interval_us(interval) {
                Some(us) if us > 0 => {}
                Some(_) => return Err(wrong(&format!("{interval} is not positive"))),
                None => return Err(wrong(&format!("'{interval}' is no interval of fixed length"))),
            }
        }
        let fits = |part: &Expr, whole: &Expr, name: &str| {
            let (part_us, whole_us) = (interval_us(part).unwrap_or(1), interval_us(whole).unwrap_or(1));
            if whole_us % part_us != 0 {
                return Err(wrong(&format!("the size {whole} is no multiple of the {name} {part}")));
            }
            if whole_us / part_us > WINDOWS_LIMIT {
                return Err(wrong(&format!("a row would fall into more than {WINDOWS_LIMIT} windows")));
            }
            Ok(())
        };
        let text = match (function.as_str(), &args[2..]) {
            ("TUMBLE", [size]) => format!(
                "SELECT *, tumble_start({column}, {size}) AS window_start, tumble_end({column}, {size}) AS window_end FROM {table}"
            ),
            ("SESSION", [gap]) => {
                let gap_us = interval_us(gap).unwrap_or(1);
                let by = if keys.is_empty() { String::new() } else { format!("PARTITION BY {} ", keys.join(", ")) };
                format!(
                    "SELECT *, session_start({column}, {gap_us}) OVER ({by}ORDER BY {column}) AS window_start, \
                     session_end({column}, {gap_us}) OVER ({by}ORDER BY {column}) AS window_end \
                     FROM {table} WHERE {column} IS NOT NULL"
                )
            }
            ("HOP", [slide, size]) => {
                fits(slide, size, "slide")?;
                format!(
                    "SELECT *, window_end(window_start, {size}) AS window_end FROM \
                     (SELECT *, unnest(hop_starts({column}, {slide}, {size})) AS window_start FROM {table})"
                )
            }
            (_, [step, size]) => {
                fits(step, size, "step")?;
                format!(
                    "SELECT *, unnest(cumulate_ends({column}, {step}, {size})) AS window_end FROM \
                     (SELECT *, tumble_start({column}, {size}) AS window_start FROM {table})"
                )
            }
            _ => return Err(wrong("its intervals are wrong")),
        };
        let mut parser = Parser::new(&StreamDialect).try_with_sql(&text).map_err(|error| wrong(&error.to_string()))?;
        parser.parse_query().map(Some).map_err(|error| wrong(&error.to_string()))
    }
}

/// `t`, `TABLE t` or `s.t` as the text of a relation, with the columns of its PARTITION BY.
fn relation(expr: &Expr) -> Option<(String, Vec<String>)> {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => Some((expr.to_string(), vec![])),
        Expr::Function(function) if function.name.to_string() == TABLE_ARGUMENT => match &function.args {
            FunctionArguments::List(list) => {
                let mut names = list.args.iter().map(|arg| match arg {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(name)) => Some(name.to_string()),
                    _ => None,
                });
                let table = names.next()??;
                Some((table, names.collect::<Option<_>>()?))
            }
            _ => None,
        },
        Expr::Subquery(query) => Some((format!("({query})"), vec![])),
        _ => None,
    }
}

/// `DESCRIPTOR(ts)`, or the column alone.
fn descriptor(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(_) => Some(expr.to_string()),
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("descriptor") => {
            match &function.args {
                FunctionArguments::List(list) => match list.args.as_slice() {
                    [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(column)))] => Some(column.to_string()),
                    _ => None,
                },
                _ => None,
            }
        }
        _ => None,
    }
}

/// Microseconds of an interval literal without months; nothing for anything else.
pub(super) fn interval_us(expr: &Expr) -> Option<i64> {
    let Expr::Interval(interval) = expr else { return None };
    let Expr::Value(value) = interval.value.as_ref() else { return None };
    let text = match &value.value {
        Value::SingleQuotedString(text) => text.clone(),
        Value::Number(number, _) => number.to_string(),
        _ => return None,
    };
    let text = match &interval.leading_field {
        Some(DateTimeField::Custom(unit)) => format!("{text} {unit}"),
        Some(unit) => format!("{text} {unit}"),
        None => text,
    };
    let parsed = parse_interval_month_day_nano(&text).ok()?;
    (parsed.months == 0).then(|| i64::from(parsed.days) * 86_400_000_000 + parsed.nanoseconds / 1_000)
}
