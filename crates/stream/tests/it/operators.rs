//! The law for each operator.

use crate::law::{Input, check_law};

/// Scripts of each view in an ordinary run.
const SCRIPTS: u64 = 60;

pub fn law(sql: &str) {
    scripts(sql, |seed| if seed % 2 == 0 { Input::Appended } else { Input::Changing });
}

/// The law while watermarks free state and late rows are left out.
pub fn timed_law(sql: &str) {
    scripts(sql, |_| Input::Timed);
}

fn scripts(sql: &str, input: impl Fn(u64) -> Input) {
    let seeds = std::env::var("RIVERMERE_LAW_SCRIPTS").ok().and_then(|text| text.parse().ok()).unwrap_or(SCRIPTS);
    for seed in 0..seeds {
        check_law(sql, input(seed), seed);
    }
}

#[test]
fn filter_and_project() {
    law(
        "CREATE MATERIALIZED VIEW a AS SELECT k + 1 AS k1, upper(g) AS g, d * 2 AS d2, CASE WHEN v > 0 THEN 'p' ELSE 'n' END AS s FROM t WHERE v % 2 = 0 OR g IS NULL",
    );
}

#[test]
fn count_sum_and_average_by_group() {
    law(
        "CREATE MATERIALIZED VIEW a AS SELECT g, k, COUNT(*) AS n, COUNT(v) AS nv, SUM(v) AS s, AVG(d) AS a, SUM(d) AS sd FROM t GROUP BY g, k",
    );
}

#[test]
fn minimum_and_maximum() {
    law(
        "CREATE MATERIALIZED VIEW a AS SELECT g, MIN(v) AS lo, MAX(v) AS hi, MIN(g) AS g1, MAX(ts) AS last, MAX(d) AS md FROM t GROUP BY g",
    );
}

#[test]
fn aggregates_without_groups_have_one_row_from_the_start() {
    law("CREATE MATERIALIZED VIEW a AS SELECT COUNT(*) AS n, SUM(v) AS s, MAX(d) AS m FROM t");
}

#[test]
fn filtered_aggregates_and_having() {
    law(
        "CREATE MATERIALIZED VIEW a AS SELECT k, COUNT(*) FILTER (WHERE v > 0) AS n, SUM(v) AS s FROM t GROUP BY k HAVING COUNT(*) > 1",
    );
}

#[test]
fn decimals_are_summed_and_averaged_exactly() {
    law(
        "CREATE MATERIALIZED VIEW a AS SELECT g, SUM(CAST(d AS DECIMAL(12,3))) AS s, AVG(CAST(d AS DECIMAL(12,3))) AS m FROM t GROUP BY g",
    );
}

#[test]
fn distinct_rows() {
    law("CREATE MATERIALIZED VIEW a AS SELECT DISTINCT k, g FROM t");
}

#[test]
fn a_single_distinct_count() {
    law("CREATE MATERIALIZED VIEW a AS SELECT g, COUNT(DISTINCT k) AS n FROM t GROUP BY g");
}

#[test]
fn tumbling_windows() {
    law("CREATE MATERIALIZED VIEW a AS SELECT g, window_start, window_end, COUNT(*) AS n, AVG(d) AS m
         FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND)) GROUP BY g, window_start, window_end");
}

#[test]
fn hopping_windows() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, window_start, window_end, COUNT(*) AS n, MAX(v) AS m
         FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '3' SECOND)) GROUP BY k, window_start, window_end");
}

#[test]
fn inner_join() {
    law("CREATE MATERIALIZED VIEW a AS SELECT t.g, t.v, u.name, u.w FROM t JOIN u ON t.k = u.k");
}

#[test]
fn inner_join_with_a_residual_condition_between_changing_inputs() {
    law("CREATE MATERIALIZED VIEW s AS SELECT k, SUM(v) AS v FROM t GROUP BY k;
         CREATE MATERIALIZED VIEW a AS SELECT s.k, s.v, u.name, u.w FROM s JOIN u ON s.k = u.k AND s.v > u.w");
}

#[test]
fn left_join() {
    law("CREATE MATERIALIZED VIEW a AS SELECT t.g, t.v, u.name, u.w FROM t LEFT JOIN u ON t.k = u.k");
}

#[test]
fn left_join_with_a_residual_condition() {
    law(
        "CREATE MATERIALIZED VIEW a AS SELECT t.g, t.v, u.name, u.w FROM t LEFT JOIN u ON t.k = u.k AND t.v < u.w AND u.name <> 'a'",
    );
}

#[test]
fn self_join_on_two_keys() {
    law(
        "CREATE MATERIALIZED VIEW a AS SELECT x.v, y.v AS yv FROM t x JOIN t y ON x.k = y.k AND x.g = y.g WHERE x.v <> y.v",
    );
}

#[test]
fn join_of_windows() {
    law("CREATE MATERIALIZED VIEW a AS
         SELECT l.window_start, l.n, r.m FROM
         (SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND)) GROUP BY window_start) l
         LEFT JOIN
         (SELECT window_start, MAX(w) AS m FROM TABLE(TUMBLE(TABLE u, DESCRIPTOR(ts), INTERVAL '5' SECOND)) GROUP BY window_start) r
         ON l.window_start = r.window_start");
}

#[test]
fn first_rows_of_each_partition() {
    law(
        "CREATE MATERIALIZED VIEW a AS SELECT g, v, k, rn FROM (SELECT g, v, k, ROW_NUMBER() OVER (PARTITION BY g ORDER BY v DESC, k) AS rn FROM t) WHERE rn <= 3",
    );
}

#[test]
fn first_row_of_each_partition_and_a_further_condition() {
    law(
        "CREATE MATERIALIZED VIEW a AS SELECT k, v, g FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts) AS rn FROM t) WHERE rn = 1 AND v > 0",
    );
}

#[test]
fn first_rows_of_an_aggregate() {
    law("CREATE MATERIALIZED VIEW s AS SELECT g, k, SUM(v) AS v, COUNT(*) AS n FROM t GROUP BY g, k;
         CREATE MATERIALIZED VIEW a AS SELECT * FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY v DESC NULLS LAST, n) AS rn FROM s) WHERE rn < 4");
}

#[test]
fn union_all_of_different_shapes() {
    law(
        "CREATE MATERIALIZED VIEW a AS SELECT k, g AS name, v FROM t UNION ALL SELECT k, name, w FROM u UNION ALL SELECT 7, 'x', 1",
    );
}

#[test]
fn an_aggregate_over_a_join_over_an_aggregate() {
    law("CREATE MATERIALIZED VIEW m AS SELECT k, MAX(v) AS top FROM t GROUP BY k;
         CREATE MATERIALIZED VIEW a AS SELECT u.name, AVG(m.top) AS a, MIN(m.top) AS lo, COUNT(*) AS n FROM m JOIN u ON m.k = u.k GROUP BY u.name");
}

#[test]
fn union_removes_duplicates() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, g FROM t UNION SELECT k, name FROM u");
}
