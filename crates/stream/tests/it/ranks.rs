//! The law for the first rows of partitions, and for ORDER BY … LIMIT.

use crate::operators::law;

#[test]
fn rank_and_dense_rank_keep_ties() {
    law("CREATE MATERIALIZED VIEW a AS SELECT g, v, k, rn FROM
           (SELECT g, v, k, RANK() OVER (PARTITION BY g ORDER BY k) AS rn FROM t) WHERE rn <= 2;
         CREATE MATERIALIZED VIEW b AS SELECT g, v, k, rn FROM
           (SELECT g, v, k, DENSE_RANK() OVER (PARTITION BY g ORDER BY k DESC NULLS LAST) AS rn FROM t) WHERE rn <= 2;
         CREATE MATERIALIZED VIEW c AS SELECT g, k FROM
           (SELECT g, k, RANK() OVER (ORDER BY g, k) AS rn FROM t) WHERE rn <= 3");
}

#[test]
fn a_rank_that_nobody_reads_emits_only_rows_that_come_or_go() {
    law("CREATE MATERIALIZED VIEW a AS SELECT g, v, k FROM
           (SELECT g, v, k, ROW_NUMBER() OVER (PARTITION BY g ORDER BY v DESC) AS rn FROM t) WHERE rn <= 2");
}

#[test]
fn first_and_last_row_of_each_key() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, v, ts FROM
           (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts) AS rn FROM t) WHERE rn = 1;
         CREATE MATERIALIZED VIEW b AS SELECT k, g, v, d, ts FROM
           (SELECT *, ROW_NUMBER() OVER (PARTITION BY k, g ORDER BY ts DESC NULLS LAST) AS rn FROM t) WHERE rn = 1");
}

#[test]
fn the_third_row_alone() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, v FROM
           (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v) AS rn FROM t) WHERE rn = 3");
}

#[test]
fn order_by_and_limit() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, v FROM t ORDER BY v DESC NULLS LAST, k LIMIT 3;
         CREATE MATERIALIZED VIEW b AS SELECT g, COUNT(*) AS n FROM t GROUP BY g ORDER BY n DESC, g LIMIT 2 OFFSET 1;
         CREATE MATERIALIZED VIEW c AS SELECT v + 1 AS w FROM t ORDER BY k, v LIMIT 4");
}

#[test]
fn a_limit_inside_a_query() {
    law("CREATE MATERIALIZED VIEW a AS SELECT u.name, f.v FROM
           (SELECT k, v FROM t ORDER BY v LIMIT 5) f LEFT JOIN u ON u.k = f.k;
         CREATE MATERIALIZED VIEW b AS SELECT k, w FROM u WHERE k IN (SELECT k FROM t ORDER BY v, k LIMIT 3)");
}
