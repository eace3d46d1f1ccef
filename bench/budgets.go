// Package bench holds what the speed of the project is measured against: the
// budgets here, the gates and benchmarks in its tests, and the drivers below it.
//
// A gate never depends on how busy the machine is: it counts instructions or
// allocations, or it compares two things measured in one run, turn by turn.
// Absolute times are reported by benchmarks and never gated.
package bench

// Room is how far above its budget a count may be: a compiler's whim, not a
// change of what the code does.
const Room = 1.02

// GoVersion made the instructions that the budgets count. With another one the gate
// says so.
const GoVersion = "go1.26.8"

// BookBytes is what a book may take, FarLevelBytes what it may take beside for each
// level that stands or stood outside of the windows: two ladders of 512 KiB, their
// bitmaps; and chunks of 64 levels which are at least a quarter full.
const (
	BookBytes     = 1042 << 10
	FarLevelBytes = 64
)

// RingIdleCores is what a consumer may cost that sleeps on 150 rings and is woken 1,500
// times a second: a journal writer and a deliverer have that for 150 quiet symbols.
const RingIdleCores = 0.10

// Ratio is a bar on the time of own code over that of what it stands in for, both
// measured in one run, turn by turn. A bar that is missed is measured again, and only
// if all measurements agree is the gate red.
type Ratio struct {
	What string // the measurement, in ratio_test.go
	Most float64
	Why  string
}

// RatioBudgets are why own code stands in the per-level loop.
var RatioBudgets = []Ratio{
	{"decode/binance", 1. / 4, "hotpath/scan against fastjson, frame to Batch, on the recording's book updates"},
	{"decode/okx", 1. / 4, "the same"},
	{"decode/bybit_linear", 1. / 3, "the same"},
	{"decode/kraken", 1. / 3, "the same, a level a message"},
	{"decode/coinbase", 1. / 3, "the same, a level a message and its time as text"},
	{"book/recordings", 1. / 4, "the ladder against the best of sorted slice (best last), tidwall/btree and google/btree, over all recordings by their levels: 0.16. OKX 0.15, Bybit 0.16, BTCUSDT 0.15; 0.31 to 0.6 where books have some hundred levels and messages one (Kraken, Coinbase, Binance.US)"},
	{"book/peak", 1. / 8, "the ladder against the sorted slice at 5,000 levels a side: there each insertion moves thousands of levels"},
	{"book/many", 2. / 3, "256 ladders that share no cache, Foresee and Apply against Set for each level: 0.3 to 0.5, the more the quieter the machine; if it is not less, foresee_amd64.s may go"},
	{"frames/gobwas-bufio", 1. / 3, "venues/wire against ws.ReadHeader over bufio and a copy of the payload: it looks at headers where they lie"},
	{"ring/xsync", 3. / 4, "book messages of 8 levels, each a record in one piece, against xsync's queue of values of one size"},
	{"line/book_delta", 1. / 5, "a row by a template of its message against go-questdb-client/v3"},
	{"line/book_top", 1. / 6, "two arrays of ten levels against the same numbers as 40 columns by go-questdb-client/v3, which has no arrays"},
}

// Instructions is a budget of machine instructions, counted by callgrind while
// the driver in bench/counts does one stage of a frame's way over a corpus.
type Instructions struct {
	Stage  string // of bench/counts
	Corpus string // see makeCorpus
	Unit   string // level or message
	Budget float64
	Why    string
}

func (b *Instructions) exceeded(perUnit float64) bool { return perUnit > b.Budget*Room }

// InstructionBudgets were counted on amd64 with GoVersion. They repeat to 0.3 %
// at the worst from run to run, whatever the neighbours do. A change that lowers
// a count lowers its budget too, so that the gain stays.
var InstructionBudgets = []Instructions{
	{"wire", "binance recorded depth@100ms", "message", 242.5, "header, outcome, counters, and the copy of 1,050 bytes out of the kernel's place"},
	{"wire", "binance recorded bookTicker", "message", 151.3, "the same with 145 bytes"},

	{"decode", "made", "level", 281.5, "hotpath/scan, and 21 levels to share a frame's head; 387 where no level is guessed from the one before; fastjson took 1714"},
	{"decode", "binance recorded depth@100ms", "level", 252.5, "the same at 28 levels a frame; fastjson took 1622"},
	{"decode", "binance recorded @trade", "message", 1967, "fastjson took 8415"},
	{"decode", "binance recorded bookTicker", "message", 1544, "of them 25 for the name, as if there were fifty symbols; fastjson took 8256"},
	{"decode", "okx recorded checksum", "level", 515, "13 levels a message, each with two more numbers"},
	{"decode", "bybit_linear recorded orderbook", "level", 389, "20 levels a message"},
	{"decode", "kraken recorded checksum", "message", 2491, "ten symbols in turn; the snapshots are in it: 3.5 levels a message"},
	{"decode", "coinbase recorded l2_data", "message", 4352, "the snapshots are in it: 3.8 levels a message, each with its time as text"},

	{"book", "made", "level", 127.4, "a busy market, 5,000 levels a side, half of all changes removals: 100,000 levels a second are 0.4 % of a core. 21 of them ask the memory ahead: 0.4 ns here, and 11 ns a level instead of 25 in 256 such books"},
	{"book", "binance recorded", "level", 147.5, "the recording's book is wide and sparse: every twenty-third level lies outside the ladder's window; the search there compares more keys and waits for none (6 % less time); 21 ask the memory ahead"},
	{"book", "coinbase recorded", "level", 246.3, "ten snapshots and a level a message, in books whose levels lie hundreds of ticks apart: a search among eight and eight keys, 15 instructions and 3 % less time than one by halves"},
	{"top", "made", "message", 6397, "42 changes and then ten levels of both sides, as the feed reads them after every message"},
	{"top", "binance recorded", "message", 5597, "29 changes and then ten levels of both sides"},

	{"feed", "binance recorded", "message", 4340, "nine of ten are quotes and trades"},
	{"feed", "okx recorded", "level", 3121, "13 levels a message, and a checksum of 50 levels as text"},
	{"feed", "bybit_linear recorded", "level", 748, "20 levels a message; decoding is more than half of it"},
	{"feed", "kraken recorded", "message", 21_540, "a level a message, and a checksum of 20 levels as text"},
	{"feed", "coinbase recorded", "message", 7062, "a level a message"},

	{"ring", "binance recorded all streams", "message", 263.3, "in and out, sixteen at a time"},
	{"journal", "binance recorded", "message", 3793, "copy, minlz balanced and CRC of 280 bytes; s2's better mode took 3640, more time, and a twelfth more of the disk"},

	{"line", "binance recorded book_delta", "level", 463, "169 bytes a row, 29 rows to share a message's columns; 614 with strconv and append"},
	{"line", "binance recorded book_top", "message", 4843, "44 doubles and two heads of arrays"},
	{"line", "binance recorded quotes", "message", 1324.5, "four doubles, ids and times"},
	{"line", "binance recorded trades", "message", 1666, "px, qty, id and times as digits"},
}
