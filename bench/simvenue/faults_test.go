package simvenue

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func mustFaults(t *testing.T, text string) []Fault {
	t.Helper()
	f, err := ParseFaults(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestParseFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "[]",
		"drop@40:btcusdt, 429@2":           "[drop@40:BTCUSDT 429@2]",
		"stale-snapshot@1:ETHUSDT,stall@7": "[stale-snapshot@1:ETHUSDT stall@7]",
	} {
		if got, err := ParseFaults(text); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"drp@40":             `"drp@40"` + "|" + `"drop"`,
		"drop@1,disconect@3": `"disconect@3"` + "|" + `"disconnect"`,
		"stale@1":            `"stale@1"`,
		"drop":               `"drop"` + "|" + "drop@N",
		"drop@0":             `"drop@0"`,
		"drop@-1":            `"drop@-1"`,
		"drop@+1":            `"drop@+1"`,
		"drop@x:BTCUSDT":     `"drop@x:BTCUSDT"`,
		"drop@1:":            `"drop@1:"`,
		"drop@":              `"drop@"`,
		"drop@1,,":           `""`,
	} {
		_, err := ParseFaults(text)
		for _, w := range strings.Split(want, "|") {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %v, want %s in it", text, err, w)
			}
		}
	}
	rec, _ := aRecording(t, "AAAUSDT")
	_, err := New(Options{Recordings: []Recording{rec}, Faults: mustFaults(t, "drop@1:AAAUSTD")})
	if err == nil || !strings.Contains(err.Error(), `"drop@1:AAAUSTD"`) || !strings.Contains(err.Error(), `"AAAUSDT"`) {
		t.Errorf("unknown symbol: %v", err)
	}
}

// diffs makes n diffs of one id each from 1001 on, each at its own price.
func diffs(symbol string, n int) []string {
	var lines []string
	for i := 1; i <= n; i++ {
		lines = append(lines, diffLine(symbol, 1000+i, 1000+i, fmt.Sprintf("%d.00000000", i), "1.00000000"))
	}
	return lines
}

func TestFrameFaults(t *testing.T) {
	for _, c := range []struct {
		faults string
		order  string // of the diffs on the wire
		struck string
	}{
		{"drop@3", "1 2 4 5 6", "drop 1003"},
		{"duplicate@3:AAAUSDT", "1 2 3 3 4 5 6", "duplicate 1003"},
		{"reorder@3", "1 2 4 3 5 6", "reorder 1003"},
		{"reorder@6", "1 2 3 4 5 6", "reorder 1006"}, // there is no next one: sent at the end
		{"reorder@3,duplicate@4", "1 2 4 4 3 5 6", "reorder 1003 duplicate 1004"},
		{"drop@1,drop@2,drop@6", "3 4 5", "drop 1001 drop 1002 drop 1006"},
		{"drop@7", "1 2 3 4 5 6", ""},
	} {
		t.Run(c.faults, func(t *testing.T) {
			lines := diffs("AAAUSDT", 6)
			s := start(t, Options{Recordings: []Recording{write(t, lines...)}, Faults: mustFaults(t, c.faults)})
			cl := dial(t, s, "/stream?streams=aaausdt@depth@100ms")
			for _, n := range strings.Fields(c.order) {
				want := lines[n[0]-'1']
				if got := cl.mustText(); got != want {
					t.Fatalf("got %s want %s", got, want)
				}
			}
			cl.silent(30 * time.Millisecond)
			var struck []string
			for _, x := range waitDone(t, s).Struck {
				struck = append(struck, fmt.Sprintf("%s %d", x.Fault, x.Last))
				if x.Receivers != 1 || x.First != x.Last || x.Symbol != "AAAUSDT" {
					t.Errorf("strike %+v", x)
				}
			}
			if got := strings.Join(struck, " "); got != c.struck {
				t.Errorf("struck %q, want %q", got, c.struck)
			}
			// Whatever was sent, the truth has all of it.
			_, _, body := get(t, s.RESTURL()+"/api/v3/depth?symbol=AAAUSDT")
			if b := parseBook(t, body); b.LastUpdateID != 1006 || len(b.Bids) != 6 {
				t.Errorf("book: %s", body)
			}
		})
	}
}

