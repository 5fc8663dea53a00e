-- Average closing price of each category: join, then MAX, then AVG of a maximum that changes.
CREATE MATERIALIZED VIEW q4 AS
SELECT q.category, AVG(q.final_price) AS average
FROM (
  SELECT a.id, a.category, MAX(b.price) AS final_price
  FROM auction a JOIN bid b
    ON a.id = b.auction AND b.date_time >= a.date_time AND b.date_time <= a.expires
  GROUP BY a.id, a.category
) q
GROUP BY q.category;
