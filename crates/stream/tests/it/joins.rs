//! The law for every kind of join, and for subqueries, which are joins.

use crate::operators::law;

#[test]
fn right_join() {
    law("CREATE MATERIALIZED VIEW a AS SELECT t.g, t.v, u.name, u.w FROM t RIGHT JOIN u ON t.k = u.k");
}

#[test]
fn right_join_with_a_residual_condition() {
    law("CREATE MATERIALIZED VIEW a AS SELECT t.g, t.v, u.name, u.w FROM t RIGHT JOIN u ON t.k = u.k AND t.v < u.w");
}

#[test]
fn full_join() {
    law("CREATE MATERIALIZED VIEW a AS SELECT t.k, t.v, u.k AS uk, u.w FROM t FULL JOIN u ON t.k = u.k");
}

#[test]
fn full_join_with_a_residual_condition() {
    law("CREATE MATERIALIZED VIEW a AS SELECT t.k, t.v, u.k AS uk, u.w FROM t FULL JOIN u
         ON t.k = u.k AND t.g = u.name AND t.v <> u.w");
}

#[test]
fn full_join_of_changing_aggregates() {
    law("CREATE MATERIALIZED VIEW a AS SELECT l.k, l.n, r.k AS rk, r.m FROM
         (SELECT k, COUNT(*) AS n FROM t GROUP BY k) l FULL JOIN (SELECT k, MAX(w) AS m FROM u GROUP BY k) r
         ON l.k = r.k AND l.n < r.m");
}

#[test]
fn semi_joins() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, v FROM t LEFT SEMI JOIN u ON t.k = u.k;
         CREATE MATERIALIZED VIEW b AS SELECT u.k, u.w FROM t RIGHT SEMI JOIN u ON t.k = u.k AND t.v < u.w");
}

#[test]
fn anti_joins() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, v FROM t LEFT ANTI JOIN u ON t.k = u.k AND t.g <> u.name;
         CREATE MATERIALIZED VIEW b AS SELECT u.k, u.w FROM t RIGHT ANTI JOIN u ON t.k = u.k");
}

#[test]
fn cross_join_and_conditions_without_an_equality() {
    law("CREATE MATERIALIZED VIEW a AS SELECT t.v, u.w FROM t, u;
         CREATE MATERIALIZED VIEW b AS SELECT t.v, u.w FROM t JOIN u ON t.v < u.w AND t.k <> u.k;
         CREATE MATERIALIZED VIEW c AS SELECT t.v, u.w FROM t FULL JOIN u ON t.v < u.w");
}

#[test]
fn in_and_exists() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, v FROM t WHERE k IN (SELECT k FROM u WHERE w > 0);
         CREATE MATERIALIZED VIEW b AS SELECT k, v FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.k = t.k AND u.w > t.v);
         CREATE MATERIALIZED VIEW c AS SELECT k, v FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.w > 900)");
}

#[test]
fn not_in_has_the_nulls_of_the_standard() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, v FROM t WHERE k NOT IN (SELECT k FROM u);
         CREATE MATERIALIZED VIEW b AS SELECT k, v FROM t WHERE k NOT IN (SELECT k FROM u WHERE k IS NOT NULL);
         CREATE MATERIALIZED VIEW c AS SELECT g, n FROM (SELECT g, COUNT(*) AS n FROM t GROUP BY g) s
           WHERE g NOT IN (SELECT name FROM u WHERE w > 800)");
}

#[test]
fn not_exists() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, v FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.k = t.k);
         CREATE MATERIALIZED VIEW b AS SELECT k, v FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.w > 900)");
}

#[test]
fn subqueries_beside_other_conditions() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, v FROM t WHERE v > 500 OR EXISTS (SELECT 1 FROM u WHERE u.k = t.k);
         CREATE MATERIALIZED VIEW b AS SELECT k, v FROM t WHERE v < 0 OR k IN (SELECT k FROM u WHERE w > 0)");
}

#[test]
fn scalar_subqueries() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, v FROM t WHERE v > (SELECT AVG(w) FROM u);
         CREATE MATERIALIZED VIEW b AS SELECT k, v, (SELECT MAX(w) FROM u) AS top FROM t");
}

#[test]
fn correlated_scalar_subqueries() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, v, (SELECT COUNT(*) FROM u WHERE u.k = t.k) AS n FROM t;
         CREATE MATERIALIZED VIEW b AS SELECT k, v FROM t WHERE v >= (SELECT MAX(x.v) FROM t x WHERE x.k = t.k)");
}

#[test]
fn a_query_that_is_said_twice_is_computed_once() {
    law("CREATE MATERIALIZED VIEW a AS SELECT n.k, n.num FROM
         (SELECT k, g, COUNT(*) AS num FROM t GROUP BY k, g) n JOIN
         (SELECT g, MAX(num) AS most FROM (SELECT k, g, COUNT(*) AS num FROM t GROUP BY k, g) c GROUP BY g) m
         ON n.g = m.g AND n.num >= m.most");
}
