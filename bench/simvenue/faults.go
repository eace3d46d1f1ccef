package simvenue

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
)

// Fault strikes once: at the N-th book update of its symbol, at the N-th valid
// depth request, or at the N-th subscription to its book. Without a symbol it
// strikes the first symbol that gets to N. Of a recording, and of Binance, all
// events of the feed count; of another venue's made market those that somebody
// gets. All from 1.
type Fault struct {
	Name   string
	N      int
	Venue  string // "" is any
	Symbol string // "" is any
}

func (f Fault) String() string {
	t := f.Name + "@" + strconv.Itoa(f.N)
	if f.Venue != "" {
		t += ":" + f.Venue
	}
	if f.Symbol != "" {
		t += ":" + f.Symbol
	}
	return t
}

const (
	faultDrop       = "drop"
	faultDuplicate  = "duplicate"
	faultReorder    = "reorder"
	faultDisconnect = "disconnect"
	faultCutOne     = "disconnect-one"
	faultStall      = "stall"
	faultHalfOpen   = "half-open"
	faultLoris      = "slow-loris"
	faultOversized  = "oversized"
	faultMalformed  = "malformed"
	faultFragmented = "fragmented"
	faultCrossed    = "crossed"
	faultCorrupt    = "corrupt-checksum"
	faultZero       = "checksum-zero"
	faultReset      = "reset-sequence"
	faultNotice     = "notice"
	faultRefuse     = "refuse-subscribe"
	faultSilent     = "silent-subscribe"
	faultOdd        = "odd-refuse-subscribe"
	faultIgnore     = "ignore-subscribe"
	faultStale      = "stale-snapshot"
	fault429        = "429"
)

// FaultKind is a row of the table of faults.
type FaultKind struct {
	Name, Does string
}

// Venues are those where it can occur, in order; none: everywhere.
func (f FaultKind) Venues() (names []string) {
	for _, name := range Venues() {
		if hasName(factsOf(name).faults, f.Name) {
			names = append(names, name)
		}
	}
	return names
}

// faultTable says what each fault does, and where it can occur.
var faultTable = []FaultKind{
	{faultDrop, "the frame is not sent; the true book has it, and it has its number"},
	{faultDuplicate, "the frame is sent twice"},
	{faultReorder, "the frame is sent after the topic's next one"},
	{faultDisconnect, "after the frame, every connection carrying the symbol ends without a close frame"},
	{faultCutOne, "the same for one of them, the one that has carried it longest"},
	{faultStall, "after the frame, those connections get nothing for 3 s, not even pings; then all that was due"},
	{faultHalfOpen, "after the frame, those connections stay open, and nothing comes or is read any more"},
	{faultLoris, "the frame comes a byte at a time, and nothing else"},
	{faultOversized, "the frame's header promises 1 GB, and nothing comes after the frame"},
	{faultMalformed, "the frame's second half is missing"},
	{faultFragmented, "the frame comes in three fragments with a ping in between"},
	{faultCrossed, "the frame holds a bid that the true book has not, at about its tenth best ask: the book stays crossed"},
	{faultCorrupt, "the frame's checksum is wrong"},
	{faultZero, "from the frame on, checksums are 0: of the symbol, or of the venue if no symbol is named"},
	{faultReset, "the ids begin anew: a smaller seqId (okx), a snapshot with u 1 (bybit), number 0 of the connection (coinbase)"},
	{faultNotice, "the venue says that it will close the connection, and does so after 60 s"},
	{faultRefuse, "the N-th subscription to the book is refused (binance: by message, not by URL)"},
	{faultSilent, "the N-th subscription to the book is acknowledged, and nothing comes"},
	{faultOdd, "the N-th subscription to the book is refused in other words than the sheet has: no id and a capital E (kraken), a list that leaves the product out (coinbase), in a field of its own (binance), a frame that nobody knows (okx, bybit)"},
	{faultIgnore, "the N-th subscription to the book has no answer, and nothing comes"},
	{faultStale, "the answer to the N-th depth request is an old book: its lastUpdateId lies before the first diff"},
	{fault429, "the answer to the N-th depth request is 429 with Retry-After: 1"},
}

// frameFaults strike a book update.
var frameFaults = []string{faultDrop, faultDuplicate, faultReorder, faultDisconnect, faultCutOne, faultStall, faultHalfOpen, faultLoris,
	faultOversized, faultMalformed, faultFragmented, faultCrossed, faultCorrupt, faultZero, faultReset, faultNotice}

// Faults is the table of faults.
func Faults() []FaultKind { return append([]FaultKind(nil), faultTable...) }

