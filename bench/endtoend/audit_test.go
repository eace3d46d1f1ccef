package endtoend

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// metric of the agent, summed over its labels.
func (a *agent) metric(name string) (sum int64) {
	a.t.Helper()
	_, text := getText(a.t, a.url+"/metrics")
	for _, m := range regexp.MustCompile(`(?m)^`+name+`(?:\{[^}]*\})? (\S+)$`).FindAllStringSubmatch(text, -1) {
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			a.t.Fatalf("%s: %v", m[0], err)
		}
		sum += int64(v)
	}
	return sum
}

// audited waits for so many more audits, begun after now.
func (a *agent) audited(n int64) {
	a.t.Helper()
	from := a.metric("deeptape_audits_total") + 1 // one may be under way
	for began := time.Now(); a.metric("deeptape_audits_total") < from+n; time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			a.t.Fatalf("%d audits, %d given up", a.metric("deeptape_audits_total"), a.metric("deeptape_audits_given_up_total"))
		}
	}
}

// TestAudit: at a venue whose diffs do not tell what goes outside of the window of its
// last snapshots, ghosts are found and taken out, and it is said how many; the book is the
// venue's inside the window. Where the snapshot holds the whole book, nothing is found.
func TestAudit(t *testing.T) {
	if testing.Short() {
		t.Skip("takes most of a minute")
	}
	share(t, works, 44*time.Second)
	db := emptyDatabase(t)
	t.Run("capture", func(t *testing.T) { // ends when the parallel ones have
		t.Run("ghosts", func(t *testing.T) { t.Parallel(); auditGhosts(t, db) })
		t.Run("none", func(t *testing.T) { t.Parallel(); auditNone(t, db) })
	})
	said := run(t, 0, nil, "verify", "--questdb", db.conf())
	if !regexp.MustCompile(`book_delta: [1-9]\d* levels outside of the window of a snapshot`).MatchString(said) {
		t.Errorf("verify says nothing of the window:\n%s", said)
	}
}

func auditGhosts(t *testing.T, db database) {
	const symbol, length = "ROTUSDT", 150 * time.Second
	m := newMarket(t, 7, length, symbol)
	m.depth = 1000 // of what is compared; the agent asks for 100
	v := startVenue(t, t.TempDir(), "binance:"+symbol, "--seed", "7", "--start", marketStart, "--speed", "5", "--for", length.String(), "--ghosts")
	v.configure("    depth: 100\n    audit: 1s\n")
	a := startAgent(t, v, db)
	a.audited(1)
	a.kill() // in the middle of whatever it is at
	a = startAgent(t, v, db)
	st := drained(t, v, a, 2*time.Minute)
	st.sound(t)
	audits, givenUp := a.metric("deeptape_audits_total"), a.metric("deeptape_audits_given_up_total")
	ghosts, wrong := a.metric("deeptape_audit_ghosts_total"), a.metric("deeptape_audit_levels_wrong_total")
	a.interrupt()
	s := db.read(t, symbol)
	if got := s.states("book"); got != "gap:start verified gap:stop verified" {
		t.Errorf("coverage of the book: %s", got)
	}
	corrected, untold, proven := s.followGhosts(m)
	t.Logf("second run: %d audits, %d given up, %d levels wrong, %d of them ghosts; both: %d times corrected, %d deletions untold, %d levels inside of the window as in the market", audits, givenUp, wrong, ghosts, corrected, untold, proven)
	if ghosts == 0 || wrong < ghosts || corrected < 2 || untold == 0 || proven < 300 {
		t.Error("too mild")
	}
	db.t = t
	s.checkUnverifiedView(db)
	worst := 0
	for i, r := range db.export("SELECT state, detail FROM coverage WHERE stream = 'book' AND symbol = '" + symbol + "' ORDER BY ts") {
		found := regexp.MustCompile(`^audit at id \d+: (100|\d\d?\.\d\d) % of \d+ levels equal, \d+ ghosts, \d+ missing, 0 of another size(; worst of \d+ audits at id \d+: \d\d?\.\d\d % of \d+)?$`).FindStringSubmatch(r["detail"])
		if (found != nil) != (i%2 == 1) || found == nil && r["detail"] != "" {
			t.Errorf("detail %d: %q", i, r["detail"])
		}
		if found != nil && (found[1] != "100" || found[2] != "") {
			worst++
		}
	}
	if worst == 0 {
		t.Error("no detail tells that levels were wrong")
	}
	stats := map[string]int64{}
	for _, r := range db.export("SELECT counter, max(value) n FROM capture_stats WHERE counter LIKE 'audit%' GROUP BY counter") {
		stats[r["counter"]] = max(stats[r["counter"]], r.int(t, "n"))
	}
	if ppm := stats["audit_match_ppm_"+symbol]; stats["audits"] == 0 || stats["audit_levels"] < 100 || ppm < 100_000 || ppm > 1_000_000 || stats["audit_levels_wrong"] > stats["audit_levels"] {
		t.Errorf("capture_stats: %v", stats)
	}
	v.verify(t, db)
}

