//! The law where watermarks free state: what was let go is never missed.

use crate::operators::timed_law;

#[test]
fn windows_are_let_go_when_they_end() {
    timed_law("CREATE MATERIALIZED VIEW a AS SELECT g, window_start, window_end, COUNT(*) AS n, COUNT(DISTINCT k) AS ks
               FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND)) GROUP BY g, window_start, window_end;
               CREATE MATERIALIZED VIEW b AS SELECT k, window_start, window_end, MAX(v) AS m
               FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '3' SECOND)) GROUP BY k, window_start, window_end;
               CREATE MATERIALIZED VIEW c AS SELECT g, window_start, window_end, SUM(v) AS s
               FROM TABLE(CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '4' SECOND)) GROUP BY g, window_start, window_end");
}

#[test]
fn sessions_are_let_go_when_they_end() {
    timed_law("CREATE MATERIALIZED VIEW a AS SELECT k, window_start, window_end, COUNT(*) AS n
               FROM TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY k, window_start, window_end");
}

#[test]
fn joins_of_windows_let_both_sides_go() {
    for join in ["JOIN", "LEFT JOIN", "FULL JOIN", "LEFT SEMI JOIN", "LEFT ANTI JOIN"] {
        let right = if join.contains("SEMI") || join.contains("ANTI") { "" } else { ", r.window_start AS rs, r.w" };
        timed_law(&format!(
            "CREATE MATERIALIZED VIEW a AS SELECT l.k, l.v, l.window_start{right} FROM
             (SELECT k, v, window_start FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND))) l {join}
             (SELECT k, w, window_start FROM TABLE(TUMBLE(TABLE u, DESCRIPTOR(ts), INTERVAL '2' SECOND))) r
             ON l.window_start = r.window_start AND l.k = r.k AND l.v <> r.w"
        ));
    }
}

#[test]
fn first_rows_of_windows_are_let_go() {
    timed_law(
        "CREATE MATERIALIZED VIEW a AS SELECT window_start, k, v, rn FROM
                 (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start ORDER BY v DESC) AS rn
                  FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND))) WHERE rn <= 2;
               CREATE MATERIALIZED VIEW b AS SELECT window_start, k, v, SUM(v) OVER (PARTITION BY window_start) AS s
                 FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND))",
    );
}