// FaultHelp is the table of faults as text, a line each.
func FaultHelp() string {
	var b strings.Builder
	for _, f := range faultTable {
		where := "every venue"
		if len(f.Venues()) > 0 {
			where = strings.Join(f.Venues(), ", ")
		}
		fmt.Fprintf(&b, "  %-17s %s [%s]\n", f.Name, f.Does, where)
	}
	return b.String()
}

// FaultNames are the names that ParseFaults knows.
func FaultNames() []string {
	var names []string
	for _, f := range faultTable {
		names = append(names, f.Name)
	}
	return names
}

func (f FaultKind) occursAt(venue string) bool {
	venues := f.Venues()
	return len(venues) == 0 || hasName(venues, venue)
}

func faultKind(name string) FaultKind {
	for _, f := range faultTable {
		if f.Name == name {
			return f
		}
	}
	return FaultKind{}
}

// ParseFaults reads NAME@N[:[VENUE:]SYMBOL] items separated by commas. Symbols
// are put into capitals; whether they exist is for New to say.
func ParseFaults(text string) ([]Fault, error) {
	var faults []Fault
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for _, item := range strings.Split(text, ",") {
		item = strings.TrimSpace(item)
		name, rest, ok := strings.Cut(item, "@")
		if faultKind(name).Name == "" {
			return nil, fmt.Errorf("cannot read fault %q: no fault is called %q, the nearest is %q", item, name, nearest(name, FaultNames()))
		}
		count, symbol, hasSymbol := strings.Cut(rest, ":")
		n, err := strconv.Atoi(count)
		f := Fault{Name: name, N: n}
		if head, tail, ok := strings.Cut(symbol, ":"); ok && protocols[head] != nil {
			f.Venue, symbol = head, tail
		} else if protocols[symbol] != nil {
			f.Venue, symbol, hasSymbol = symbol, "", false
		}
		if !ok || err != nil || n < 1 || count[0] == '+' || (hasSymbol && symbol == "") {
			return nil, fmt.Errorf("cannot read fault %q: want %s@N or %s@N:SYMBOL with N from 1", item, name, name)
		}
		f.Symbol = strings.ToUpper(symbol)
		faults = append(faults, f)
	}
	return faults, nil
}

// nearest is the candidate with the fewest edits from word.
func nearest(word string, candidates []string) string {
	best, bestEdits := "", 1<<30
	for _, c := range candidates {
		if e := edits(strings.ToLower(word), strings.ToLower(c)); e < bestEdits {
			best, bestEdits = c, e
		}
	}
	return best
}

func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diag
			if a[i-1] != b[j-1] {
				cost++
			}
			diag = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

// armedFault may be shared by venues that run at the same time.
type armedFault struct {
	Fault
	struck atomic.Bool
}

// arm checks that each fault can strike one of the venues.
func arm(faults []Fault, venues []*Venue) ([]*armedFault, error) {
	var armed []*armedFault
	for _, f := range faults {
		kind := faultKind(f.Name)
		can, served := false, false
		var names []string
		for _, v := range venues {
			if f.Venue != "" && f.Venue != v.name {
				continue
			}
			names = append(names, v.Symbols()...)
			if f.Symbol != "" && v.symbols[f.Symbol] == nil {
				continue
			}
			served = true
			can = can || kind.occursAt(v.name)
		}
		switch {
		case !served && f.Symbol != "" && len(names) > 0:
			return nil, fmt.Errorf("cannot arm fault %q: no symbol %q here, the nearest is %q", f, f.Symbol, nearest(f.Symbol, names))
		case !served:
			return nil, fmt.Errorf("cannot arm fault %q: %s is not served", f, f.Venue)
		case !can:
			return nil, fmt.Errorf("cannot arm fault %q: it occurs only at %s", f, strings.Join(kind.Venues(), ", "))
		}
		armed = append(armed, &armedFault{Fault: f})
	}
	return armed, nil
}

// strike returns the names of the faults among kinds that hit the n-th occasion
// of sym, and disarms them.
func (v *Venue) strike(sym *symbol, n int, kinds ...string) []string {
	var hit []string
	for _, f := range v.faults {
		if f.N != n || (f.Symbol != "" && f.Symbol != sym.name) || (f.Venue != "" && f.Venue != v.name) {
			continue
		}
		if hasName(kinds, f.Name) && faultKind(f.Name).occursAt(v.name) && f.struck.CompareAndSwap(false, true) {
			hit = append(hit, f.Name)
			if f.Name == faultZero && f.Symbol == "" {
				v.zeroSum = true
			}
		}
	}
	return hit
}

