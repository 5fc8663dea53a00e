-- Winning bids: the highest bid of each auction while it is open, the first of equals.
CREATE MATERIALIZED VIEW q9 AS
SELECT id, item_name, initial_bid, reserve, seller, category, auction, bidder, price, bid_time
FROM (
  SELECT a.id, a.item_name, a.initial_bid, a.reserve, a.seller, a.category, b.auction, b.bidder, b.price,
    b.date_time AS bid_time,
    ROW_NUMBER() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.date_time) AS n
  FROM auction a JOIN bid b
    ON a.id = b.auction AND b.date_time >= a.date_time AND b.date_time <= a.expires
) ranked
WHERE n <= 1;
