-- The views of deeptape: the same data in the units of a reader. Prices and sizes in them are doubles.

-- Levels with prices and sizes as numbers.
CREATE VIEW IF NOT EXISTS delta AS (SELECT ts, venue, symbol, side, px / power(10.0, px_scale) price, qty / power(10.0, qty_scale) size, ts_event, seq,
  (flags & 1) = 1 is_snapshot, (flags & 2) = 2 is_last, flags FROM book_delta);

-- Trades with prices and sizes as numbers.
CREATE VIEW IF NOT EXISTS trade AS (SELECT ts, venue, symbol, side, px / power(10.0, px_scale) price, qty / power(10.0, qty_scale) size, trade_id, ts_event, seq, flags FROM trades);

-- The top of the book with what is derived from it.
CREATE VIEW IF NOT EXISTS top AS (SELECT ts, venue, symbol, bid, bid_size, ask, ask_size, ask - bid spread, (bid + ask) / 2 mid, wmid(bid_size, bid, ask, ask_size) micro,
  (bid_size - ask_size) / (bid_size + ask_size) imbalance, bids, asks, ts_event, seq, flags FROM book_top);

-- The instants at which a stream is no longer proven: the first of each interval that is not
-- verified, and the one after the last that is known. An interval's ts_end belongs to it.
CREATE VIEW IF NOT EXISTS unproven AS (SELECT ts, venue, symbol, stream FROM (
  SELECT ts, venue, symbol, stream FROM coverage WHERE state <> 'verified'
  UNION ALL
  SELECT ts_end + 1 ts, venue, symbol, stream FROM (
    SELECT ts_end, venue, symbol, stream, state, lead(ts) OVER (PARTITION BY venue, symbol, stream ORDER BY ts) next FROM coverage)
  WHERE state = 'verified' AND (next IS NULL OR next > ts_end + 1)) ORDER BY ts);

-- The views NAME_verified are NAME where the stream is proven. A row of unproven time has its ts,
-- venue and symbol, and nulls. A row of nulls stands at each instant of `unproven`, too, so that
-- an ASOF JOIN or FILL(PREV) carries nothing over the end of what is proven.

-- The top of the book, only where the book was proven complete.
CREATE VIEW IF NOT EXISTS top_verified AS (SELECT ts, venue, symbol, bid, bid_size, ask, ask_size, spread, mid, micro, imbalance, bids, asks, ts_event, seq, flags FROM (
  SELECT ts, venue, symbol, CASE WHEN proven THEN bid END bid, CASE WHEN proven THEN bid_size END bid_size, CASE WHEN proven THEN ask END ask, CASE WHEN proven THEN ask_size END ask_size,
    CASE WHEN proven THEN spread END spread, CASE WHEN proven THEN mid END mid, CASE WHEN proven THEN micro END micro, CASE WHEN proven THEN imbalance END imbalance,
    CASE WHEN proven THEN bids ELSE null::double[][] END bids, CASE WHEN proven THEN asks ELSE null::double[][] END asks,
    CASE WHEN proven THEN ts_event END ts_event, CASE WHEN proven THEN seq END seq, CASE WHEN proven THEN flags::int END flags FROM (
      SELECT q.*, c.state = 'verified' AND q.ts <= c.ts_end proven FROM top q ASOF JOIN (coverage WHERE stream = 'book') c ON (venue, symbol))
    WHERE proven OR bid IS NOT NULL OR ask IS NOT NULL
  UNION ALL
  SELECT ts, venue, symbol, null::double, null::double, null::double, null::double, null::double, null::double, null::double, null::double,
    null::double[][], null::double[][], null::timestamp_ns, null::long, null::int FROM unproven WHERE stream = 'book') ORDER BY ts);

-- Trades, only where their stream was proven complete.
CREATE VIEW IF NOT EXISTS trade_verified AS (SELECT ts, venue, symbol, side, price, size, trade_id, ts_event, seq, flags FROM (
  SELECT ts, venue, symbol, CASE WHEN proven THEN side END side, CASE WHEN proven THEN price END price, CASE WHEN proven THEN size END size, CASE WHEN proven THEN trade_id END trade_id,
    CASE WHEN proven THEN ts_event END ts_event, CASE WHEN proven THEN seq END seq, CASE WHEN proven THEN flags::int END flags FROM (
      SELECT q.*, c.state = 'verified' AND q.ts <= c.ts_end proven FROM trade q ASOF JOIN (coverage WHERE stream = 'trades') c ON (venue, symbol))
  UNION ALL
  SELECT ts, venue, symbol, null::symbol, null::double, null::double, null::varchar, null::timestamp_ns, null::long, null::int FROM unproven WHERE stream = 'trades') ORDER BY ts);

