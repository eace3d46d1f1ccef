package endtoend

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"deeptape/bench/simvenue"
)

// faultPass is one agent that records six markets while faults strike, each at a symbol
// of each venue where it can occur. A subscription or a request is struck when it comes;
// a frame is, some updates after its book, and what else the fault may reach, was seen to
// be live: a slow machine waits longer, and is judged alike.
type faultPass struct {
	name   string
	faults []string
	// groups are the symbols by connection where a connection does not carry all of
	// them (Coinbase: four).
	groups map[string][][]string
	opt    simvenue.Options

	symbols map[string][]string // by venue
	queues  []*faultQueue
	armed   int // of the faults, so many have struck or will
	stage   *stage
	agent   *agent
	began   time.Time
	well    time.Time // since when
	struck  []simvenue.Strike
}

// faultQueue are faults that strike one after the other: each can reach these books.
type faultQueue struct {
	books  []string         // each a venue and a symbol
	faults []simvenue.Fault // that are left
	armed  string           // the one before them
}

// effect is what a fault may do to the coverage of books: gaps by one of the causes. No
// cause: nothing. wide: at every book of the connection. perhaps: it need not be noticed,
// if what it hit is not covered by the proof.
type effect struct {
	causes        []string
	wide, perhaps bool
	within        int64 // the gaps begin, ns after the fault; what was on its way may come later
}

func effectOf(fault, venue string) effect {
	of := func(causes ...string) effect { return effect{causes: causes, within: 6e9} }
	wide := func(causes ...string) effect { return effect{causes: causes, wide: true, within: 6e9} }
	switch fault {
	case "disconnect", "disconnect-one", "oversized":
		return wide("disconnect")
	case "half-open", "slow-loris":
		// Binance's books notice their silence before the connection is given up; then
		// there is a snapshot, and nothing follows on it.
		return effect{causes: []string{"disconnect", "silence"}, wide: true, within: 120e9}
	case "corrupt-checksum":
		return of("checksum")
	case "refuse-subscribe", "silent-subscribe", "odd-refuse-subscribe", "ignore-subscribe":
		if venue == "binance" { // there is a snapshot all the same, and nothing follows on it
			return of("silence", "sequence") // until its stream is asked for again
		}
		return effect{}
	case "drop", "reorder", "malformed", "duplicate", "reset-sequence", "crossed", "checksum-zero":
	default:
		return effect{}
	}
	switch {
	case venue == "coinbase" && fault == "crossed":
		return of("sequence")
	case venue == "coinbase":
		return wide("sequence", "malformed")
	case venue == "kraken" && fault == "malformed":
		return wide("malformed")
	case venue == "kraken" && (fault == "drop" || fault == "reorder"):
		return effect{causes: []string{"checksum"}, perhaps: true, within: 20e9}
	case venue == "kraken" && fault == "checksum-zero": // each snapshot fails, until the check is given up
		return effect{causes: []string{"checksum"}, within: 60e9}
	case fault == "crossed" && venue == "okx", fault == "crossed" && venue == "kraken":
		return of("checksum")
	case fault == "drop" || fault == "reorder" || fault == "malformed":
		if venue != "kraken" {
			return of("sequence")
		}
	case fault == "reset-sequence" && strings.HasPrefix(venue, "bybit"):
		return of("venue_reset")
	}
	return effect{} // a repetition is no loss, OKX's reset and its checksum of 0 are legal, and the other chains see no level
}

