package simvenue

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"
)

const allStreams = "/stream?streams=aaausdt@depth@100ms/aaausdt@trade"

func TestReplayOrderAndGate(t *testing.T) {
	rec, lines := aRecording(t, "AAAUSDT")
	s := start(t, Options{Recordings: []Recording{rec}})
	c := dial(t, s, allStreams)
	want := frames(lines)
	for i := 0; i < 2; i++ {
		if got := c.mustText(); got != want[i] {
			t.Fatalf("frame %d: got %s want %s", i, got, want[i])
		}
	}
	c.silent(100 * time.Millisecond) // the gate
	_, h, body := get(t, s.RESTURL()+"/api/v3/depth?symbol=AAAUSDT&limit=5000")
	if _, want, _ := strings.Cut(lines[2], "|"); body != want {
		t.Fatalf("snapshot: got %s want %s", body, want)
	}
	if h.Get("X-MBX-USED-WEIGHT-1M") != "250" {
		t.Fatalf("weight header: %v", h)
	}
	for i := 2; i < len(want); i++ {
		if got := c.mustText(); got != want[i] {
			t.Fatalf("frame %d: got %s want %s", i, got, want[i])
		}
	}
	c.silent(50 * time.Millisecond)
	st := waitDone(t, s)
	if len(st.Streams) != 2 || st.Streams[0].Sent != 10 || st.Streams[1].Sent != 1 || st.Connections != 1 {
		t.Fatalf("status: %+v", st)
	}
	// The book of the moment: the snapshot, the diff of before it that reaches
	// past 15, and all later ones; not the diff that ended at 10.
	_, _, body = get(t, s.RESTURL()+"/api/v3/depth?symbol=AAAUSDT&limit=3")
	b := parseBook(t, body)
	if b.LastUpdateID != 100 || fmt.Sprint(b.Bids) != "[[109.00000000 10.00000000] [108.00000000 9.00000000] [107.00000000 8.00000000]]" || len(b.Asks) != 1 {
		t.Fatalf("book: %s", body)
	}
	_, _, body = get(t, s.RESTURL()+"/sim/book?symbol=AAAUSDT")
	if b := parseBook(t, body); len(b.Bids) != 10 || b.Bids[9][0] != "99.00000000" || b.Bids[8][0] != "101.00000000" {
		t.Fatalf("whole book: %s", body)
	}
}

func TestDepthBeforeGateWaits(t *testing.T) {
	rec, lines := aRecording(t, "AAAUSDT")
	s := start(t, Options{Recordings: []Recording{rec}, Speed: 0.2, SnapshotWait: 2 * time.Second}) // lines 50 ms apart
	got := make(chan string, 1)
	go func() {
		_, _, body := get(t, s.RESTURL()+"/api/v3/depth?symbol=AAAUSDT")
		got <- body
	}()
	select {
	case b := <-got:
		t.Fatalf("answered before the gate: %s", b)
	case <-time.After(100 * time.Millisecond):
	}
	c := dial(t, s, allStreams)
	begin := time.Now()
	for range frames(lines) {
		c.mustText()
	}
	if d := time.Since(begin); d < 450*time.Millisecond {
		t.Fatalf("11 lines at 50 ms in %v", d)
	}
	if _, want, _ := strings.Cut(lines[2], "|"); <-got != want {
		t.Fatal("not the recorded body")
	}
}

func TestGateGivesUp(t *testing.T) {
	rec, lines := aRecording(t, "AAAUSDT")
	s := start(t, Options{Recordings: []Recording{rec}, SnapshotWait: 50 * time.Millisecond})
	if code, _, body := get(t, s.RESTURL()+"/api/v3/depth?symbol=AAAUSDT"); code != 504 || !strings.Contains(body, `"code":-1007`) {
		t.Fatalf("with no feed running: %d %s", code, body)
	}
	c := dial(t, s, allStreams)
	for range frames(lines) {
		c.mustText()
	}
	_, _, body := get(t, s.RESTURL()+"/sim/book?symbol=AAAUSDT")
	if b := parseBook(t, body); b.LastUpdateID != 100 || len(b.Bids) != 10 {
		t.Fatalf("book: %s", body)
	}
}

