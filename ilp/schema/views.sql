-- The views of deeptape: the same data in the units of a reader.

-- Levels with prices and sizes as numbers.
CREATE VIEW IF NOT EXISTS delta AS (SELECT ts, venue, symbol, side, px / power(10.0, px_scale) price, qty / power(10.0, qty_scale) size, ts_event, seq,
  (flags & 1) = 1 is_snapshot, (flags & 2) = 2 is_last, flags FROM book_delta);

-- Trades with prices and sizes as numbers.
CREATE VIEW IF NOT EXISTS trade AS (SELECT ts, venue, symbol, side, px / power(10.0, px_scale) price, qty / power(10.0, qty_scale) size, trade_id, ts_event, seq, flags FROM trades);

-- The top of the book with what is derived from it.
CREATE VIEW IF NOT EXISTS top AS (SELECT ts, venue, symbol, bid, bid_size, ask, ask_size, ask - bid spread, (bid + ask) / 2 mid, wmid(bid_size, bid, ask, ask_size) micro,
  (bid_size - ask_size) / (bid_size + ask_size) imbalance, bids, asks, ts_event, seq, flags FROM book_top);

-- The same, only where the book was proven complete.
CREATE VIEW IF NOT EXISTS top_verified AS (SELECT q.* FROM top q ASOF JOIN (coverage WHERE stream = 'book') c ON (venue, symbol) WHERE c.state = 'verified' AND q.ts < c.ts_end);

-- The whole book at an instant, from the last two hours of book_delta:
--   DECLARE @at := '2026-11-22T10:00:00Z', @venue := 'binance', @symbol := 'BTCUSDT' SELECT * FROM book
CREATE VIEW IF NOT EXISTS book AS (DECLARE OVERRIDABLE @at := '2026-01-01T00:00:00Z', OVERRIDABLE @venue := 'binance', OVERRIDABLE @symbol := 'BTCUSDT'
  SELECT venue, symbol, side, px / power(10.0, px_scale) price, qty / power(10.0, qty_scale) size, px, qty, ts, seq FROM (
    SELECT * FROM book_delta WHERE venue = @venue AND symbol = @symbol
      AND ts <= (SELECT max(ts) FROM book_delta WHERE venue = @venue AND symbol = @symbol AND (flags & 2) = 2 AND ts <= @at AND ts > dateadd('h', -2, @at::timestamp_ns))
      AND ts >= (SELECT max(ts) FROM book_delta WHERE venue = @venue AND symbol = @symbol AND (flags & 17) = 17 AND ts > dateadd('h', -2, @at::timestamp_ns)
        AND ts <= (SELECT max(ts) FROM book_delta WHERE venue = @venue AND symbol = @symbol AND (flags & 3) = 3 AND ts <= @at AND ts > dateadd('h', -2, @at::timestamp_ns)))
    LATEST ON ts PARTITION BY side, px) WHERE qty > 0);
