-- Bids with the number of their channel: four are known by name, the others have it in their URL.
CREATE MATERIALIZED VIEW q21 AS
SELECT auction, bidder, price, channel, channel_id
FROM (
  SELECT *, CASE lower(channel)
    WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
    ELSE NULLIF(split_part(split_part(url, 'channel_id=', 2), '&', 1), '')
  END AS channel_id
  FROM bid
) named
WHERE channel_id IS NOT NULL;