// Frames of a recording without envelopes get one, and lose it again on /ws.
func TestEnvelopes(t *testing.T) {
	bare := []string{
		bareDiff("AAAUSDT", 1, 2, "1.00000000", "1.00000000"),
		`{"u":2,"s":"AAAUSDT","b":"1.00000000","B":"1.00000000","a":"2.00000000","A":"1.00000000"}`,
		`{"e":"trade","E":1,"s":"AAAUSDT","t":7,"p":"1.00000000","q":"0.10000000","T":1,"m":true,"M":true}`,
	}
	names := []string{"aaausdt@depth@100ms", "aaausdt@bookTicker", "aaausdt@trade"}
	rec := write(t, append([]string{`tx {"method":"SUBSCRIBE"}`, `{"result":null,"id":1}`}, bare...)...)
	s := start(t, Options{Recordings: []Recording{rec}})
	all := strings.Join(names, "/")
	wrapped, raw := dial(t, s, "/stream?streams="+all), dial(t, s, "/ws/"+all)
	for i, want := range bare {
		if got := raw.mustText(); got != want {
			t.Fatalf("raw: got %s want %s", got, want)
		}
		if got, want := wrapped.mustText(), `{"stream":"`+names[i]+`","data":`+want+`}`; got != want {
			t.Fatalf("wrapped: got %s want %s", got, want)
		}
	}
	if st := waitDone(t, s); st.Feeds[0].Skipped != 2 {
		t.Fatalf("skipped: %+v", st.Feeds)
	}
}

func TestTwoRecordings(t *testing.T) {
	a, la := aRecording(t, "AAAUSDT")
	b, lb := aRecording(t, "BBBUSDT")
	s := start(t, Options{Recordings: []Recording{a, b}})
	if fmt.Sprint(s.Symbols()) != "[AAAUSDT BBBUSDT]" {
		t.Fatal(s.Symbols())
	}
	ca := dial(t, s, "/stream?streams=aaausdt@depth@100ms/aaausdt@trade")
	go get(t, s.RESTURL()+"/api/v3/depth?symbol=AAAUSDT")
	for _, want := range frames(la) {
		if got := ca.mustText(); got != want {
			t.Fatalf("got %s want %s", got, want)
		}
	}
	st := s.Status()
	if !st.Feeds[0].Done || st.Feeds[1].Started || st.Done {
		t.Fatalf("the second feed has no client yet: %+v", st.Feeds)
	}
	go get(t, s.RESTURL()+"/api/v3/depth?symbol=BBBUSDT")
	cb := dial(t, s, "/stream?streams=bbbusdt@depth@100ms/bbbusdt@trade")
	for _, want := range frames(lb) {
		if got := cb.mustText(); got != want {
			t.Fatalf("got %s want %s", got, want)
		}
	}
	ca.silent(50 * time.Millisecond)
	if _, err := New(Options{Recordings: []Recording{a, a}}); err == nil || !strings.Contains(err.Error(), "AAAUSDT already") {
		t.Fatalf("a symbol twice: %v", err)
	}
}

