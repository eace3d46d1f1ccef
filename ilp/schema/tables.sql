-- The tables of deeptape, for QuestDB 9.3.4.
--
-- ts is the instant at which we read the frame that brought the row, by our clock, in ns. It
-- grows strictly per (venue, symbol) over book_delta, quotes and trades together, so that a
-- row's identity is (ts, venue, symbol): DEDUP absorbs whatever is sent twice.
-- ts_event is the instant that the venue's own clock gave in the message, null where it gave none.
-- Exact prices and sizes are px / 10^px_scale and qty / 10^qty_scale. The doubles of book_top,
-- quotes and book_depth are the nearest to them.
-- flags add up: 1 SNAPSHOT, the message replaces the book. 2 LAST row of its message. 4 KEYFRAME, a
-- snapshot that we wrote of our own book and the venue did not send. 8 UNVERIFIED, the interval of
-- coverage is not verified, or nobody proves this level. 16 FIRST row of its message.

-- One row per changed level, in the order of the venue's messages. A message without levels is one row with null side, px and qty.
--   ts: that of the message's first level is the time of its frame, level i has i ns more
--   venue: the market, as in commands and configuration, such as binance or bybit_linear
--   symbol: the instrument, as the venue writes it
--   side: bid or ask, or null on the row of a message without levels
--   px: price, in units of 10^-px_scale
--   qty: the new size at that price, not the change, in units of 10^-qty_scale. 0 removes the level
--   px_scale: decimals of px
--   qty_scale: decimals of qty
--   ts_event: the venue's clock. Null on most snapshots
--   seq: the venue's id after the message (Binance and Bybit u, OKX seqId, Coinbase sequence_num). Kraken has none: the count of book messages since the snapshot
--   seq_prev: on the LAST row, the id that had to come before (Binance U-1, OKX prevSeqId, Bybit u-1), else null
--   flags: see above. (flags & 17) = 17 begins a snapshot, (flags & 2) = 2 ends a message
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

-- The top of the rebuilt book whenever it changed. A row of nulls opens a gap.
--   ts: that of the LAST row of the message in book_delta
--   venue: the market, as in commands and configuration
--   symbol: the instrument, as the venue writes it
--   bid: the best bid
--   bid_size: the size there
--   ask: the best ask
--   ask_size: the size there
--   bids: [[prices],[sizes]] of the best top_levels bids, best first
--   asks: the same of the asks
--   ts_event: the venue's clock in the message
--   seq: that of the message in book_delta
--   flags: 1, 4 and 8 as above. 8 UNVERIFIED also where a shown level lies outside of what a snapshot or audit has proven
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

-- The venue's own top-of-book stream, where it is faster than its book (Binance bookTicker, OKX bbo-tbt, Bybit orderbook.1). Its ids have holes by design, so that no proof covers it.
--   ts: when we read the quote
--   venue: the market, as in commands and configuration
--   symbol: the instrument, as the venue writes it
--   bid: the best bid
--   bid_size: the size there
--   ask: the best ask
--   ask_size: the size there
--   ts_event: the venue's clock, null at Binance, which sends none
--   seq: the venue's id of the quote, comparable with seq of book_delta at Binance and OKX
--   flags: 8 UNVERIFIED
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

-- The size near the touch, each second in which the book changed.
--   ts: that of the last row of the book before that second ended
--   venue: the market, as in commands and configuration
--   symbol: the instrument, as the venue writes it
--   bid: the best bid
--   ask: the best ask
--   bid_depth: one sum of sizes for each of depth_bps, of the bids within so many ten-thousandths of the best bid
--   ask_depth: the same of the asks, from the best ask
--   ts_event: the venue's clock in the last message
--   seq: that of the last message in book_delta
--   flags: 8 UNVERIFIED, also where a band reaches outside of what a snapshot or audit has proven
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

-- Every trade.
--   ts: when we read the trade
--   venue: the market, as in commands and configuration
--   symbol: the instrument, as the venue writes it
--   side: the aggressor's, buy or sell. Null where the venue does not say
--   px: price, in units of 10^-px_scale
--   qty: size, in units of 10^-qty_scale
--   px_scale: decimals of px
--   qty_scale: decimals of qty
--   trade_id: the venue's, as it writes it
--   ts_event: when the trade was made, by the venue's clock
--   seq: the venue's id of the message, where it has one (OKX), else null
--   flags: 8 UNVERIFIED
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

-- What an instrument was known to be, from ts on. A row at each start, and when its scales widen.
--   ts: from when on, by our clock
--   venue: the market, as in commands and configuration
--   symbol: the instrument, as the venue writes it
--   pair: BASE-QUOTE, the same for all venues that trade it. At Coinbase the product whose book the symbol shows
--   market: spot or linear
--   base: what is traded
--   quote: what it is paid in
--   px_scale: decimals of px from here on
--   qty_scale: decimals of qty from here on
--   tick: the smallest step of a price, null where it is not known
--   lot: the smallest step of a size, null where it is not known
--   contract_size: of a derivative, how much of the base one contract is. Sizes are contracts then. Null for spot
--   status: the venue's word for whether it trades
--   source: where the numbers come from: the venue's list (exchangeInfo, products, AssetPairs, instruments, instruments-info), or messages where no list could be had
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

-- One row per interval [ts, ts_end] of a stream, both ends included. Each instant from the start of a record on belongs to one. The row of an interval that goes on is written again with a later ts_end.
--   ts: first instant, by our clock
--   ts_end: last instant
--   venue: the market, as in commands and configuration
--   symbol: the instrument, as the venue writes it
--   stream: book, trades or quotes
--   state: verified, unverified or gap
--   proof: of what is verified: chain, crc (the best ten levels only), connection_seq, trade_id. Else none
--   cause: of what is not: disconnect, sequence, checksum, venue_reset, backpressure, malformed, silence, start, stop, journal
--   agent: who recorded it, HOST/PROCESS
--   seq_first: first id in the interval, or of a gap in numbered trades the first that is missing
--   seq_last: last id, likewise
--   messages: messages of the stream in the interval. Of the book, as many as book_delta has LAST rows that are no KEYFRAME
--   detail: what else is to be said, in words
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

-- The agent's own counters, every ten seconds. /metrics shows more of them.
--   ts: when they were read, by our clock
--   venue: the market, as in commands and configuration
--   connection: number of the feed that counts
--   counter: its name, such as frames_applied or gaps
--   value: its value since the agent's start
CREATE TABLE IF NOT EXISTS capture_stats (
  ts TIMESTAMP_NS,
  venue SYMBOL,
  connection SYMBOL,
  counter SYMBOL,
  value LONG
) TIMESTAMP(ts) PARTITION BY DAY WAL DEDUP UPSERT KEYS(ts, venue, connection, counter);