// asked counts a subscription to a symbol's book and says which of the kinds of
// subscribe faults strikes it, "" for none.
func (v *Venue) asked(t *topic, kinds ...string) string {
	if t == nil || t.kind != kindBook {
		return ""
	}
	t.sym.subscribes++
	hit := v.strike(t.sym, t.sym.subscribes, kinds...)
	if len(hit) == 0 {
		return ""
	}
	v.struck = append(v.struck, Strike{Fault: hit[0], Venue: v.name, Symbol: t.sym.name, Receivers: 1, WallNs: v.wallNs})
	return hit[0]
}

// strikeFrame is what becomes of a frame. strands: nothing comes after it.
func strikeFrame(f Frame, hit []string) (out []Frame, strands bool) {
	out = []Frame{f}
	for _, name := range hit {
		switch name {
		case faultDrop:
			out = nil
		case faultDuplicate:
			out = []Frame{f, f}
		case faultMalformed:
			f.Payload = f.Payload[:len(f.Payload)/2]
			out = []Frame{f}
		case faultFragmented:
			f.Do = Fragment
			out = []Frame{f}
		case faultLoris:
			f.Do = Trickle
			out, strands = []Frame{f}, true
		case faultOversized:
			f.Do = Oversize
			out, strands = []Frame{f}, true
		}
	}
	return out, strands
}

// spoil changes what a book frame says.
func (v *Venue) spoil(t *topic, p payload, hit []string) payload {
	for _, name := range hit {
		switch name {
		case faultCorrupt:
			p.bare = bumpNumber(p.bare, `"checksum":`)
		case faultCrossed:
			p = v.cross(t, p)
		case faultReset:
			p = v.proto.reset(t, p)
		}
	}
	return p
}

// dress changes what earlier faults have changed for good.
func (v *Venue) dress(t *topic, p payload) payload {
	if t.kind == kindBook && (v.zeroSum || t.sym.zeroSum) {
		p.bare = setNumber(p.bare, `"checksum":`, 0)
	}
	if t.shift != 0 {
		for _, key := range []string{`"seqId":`, `"prevSeqId":`, `"u":`} {
			p.bare = shiftNumber(p.bare, key, t.shift)
		}
	}
	return p
}

// cross puts a bid at the tenth best ask in front of a frame's bids; or the next ask
// behind that the frame does not speak of, or it could take the bid away again. At the
// best ask it would cross nothing any more once the next frame has removed that one.
func (v *Venue) cross(t *topic, p payload) payload {
	var ask level
	for i, l := range t.sym.book.top(false, 50) {
		if bytes.Contains(p.bare, []byte(l.px)) {
			continue
		}
		if ask = l; i >= 9 {
			break
		}
	}
	if ask.px == "" {
		return p
	}
	list, bid := v.facts.bid(ask.px, ask.qty, t.src.stampNs())
	if i := bytes.Index(p.bare, []byte(list)); i >= 0 {
		p.bare = insert(p.bare, i+len(list), bid)
	}
	if p.wrapped != nil {
		p.wrapped = wrap(t.name, p.bare)
	}
	return p
}

// insert puts an element at the front of an array that begins at i.
func insert(b []byte, i int, element string) []byte {
	if b[i] != ']' {
		element += ","
	}
	return []byte(string(b[:i]) + element + string(b[i:]))
}

// number finds the integer behind the first key: b[i:j]. j is 0 without one.
func number(b []byte, key string) (i, j int) {
	i = bytes.Index(b, []byte(key))
	if i < 0 {
		return 0, 0
	}
	i += len(key)
	for j = i; j < len(b) && (b[j] == '-' || b[j] >= '0' && b[j] <= '9'); j++ {
	}
	if j == i {
		return 0, 0
	}
	return i, j
}

// setNumber gives a copy with n behind the first key, or b without such a key.
func setNumber(b []byte, key string, n int64) []byte {
	i, j := number(b, key)
	if j == 0 {
		return b
	}
	out := append(make([]byte, 0, len(b)+8), b[:i]...)
	out = strconv.AppendInt(out, n, 10)
	return append(out, b[j:]...)
}

func shiftNumber(b []byte, key string, by int64) []byte {
	i, j := number(b, key)
	if n, err := strconv.ParseInt(string(b[i:j]), 10, 64); err == nil && n > 0 {
		return setNumber(b, key, n-by)
	}
	return b
}

// bumpNumber changes the last digit.
func bumpNumber(b []byte, key string) []byte {
	_, j := number(b, key)
	if j == 0 {
		return b
	}
	out := append([]byte(nil), b...)
	out[j-1] = '0' + (out[j-1]-'0'+1)%10
	return out
}