// A client that does not read stops the feed; nothing is lost or piled up.
func TestBackpressure(t *testing.T) {
	const n = 30_000
	lines := make([]string, n)
	pad := strings.Repeat("0", 500)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"stream":"aaausdt@trade","data":{"e":"trade","E":1,"s":"AAAUSDT","t":%d,"p":"1","q":"1","T":1,"m":true,"M":true,"x":"%s"}}`, i, pad)
	}
	s := start(t, Options{Recordings: []Recording{write(t, lines...)}})
	c := dial(t, s, "/ws/aaausdt@trade")
	time.Sleep(300 * time.Millisecond)
	before := s.Status().Streams[0].Sent
	time.Sleep(100 * time.Millisecond)
	if after := s.Status().Streams[0].Sent; after == n || after != before {
		t.Fatalf("the feed went on without its client: %d, then %d", before, after)
	}
	for i := range lines {
		if got, want := c.mustText(), lines[i][len(`{"stream":"aaausdt@trade","data":`):len(lines[i])-1]; got != want {
			t.Fatalf("frame %d: got %s want %s", i, got, want)
		}
	}
	waitDone(t, s)
}

// At speed 0 a feed waits while it has no client at all.
func TestSpeedZeroWaitsForAClient(t *testing.T) {
	var lines []string
	for i := 1; i <= 2000; i++ {
		lines = append(lines, diffLine("AAAUSDT", i, i, "1.00000000", "1.00000000"))
	}
	s := start(t, Options{Recordings: []Recording{write(t, lines...)}})
	c := dial(t, s, "/stream?streams=aaausdt@depth@100ms")
	for i := 0; i < 5; i++ {
		c.mustText()
	}
	c.sock.Close()
	time.Sleep(200 * time.Millisecond)
	if s.Status().Done {
		t.Skip("the socket took the whole recording before it was closed")
	}
	c = dial(t, s, "/stream?streams=aaausdt@depth@100ms")
	last := ""
	for {
		f, err := c.text(300 * time.Millisecond)
		if err != nil {
			break
		}
		last = f
	}
	if last != lines[len(lines)-1] {
		t.Fatalf("the last frame did not come: %s", last)
	}
}

func TestLoadErrors(t *testing.T) {
	good := diffLine("AAAUSDT", 1, 1, "1.00000000", "1.00000000")
	for _, c := range []struct {
		lines []string
		want  string
	}{
		{[]string{good, "{nonsense"}, "line 2"},
		{[]string{`{"result":null,"id":1}`}, "no market data"},
		{[]string{diffLine("AAAUSDT", 1, 1, "1.000000001", "1")}, "cannot read decimal"},
		{[]string{diffLine("AAAUSDT", 1, 1, "1", "1e5")}, "cannot read decimal"},
		{[]string{good, diffLine("BBBUSDT", 1, 1, "1", "1"), `rest |{"lastUpdateId":1,"bids":[],"asks":[]}`}, "without an URL"},
	} {
		if _, err := New(Options{Recordings: []Recording{write(t, c.lines...)}}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.lines, err, c.want)
		}
	}
	rec := write(t, good)
	os.WriteFile(strings.TrimSuffix(rec.Path, "jsonl")+"recv", []byte("1\tws\n2\tws\n"), 0o644)
	if _, err := New(Options{Recordings: []Recording{rec}}); err == nil || !strings.Contains(err.Error(), "2 lines for 1") {
		t.Errorf("recv too long: %v", err)
	}
	if _, err := New(Options{Recordings: []Recording{{filepath.Join(t.TempDir(), "none.jsonl")}}}); err == nil || !strings.Contains(err.Error(), "none.jsonl") {
		t.Errorf("missing: %v", err)
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no data at all was accepted")
	}
	if _, err := New(Options{Recordings: []Recording{rec}, Speed: -1}); err == nil {
		t.Error("negative speed was accepted")
	}
}

func captures(t *testing.T) string {
	dir := os.Getenv("DEEPTAPE_CAPTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "captures")
	}
	if _, err := os.Stat(filepath.Join(dir, "binance")); err != nil {
		t.Skip("no recordings: set DEEPTAPE_CAPTURES")
	}
	return filepath.Join(dir, "binance")
}

// The real recordings come out byte for byte, and the server's book at the end
// is what the documented procedure makes of the file, done slowly here.
func TestRealRecordings(t *testing.T) {
	dir := captures(t)
	var recs []Recording
	for _, name := range []string{"spot_btcusdt_20240808_full.jsonl.gz", "cryptofeed_us_4sym_20211012.jsonl"} {
		recs = append(recs, Recording{filepath.Join(dir, name)})
	}
	s := start(t, Options{Recordings: recs})
	type file struct {
		frames []string
		snaps  map[string]string
		diffs  map[string][]string
	}
	for _, rec := range recs {
		raw, err := readAll(rec.Path)
		if err != nil {
			t.Fatal(err)
		}
		f := file{snaps: map[string]string{}, diffs: map[string][]string{}}
		var names []string
		seen := map[string]bool{}
		var pendingSnaps []string
		for _, l := range strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n") {
			if strings.HasPrefix(l, `{"lastUpdateId"`) {
				pendingSnaps = append(pendingSnaps, l)
				continue
			}
			f.frames = append(f.frames, l)
			name := l[len(`{"stream":"`):]
			name = name[:strings.Index(name, `"`)]
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
			if sym, ok := strings.CutSuffix(name, "@depth@100ms"); ok {
				f.diffs[strings.ToUpper(sym)] = append(f.diffs[strings.ToUpper(sym)], l)
			}
		}
		c := dial(t, s, "/stream?streams="+strings.Join(names, "/"))
		type answer struct{ sym, body string }
		answers := make(chan answer, len(f.diffs))
		for sym := range f.diffs {
			go func() {
				_, _, body := get(t, s.RESTURL()+"/api/v3/depth?symbol="+sym+"&limit=1000")
				answers <- answer{sym, body}
			}()
		}
		begin := time.Now()
		for i, want := range f.frames {
			if got := c.mustText(); got != want {
				t.Fatalf("%s frame %d: got %s want %s", rec.Path, i, got, want)
			}
		}
		t.Logf("%s: %d frames in %v", rec.Path, len(f.frames), time.Since(begin))
		for range f.diffs {
			a := <-answers
			f.snaps[a.sym] = a.body
			found := false
			for _, p := range pendingSnaps {
				found = found || p == a.body
			}
			if !found {
				t.Fatalf("%s: the snapshot is not a line of the file: %.80s", a.sym, a.body)
			}
		}
		for sym, diffs := range f.diffs {
			_, _, body := get(t, s.RESTURL()+"/sim/book?symbol="+sym)
			got := parseBook(t, body)
			if want := slowBook(t, f.snaps[sym], diffs); !reflect.DeepEqual(got, want) {
				t.Fatalf("%s: book differs: %d/%d levels at %d, want %d/%d at %d", sym, len(got.Bids), len(got.Asks), got.LastUpdateID, len(want.Bids), len(want.Asks), want.LastUpdateID)
			}
		}
	}
	if _, _, body := get(t, s.RESTURL()+"/api/v3/exchangeInfo?symbol=BTCUSDT"); !strings.Contains(body, `"tickSize":"0.01000000"`) || !strings.Contains(body, `"stepSize":"0.00001000"`) || !strings.Contains(body, `"baseAsset":"BTC"`) || !strings.Contains(body, `"quoteAsset":"USDT"`) {
		t.Fatalf("exchangeInfo: %s", body)
	}
	if _, _, body := get(t, s.RESTURL()+"/api/v3/exchangeInfo?symbol=OMGBUSD"); !strings.Contains(body, `"tickSize":"0.00010000"`) || !strings.Contains(body, `"baseAsset":"OMG"`) {
		t.Fatalf("exchangeInfo: %s", body)
	}
	st := waitDone(t, s)
	if st.Feeds[0].Skipped != 0 || st.Feeds[1].Skipped != 0 {
		t.Fatalf("skipped: %+v", st.Feeds)
	}
}

