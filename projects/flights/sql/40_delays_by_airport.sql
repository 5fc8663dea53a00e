-- How late each airport's flights left, hour by hour. A window is let go when the watermark has passed its end.
CREATE MATERIALIZED VIEW delays_by_airport
STORED AS DELTA AS
SELECT
  origin, window_start, window_end,
  COUNT(*) AS departures, AVG(dep_delay) AS avg_delay, MAX(dep_delay) AS max_delay
FROM TABLE(TUMBLE(TABLE departures, DESCRIPTOR(departed_at), INTERVAL '1' HOUR))
WHERE departed_at IS NOT NULL
GROUP BY origin, window_start, window_end;
