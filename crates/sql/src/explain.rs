//! `EXPLAIN STREAMING`: each operator with what it keeps and what lets it go.

use crate::error::SqlError;
use crate::plan::{Plan, Planner};
use crate::properties::{Ranking, TimeTransform, top_n};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::unparser::expr_to_sql;

/// One line an operator, indented below its consumer.
///
/// # Errors
/// When an operator cannot be maintained.
pub fn explain_streaming(planner: &Planner, plan: &Plan) -> Result<String, SqlError> {
    let mut lines = vec![];
    describe(planner, &plan.logical, 0, &mut lines)?;
    if !plan.late_filtered.is_empty() {
        let tables: Vec<&str> = plan.late_filtered.iter().map(String::as_str).collect();
        lines.push(format!("late rows of {} are counted and left out", tables.join(", ")));
    }
    Ok(lines.join("\n"))
}

fn describe(planner: &Planner, node: &LogicalPlan, depth: usize, lines: &mut Vec<String>) -> Result<(), SqlError> {
    let properties = planner.node_properties(node)?;
    let mut inputs: Vec<&LogicalPlan> = node.inputs();
    let mut name = node.display().to_string();
    let mut stateful = matches!(node, LogicalPlan::Aggregate(_) | LogicalPlan::Join(_) | LogicalPlan::Window(_));
    if let LogicalPlan::Filter(filter) = node
        && let Some(top) = top_n(filter)
    {
        let by: Vec<String> = top.function.params.partition_by.iter().map(ToString::to_string).collect();
        name = match top.ranking {
            Ranking::RowNumber => format!("TopN: {} rows by [{}]", top.limit, by.join(", ")),
            Ranking::Rank => format!("TopN: rank up to {} by [{}]", top.limit, by.join(", ")),
            Ranking::DenseRank => format!("TopN: dense rank up to {} by [{}]", top.limit, by.join(", ")),
        };
        inputs = vec![top.window.input.as_ref()];
        stateful = true;
    }
    let mut facts = vec![if properties.is_static {
        "static".to_string()
    } else if properties.append_only {
        "append-only".to_string()
    } else {
        "changing".to_string()
    }];
    if let Some(key) = &properties.key {
        let names: Vec<&str> = key.iter().map(|column| node.schema().field(*column).name().as_str()).collect();
        facts.push(format!("key [{}]", names.join(", ")));
    }
    if stateful && !properties.is_static {
        facts.push(match planner.state_bound(node)? {
            Some((_, bound)) => {
                let parts: Vec<String> = bound.0.iter().map(|(source, chain)| watermark_text(source, chain)).collect();
                format!("state kept until {}", parts.join(" and "))
            }
            None if !retained(planner, node)?.is_empty() => retained(planner, node)?.join("; "),
            None => match node {
                LogicalPlan::Aggregate(_) => {
                    "state unbounded: one entry for each group ever seen; group by a window to bound it".into()
                }
                LogicalPlan::Join(_)
                    if inputs.iter().any(|input| planner.node_properties(input).is_ok_and(|p| p.is_static)) =>
                {
                    "state is the static side".into()
                }
                LogicalPlan::Join(join) if join.on.is_empty() => {
                    "state unbounded: both sides are kept, and every row meets every row of the other side".into()
                }
                LogicalPlan::Join(_) => {
                    "state unbounded: both sides are kept; join on a window or a time column, or compare times of both \
                     sides, to bound it"
                        .into()
                }
                LogicalPlan::Window(_) => {
                    "state unbounded: all rows, and each step computes the partitions again that it touches".into()
                }
                _ if inputs.iter().all(|input| planner.node_properties(input).is_ok_and(|p| p.append_only)) => {
                    "state unbounded: the first rows of each partition ever seen".into()
                }
                _ => "state unbounded: all rows, because any may come first when others go".into(),
            },
        });
    }
    lines.push(format!("{}{name}  ({})", "  ".repeat(depth), facts.join("; ")));
    for input in inputs {
        describe(planner, input, depth + 1, lines)?;
    }
    Ok(())
}

/// How long rows of each side of a join are kept, when conditions on time say so.
fn retained(planner: &Planner, node: &LogicalPlan) -> Result<Vec<String>, SqlError> {
    let LogicalPlan::Join(join) = node else { return Ok(vec![]) };
    let retentions = planner.join_retention(join)?;
    if retentions.iter().all(Option::is_none) {
        return Ok(vec![]);
    }
    let side = |(name, retention): (&str, &Option<crate::Retention>)| match retention {
        Some(retention) => {
            let parts = retention.bound.0.iter().map(|(source, chain)| watermark_text(source, chain));
            let until =
                expr_to_sql(&retention.until).map_or_else(|_| retention.until.to_string(), |sql| sql.to_string());
            format!("{name} rows kept until {} passes {until}", parts.collect::<Vec<_>>().join(" and "))
        }
        None => format!("{name} rows kept for ever: no condition says until when they can match"),
    };
    Ok(["left", "right"].into_iter().zip(&retentions).map(side).collect())
}

fn watermark_text(source: &str, chain: &[TimeTransform]) -> String {
    let mut text = format!("watermark({source})");
    for transform in chain {
        text = match transform {
            TimeTransform::Floor { us } => format!("floor({text}, {})", seconds(*us)),
            TimeTransform::Add { us } if *us < 0 => format!("{text} - {}", seconds(-us)),
            TimeTransform::Add { us } => format!("{text} + {}", seconds(*us)),
        };
    }
    text
}

fn seconds(us: i64) -> String {
    match us {
        us if us % 3_600_000_000 == 0 => format!("{} h", us / 3_600_000_000),
        us if us % 60_000_000 == 0 => format!("{} min", us / 60_000_000),
        us => format!("{} s", us as f64 / 1e6),
    }
}