// TestEveryFault: every fault at every venue where it can occur, over real sockets into
// a real QuestDB. Coverage says of each struck book what was wrong and when, and nothing
// of its neighbours; where it says verified, the book is the venue's own.
func TestEveryFault(t *testing.T) {
	if testing.Short() || race {
		t.Skip("takes more than a minute; TestFaults and TestFiveVenues are raced")
	}
	passes := []*faultPass{
		{name: "FRA", faults: []string{"drop", "reorder", "duplicate", "malformed", "reset-sequence", "crossed",
			"fragmented", "silent-subscribe", "corrupt-checksum", "checksum-zero", "stale-snapshot", "429", "refuse-subscribe",
			"odd-refuse-subscribe", "ignore-subscribe"}},
		{name: "CON", faults: []string{"stall", "malformed", "disconnect", "disconnect-one", "oversized", "notice"}, opt: simvenue.Options{StallFor: 2 * time.Second, NoticeLead: 3 * time.Second}},
		{name: "HAL", faults: []string{"half-open"}},
		// At a byte a second no frame is whole before the most patient has given up.
		{name: "LOR", faults: []string{"slow-loris"}, opt: simvenue.Options{TrickleEvery: time.Second}},
	}
	struck := map[string]bool{}
	for _, p := range passes {
		for _, x := range p.faults {
			struck[x] = true
		}
	}
	for _, k := range simvenue.Faults() {
		if !struck[k.Name] {
			t.Errorf("no pass has the fault %s", k.Name)
		}
	}
	t.Parallel()
	for _, p := range passes {
		t.Run(p.name, func(t *testing.T) {
			share(t, waits, 100*time.Second) // what takes long is patience
			db := emptyDatabase(t)
			p.start(t, db, t.TempDir())
			for !p.over(t) {
				time.Sleep(100 * time.Millisecond)
			}
			p.verdict(t, db)
		})
	}
}

// base names a pass's symbol for a fault, or a neighbour.
func (p *faultPass) base(fault string) string {
	letters := strings.ToUpper(strings.ReplaceAll(fault, "-", ""))
	return p.name + letters[:min(5, len(letters))] + letters[len(letters)-1:]
}

// atOnce are the faults that strike the first subscription or request there is.
var atOnce = []string{"silent-subscribe", "refuse-subscribe", "odd-refuse-subscribe", "ignore-subscribe", "stale-snapshot", "429"}

// cast gives each venue its symbols, the simulator the faults that strike at once, and
// the others to queues. Where faults end the connection they strike one symbol.
func (p *faultPass) cast() (symbols map[string][]string, first []simvenue.Fault) {
	symbols = map[string][]string{}
	p.groups = map[string][][]string{}
	for _, v := range simvenue.Venues() {
		var list []string
		var faults []simvenue.Fault
		for _, name := range p.faults {
			i := slices.IndexFunc(simvenue.Faults(), func(k simvenue.FaultKind) bool { return k.Name == name })
			if kind := simvenue.Faults()[i]; len(kind.Venues()) > 0 && !slices.Contains(kind.Venues(), v) {
				continue
			}
			if name == "malformed" && (v == "kraken") != (p.name == "CON") {
				continue // it costs all books of Kraken's connection, at two commands a second
			}
			symbol := simvenue.Symbol(v, p.base(name))
			if p.name != "FRA" {
				symbol = simvenue.Symbol(v, p.name+"ONE")
			}
			if !slices.Contains(list, symbol) {
				list = append(list, symbol)
			}
			if f := (simvenue.Fault{Name: name, N: 3, Venue: v, Symbol: symbol}); slices.Contains(atOnce, name) {
				f.N = 1
				first = append(first, f)
			} else {
				faults = append(faults, f)
			}
		}
		if v != "coinbase" {
			list = append([]string{simvenue.Symbol(v, p.name+"FREE")}, list...) // Binance's refusal is of all that follows
			p.groups[v] = [][]string{list}
		} else {
			// Three that are struck and a neighbour on each connection.
			var with []string
			for i := 0; i < len(list); i += 3 {
				group := append(slices.Clone(list[i:min(i+3, len(list))]), simvenue.Symbol(v, fmt.Sprintf("%sFREE%d", p.name, i)))
				for k := 0; len(group) < 4; k++ {
					group = append(group, simvenue.Symbol(v, fmt.Sprintf("%sMORE%d%d", p.name, i, k)))
				}
				with = append(with, group...)
				p.groups[v] = append(p.groups[v], group)
			}
			list = with
		}
		symbols[v] = list
		for _, f := range faults {
			reach := []string{f.Symbol}
			for _, g := range p.groups[v] {
				// FRA's faults reach further at Coinbase only, where the connection counts.
				if (p.name != "FRA" || v == "coinbase") && slices.Contains(g, f.Symbol) {
					reach = g
				}
			}
			var books []string
			for _, symbol := range reach {
				books = append(books, v+" "+symbol)
			}
			i := slices.IndexFunc(p.queues, func(q *faultQueue) bool { return slices.Equal(q.books, books) })
			if i < 0 {
				i = len(p.queues)
				p.queues = append(p.queues, &faultQueue{books: books})
			}
			p.queues[i].faults = append(p.queues[i].faults, f)
		}
	}
	return symbols, first
}

