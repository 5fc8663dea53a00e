-- Departures beside the weather of their hour. Both sides are joined on event time, so an hour is let go on both sides
-- when both watermarks have passed it.
CREATE MATERIALIZED VIEW delay_by_weather AS
SELECT
  CASE
    WHEN w.precip > 0 AND w.temp <= 34 THEN 'snow or ice'
    WHEN w.precip > 0 THEN 'rain'
    WHEN w.visib < 3 THEN 'fog'
    WHEN w.wind_speed >= 20 OR w.wind_gust >= 30 THEN 'wind'
    ELSE 'clear'
  END AS conditions,
  COUNT(*) AS departures,
  AVG(d.dep_delay) AS avg_delay,
  MAX(d.dep_delay) AS max_delay
FROM departures d
JOIN weather w
  ON d.origin = w.origin
 AND date_trunc('hour', d.departed_at) = date_trunc('hour', w.time_hour)
GROUP BY 1;
