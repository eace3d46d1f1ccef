-- The tables of deeptape, for QuestDB 9.3.4.
--
-- ts is our receive time in ns, strictly increasing per (venue, symbol) over
-- book_delta, quotes and trades together, so that a row's identity is
-- (ts, venue, symbol): DEDUP absorbs whatever is sent twice.
-- Exact prices and sizes are px / 10^px_scale and qty / 10^qty_scale.
-- flags: 1 SNAPSHOT, 2 LAST of its message, 4 KEYFRAME, 8 UNVERIFIED, 16 FIRST of its message.

-- One row per changed level, qty 0 removes it. A message without levels is one row with null side, px and qty.
CREATE TABLE IF NOT EXISTS book_delta (
  ts TIMESTAMP_NS,
  venue SYMBOL,
  symbol SYMBOL,
  side SYMBOL,
  px LONG,
  qty LONG,
  px_scale BYTE,
  qty_scale BYTE,
  ts_event TIMESTAMP_NS,
  seq LONG,
  seq_prev LONG,
  flags SHORT
) TIMESTAMP(ts) PARTITION BY HOUR WAL DEDUP UPSERT KEYS(ts, venue, symbol);

-- The top of the rebuilt book whenever it changed, bids and asks are [[prices], [sizes]], best first. A row of nulls opens a gap.
CREATE TABLE IF NOT EXISTS book_top (
  ts TIMESTAMP_NS,
  venue SYMBOL,
  symbol SYMBOL,
  bid DOUBLE,
  bid_size DOUBLE,
  ask DOUBLE,
  ask_size DOUBLE,
  bids DOUBLE[][],
  asks DOUBLE[][],
  ts_event TIMESTAMP_NS,
  seq LONG,
  flags SHORT
) TIMESTAMP(ts) PARTITION BY HOUR WAL DEDUP UPSERT KEYS(ts, venue, symbol);

-- The venue's own top-of-book stream, where it is faster than its book.
CREATE TABLE IF NOT EXISTS quotes (
  ts TIMESTAMP_NS,
  venue SYMBOL,
  symbol SYMBOL,
  bid DOUBLE,
  bid_size DOUBLE,
  ask DOUBLE,
  ask_size DOUBLE,
  ts_event TIMESTAMP_NS,
  seq LONG,
  flags SHORT
) TIMESTAMP(ts) PARTITION BY HOUR WAL DEDUP UPSERT KEYS(ts, venue, symbol);

-- Each second, the size within each of depth_bps of the touch.
CREATE TABLE IF NOT EXISTS book_depth (
  ts TIMESTAMP_NS,
  venue SYMBOL,
  symbol SYMBOL,
  bid DOUBLE,
  ask DOUBLE,
  bid_depth DOUBLE[],
  ask_depth DOUBLE[],
  ts_event TIMESTAMP_NS,
  seq LONG,
  flags SHORT
) TIMESTAMP(ts) PARTITION BY DAY WAL DEDUP UPSERT KEYS(ts, venue, symbol);

-- side is the aggressor's: buy or sell.
CREATE TABLE IF NOT EXISTS trades (
  ts TIMESTAMP_NS,
  venue SYMBOL,
  symbol SYMBOL,
  side SYMBOL,
  px LONG,
  qty LONG,
  px_scale BYTE,
  qty_scale BYTE,
  trade_id VARCHAR,
  ts_event TIMESTAMP_NS,
  seq LONG,
  flags SHORT
) TIMESTAMP(ts) PARTITION BY DAY WAL DEDUP UPSERT KEYS(ts, venue, symbol);

-- What an instrument was known to be, from ts on.
CREATE TABLE IF NOT EXISTS instruments (
  ts TIMESTAMP_NS,
  venue SYMBOL,
  symbol SYMBOL,
  pair SYMBOL,
  market SYMBOL,
  base SYMBOL,
  quote SYMBOL,
  px_scale BYTE,
  qty_scale BYTE,
  tick DOUBLE,
  lot DOUBLE,
  contract_size DOUBLE,
  status SYMBOL,
  source SYMBOL
) TIMESTAMP(ts) PARTITION BY YEAR WAL DEDUP UPSERT KEYS(ts, venue, symbol);

-- One row per interval [ts, ts_end] of a stream: verified, unverified or gap, with proof or cause.
CREATE TABLE IF NOT EXISTS coverage (
  ts TIMESTAMP_NS,
  ts_end TIMESTAMP_NS,
  venue SYMBOL,
  symbol SYMBOL,
  stream SYMBOL,
  state SYMBOL,
  proof SYMBOL,
  cause SYMBOL,
  agent SYMBOL,
  seq_first LONG,
  seq_last LONG,
  messages LONG,
  detail VARCHAR
) TIMESTAMP(ts) PARTITION BY DAY WAL DEDUP UPSERT KEYS(ts, venue, symbol, stream);

-- The agent's own counters.
CREATE TABLE IF NOT EXISTS capture_stats (
  ts TIMESTAMP_NS,
  venue SYMBOL,
  connection SYMBOL,
  counter SYMBOL,
  value LONG
) TIMESTAMP(ts) PARTITION BY DAY WAL DEDUP UPSERT KEYS(ts, venue, connection, counter);
