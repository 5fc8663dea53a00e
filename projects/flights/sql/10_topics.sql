-- What comes in: three topics of JSON records. All times are New York's wall clock.
--
-- A watermark says how late a record may be: state that only older records could change is let go, and what comes later
-- still is counted and left out of the views that let go.

-- Every scheduled flight, told when it left. A cancelled one is told at its scheduled time and never departed:
-- its departed_at and dep_delay are null.
CREATE TABLE departures (
  flight_id   BIGINT NOT NULL,
  carrier     TEXT NOT NULL,
  flight      INT NOT NULL,
  tailnum     TEXT,
  origin      TEXT NOT NULL,
  dest        TEXT NOT NULL,
  distance    INT,
  sched_dep   TIMESTAMP(3) NOT NULL,
  departed_at TIMESTAMP(3),
  dep_delay   INT,                          -- minutes; negative is early
  WATERMARK FOR departed_at AS departed_at - INTERVAL '5' MINUTE
) WITH ('connector' = 'kafka', 'topic' = 'departures', 'format' = 'json');

-- Told up to twelve minutes after the flight reached its gate, so arrivals come out of order. Diverted flights have no
-- arr_delay; those that never reached a gate are not here.
CREATE TABLE arrivals (
  flight_id  BIGINT NOT NULL,
  carrier    TEXT NOT NULL,
  flight     INT NOT NULL,
  origin     TEXT NOT NULL,
  dest       TEXT NOT NULL,
  arrived_at TIMESTAMP(3) NOT NULL,
  arr_delay  INT,                           -- minutes; negative is early
  air_time   INT,                           -- minutes
  WATERMARK FOR arrived_at AS arrived_at - INTERVAL '15' MINUTE
) WITH ('connector' = 'kafka', 'topic' = 'arrivals', 'format' = 'json');

-- One record an hour of each of the three airports.
CREATE TABLE weather (
  origin     TEXT NOT NULL,
  time_hour  TIMESTAMP(3) NOT NULL,
  temp       DOUBLE,                        -- degrees Fahrenheit
  dewp       DOUBLE,
  humid      DOUBLE,                        -- percent
  wind_dir   INT,
  wind_speed DOUBLE,                        -- miles an hour
  wind_gust  DOUBLE,
  precip     DOUBLE,                        -- inches in the hour
  pressure   DOUBLE,
  visib      DOUBLE,                        -- miles
  WATERMARK FOR time_hour AS time_hour - INTERVAL '5' MINUTE
) WITH ('connector' = 'kafka', 'topic' = 'weather', 'format' = 'json');