func auditNone(t *testing.T, db database) {
	const symbol, length = "FITUSDT", 2 * time.Minute
	m := newMarket(t, 9, length, symbol)
	v := startVenue(t, t.TempDir(), "binance:"+symbol, "--seed", "9", "--start", marketStart, "--speed", "5", "--for", length.String(), "--ghosts")
	v.configure("    audit: 1s\n") // every 10 s: a snapshot of 5000 levels weighs 250
	a := startAgent(t, v, db)
	st := drained(t, v, a, 2*time.Minute)
	st.sound(t)
	audits, wrong := a.metric("deeptape_audits_total"), a.metric("deeptape_audit_levels_wrong_total")
	a.interrupt()
	s := db.read(t, symbol)
	if r := s.checkMarket(m, v); r.snapshots != 1 || wrong != 0 || audits < 1 || s.states("book") != whole {
		t.Errorf("%d snapshots, %d audits, %d levels wrong, %s", r.snapshots, audits, wrong, s.states("book"))
	}
	db.t = t
	detail := db.export("SELECT detail FROM coverage WHERE stream = 'book' AND state = 'verified' AND symbol = '" + symbol + "'")
	if len(detail) != 1 || !regexp.MustCompile(`^audit at id \d+: 100 % of \d{4} levels equal, 0 ghosts, 0 missing, 0 of another size$`).MatchString(detail[0]["detail"]) {
		t.Errorf("detail %v", detail)
	}
	v.verify(t, db)
}

// followGhosts plays the stored book into a slow one. Each message is what the market had
// to say, but for what has gone and was not told; a snapshot within an interval is what an
// audit has put right, and then the book is the market's inside of the window.
func (s *stored) followGhosts(m *market) (corrected, untold, proven int) {
	t := s.t
	t.Helper()
	byLast := map[int64]*diff{}
	diffs := m.symbol[s.symbol].diffs
	for i := range diffs {
		byLast[diffs[i].last] = &diffs[i]
	}
	begins := map[int64]bool{}
	for _, i := range s.coverage["book"] {
		begins[i.from] = i.state == "verified"
	}
	b, last := &slowBook{}, int64(0)
	for _, x := range s.book {
		d := byLast[x.seq]
		switch {
		case x.flags&flagKeyframe != 0:
			if !slices.Equal(x.levels, b.levels()) || x.seq != last {
				t.Fatalf("keyframe %d is not the book", x.seq)
			}
		case x.flags&flagSnapshot != 0:
			if !begins[x.firstNs] {
				if corrected++; x.seq != last || slices.Equal(x.levels, b.levels()) {
					t.Fatalf("snapshot %d after %d puts nothing right", x.seq, last)
				}
			}
			inside := s.insideIsTrue(&x, m.snapshotAt(t, s.symbol, x.seq))
			proven += inside
			b.clear()
			for _, l := range x.levels {
				b.set(l)
			}
		case d == nil || x.prev != itoa(d.first-1):
			t.Fatalf("stored message %d was never sent", x.seq)
		default:
			told := 0
			for _, l := range d.levels {
				switch {
				case told < len(x.levels) && x.levels[told] == l:
					told++
				case l.qty == "0":
					untold++
				default:
					t.Fatalf("message %d does not hold %+v", x.seq, l)
				}
			}
			if told != len(x.levels) {
				t.Fatalf("message %d holds %+v, which the venue has not said", x.seq, x.levels[told])
			}
			for _, l := range x.levels {
				b.set(l)
			}
		}
		last = x.seq
	}
	return corrected, untold, proven
}

// insideIsTrue: what does not say UNVERIFIED are all levels that the market has so far
// from the touch.
func (s *stored) insideIsTrue(x *bookMessage, truth []level) (inside int) {
	s.t.Helper()
	for _, side := range []string{"bid", "ask"} {
		var got, want []level
		edge := ""
		for k, l := range x.levels {
			if l.side == side && !x.unverified[k] {
				got, edge = append(got, l), sortKey(l.px) // the last one is the worst
			}
		}
		for _, l := range truth {
			if at := sortKey(l.px); l.side == side && edge != "" && (side == "bid" && at >= edge || side == "ask" && at <= edge) {
				want = append(want, l)
			}
		}
		if !slices.Equal(got, want) {
			s.t.Fatalf("at id %d, inside of the window, the %ss are\n%v\nin truth\n%v", x.seq, side, got, want)
		}
		inside += len(got)
	}
	return inside
}

// checkUnverifiedView: README's way to see which levels of the view `book` are unproven.
func (s *stored) checkUnverifiedView(db database) {
	t := s.t
	t.Helper()
	want := map[string]string{} // of each level, as it was last told
	for _, x := range s.book {
		if x.flags&flagSnapshot != 0 {
			clear(want)
		}
		for k, l := range x.levels {
			if want[l.side+l.px] = strconv.FormatBool(x.unverified[k]); l.qty == "0" {
				delete(want, l.side+l.px)
			}
		}
	}
	last := s.book[len(s.book)-1]
	at := time.Unix(0, last.lastNs).UTC().Format("2006-01-02T15:04:05.000000000Z")
	pxScale, _, _ := strings.Cut(last.scale, ",")
	got := map[string]string{}
	unproven := 0
	for _, r := range db.export(`SELECT b.side side, b.px px, (d.flags & 8) = 8 unverified FROM (
  DECLARE @at := '` + at + `', @venue := 'binance', @symbol := '` + s.symbol + `' SELECT * FROM book) b
JOIN book_delta d ON (ts, venue, symbol)`) {
		if got[r["side"]+scaled(t, r["px"], pxScale)] = r["unverified"]; r["unverified"] == "true" {
			unproven++
		}
	}
	if !maps.Equal(got, want) || unproven == 0 || unproven == len(got) {
		t.Errorf("%s: of %d levels in the view %d are unverified, want %d levels", s.symbol, len(got), unproven, len(want))
	}
}
