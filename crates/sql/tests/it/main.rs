//! The language, from text to plan or error.

mod flights;

use rivermere_sql::{Planner, Script, SqlError, Statement, explain_streaming};

const TABLES: &str = "
CREATE TABLE t (k INT, g TEXT, v BIGINT, d DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND);
CREATE TABLE u (k INT, name TEXT, w BIGINT, ts TIMESTAMP(3));
CREATE TABLE planes (tailnum TEXT NOT NULL, model TEXT) WITH ('connector' = 'file', 'path' = 'planes.parquet');
";

fn plan(sql: &str) -> Result<(Planner, Vec<std::sync::Arc<rivermere_sql::ViewDefinition>>), SqlError> {
    let text = format!("{TABLES}{sql}");
    let script = Script::parse("project.sql", &text)?;
    let mut planner = Planner::new();
    let mut views = vec![];
    for parsed in script.statements() {
        match &parsed.statement {
            Statement::CreateTable(create) => {
                planner.add_table(create.define(parsed)?)?;
            }
            Statement::CreateView(create) => {
                let view = planner.plan_view(create, parsed)?;
                planner.add_view(view.clone())?;
                views.push(view);
            }
            Statement::Query(query) => {
                planner.plan_query(query, parsed)?;
            }
            other => panic!("{other:?}"),
        }
    }
    Ok((planner, views))
}

fn error(sql: &str) -> String {
    match plan(sql) {
        Ok(_) => panic!("no error: {sql}"),
        Err(error) => error.to_string(),
    }
}

fn explained(sql: &str) -> String {
    let (planner, views) = plan(sql).unwrap_or_else(|error| panic!("{error}"));
    explain_streaming(&planner, &views.last().unwrap().plan).unwrap()
}

#[test]
fn a_wrong_column_is_shown_in_its_line_with_a_suggestion() {
    let error = error("CREATE MATERIALIZED VIEW a AS\n  SELECT nmae FROM u;");
    assert!(error.contains("RM-3002: column 'nmae' does not exist"), "{error}");
    assert!(error.contains("--> project.sql:6:10"), "{error}");
    assert!(error.contains("did you mean 'name'?"), "{error}");
}

#[test]
fn a_wrong_table_is_shown_in_its_line_with_a_suggestion() {
    let error = error("CREATE MATERIALIZED VIEW a AS SELECT * FROM plane");
    assert!(error.contains("table or view 'plane' does not exist"), "{error}");
    assert!(error.contains("did you mean 'planes'?"), "{error}");
    assert!(error.contains("project.sql:5:45"), "{error}");
}

#[test]
fn syntax_errors_have_a_place() {
    let error = error("CREATE MATERIALIZED VIEW a AS SELECT k FRM t");
    assert!(error.starts_with("RM-3001"), "{error}");
    assert!(error.contains("project.sql:5:"), "{error}");
    let error = plan("SELEC 1").err().unwrap().to_string();
    assert!(error.contains("did you mean 'SELECT'?"), "{error}");
}

#[test]
fn formats_that_are_not_there_are_refused_with_those_that_are() {
    for statement in [
        "CREATE MATERIALIZED VIEW a STORED AS PAIMON AS SELECT k FROM t",
        "CREATE EXTERNAL TABLE a STORED AS PAIMON LOCATION 'x'",
    ] {
        let error = error(statement);
        assert!(error.contains("RM-3004") && error.contains("STORED AS DELTA or ICEBERG or HUDI"), "{error}");
    }
}

#[test]
fn unknown_options_and_values_are_refused_with_a_suggestion() {
    let wrong = error("CREATE TABLE x (a INT) WITH ('topik' = 'y')");
    assert!(wrong.contains("unknown option 'topik'") && wrong.contains("did you mean 'topic'?"), "{wrong}");
    let wrong = error("CREATE TABLE x (a INT) WITH ('format' = 'avro')");
    assert!(wrong.contains("RM-3004") && wrong.contains("'json'"), "{wrong}");
    let wrong = error("CREATE TABLE x (a INT) WITH ('connector' = 'file')");
    assert!(wrong.contains("needs its path"), "{wrong}");
}

