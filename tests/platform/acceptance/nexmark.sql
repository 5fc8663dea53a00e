-- Nexmark's queries over the acceptance data, from its statements in plain words. Each view has the name and the columns of
-- its expected rows.
CREATE TABLE person (
  id BIGINT, name TEXT, email_address TEXT, credit_card TEXT, city TEXT, state TEXT, date_time TIMESTAMP(3), extra TEXT
);
CREATE TABLE auction (
  id BIGINT, item_name TEXT, description TEXT, initial_bid BIGINT, reserve BIGINT, date_time TIMESTAMP(3),
  expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra TEXT
);
CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, date_time TIMESTAMP(3), extra TEXT
);

CREATE MATERIALIZED VIEW q0 AS SELECT auction, bidder, price, date_time FROM bid;

CREATE MATERIALIZED VIEW q1 AS
SELECT auction, bidder, CAST(price AS DECIMAL(20, 0)) * CAST(0.908 AS DECIMAL(4, 3)) AS price, date_time FROM bid;

CREATE MATERIALIZED VIEW q3 AS
SELECT p.name, p.city, p.state, a.id FROM auction a JOIN person p ON a.seller = p.id
WHERE a.category = 10 AND p.state IN ('or', 'id', 'ca');

CREATE MATERIALIZED VIEW bids_in_windows AS
SELECT auction, window_start, COUNT(*) AS num
FROM TABLE(HOP(TABLE bid, DESCRIPTOR(date_time), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
GROUP BY auction, window_start;

CREATE MATERIALIZED VIEW q5 AS
SELECT b.auction, b.num FROM bids_in_windows b
JOIN (SELECT window_start, MAX(num) AS most FROM bids_in_windows GROUP BY window_start) m
ON b.window_start = m.window_start AND b.num = m.most;

CREATE MATERIALIZED VIEW q6_group_top1 AS
SELECT seller, AVG(price) OVER (PARTITION BY seller ORDER BY date_time ROWS BETWEEN 10 PRECEDING AND CURRENT ROW) AS avg
FROM (
  SELECT a.seller, b.price, b.date_time, ROW_NUMBER() OVER (PARTITION BY a.id, a.seller ORDER BY b.price) AS n
  FROM auction a JOIN bid b ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires
) closed WHERE n = 1;

CREATE MATERIALIZED VIEW q8 AS
SELECT p.id, p.name, p.window_start AS starttime
FROM (SELECT DISTINCT id, name, window_start FROM TUMBLE(person, date_time, INTERVAL '10' SECOND)) p
JOIN (SELECT DISTINCT seller, window_start FROM TUMBLE(auction, date_time, INTERVAL '10' SECOND)) a
ON p.id = a.seller AND p.window_start = a.window_start;

CREATE MATERIALIZED VIEW q10 AS
SELECT auction, bidder, price, date_time, to_char(date_time, '%Y-%m-%d') AS date, to_char(date_time, '%I:%M') AS time
FROM bid;

CREATE MATERIALIZED VIEW q15 AS
SELECT to_char(date_time, '%Y-%m-%d') AS day,
  COUNT(*) AS total_bids,
  COUNT(*) FILTER (WHERE price < 10000) AS rank1_bids,
  COUNT(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
  COUNT(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
  COUNT(DISTINCT bidder) AS total_bidders,
  COUNT(DISTINCT bidder) FILTER (WHERE price < 10000) AS rank1_bidders,
  COUNT(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bidders,
  COUNT(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS rank3_bidders,
  COUNT(DISTINCT auction) AS total_auctions,
  COUNT(DISTINCT auction) FILTER (WHERE price < 10000) AS rank1_auctions,
  COUNT(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_auctions,
  COUNT(DISTINCT auction) FILTER (WHERE price >= 1000000) AS rank3_auctions
FROM bid GROUP BY to_char(date_time, '%Y-%m-%d');

CREATE MATERIALIZED VIEW q17 AS
SELECT auction, to_char(date_time, '%Y-%m-%d') AS day,
  COUNT(*) AS total_bids,
  COUNT(*) FILTER (WHERE price < 10000) AS rank1_bids,
  COUNT(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
  COUNT(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
  MIN(price) AS min_price, MAX(price) AS max_price, AVG(price) AS avg_price, SUM(price) AS sum_price
FROM bid GROUP BY auction, to_char(date_time, '%Y-%m-%d');

CREATE MATERIALIZED VIEW q18 AS
SELECT auction, bidder, price, channel, url, date_time, extra
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC, extra) AS n FROM bid) latest
WHERE n = 1;

CREATE MATERIALIZED VIEW q20 AS
SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.date_time AS bid_date_time, b.extra AS bid_extra, a.item_name,
  a.description, a.initial_bid, a.reserve, a.date_time AS auction_date_time, a.expires, a.seller, a.category,
  a.extra AS auction_extra
FROM bid b JOIN auction a ON b.auction = a.id WHERE a.category = 10;

CREATE MATERIALIZED VIEW q21 AS
SELECT auction, bidder, price, channel, channel_id
FROM (
  SELECT *, CASE lower(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
    ELSE split_part(split_part(url, 'channel_id=', 2), '&', 1) END AS channel_id
  FROM bid
) named WHERE channel_id <> '';

CREATE MATERIALIZED VIEW q101 AS
SELECT a.id AS auction_id, a.item_name AS auction_item_name, b.highest AS current_highest_bid
FROM auction a LEFT JOIN (SELECT auction, MAX(price) AS highest FROM bid GROUP BY auction) b ON a.id = b.auction;

CREATE MATERIALIZED VIEW q102 AS
SELECT a.id AS auction_id, a.item_name AS auction_item_name, COUNT(b.auction) AS bid_count
FROM auction a JOIN bid b ON a.id = b.auction
GROUP BY a.id, a.item_name
HAVING COUNT(b.auction) >= (SELECT COUNT(*) / COUNT(DISTINCT auction) FROM bid);

CREATE MATERIALIZED VIEW q104 AS
SELECT id AS auction_id, item_name AS auction_item_name FROM auction
WHERE id NOT IN (SELECT auction FROM bid GROUP BY auction HAVING COUNT(*) < 20);

CREATE MATERIALIZED VIEW q106 AS
SELECT MIN(final) AS min_final FROM (
  SELECT a.id, MAX(b.price) AS final FROM auction a
  JOIN bid b ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires GROUP BY a.id
) highest;
