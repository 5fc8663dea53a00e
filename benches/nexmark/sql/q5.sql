-- Hot items: the auctions with the most bids in each sliding window. With ties, as the original has them.
CREATE MATERIALIZED VIEW q5 AS
SELECT n.auction, n.num, n.window_start, n.window_end
FROM (
  SELECT auction, COUNT(*) AS num, window_start, window_end
  FROM TABLE(HOP(TABLE bid, DESCRIPTOR(date_time), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
  GROUP BY auction, window_start, window_end
) n
JOIN (
  SELECT MAX(c.num) AS most, c.window_start, c.window_end
  FROM (
    SELECT auction, COUNT(*) AS num, window_start, window_end
    FROM TABLE(HOP(TABLE bid, DESCRIPTOR(date_time), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
    GROUP BY auction, window_start, window_end
  ) c
  GROUP BY c.window_start, c.window_end
) m
ON n.window_start = m.window_start AND n.window_end = m.window_end AND n.num >= m.most;
