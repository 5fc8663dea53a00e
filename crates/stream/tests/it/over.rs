//! The law for window functions, and for SESSION and CUMULATE windows.

use crate::operators::law;

#[test]
fn session_windows() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, window_start, window_end, COUNT(*) AS n, SUM(v) AS s
         FROM TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '2' SECOND)) GROUP BY k, window_start, window_end;
         CREATE MATERIALIZED VIEW b AS SELECT g, v, window_start, window_end
         FROM TABLE(SESSION(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND))");
}

#[test]
fn cumulating_windows() {
    law("CREATE MATERIALIZED VIEW a AS SELECT g, window_start, window_end, COUNT(*) AS n, MAX(v) AS m
         FROM TABLE(CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '4' SECOND))
         GROUP BY g, window_start, window_end");
}

#[test]
fn numbers_of_rows_without_a_limit() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, v, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v) AS rn FROM t;
         CREATE MATERIALIZED VIEW b AS SELECT k, v, RANK() OVER (PARTITION BY g ORDER BY k) AS r,
           DENSE_RANK() OVER (PARTITION BY g ORDER BY k) AS d, PERCENT_RANK() OVER (PARTITION BY g ORDER BY k) AS p FROM t");
}

#[test]
fn neighbours() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, v, ts, LAG(v) OVER (PARTITION BY k ORDER BY ts, v, d, g) AS before,
           LEAD(v, 2, 0) OVER (PARTITION BY k ORDER BY ts, v, d, g) AS next FROM t");
}

#[test]
fn frames_of_rows() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, v,
           SUM(v) OVER (PARTITION BY k ORDER BY ts, v, d, g ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS s,
           COUNT(*) OVER (PARTITION BY k ORDER BY ts, v, d, g ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS n FROM t;
         CREATE MATERIALIZED VIEW b AS SELECT k, v, SUM(v) OVER (PARTITION BY g) AS s, MAX(v) OVER () AS m FROM t");
}

#[test]
fn frames_of_ranges() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, v, SUM(v) OVER (PARTITION BY g ORDER BY k) AS s,
           MIN(v) OVER (PARTITION BY g ORDER BY ts RANGE BETWEEN INTERVAL '2' SECOND PRECEDING AND CURRENT ROW) AS m FROM t");
}

#[test]
fn window_functions_over_a_changing_aggregate() {
    law("CREATE MATERIALIZED VIEW a AS SELECT g, k, n, SUM(n) OVER (PARTITION BY g) AS all_of_g FROM
           (SELECT g, k, COUNT(*) AS n FROM t GROUP BY g, k) c");
}
