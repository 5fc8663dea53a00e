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

/// Every kind of join where one side is complete from the start, and the other has rows in the very first step.
#[test]
fn joins_with_a_side_that_stays() {
    for join in ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"] {
        law(&format!(
            "CREATE MATERIALIZED VIEW a AS SELECT f.label, f.x, t.g, t.v FROM f {join} t ON f.k = t.k AND f.x <> t.v;
             CREATE MATERIALIZED VIEW b AS SELECT f.label, f.x, t.g, t.v FROM t {join} f ON f.k = t.k AND f.x <> t.v"
        ));
    }
    for join in ["LEFT SEMI JOIN", "LEFT ANTI JOIN"] {
        law(&format!(
            "CREATE MATERIALIZED VIEW a AS SELECT f.label, f.x FROM f {join} t ON f.k = t.k AND f.x <> t.v;
             CREATE MATERIALIZED VIEW b AS SELECT t.g, t.v FROM t {join} f ON f.k = t.k AND f.x <> t.v"
        ));
    }
    for join in ["RIGHT SEMI JOIN", "RIGHT ANTI JOIN"] {
        law(&format!(
            "CREATE MATERIALIZED VIEW a AS SELECT t.g, t.v FROM f {join} t ON f.k = t.k;
             CREATE MATERIALIZED VIEW b AS SELECT f.label, f.x FROM t {join} f ON f.k = t.k"
        ));
    }
}

#[test]
fn subqueries_over_a_side_that_stays() {
    law("CREATE MATERIALIZED VIEW a AS SELECT k, v FROM t WHERE k IN (SELECT k FROM f WHERE x > 0) OR v > 5;
         CREATE MATERIALIZED VIEW b AS SELECT k, x FROM f WHERE k IN (SELECT k FROM t WHERE v > 0) OR x > 5;
         CREATE MATERIALIZED VIEW c AS SELECT k, v FROM t WHERE k NOT IN (SELECT k FROM f);
         CREATE MATERIALIZED VIEW d AS SELECT k, v FROM t WHERE k NOT IN (SELECT k FROM f WHERE k IS NOT NULL);
         CREATE MATERIALIZED VIEW e AS SELECT k, x FROM f WHERE k NOT IN (SELECT k FROM t);
         CREATE MATERIALIZED VIEW f1 AS SELECT k, x FROM f WHERE k NOT IN (SELECT k FROM f WHERE x > 0)");
}

#[test]
fn a_total_beside_rows_that_stay() {
    law("CREATE MATERIALIZED VIEW a AS SELECT f.label, s.n FROM f CROSS JOIN (SELECT COUNT(*) AS n FROM t) s;
         CREATE MATERIALIZED VIEW b AS SELECT f.label, s.n FROM (SELECT COUNT(*) AS n FROM t) s CROSS JOIN f;
         CREATE MATERIALIZED VIEW c AS SELECT f.label, (SELECT MAX(v) FROM t) AS m FROM f");
}

#[test]
fn constant_rows_on_either_side() {
    law("CREATE MATERIALIZED VIEW a AS SELECT c.n, t.v FROM (VALUES (1, 'one'), (2, 'two')) c (k, n) JOIN t ON c.k = t.k;
         CREATE MATERIALIZED VIEW b AS SELECT c.n, t.v FROM t LEFT JOIN (VALUES (1, 'one'), (2, 'two')) c (k, n) ON c.k = t.k;
         CREATE MATERIALIZED VIEW d AS SELECT c.n, s.m FROM (VALUES ('all')) c (n) CROSS JOIN (SELECT SUM(v) AS m FROM t) s;
         CREATE MATERIALIZED VIEW e AS SELECT c.n, x.label FROM (VALUES (1, 'one')) c (k, n) FULL JOIN f x ON c.k = x.k");
}
