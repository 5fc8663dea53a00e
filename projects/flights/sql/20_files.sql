-- What is looked up: files, read once when the first view that needs them starts.

CREATE TABLE carriers (
  carrier TEXT NOT NULL,
  name    TEXT NOT NULL
) WITH ('connector' = 'file', 'path' = 'data/airlines.parquet');

CREATE TABLE planes (
  tailnum      TEXT NOT NULL,
  year         INT,
  type         TEXT,
  manufacturer TEXT,
  model        TEXT,
  engines      INT,
  seats        INT,
  speed        INT,
  engine       TEXT
) WITH ('connector' = 'file', 'path' = 'data/planes.parquet');

CREATE TABLE airports (
  faa   TEXT NOT NULL,
  name  TEXT NOT NULL,
  lat   DOUBLE,
  lon   DOUBLE,
  alt   INT,
  tz    INT,
  dst   TEXT,
  tzone TEXT
) WITH ('connector' = 'file', 'path' = 'data/airports.parquet');