// Without a symbol the first one to get there is struck, and only that.
func TestFaultStrikesOnce(t *testing.T) {
	a, b := diffs("AAAUSDT", 3), diffs("BBBUSDT", 3)
	var lines []string
	for i := range a {
		lines = append(lines, b[i], a[i])
	}
	s := start(t, Options{Recordings: []Recording{write(t, lines...)}, Faults: mustFaults(t, "drop@2")})
	c := dial(t, s, "/stream?streams=aaausdt@depth@100ms/bbbusdt@depth@100ms")
	for _, want := range []string{b[0], a[0], a[1], b[2], a[2]} {
		if got := c.mustText(); got != want {
			t.Fatalf("got %s want %s", got, want)
		}
	}
}

// A fault that is armed while the server runs counts from then on.
func TestStrike(t *testing.T) {
	lines := diffs("AAAUSDT", 6)
	s := start(t, Options{Recordings: []Recording{write(t, append(lines[:2:2], append([]string{`rest |{"lastUpdateId":1002,"bids":[["1.00000000","5.00000000"]],"asks":[["50.00000000","5.00000000"]]}`}, lines[2:]...)...)...)}})
	c := dial(t, s, "/stream?streams=aaausdt@depth@100ms")
	for _, want := range lines[:2] {
		if got := c.mustText(); got != want {
			t.Fatalf("got %s want %s", got, want)
		}
	}
	for _, f := range []Fault{{Name: "drop", N: 1, Venue: "okx", Symbol: "AAAUSDT"}, {Name: "drop", N: 1, Venue: "binance"}, {Name: "429", N: 1, Venue: "binance", Symbol: "AAAUSDT"}} {
		if err := s.Strike(f); err == nil {
			t.Errorf("%v is armed", f)
		}
	}
	if err := s.Strike(Fault{Name: "drop", N: 2, Venue: "binance", Symbol: "AAAUSDT"}); err != nil {
		t.Fatal(err)
	}
	get(t, s.RESTURL()+"/api/v3/depth?symbol=AAAUSDT&limit=100") // the feed has waited for this
	for _, i := range []int{2, 4, 5} {
		if got := c.mustText(); got != lines[i] {
			t.Fatalf("got %s want %s", got, lines[i])
		}
	}
}

func TestDisconnect(t *testing.T) {
	a, b := diffs("AAAUSDT", 400), diffs("BBBUSDT", 400)
	var lines []string
	for i := range a {
		lines = append(lines, a[i], b[i]) // 20 ms per pair
	}
	s := start(t, Options{Recordings: []Recording{write(t, lines...)}, Faults: mustFaults(t, "disconnect@10:AAAUSDT")})
	ca := dial(t, s, "/stream?streams=aaausdt@depth@100ms")
	for i := 0; i < 10; i++ {
		if got := ca.mustText(); got != a[i] {
			t.Fatalf("got %s want %s", got, a[i])
		}
	}
	if f, err := ca.next(patience); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("want an end without a close frame, got %+v %v", f, err)
	}
	for deadline := time.Now().Add(patience); s.Status().Closes["disconnect fault"] != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("status %+v", s.Status())
		}
	}
	// A second of feed time is lost: what comes next begins 50 pairs later.
	ca = dial(t, s, "/stream?streams=aaausdt@depth@100ms")
	if got := ca.mustText(); got != a[59] { // 1 s after a[9], at 20 ms
		t.Fatalf("after the cut: %s", got)
	}
}

// Only the connections that carry the symbol are cut.
func TestDisconnectSparesOthers(t *testing.T) {
	a, b := diffs("AAAUSDT", 20), diffs("BBBUSDT", 20)
	var lines []string
	for i := range a {
		lines = append(lines, a[i], b[i])
	}
	s := start(t, Options{Recordings: []Recording{write(t, lines...)}, Quiet: 2 * time.Second, Faults: mustFaults(t, "disconnect@10:AAAUSDT")}) // time for both clients
	cb := dial(t, s, "/stream?streams=bbbusdt@depth@100ms")
	trades := dial(t, s, "/stream?streams=aaausdt@depth@100ms/bbbusdt@depth@100ms")
	for i := range b {
		if got := cb.mustText(); got != b[i] {
			t.Fatalf("got %s want %s", got, b[i])
		}
	}
	n := 0
	for ; ; n++ {
		if _, err := trades.text(patience); err != nil {
			break
		}
	}
	if n != 19 { // 10 of the one, 9 of the other
		t.Fatalf("the cut connection got %d frames, want 19", n)
	}
}