func (p *faultPass) start(t *testing.T, db database, dir string) {
	var faults []simvenue.Fault
	p.symbols, faults = p.cast()
	p.armed = len(faults)
	p.opt.Speed, p.opt.Faults = 1, faults
	// A machine that stands still for a second makes one heap of what the agent sent in
	// good order, and the venue would end the connection for it: no fault of this test's.
	p.opt.MessageLimit = 100
	p.stage = newStage(t, dir, p.symbols, p.opt)
	p.agent, p.began, p.well = startAgent(t, p.stage.venue, db), time.Now(), time.Now()
}

// enough messages of each book make a pass show something.
const enough = 30

// over arms what can strike next, and ends the pass once all faults have struck and all
// books have been well again for some seconds.
func (p *faultPass) over(t *testing.T) bool {
	t.Helper()
	struck, st := p.stage.server.Status().Struck, p.agent.status()
	why := ""
	for _, q := range p.queues {
		if len(q.faults) == 0 {
			continue
		}
		f := q.faults[0]
		if why = p.unready(q, struck, st); why != "" {
			why = fmt.Sprintf("%v waits: %s", f, why)
			continue
		}
		if err := p.stage.server.Strike(f); err != nil {
			t.Fatal(err)
		}
		q.armed, q.faults = f.Name, q.faults[1:]
		p.armed++
	}
	if len(struck) < p.armed {
		why = fmt.Sprintf("%d of %d faults have struck", len(struck), p.armed)
	}
	if why == "" {
		why = p.unsettled(p.books(), struck, st)
	}
	if why != "" {
		p.well = time.Now()
		if time.Since(p.began) > 8*time.Minute {
			t.Fatalf("%s, after eight minutes: %s", p.name, why)
		}
		return false
	}
	if time.Since(p.well) < 3*time.Second+p.opt.NoticeLead { // what was announced has come, too
		return false
	}
	t.Logf("%s: all well after %s", p.name, time.Since(p.began).Round(time.Second))
	p.struck = struck
	st.balanced(t)
	p.agent.interrupt()
	p.stage.server.Close()
	return true
}

// unready says what the next fault of a queue has to wait for: the one before it has
// struck, it had its effect, and nothing of it is on its way any more.
func (p *faultPass) unready(q *faultQueue, struck []simvenue.Strike, st agentStatus) string {
	armed := q.armed
	for _, s := range struck {
		if !slices.Contains(q.books, s.Venue+" "+s.Symbol) {
			continue
		}
		if time.Since(time.Unix(0, s.WallNs)) < 3*time.Second {
			return s.Fault + " has just struck"
		}
		if s.Fault == armed {
			armed = ""
		}
	}
	if armed != "" {
		return armed + " is to strike"
	}
	return p.unsettled(q.books, struck, st)
}

// books of the pass, all of them.
func (p *faultPass) books() (all []string) {
	for venue, list := range p.symbols {
		for _, symbol := range list {
			all = append(all, venue+" "+symbol)
		}
	}
	return all
}

