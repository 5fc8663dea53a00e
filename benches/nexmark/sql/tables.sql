-- The three kinds of events, each a table of its own. Watermarks as in the Flink texts of Nexmark: 4 seconds behind.
CREATE TABLE person (
  id          BIGINT NOT NULL,
  name        TEXT NOT NULL,
  email       TEXT NOT NULL,
  credit_card TEXT NOT NULL,
  city        TEXT NOT NULL,
  state       TEXT NOT NULL,
  date_time   TIMESTAMP(3) NOT NULL,
  extra       TEXT NOT NULL,
  WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);

CREATE TABLE auction (
  id          BIGINT NOT NULL,
  item_name   TEXT NOT NULL,
  description TEXT NOT NULL,
  initial_bid BIGINT NOT NULL,
  reserve     BIGINT NOT NULL,
  date_time   TIMESTAMP(3) NOT NULL,
  expires     TIMESTAMP(3) NOT NULL,
  seller      BIGINT NOT NULL,
  category    BIGINT NOT NULL,
  extra       TEXT NOT NULL,
  WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);

CREATE TABLE bid (
  auction   BIGINT NOT NULL,
  bidder    BIGINT NOT NULL,
  price     BIGINT NOT NULL,
  channel   TEXT NOT NULL,
  url       TEXT NOT NULL,
  date_time TIMESTAMP(3) NOT NULL,
  extra     TEXT NOT NULL,
  WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);
