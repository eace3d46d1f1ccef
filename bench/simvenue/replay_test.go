package simvenue

import (
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
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
	s := start(t, Options{Recordings: []Recording{rec}, Speed: 0.2, SnapshotWait: patience}) // lines 50 ms apart
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
	begin := time.Now()
	c := dial(t, s, allStreams)
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
	s := start(t, Options{Recordings: []Recording{rec}, Quiet: 2 * time.Second}) // time for both clients
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
	for end := time.Now().Add(patience); !st.Feeds[0].Done && time.Now().Before(end); st = s.Status() {
		time.Sleep(time.Millisecond) // it ends a little after its last frame
	}
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

// still waits until a count has begun and goes on no more.
func still(t *testing.T, count func() uint64) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		before := count()
		time.Sleep(300 * time.Millisecond)
		if after := count(); after == before && after > 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("it does not come to rest: %d", before)
		}
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
	still(t, func() uint64 { return s.Status().Streams[0].Sent })
	if sent := s.Status().Streams[0].Sent; sent == n {
		t.Fatalf("the feed went on without its client: %d frames", sent)
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
	pad := strings.Repeat("0", 4000)
	for i := 0; i < 5000; i++ { // far more than the sockets hold
		lines = append(lines, fmt.Sprintf(`{"stream":"aaausdt@trade","data":{"e":"trade","E":1,"s":"AAAUSDT","t":%d,"x":"%s"}}`, i, pad))
	}
	s := start(t, Options{Recordings: []Recording{write(t, lines...)}})
	c := dial(t, s, "/stream?streams=aaausdt@trade")
	for i := 0; i < 5; i++ {
		c.mustText()
	}
	c.sock.Close()
	for end := time.Now().Add(patience); s.Status().Connections != 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	still(t, func() uint64 { return s.Status().Streams[0].Events })
	if st := s.Status(); st.Done || st.Connections != 0 {
		t.Fatalf("the feed goes on without a client: %+v", st)
	}
	c = dial(t, s, "/stream?streams=aaausdt@trade")
	for c.mustText() != lines[len(lines)-1] {
	}
	waitDone(t, s)
}

// A recording without its sidecar is due at once; its REST line is known by its form.
func TestNoSidecar(t *testing.T) {
	rec, lines := aRecording(t, "AAAUSDT")
	if err := os.Remove(strings.TrimSuffix(rec.Path, "jsonl") + "recv"); err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Recordings: []Recording{rec}, Speed: 0.001})
	c := dial(t, s, allStreams)
	go get(t, s.RESTURL()+"/api/v3/depth?symbol=AAAUSDT")
	for _, want := range frames(lines) {
		if got := c.mustText(); got != want {
			t.Fatalf("got %s want %s", got, want)
		}
	}
}

func TestFor(t *testing.T) {
	lines := diffs("AAAUSDT", 100) // 10 ms apart
	s := start(t, Options{Recordings: []Recording{write(t, lines...)}, For: 200 * time.Millisecond})
	c := dial(t, s, "/stream?streams=aaausdt@depth@100ms")
	for _, want := range lines[:20] {
		if got := c.mustText(); got != want {
			t.Fatalf("got %s want %s", got, want)
		}
	}
	c.silent(50 * time.Millisecond)
	waitDone(t, s)
}

// Close does not wait for a gate, nor for those who wait at it.
func TestCloseAtTheGate(t *testing.T) {
	rec, _ := aRecording(t, "AAAUSDT")
	b, _ := aRecording(t, "BBBUSDT")
	s := start(t, Options{Recordings: []Recording{rec, b}})
	c := dial(t, s, allStreams)
	c.mustText()
	answered := make(chan bool)
	go func() { // its gate is never reached
		if r, err := http.Get(s.RESTURL() + "/api/v3/depth?symbol=BBBUSDT"); err == nil {
			r.Body.Close()
		}
		close(answered)
	}()
	time.Sleep(50 * time.Millisecond)
	begin := time.Now()
	s.Close()
	<-answered
	if d := time.Since(begin); d > 10*time.Second { // a gate waits 15 s
		t.Fatalf("Close took %v", d)
	}
	s.Close()
	if err := s.Start(); err == nil {
		t.Fatal("a closed server started")
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
		{[]string{diffLine("AAAUSDT", 0, 5, "1", "1")}, "update ids"},
		{[]string{diffLine("AAAUSDT", 5, 4, "1", "1")}, "update ids"},
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
	if _, err := New(Options{Recordings: []Recording{{Path: filepath.Join(t.TempDir(), "none.jsonl")}}}); err == nil || !strings.Contains(err.Error(), "none.jsonl") {
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
		recs = append(recs, Recording{Path: filepath.Join(dir, name)})
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

// Whatever a line holds, loading refuses it or the feed can send it.
func FuzzRecordingLine(f *testing.F) {
	f.Add(diffLine("AAAUSDT", 1, 2, "1.00000000", "0.5"))
	f.Add(bareDiff("AAAUSDT", 1, 2, "1", "0"))
	f.Add(`{"stream":"a@depth@100ms","data":{"e":"depthUpdate","s":"A","U":1,"u":1,"b":[],"a":[]},"data":{"e":"depthUpdate","s":"A","U":1,"u":1,"b":[[]],"a":[]}}`)
	f.Add(`{"stream":"a@x","data":7}`)
	f.Add(`{"e":"kline","s":"A","k":{"i":"1m"}}`)
	f.Fuzz(func(t *testing.T, line string) {
		if strings.ContainsAny(line, "\n\r") {
			return
		}
		path := filepath.Join(t.TempDir(), "rec.jsonl")
		rest := `{"lastUpdateId":1,"bids":[["1","1"]],"asks":[]}`
		if err := os.WriteFile(path, []byte(line+"\n"+rest+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		v, err := newVenue("binance", VenueOptions{})
		if err != nil {
			t.Fatal(err)
		}
		src, err := readRecording(v, path)
		if err != nil {
			return
		}
		for {
			ev, ok := src.pull()
			if !ok {
				return
			}
			if ev.kind == kindSnapshot {
				v.openGate(ev)
			} else {
				v.step(ev)
			}
			if p := ev.payload; ev.kind != kindSnapshot && string(p.wrapped) != `{"stream":"`+ev.topic.name+`","data":`+string(p.bare)+`}` {
				t.Fatalf("%q: %s around %s", line, p.wrapped, p.bare)
			}
		}
	})
}

func FuzzUnits(f *testing.F) {
	for _, s := range []string{"1.5", "0", "92233720368.54775807", "92233720368.54775808", "1.", ".5", "-1", "0.123456789", "00012.10"} {
		f.Add(s)
	}
	plain := regexp.MustCompile(`^[0-9]+(\.[0-9]{0,8})?$`)
	f.Fuzz(func(t *testing.T, text string) {
		n, err := units(text)
		want, ok := new(big.Rat).SetString(text)
		if !plain.MatchString(text) || !ok && !strings.HasSuffix(text, ".") {
			if err == nil {
				t.Fatalf("%q was read as %d", text, n)
			}
			return
		}
		if !ok {
			return
		}
		want.Mul(want, big.NewRat(1e8, 1))
		if fits := want.Num().IsInt64(); err == nil && want.Cmp(new(big.Rat).SetInt64(n)) != 0 || err != nil && fits && want.Num().Int64() < 1<<62 {
			t.Fatalf("%q: %d, %v, want %v", text, n, err, want)
		}
		if err == nil {
			if back, _ := units(string(appendDecimal(nil, n))); back != n {
				t.Fatalf("%q: %d comes back as %d", text, n, back)
			}
		}
	})
}