#[test]
fn what_cannot_be_maintained_is_named_with_a_way_out() {
    for (sql, name) in [
        ("SELECT k FROM t ORDER BY k", "ORDER BY"),
        ("SELECT k FROM t LIMIT 3", "LIMIT without ORDER BY"),
        ("SELECT g, approx_distinct(v) AS n FROM t GROUP BY g", "approx_distinct()"),
        ("SELECT k, COUNT(DISTINCT v) OVER (PARTITION BY k) AS n FROM t", "DISTINCT in a window function"),
        ("SELECT k, FIRST_VALUE(v) OVER (ORDER BY k) AS n FROM t", "first_value() over a RANGE frame"),
        ("SELECT k, (SELECT w FROM u) AS w FROM t", "scalar subquery of more than one row"),
        ("SELECT k FROM t WHERE k NOT IN (SELECT k FROM u WHERE u.name = t.g)", "NOT IN with a correlated subquery"),
        ("SELECT k, now() AS n FROM t", "now()"),
        ("SELECT k, random() AS n FROM t", "random()"),
        (
            "WITH RECURSIVE r AS (SELECT k FROM t UNION ALL SELECT k + 1 FROM r WHERE k < 5) SELECT k FROM r",
            "RECURSIVE",
        ),
    ] {
        let error = error(&format!("CREATE MATERIALIZED VIEW a AS {sql}"));
        assert!(error.contains("RM-3005") && error.contains(name) && error.contains("hint:"), "{sql}\n{error}");
    }
}

#[test]
fn explain_streaming_says_what_bounds_each_state() {
    let text = explained(
        "CREATE MATERIALIZED VIEW a AS SELECT g, window_start, COUNT(*) AS n
         FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY g, window_start, window_end",
    );
    assert!(text.contains("state kept until floor(watermark(t), 1 min)"), "{text}");
    assert!(text.contains("late rows of t are counted and left out"), "{text}");
    let text = explained("CREATE MATERIALIZED VIEW a AS SELECT g, COUNT(*) AS n FROM t GROUP BY g");
    assert!(text.contains("state unbounded: one entry for each group ever seen"), "{text}");
    assert!(!text.contains("late rows"), "{text}");
}

#[test]
fn keys_and_append_only_follow_the_plan() {
    let (_, views) = plan(
        "CREATE MATERIALIZED VIEW a AS SELECT t.v, p.model FROM t LEFT JOIN planes p ON t.g = p.tailnum;
         CREATE MATERIALIZED VIEW b AS SELECT COUNT(*) AS n, g AS grp FROM t GROUP BY g;
         CREATE MATERIALIZED VIEW c AS SELECT * FROM (SELECT k, v, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v) AS rn FROM t) WHERE rn <= 3",
    )
    .unwrap();
    assert!(views[0].plan.properties.append_only, "a lookup in a file takes nothing back");
    assert_eq!(views[1].key().unwrap(), ["grp"]);
    assert_eq!(views[2].key().unwrap(), ["k", "rn"]);
}

#[test]
fn a_changing_view_without_a_key_cannot_be_stored() {
    let error = error("CREATE MATERIALIZED VIEW a STORED AS DELTA AS SELECT COUNT(*) AS n FROM t GROUP BY g");
    assert!(error.contains("RM-3005") && error.contains("no unique key"), "{error}");
}

#[test]
fn fingerprints_change_with_the_meaning_and_not_with_the_text() {
    let fingerprint = |sql: &str| plan(sql).unwrap().1.last().unwrap().plan.fingerprint.clone();
    let one = fingerprint("CREATE MATERIALIZED VIEW a AS SELECT k FROM t WHERE v > 3");
    assert_eq!(one, fingerprint("CREATE  MATERIALIZED VIEW a AS -- the same\n SELECT k FROM t WHERE (v > 3)"));
    assert_ne!(one, fingerprint("CREATE MATERIALIZED VIEW a AS SELECT k FROM t WHERE v > 4"));
    // What the text of a plan leaves out.
    let list = |last: i64| {
        let rows: Vec<String> = (1..=6).chain([last]).map(|number| format!("({number})")).collect();
        fingerprint(&format!("CREATE MATERIALIZED VIEW a AS SELECT * FROM (VALUES {}) AS l(n)", rows.join(", ")))
    };
    assert_ne!(list(7), list(8));
    let join = |on: &str| fingerprint(&format!("CREATE MATERIALIZED VIEW a AS SELECT t.v FROM t JOIN t AS u ON {on}"));
    assert_ne!(join("t.k = u.k"), join("t.k IS NOT DISTINCT FROM u.k"));
}
