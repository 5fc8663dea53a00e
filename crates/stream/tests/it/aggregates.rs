//! The law for aggregates beyond COUNT, SUM, AVG, MIN and MAX, for DISTINCT, and for several groupings at once.

use crate::operators::law;

#[test]
fn distinct_aggregates_beside_others_and_filters() {
    law("CREATE MATERIALIZED VIEW a AS SELECT g, COUNT(DISTINCT k) AS ks, COUNT(*) AS n, SUM(DISTINCT v) AS s,
           AVG(DISTINCT d) AS m, COUNT(DISTINCT v) FILTER (WHERE v > 0) AS p,
           COUNT(DISTINCT v) FILTER (WHERE k > 1) AS q, MAX(DISTINCT v) AS top FROM t GROUP BY g;
         CREATE MATERIALIZED VIEW b AS SELECT COUNT(DISTINCT k) AS ks, COUNT(DISTINCT g) AS gs, SUM(v) AS s FROM t");
}

#[test]
fn variances_and_correlations() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, VAR_SAMP(d) AS vs, VAR_POP(d) AS vp, STDDEV(d) AS s, STDDEV_POP(v) AS sp,
           COVAR_SAMP(d, v) AS cs, COVAR_POP(d, v) AS cp FROM t GROUP BY k;
         CREATE MATERIALIZED VIEW b AS SELECT CORR(d, v) AS c, VAR_POP(v) AS p FROM t");
}

#[test]
fn booleans_and_bits() {
    law("CREATE MATERIALIZED VIEW a AS SELECT g, BOOL_AND(v > 0) AS every, BOOL_OR(v > 900) AS some,
           BIT_AND(v) AS ba, BIT_OR(k) AS bo, BIT_XOR(v) AS bx FROM t GROUP BY g");
}

#[test]
fn first_and_last_values() {
    law(
        "CREATE MATERIALIZED VIEW a AS SELECT g, FIRST_VALUE(v ORDER BY ts, k) AS f, LAST_VALUE(v ORDER BY ts, k) AS l,
           LAST_VALUE(d ORDER BY v DESC) AS low FROM t GROUP BY g;
         CREATE MATERIALIZED VIEW b AS SELECT FIRST_VALUE(v ORDER BY k) IGNORE NULLS AS f FROM t",
    );
}

#[test]
fn lists_and_texts_in_an_order() {
    law("CREATE MATERIALIZED VIEW a AS SELECT g, ARRAY_AGG(v ORDER BY v DESC, k) AS vs, ARRAY_AGG(DISTINCT k) AS ks,
           STRING_AGG(g, ',' ORDER BY v) AS gs FROM t GROUP BY g;
         CREATE MATERIALIZED VIEW b AS SELECT k, ARRAY_AGG(v) FILTER (WHERE v > 0) AS vs, MEDIAN(d) AS m FROM t GROUP BY k");
}

#[test]
fn grouping_sets_rollup_and_cube() {
    law("CREATE MATERIALIZED VIEW a AS SELECT g, k, COUNT(*) AS n, SUM(k) AS s FROM t GROUP BY GROUPING SETS ((g, k), (g));
         CREATE MATERIALIZED VIEW b AS SELECT g, k, COUNT(*) AS n, MAX(v) AS m, GROUPING(g) AS gg FROM t GROUP BY ROLLUP (g, k);
         CREATE MATERIALIZED VIEW c AS SELECT g, k, AVG(v) AS a FROM t GROUP BY CUBE (g, k)");
}

#[test]
fn intersect_and_except() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, g FROM t INTERSECT SELECT k, name FROM u;
         CREATE MATERIALIZED VIEW b AS SELECT k, g FROM t EXCEPT SELECT k, name FROM u;
         CREATE MATERIALIZED VIEW c AS SELECT k FROM t INTERSECT ALL SELECT k FROM u;
         CREATE MATERIALIZED VIEW d AS SELECT k FROM t EXCEPT ALL SELECT k FROM u");
}
