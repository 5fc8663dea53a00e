//! `$1`, `$2`, …: their types for the client, and their values in a plan or in a text.

use super::errors::error;
use super::split::placeholders;
use crate::ServeError;
use crate::problem::from_datafusion;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ParamValues;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan, lit};
use datafusion::sql::unparser::expr_to_sql;
use datafusion_postgres::arrow_pg::datatypes::df::deserialize_parameters_with_server_types;
use datafusion_postgres::arrow_pg::datatypes::into_pg_type;
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::portal::{Format, Portal};
use datafusion_postgres::pgwire::error::PgWireResult;
use std::collections::BTreeMap;

/// Parameters of one statement, as many as the protocol can count.
const MOST: usize = 65_535;

/// The number of the last parameter that a text uses.
pub(super) fn count(text: &str) -> usize {
    placeholders(text).into_iter().map(|(_, number)| number).max().unwrap_or(0).min(MOST)
}

/// The types that the plan needs, by position; `None` where any will do.
pub(super) fn inferred(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>, ServeError> {
    let told = |error: DataFusionError| ServeError::from(from_datafusion(&error));
    let mut types: BTreeMap<usize, Option<DataType>> = BTreeMap::new();
    let number = |id: &str| id.strip_prefix('$').and_then(|id| id.parse::<usize>().ok()).filter(|n| *n <= MOST);
    for (id, data_type) in plan.get_parameter_types().map_err(told)? {
        if let Some(number) = number(&id) {
            types.insert(number, data_type);
        }
    }
    // `$1::int` tells its type by the cast.
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                if let Expr::Cast(cast) = part
                    && let Expr::Placeholder(placeholder) = cast.expr.as_ref()
                    && let Some(number) = number(&placeholder.id)
                {
                    types.entry(number).or_default().get_or_insert_with(|| cast.field.data_type().clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map_err(told)?;
    let last = types.keys().next_back().copied().unwrap_or(0);
    Ok((1..=last).map(|number| types.remove(&number).flatten()).collect())
}

/// The types that a client is told to send.
pub(super) fn wire_types(inferred: &[Option<DataType>]) -> PgWireResult<Vec<Type>> {
    inferred.iter().map(|data_type| data_type.as_ref().map_or(Ok(Type::UNKNOWN), into_pg_type)).collect()
}

/// The values of a portal, in the types of the plan where it has any.
pub(super) fn values<S: Clone>(portal: &Portal<S>, inferred: &[Option<DataType>]) -> PgWireResult<ParamValues> {
    check_formats(&portal.parameter_format, portal.parameter_len(), "parameters")?;
    if portal.parameter_len() < inferred.len() {
        let (given, needed) = (portal.parameter_len(), inferred.len());
        return Err(error("08P01", format!("{given} parameters were sent, and the statement needs {needed}")));
    }
    let inferred: Vec<Option<&DataType>> = inferred.iter().map(Option::as_ref).collect();
    deserialize_parameters_with_server_types(portal, &inferred, &[])
}

/// Format codes must be none, one for all, or one for each.
pub(super) fn check_formats(format: &Format, count: usize, what: &str) -> PgWireResult<()> {
    match format {
        Format::Individual(codes) if codes.len() != count => {
            Err(error("08P01", format!("there are {} format codes for {count} {what}", codes.len())))
        }
        _ => Ok(()),
    }
}

/// The text with its parameters written in as literals: the command door takes texts only.
pub(super) fn written_in(text: &str, values: &ParamValues) -> PgWireResult<String> {
    let ParamValues::List(values) = values else { return Err(error("XX000", "parameters must be numbered")) };
    let mut written = String::with_capacity(text.len());
    let mut end = 0;
    for (place, number) in placeholders(text) {
        let value = number.checked_sub(1).and_then(|index| values.get(index));
        let value = value.ok_or_else(|| error("42P02", format!("there is no parameter ${number}")))?;
        let literal = expr_to_sql(&lit(value.value().clone()))
            .map_err(|reason| error("0A000", format!("parameter ${number} cannot be written as SQL: {reason}")))?;
        written.push_str(text.get(end..place.start).unwrap_or_default());
        written.push_str(&literal.to_string());
        end = place.end;
    }
    written.push_str(text.get(end..).unwrap_or_default());
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::scalar::ScalarValue;

    #[test]
    fn values_are_written_so_that_they_stay_values() {
        let values = [ScalarValue::from("a'); drop table t; --"), ScalarValue::from(7_i64), ScalarValue::Utf8(None)];
        let values = ParamValues::from(values.to_vec());
        let text = written_in("insert into t values ($2, $1, '$3', $3)", &values).unwrap();
        assert_eq!(text, "insert into t values (7, 'a''); drop table t; --', '$3', NULL)");
        assert!(written_in("select $4", &values).is_err());
        assert!(written_in("select $0", &values).is_err());
    }
}
