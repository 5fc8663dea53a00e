-- On time is less than 15 minutes late, as the Department of Transportation counts it.
CREATE MATERIALIZED VIEW on_time_by_carrier AS
SELECT
  d.origin, d.carrier, c.name AS carrier_name,
  COUNT(*) AS departures,
  100.0 * COUNT(*) FILTER (WHERE d.dep_delay < 15) / COUNT(*) AS on_time_percent
FROM departures d
LEFT JOIN carriers c ON d.carrier = c.carrier
WHERE d.departed_at IS NOT NULL
GROUP BY d.origin, d.carrier, c.name;

-- The five most punctual carriers of each airport, among those with at least thirty departures.
CREATE MATERIALIZED VIEW on_time_ranking AS
SELECT origin, rank, carrier, carrier_name, departures, on_time_percent
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY origin ORDER BY on_time_percent DESC, departures DESC, carrier) AS rank
  FROM on_time_by_carrier
  WHERE departures >= 30
)
WHERE rank <= 5;