-- Levels, only where the book was proven complete. After a row whose seq is null, too, the book begins again with a snapshot.
CREATE VIEW IF NOT EXISTS delta_verified AS (SELECT ts, venue, symbol, side, price, size, ts_event, seq, (flags & 1) = 1 is_snapshot, (flags & 2) = 2 is_last, flags FROM (
  SELECT ts, venue, symbol, CASE WHEN proven THEN side END side, CASE WHEN proven THEN price END price, CASE WHEN proven THEN size END size,
    CASE WHEN proven THEN ts_event END ts_event, CASE WHEN proven THEN seq END seq, CASE WHEN proven THEN flags::int END flags FROM (
      SELECT q.*, c.state = 'verified' AND q.ts <= c.ts_end proven FROM delta q ASOF JOIN (coverage WHERE stream = 'book') c ON (venue, symbol))
  UNION ALL
  SELECT ts, venue, symbol, null::symbol, null::double, null::double, null::timestamp_ns, null::long, null::int FROM unproven WHERE stream = 'book') ORDER BY ts);

-- The venue's own top of book, only where that stream was proven complete. Where a venue numbers no quotes nothing proves them, and all is null.
CREATE VIEW IF NOT EXISTS quotes_verified AS (SELECT ts, venue, symbol, bid, bid_size, ask, ask_size, ts_event, seq, flags FROM (
  SELECT ts, venue, symbol, CASE WHEN proven THEN bid END bid, CASE WHEN proven THEN bid_size END bid_size, CASE WHEN proven THEN ask END ask, CASE WHEN proven THEN ask_size END ask_size,
    CASE WHEN proven THEN ts_event END ts_event, CASE WHEN proven THEN seq END seq, CASE WHEN proven THEN flags::int END flags FROM (
      SELECT q.*, c.state = 'verified' AND q.ts <= c.ts_end proven FROM quotes q ASOF JOIN (coverage WHERE stream = 'quotes') c ON (venue, symbol))
  UNION ALL
  SELECT ts, venue, symbol, null::double, null::double, null::double, null::double, null::timestamp_ns, null::long, null::int FROM unproven WHERE stream = 'quotes') ORDER BY ts);

-- The size near the touch, only where the book was proven complete.
CREATE VIEW IF NOT EXISTS book_depth_verified AS (SELECT ts, venue, symbol, bid, ask, bid_depth, ask_depth, ts_event, seq, flags FROM (
  SELECT ts, venue, symbol, CASE WHEN proven THEN bid END bid, CASE WHEN proven THEN ask END ask,
    CASE WHEN proven THEN bid_depth ELSE null::double[] END bid_depth, CASE WHEN proven THEN ask_depth ELSE null::double[] END ask_depth,
    CASE WHEN proven THEN ts_event END ts_event, CASE WHEN proven THEN seq END seq, CASE WHEN proven THEN flags::int END flags FROM (
      SELECT q.*, c.state = 'verified' AND q.ts <= c.ts_end proven FROM book_depth q ASOF JOIN (coverage WHERE stream = 'book') c ON (venue, symbol))
  UNION ALL
  SELECT ts, venue, symbol, null::double, null::double, null::double[], null::double[], null::timestamp_ns, null::long, null::int FROM unproven WHERE stream = 'book') ORDER BY ts);

-- The whole book at an instant, from the last two hours of book_delta:
--   DECLARE @at := '2026-11-22T10:00:00Z', @venue := 'binance', @symbol := 'BTCUSDT' SELECT * FROM book
CREATE VIEW IF NOT EXISTS book AS (DECLARE OVERRIDABLE @at := '2026-01-01T00:00:00Z', OVERRIDABLE @venue := 'binance', OVERRIDABLE @symbol := 'BTCUSDT'
  SELECT venue, symbol, side, px / power(10.0, px_scale) price, qty / power(10.0, qty_scale) size, px, qty, ts, seq FROM (
    SELECT * FROM book_delta WHERE venue = @venue AND symbol = @symbol
      AND ts <= (SELECT max(ts) FROM book_delta WHERE venue = @venue AND symbol = @symbol AND (flags & 2) = 2 AND ts <= @at AND ts > dateadd('h', -2, @at::timestamp_ns))
      AND ts >= (SELECT max(ts) FROM book_delta WHERE venue = @venue AND symbol = @symbol AND (flags & 17) = 17 AND ts > dateadd('h', -2, @at::timestamp_ns)
        AND ts <= (SELECT max(ts) FROM book_delta WHERE venue = @venue AND symbol = @symbol AND (flags & 3) = 3 AND ts <= @at AND ts > dateadd('h', -2, @at::timestamp_ns)))
    LATEST ON ts PARTITION BY side, px) WHERE qty > 0);
