-- Every flight with the names behind its codes. Rows are only ever added, so the Delta table is appended to.
CREATE MATERIALIZED VIEW flights_enriched
STORED AS DELTA AS
SELECT
  d.flight_id, d.sched_dep, d.departed_at, d.dep_delay,
  d.carrier, c.name AS carrier_name, d.flight,
  d.origin, d.dest, COALESCE(a.name, d.dest) AS destination,
  d.distance, d.tailnum, p.model AS plane_model, p.year AS plane_year, p.seats AS plane_seats
FROM departures d
LEFT JOIN carriers c ON d.carrier = c.carrier
LEFT JOIN planes p ON d.tailnum = p.tailnum
LEFT JOIN airports a ON d.dest = a.faa;

-- The newest fifteen; of a view that only grows, no more than these are kept.
CREATE MATERIALIZED VIEW latest_departures AS
SELECT *
FROM (
  SELECT
    departed_at, dep_delay, carrier_name, flight, origin, destination, plane_model, flight_id,
    ROW_NUMBER() OVER (ORDER BY departed_at DESC, flight_id DESC) AS recent
  FROM flights_enriched
  WHERE departed_at IS NOT NULL
)
WHERE recent <= 15;
