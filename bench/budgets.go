// Package bench holds what the speed of the project is measured against: the
// budgets here, the gates and benchmarks in its tests, and the drivers below it.
//
// A gate never depends on how busy the machine is: it counts instructions or
// allocations, or it compares two things measured in one run, turn by turn.
// Absolute times are reported by benchmarks and never gated.
package bench

// Room is how far above its budget a count may be: a compiler's whim, not a
// change of what the code does.
const Room = 1.03

// Instructions is a budget of machine instructions, counted by callgrind while
// the driver in bench/counts does one stage of a frame's way over a corpus.
type Instructions struct {
	Stage  string // of bench/counts
	Corpus string // made: by this package's tests; recorded: the BTCUSDT recording
	Unit   string // level or message
	Budget float64
	Why    string
}

// InstructionBudgets were counted on amd64 with Go 1.26.8. They repeat to less
// than 0.1 % from run to run, whatever the neighbours do. A change that lowers
// a count lowers its budget too, so that the gain stays.
var InstructionBudgets = []Instructions{
	{"decode", "made", "level", 1690, "fastjson's whole-tree parse, and 21 levels to share a frame's head; hotpath/scan is to bring it down"},
	{"decode", "recorded depth@100ms", "level", 1541, "the same at 37 levels a frame"},
	{"decode", "recorded trade", "message", 8437, "mostly fastjson's: parse, then look up by key"},
	{"decode", "recorded bookTicker", "message", 8184, "the same"},
	{"book", "made", "level", 110.7, "a busy market, 5,000 levels a side, half of all changes removals: 100,000 levels a second are 0.4 % of a core"},
	{"book", "recorded", "level", 158.6, "the recording's book is wide and sparse, so that most levels lie outside the ladder's window"},
	{"top", "made", "message", 5730, "40 changes and then ten levels of both sides, as the feed reads them after every message"},
	{"top", "recorded", "message", 8623, "46 changes and then ten levels of both sides"},
}
