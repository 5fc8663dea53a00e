-- The ten highest bids of each auction, with their rank.
CREATE MATERIALIZED VIEW q19 AS
SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) AS rank_number FROM bid) ranked
WHERE rank_number <= 10;
