-- Bids of each bidder in each window. The original counts in processing time; here it is event time.
CREATE MATERIALIZED VIEW q12 AS
SELECT bidder, COUNT(*) AS bid_count, window_start, window_end
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '10' SECOND))
GROUP BY bidder, window_start, window_end;
