-- How late each carrier's flights arrived.
CREATE MATERIALIZED VIEW arrival_delays AS
SELECT
  a.carrier, c.name AS carrier_name,
  COUNT(*) AS arrivals, AVG(a.arr_delay) AS avg_arr_delay, MAX(a.arr_delay) AS max_arr_delay
FROM arrivals a
LEFT JOIN carriers c ON a.carrier = c.carrier
GROUP BY a.carrier, c.name;
