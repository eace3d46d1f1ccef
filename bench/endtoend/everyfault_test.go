package endtoend

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"deeptape/bench/simvenue"
	"deeptape/cmd/localdb/dbtest"
)

// faultPass is one agent that records six markets while faults strike. A fault is a
// name, the number of the update (or subscription, or request) and the symbol that it
// strikes at each venue where it can occur.
type faultPass struct {
	name   string
	faults []struct {
		fault string
		n     int
	}
	// groups are the symbols by connection where a connection does not carry all of
	// them (Coinbase: four).
	groups map[string][][]string
	opt    simvenue.Options

	symbols map[string][]string // by venue
	armed   int
	stage   *stage
	agent   *agent
	began   time.Time
	well    time.Time // since when
	struck  []simvenue.Strike
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
	of := func(causes ...string) effect { return effect{causes: causes, within: 3e9} }
	wide := func(causes ...string) effect { return effect{causes: causes, wide: true, within: 3e9} }
	switch fault {
	case "disconnect", "disconnect-one", "oversized":
		return wide("disconnect")
	case "half-open", "slow-loris":
		// Binance's books notice their silence before the connection is given up; then
		// there is a snapshot, and nothing follows on it.
		return effect{causes: []string{"disconnect", "silence"}, wide: true, within: 90e9}
	case "corrupt-checksum":
		return of("checksum")
	case "refuse-subscribe", "silent-subscribe":
		if venue == "binance" { // there is a snapshot all the same, and nothing follows on it
			return of("silence", "sequence") // until its stream is asked for again
		}
		if venue == "coinbase" && fault == "silent-subscribe" { // a command stays without an answer
			return effect{causes: []string{"disconnect"}, wide: true, perhaps: true, within: 30e9}
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
	type f = struct {
		fault string
		n     int
	}
	passes := []*faultPass{
		{name: "FRA", faults: []f{{"drop", 40}, {"reorder", 80}, {"duplicate", 120}, {"malformed", 40}, {"reset-sequence", 80}, {"crossed", 120},
			{"fragmented", 40}, {"silent-subscribe", 1}, {"corrupt-checksum", 50}, {"checksum-zero", 60}, {"stale-snapshot", 1}, {"429", 1}, {"refuse-subscribe", 1}}},
		{name: "CON", faults: []f{{"stall", 30}, {"malformed", 60}, {"notice", 60}, {"disconnect", 100}, {"disconnect-one", 150}, {"oversized", 200}}, opt: simvenue.Options{StallFor: 2 * time.Second, NoticeLead: 3 * time.Second}},
		{name: "HAL", faults: []f{{"half-open", 40}}},
		{name: "LOR", faults: []f{{"slow-loris", 40}}, opt: simvenue.Options{TrickleEvery: 300 * time.Millisecond}},
	}
	struck := map[string]bool{}
	for _, p := range passes {
		for _, x := range p.faults {
			struck[x.fault] = true
		}
	}
	for _, k := range simvenue.Faults() {
		if !struck[k.Name] {
			t.Errorf("no pass has the fault %s", k.Name)
		}
	}
	t.Parallel() // it waits, mostly
	db, dir := database{t, dbtest.StartOwn(t).HTTP}, t.TempDir()
	for _, p := range passes { // all at once: what takes long is patience
		own := filepath.Join(dir, p.name)
		if err := os.Mkdir(own, 0o755); err != nil {
			t.Fatal(err)
		}
		p.start(t, db, own)
	}
	for left := passes; len(left) > 0; time.Sleep(100 * time.Millisecond) {
		left = slices.DeleteFunc(slices.Clone(left), func(p *faultPass) bool { return p.over(t) })
	}
	for _, p := range passes {
		t.Run(p.name, func(t *testing.T) { p.verdict(t, db) })
	}
}

// base names a pass's symbol for a fault, or a neighbour.
func (p *faultPass) base(fault string) string {
	letters := strings.ToUpper(strings.ReplaceAll(fault, "-", ""))
	return p.name + letters[:min(5, len(letters))] + letters[len(letters)-1:]
}

// cast gives each venue its symbols and the simulator its faults. Where faults end the
// connection they strike one symbol, one after the other.
func (p *faultPass) cast() (symbols map[string][]string, faults []simvenue.Fault) {
	symbols = map[string][]string{}
	p.groups = map[string][][]string{}
	for _, v := range simvenue.Venues() {
		var list []string
		for _, x := range p.faults {
			i := slices.IndexFunc(simvenue.Faults(), func(k simvenue.FaultKind) bool { return k.Name == x.fault })
			if kind := simvenue.Faults()[i]; len(kind.Venues) > 0 && !slices.Contains(kind.Venues, v) {
				continue
			}
			if x.fault == "malformed" && (v == "kraken") != (p.name == "CON") {
				continue // it costs all books of Kraken's connection, at two commands a second
			}
			symbol := simvenue.Symbol(v, p.base(x.fault))
			if p.name != "FRA" {
				symbol = simvenue.Symbol(v, p.name+"ONE")
			}
			if !slices.Contains(list, symbol) {
				list = append(list, symbol)
			}
			faults = append(faults, simvenue.Fault{Name: x.fault, N: x.n, Venue: v, Symbol: symbol})
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
	}
	return symbols, faults
}

func (p *faultPass) start(t *testing.T, db database, dir string) {
	var faults []simvenue.Fault
	p.symbols, faults = p.cast()
	p.armed = len(faults)
	p.opt.Speed, p.opt.Faults = 1, faults
	p.stage = newStage(t, dir, p.symbols, p.opt)
	p.agent, p.began, p.well = startAgent(t, p.stage.venue, db), time.Now(), time.Now()
}

// over ends the pass once all faults have struck and all books have been well again for
// some seconds.
func (p *faultPass) over(t *testing.T) bool {
	t.Helper()
	if why := p.unsettled(t); why != "" {
		p.well = time.Now()
		if time.Since(p.began) > 4*time.Minute {
			t.Fatalf("%s, after four minutes: %s", p.name, why)
		}
		return false
	}
	if time.Since(p.well) < 3*time.Second {
		return false
	}
	t.Logf("%s: all well after %s", p.name, time.Since(p.began).Round(time.Second))
	p.struck = p.stage.server.Status().Struck
	p.agent.status().balanced(t)
	p.agent.interrupt()
	p.stage.server.Close()
	return true
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

// unsettled says what is still to come, "" if nothing is.
func (p *faultPass) unsettled(t *testing.T) string {
	t.Helper()
	struck := p.stage.server.Status().Struck
	if len(struck) < p.armed {
		return fmt.Sprintf("%d of %d faults have struck", len(struck), p.armed)
	}
	gaps := map[string]int64{} // that there must be
	for _, x := range struck {
		if e := effectOf(x.Fault, x.Venue); len(e.causes) > 0 && !e.perhaps {
			for _, symbol := range p.hit(x, e) {
				gaps[x.Venue+" "+symbol]++
			}
		}
	}
	st := p.agent.status()
	for _, x := range st.Symbols {
		if want := gaps[x.Venue+" "+x.Symbol]; x.Gaps < want {
			return fmt.Sprintf("%s %s has had %d gaps, and will have %d", x.Venue, x.Symbol, x.Gaps, want)
		}
		want := "verified"
		if x.Venue == "kraken" && x.Symbol == simvenue.Symbol("kraken", p.base("checksum-zero")) {
			want = "unverified" // nothing proves it any more
		}
		if got := x.Coverage["book"].State; got != want {
			return fmt.Sprintf("the book of %s %s is %s", x.Venue, x.Symbol, got)
		}
		if st.NowNs-x.LastNs > 3e9 { // a snapshot is not all that there is to come
			return fmt.Sprintf("the book of %s %s says nothing", x.Venue, x.Symbol)
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