// slowBook follows the documented procedure on the text itself: every price has
// eight decimals, so padded to one width they sort as they are.
func slowBook(t *testing.T, snapshot string, diffs []string) restBook {
	b := parseBook(t, snapshot)
	sides := [2]map[string][2]string{{}, {}}
	set := func(side int, l [2]string) {
		if i := strings.IndexByte(l[0], '.'); i < 0 || len(l[0])-i != 9 {
			t.Fatalf("not eight decimals: %q", l[0])
		}
		if strings.Trim(l[1], "0.") == "" {
			delete(sides[side], l[0])
		} else {
			sides[side][l[0]] = l
		}
	}
	for _, l := range b.Bids {
		set(0, l)
	}
	for _, l := range b.Asks {
		set(1, l)
	}
	id := b.LastUpdateID
	for _, d := range diffs {
		var m struct {
			Data struct {
				First int64       `json:"U"`
				Last  int64       `json:"u"`
				B     [][2]string `json:"b"`
				A     [][2]string `json:"a"`
			} `json:"data"`
		}
		if err := json.Unmarshal([]byte(d), &m); err != nil {
			t.Fatal(err)
		}
		if m.Data.Last <= id {
			continue
		}
		if m.Data.First > id+1 {
			t.Fatalf("gap in the file: %d after %d", m.Data.First, id)
		}
		for _, l := range m.Data.B {
			set(0, l)
		}
		for _, l := range m.Data.A {
			set(1, l)
		}
		id = m.Data.Last
	}
	out := restBook{LastUpdateID: id, Bids: [][2]string{}, Asks: [][2]string{}}
	for side, m := range sides {
		var keys []string
		for px := range m {
			keys = append(keys, fmt.Sprintf("%30s", px))
		}
		sort.Strings(keys)
		if side == 0 {
			slices.Reverse(keys)
		}
		for _, k := range keys {
			l := m[strings.TrimSpace(k)]
			if side == 0 {
				out.Bids = append(out.Bids, l)
			} else {
				out.Asks = append(out.Asks, l)
			}
		}
	}
	return out
}