// verdict judges what is stored of a pass.
func (p *faultPass) verdict(t *testing.T, db database) {
	v := p.stage
	began := time.Now()
	v.verify(t, db)
	t.Logf("verified in %s", time.Since(began).Round(time.Second))
	db.t = t
	db.applied()
	read := map[string]*stored{}
	for _, name := range simvenue.Venues() {
		truth := v.truth(t, name)
		for _, symbol := range p.symbols[name] {
			s := db.readApplied(t, name, symbol)
			read[name+" "+symbol] = s
			j := s.checkMade(truth[symbol])
			s.checkMadeTrades(truth[symbol])
			if j.compared < 20 {
				t.Errorf("%s %s: only %d messages of verified books: %s", name, symbol, j.compared, s.states("book"))
			}
			if j.bogus != (symbol == simvenue.Symbol(name, p.base("crossed")) && name != "okx" && name != "kraken") {
				t.Errorf("%s %s: a bid at the best ask was stored: %v", name, symbol, j.bogus)
			}
		}
	}
	p.judge(t, read)
	if t.Failed() {
		t.Logf("the venues closed %v; the agent was warned of\n%s", p.stage.server.Status().Closes, strings.Join(regexp.MustCompile(`.*level=WARN.*`).FindAllString(p.agent.errout.String(), -1), "\n"))
	}
}

// unsettled says what is still to come at some books, each a venue and a symbol; "" if
// nothing is.
func (p *faultPass) unsettled(books []string, struck []simvenue.Strike, st agentStatus) string {
	gaps := map[string]int64{} // that there must be
	states := map[string]string{}
	for _, x := range struck {
		e := effectOf(x.Fault, x.Venue)
		if len(e.causes) > 0 && !e.perhaps {
			for _, symbol := range p.hit(x, e) {
				gaps[x.Venue+" "+symbol]++
			}
		}
		if x.Venue == "kraken" && x.Fault == "checksum-zero" {
			states[x.Venue+" "+x.Symbol] = "unverified" // nothing proves it any more
		}
	}
	for _, x := range books {
		i := slices.IndexFunc(st.Symbols, func(s symbolStatus) bool { return s.Venue+" "+s.Symbol == x })
		if i < 0 {
			return "nothing is known of " + x
		}
		s, want := st.Symbols[i], states[x]
		if want == "" {
			want = "verified"
		}
		switch got := s.Coverage["book"].State; {
		case s.Gaps < gaps[x]:
			return fmt.Sprintf("%s has had %d gaps, and will have %d", x, s.Gaps, gaps[x])
		case got != want:
			return fmt.Sprintf("the book of %s is %s", x, got)
		case st.NowNs-s.LastNs > 3e9: // a snapshot is not all that there is to come
			return fmt.Sprintf("the book of %s says nothing", x)
		case s.Books < enough:
			return fmt.Sprintf("the book of %s has had %d messages", x, s.Books)
		}
	}
	return ""
}

// hit lists the symbols that a fault has an effect on.
func (p *faultPass) hit(x simvenue.Strike, e effect) []string {
	for _, g := range p.groups[x.Venue] {
		if e.wide && slices.Contains(g, x.Symbol) {
			return g
		}
	}
	return []string{x.Symbol}
}

// judge compares the gaps of all books with the faults that have struck: each fault has
// made the gap that it must, at its time, and there is no gap without one.
func (p *faultPass) judge(t *testing.T, read map[string]*stored) {
	t.Helper()
	explained := map[string]bool{}
	key := func(s *stored, x interval) string { return fmt.Sprint(s.venue, s.symbol, x.from) }
	for _, x := range p.struck {
		e := effectOf(x.Fault, x.Venue)
		for _, symbol := range p.hit(x, e) {
			s := read[x.Venue+" "+symbol]
			found := false
			for _, g := range s.coverage["book"] {
				if g.state != "gap" || !slices.Contains(e.causes, g.cause) || g.to < x.WallNs || g.from > x.WallNs+e.within {
					continue
				}
				explained[key(s, g)] = true
				found = true
			}
			if !found && !e.perhaps && len(e.causes) > 0 {
				t.Errorf("%s struck %s %s at %d; the book of %s: %v", x.Fault, x.Venue, x.Symbol, x.WallNs, symbol, s.coverage["book"])
			}
		}
	}
	for _, s := range read {
		for i, g := range s.coverage["book"] {
			if g.state == "gap" && !(i == 0 && g.cause == "start") && !explained[key(s, g)] {
				t.Errorf("%s %s: no fault explains %v: %v", s.venue, s.symbol, g, s.coverage["book"])
			}
		}
	}
}