func TestStall(t *testing.T) {
	lines := diffs("AAAUSDT", 6)
	const stall = 2 * time.Second
	s := start(t, Options{Recordings: []Recording{write(t, lines...)}, StallFor: stall, Faults: mustFaults(t, "stall@3")})
	begin := time.Now()
	c := dial(t, s, "/stream?streams=aaausdt@depth@100ms")
	var at []time.Time
	for _, want := range lines {
		if got := c.mustText(); got != want {
			t.Fatalf("got %s want %s", got, want)
		}
		at = append(at, time.Now())
	}
	if d := at[3].Sub(begin); d < stall { // not from at[2], at which a slow machine may be late
		t.Fatalf("a stall of %v, want %v", d, stall)
	}
	if d := at[5].Sub(at[3]); d >= stall {
		t.Fatalf("the rest took %v", d)
	}
}

func TestCloseDuringStall(t *testing.T) {
	s := start(t, Options{Recordings: []Recording{write(t, diffs("AAAUSDT", 6)...)}, StallFor: time.Hour, Faults: mustFaults(t, "stall@3")})
	c := dial(t, s, "/stream?streams=aaausdt@depth@100ms")
	for i := 0; i < 3; i++ {
		c.mustText()
	}
	begin := time.Now()
	s.Close()
	if d := time.Since(begin); d > 20*time.Second { // the stall lasts an hour
		t.Fatalf("Close took %v", d)
	}
}

func TestRESTFaults(t *testing.T) {
	snap := `{"lastUpdateId":1002,"bids":[["1.00000000","5.00000000"]],"asks":[["50.00000000","5.00000000"]]}`
	lines := diffs("AAAUSDT", 6)
	rec := write(t, lines[0], lines[1], "rest |"+snap, lines[2], lines[3], lines[4], lines[5])
	s := start(t, Options{Recordings: []Recording{rec}, Faults: mustFaults(t, "stale-snapshot@1,429@2:AAAUSDT,stale-snapshot@4")})
	c := dial(t, s, "/stream?streams=aaausdt@depth@100ms")
	url := s.RESTURL() + "/api/v3/depth?symbol=AAAUSDT&limit=100"
	c.mustText()
	c.mustText()
	code, _, body := get(t, url)
	if b := parseBook(t, body); code != 200 || b.LastUpdateID >= 1000 || len(b.Asks) != 1 {
		t.Fatalf("want an old body, got %d %s", code, body)
	}
	c.silent(50 * time.Millisecond) // the gate is shut
	code, h, body := get(t, url)
	if code != 429 || h.Get("Retry-After") != "1" || !strings.Contains(body, `"code":-1003`) {
		t.Fatalf("want 429, got %d %v %s", code, h, body)
	}
	c.silent(50 * time.Millisecond)
	if code, _, body = get(t, url); code != 200 || body != snap {
		t.Fatalf("want the recorded body, got %d %s", code, body)
	}
	for _, want := range lines[2:] {
		if got := c.mustText(); got != want {
			t.Fatalf("got %s want %s", got, want)
		}
	}
	if _, _, body = get(t, url); parseBook(t, body).LastUpdateID >= 1001 {
		t.Fatalf("want an old body again, got %s", body)
	}
	if _, _, body = get(t, url); parseBook(t, body).LastUpdateID != 1006 {
		t.Fatalf("want the true book, got %s", body)
	}
	st := s.Status()
	if len(st.Struck) != 3 || st.Symbols[0].Requests != 5 || st.Struck[1].Fault != "429" || st.Struck[0].Last >= 1001 {
		t.Fatalf("status %+v", st)
	}
}

// What was read reads again as itself.
func FuzzParseFaults(f *testing.F) {
	for _, s := range []string{"drop@40:BTCUSDT", "429@1,stall@2", "a@b:c", "drop@1:ü", "drop@99999999999999999999", "@", ","} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		faults, err := ParseFaults(text)
		if err != nil {
			return
		}
		var items []string
		for _, x := range faults {
			if x.N < 1 {
				t.Fatalf("%q: %+v", text, x)
			}
			items = append(items, x.String())
		}
		again, err := ParseFaults(strings.Join(items, ","))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(faults) {
			t.Fatalf("%q: %v, again %v, %v", text, faults, again, err)
		}
	})
}
