package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/venuetest"
)

// The conformance suite: every venue in the registry has to pass it on all of its
// recordings, without a line of its own here. What a recording says is read by rows.py,
// which stands beside the recordings and shares nothing with the decoders. What the
// proofs detect is shown in package feed (TestMutations).

// recorded is one recording with what the oracle reads in it.
type recorded struct {
	name    string
	venue   venues.Venue
	lines   []capturedLine
	symbols []string
	rows    []oracleRow
}

type capturedLine struct {
	text []byte
	rest bool   // it is a REST answer, and no frame
	url  string // of its request, where that is known
}

// oracleRow is a line of rows.py.
type oracleRow struct {
	K    string      `json:"k"`
	Sym  string      `json:"sym"`
	Snap bool        `json:"snap"`
	Seq  *int64      `json:"seq"`
	Prev *int64      `json:"prev"`
	Lv   [][3]string `json:"lv"`
	ID   string      `json:"id"`
	Px   string      `json:"px"`
	Qty  string      `json:"qty"`
	Side string      `json:"side"`
}

func readRecording(tb testing.TB, v venues.Venue, file string) *recorded {
	tb.Helper()
	rec := &recorded{name: filepath.Base(file), venue: v}
	var dirs []string
	stem := file[:strings.LastIndex(file, ".jsonl")]
	for _, recv := range []string{stem + ".recv", stem + ".recv.gz"} {
		if _, err := os.Stat(recv); err == nil {
			dirs = strings.Split(string(venuetest.PlainFile(tb, recv)), "\n")
		}
	}
	for n, text := range bytes.Split(venuetest.PlainFile(tb, file), []byte("\n")) {
		dir := "ws"
		if n < len(dirs) {
			_, dir, _ = strings.Cut(dirs[n], "\t")
		}
		if len(text) > 0 && dir != "tx" {
			url, rest := strings.CutPrefix(dir, "rest")
			rec.lines = append(rec.lines, capturedLine{text, rest, url})
		}
	}
	exchange, _, _ := strings.Cut(v.Rules().Name, "_")
	out, err := exec.Command("python3", filepath.Join(venuetest.CapturesDir(tb), "rows.py"), exchange, file).Output()
	if err != nil {
		tb.Skipf("the oracle does not run: %v", err)
	}
	seen := map[string]bool{}
	for _, line := range bytes.Split(bytes.TrimSpace(out), []byte("\n")) {
		var row oracleRow
		if err := json.Unmarshal(line, &row); err != nil {
			tb.Fatalf("%s: %v in %.200q", rec.name, err, line)
		}
		rec.rows = append(rec.rows, row)
		if !seen[row.Sym] && row.Sym != "" {
			seen[row.Sym] = true
			rec.symbols = append(rec.symbols, row.Sym)
		}
	}
	for i := range rec.rows {
		if rec.rows[i].Sym == "" { // a REST answer whose request is not known
			rec.rows[i].Sym = rec.symbols[0]
		}
	}
	return rec
}

// reader decodes a recording as the machine does: finer where a message asks for it.
type reader struct {
	dec   venues.Decoder
	insts []event.Instrument
	batch venues.Batch
}

func (rec *recorded) reader() *reader {
	r := &reader{}
	for _, s := range rec.symbols {
		r.insts = append(r.insts, event.Instrument{Venue: rec.venue.Rules().Name, Symbol: s})
	}
	r.dec = rec.venue.NewDecoder(r.insts)
	return r
}

func (r *reader) read(line capturedLine) ledger.Reason {
	decode := func() ledger.Reason {
		if !line.rest {
			return r.dec.Decode(line.text, &r.batch)
		}
		for i := range r.insts {
			if len(r.insts) == 1 || strings.Contains(line.url, "symbol="+r.insts[i].Symbol) {
				return r.dec.DecodeSnapshot(i, line.text, &r.batch)
			}
		}
		return ledger.UnknownSymbol
	}
	reason := decode()
	finer := false
	for i := range r.batch.Messages {
		if m := &r.batch.Messages[i]; reason == ledger.Accepted && m.Inst >= 0 {
			if inst := &r.insts[m.Inst]; m.PxScale > inst.PxScale || m.QtyScale > inst.QtyScale {
				inst.PxScale, inst.QtyScale = max(m.PxScale, inst.PxScale), max(m.QtyScale, inst.QtyScale)
				r.dec.SetScale(m.Inst, inst.PxScale, inst.QtyScale)
				finer = true
			}
		}
	}
	if finer {
		return decode()
	}
	return reason
}

// eachVenue runs a test on every recording of every venue.
func eachVenue(t *testing.T, test func(t *testing.T, rec *recorded)) {
	venuetest.CapturesDir(t)
	for _, name := range Names() {
		v, err := ByName(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range venuetest.RecordingsOf(t, v) {
			t.Run(name+"/"+filepath.Base(file), func(t *testing.T) { test(t, readRecording(t, v, file)) })
		}
	}
}

func nullable(n *int64) int64 {
	if n == nil {
		return event.Null
	}
	return *n
}

// Every book message and every trade of every recording, digit for digit. Trades are
// compared in the order of their places, or of their numbers where a frame has them the
// other way round.
func TestConformanceDecode(t *testing.T) {
	eachVenue(t, func(t *testing.T, rec *recorded) {
		scannerAgrees(t, rec)
		r := rec.reader()
		var books, trades []oracleRow
		for _, row := range rec.rows {
			if row.K == "book" {
				books = append(books, row)
			} else {
				trades = append(trades, row)
			}
		}
		var got []oracleRow
		rejected := map[string]int{}
		rules := rec.venue.Rules()
		for n, line := range rec.lines {
			if reason := r.read(line); reason != ledger.Accepted {
				rejected[reason.String()]++
				continue
			}
			for i := range r.batch.Messages {
				m := &r.batch.Messages[i]
				switch m.Kind {
				case venues.KindDelta, venues.KindSnapshot:
					if len(books) == 0 {
						t.Fatalf("line %d: more books than the oracle reads", n+1)
					}
					if err := r.sameBook(m, &books[0], rules); err != nil {
						t.Fatalf("line %d: %v\n%+v\n%+v", n+1, err, m, books[0])
					}
					books = books[1:]
				case venues.KindTrade:
					inst := &r.insts[m.Inst]
					side := map[event.Side]string{event.Bid: "buy", event.Ask: "sell"}[m.Side]
					row := oracleRow{Sym: inst.Symbol, ID: string(m.TradeID), Side: side, Px: fmt.Sprint(m.Px, " ", inst.PxScale), Qty: fmt.Sprint(m.Qty, " ", inst.QtyScale)}
					if rules.TradesCount && (fmt.Sprint(m.TradeNum) != row.ID || m.TradeFirst > m.TradeNum || m.TradeFirst == event.Null) || !rules.TradesCount && m.TradeNum != event.Null {
						t.Fatalf("line %d: trade %q has the numbers %d to %d", n+1, row.ID, m.TradeFirst, m.TradeNum)
					}
					got = append(got, row)
				}
			}
		}
		if len(books) > 0 || len(got) != len(trades) {
			t.Fatalf("%d books are left and %d of %d trades read; rejected %v", len(books), len(got), len(trades), rejected)
		}
		if len(rec.rows) == 0 || rejected["malformed"]+rejected["overflow"]+rejected["unknown_symbol"] > 0 {
			t.Errorf("rejected %v of %d", rejected, len(rec.lines))
		}
		sortTrades(got)
		sortTrades(trades)
		for i := range got {
			g, w := got[i], trades[i]
			var px, qty int64
			var pxScale, qtyScale int8
			fmt.Sscan(g.Px, &px, &pxScale)
			fmt.Sscan(g.Qty, &qty, &qtyScale)
			if g.Sym != w.Sym || g.ID != w.ID || g.Side != w.Side || !venuetest.SameNumber(px, pxScale, w.Px) || !venuetest.SameNumber(qty, qtyScale, w.Qty) {
				t.Fatalf("trade %+v, want %+v", g, w)
			}
		}
		t.Logf("%d rows, %d lines, not taken: %v", len(rec.rows), len(rec.lines), rejected)
	})
}

func sortTrades(rows []oracleRow) {
	sort.SliceStable(rows, func(a, b int) bool {
		x, y := &rows[a], &rows[b]
		if x.Sym != y.Sym {
			return x.Sym < y.Sym
		}
		if len(x.ID) != len(y.ID) {
			return len(x.ID) < len(y.ID)
		}
		return x.ID < y.ID
	})
}

func (r *reader) sameBook(m *venues.Message, want *oracleRow, rules *venues.Rules) error {
	inst := &r.insts[m.Inst]
	switch {
	case inst.Symbol != want.Sym:
		return fmt.Errorf("symbol %s, want %s", inst.Symbol, want.Sym)
	case (m.Kind == venues.KindSnapshot) != want.Snap:
		return fmt.Errorf("kind %d, snapshot %v", m.Kind, want.Snap)
	case m.Seq != nullable(want.Seq):
		return fmt.Errorf("id %d, want %d", m.Seq, nullable(want.Seq))
	case !want.Snap && m.SeqPrev != nullable(want.Prev):
		return fmt.Errorf("previous id %d, want %d", m.SeqPrev, nullable(want.Prev))
	case m.Hi-m.Lo != len(want.Lv):
		return fmt.Errorf("%d levels, want %d", m.Hi-m.Lo, len(want.Lv))
	case rules.Continuity == venues.ConnCounter && m.Seq != r.batch.ConnSeq:
		return fmt.Errorf("id %d in frame %d", m.Seq, r.batch.ConnSeq)
	}
	got := r.batch.Levels[m.Lo:m.Hi]
	sides := [...]string{"", "bid", "ask"}
	for i, w := range want.Lv {
		if g := got[i]; sides[g.Side] != w[0] || !venuetest.SameNumber(g.Px, inst.PxScale, w[1]) || !venuetest.SameNumber(g.Qty, inst.QtyScale, w[2]) {
			return fmt.Errorf("level %d is %+v, want %v", i, g, w)
		}
	}
	return nil
}

// FuzzConformance: whatever comes, a decoder of any venue returns, and what it accepts
// holds together.
func FuzzConformance(f *testing.F) {
	for _, s := range []string{``, `{`, `[]`, `{}`, `pong`, `{"data":[{}]}`, `{"channel":"book","type":"update","data":[{"symbol":"A","bids":[],"asks":[],"checksum":1}]}`,
		`{"topic":"orderbook.50.A","type":"delta","data":{"s":"A","b":[["1","2"]],"a":[],"u":1},"cts":1,"ts":1}`,
		`{"arg":{"channel":"books","instId":"A"},"action":"update","data":[{"asks":[],"bids":[["1","2","0","1"]],"ts":"1","seqId":2,"prevSeqId":1}]}`,
		`{"channel":"l2_data","sequence_num":1,"timestamp":"2026-01-01T00:00:00Z","events":[{"type":"update","product_id":"A","updates":[{"side":"bid","price_level":"1","new_quantity":"0"}]}]}`,
		`{"e":"depthUpdate","E":1,"s":"A","U":1,"u":2,"b":[["1","2"]],"a":[]}`} {
		f.Add([]byte(s))
	}
	dir := venuetest.WhereCaptures()
	files, _ := filepath.Glob(filepath.Join(dir, "*", "*.jsonl"))
	for _, file := range files { // frames of each kind, where the recordings are
		for n, line := range bytes.Split(venuetest.PlainFile(f, file), []byte("\n")) {
			if n < 40 && len(line) < 4000 {
				f.Add(line)
			}
		}
	}
	symbols := []string{"A", "BTCUSDT", "BTC-USD", "BTC/USD", "BTC-USDT"}
	f.Fuzz(func(t *testing.T, frame []byte) {
		for _, name := range Names() {
			v, _ := ByName(name)
			r := (&recorded{venue: v, symbols: symbols}).reader()
			for _, rest := range []bool{false, true} {
				reason := r.read(capturedLine{frame, rest, "symbol=A"})
				checkBatch(t, name, r, reason)
			}
		}
	})
}

func checkBatch(t *testing.T, name string, r *reader, reason ledger.Reason) {
	at := 0
	for i := range r.batch.Messages {
		m := &r.batch.Messages[i]
		if m.Inst < -1 || m.Inst >= len(r.insts) {
			t.Fatalf("%s: instrument %d", name, m.Inst)
		}
		if reason != ledger.Accepted {
			continue
		}
		switch m.Kind {
		case venues.KindDelta, venues.KindSnapshot:
			if m.Inst < 0 || m.Lo < at || m.Hi < m.Lo || m.Hi > len(r.batch.Levels) {
				t.Fatalf("%s: levels %d to %d of %d after %d, of %d", name, m.Lo, m.Hi, len(r.batch.Levels), at, m.Inst)
			}
			at = m.Hi
			for _, l := range r.batch.Levels[m.Lo:m.Hi] {
				if l.Qty < 0 || l.Side != event.Bid && l.Side != event.Ask {
					t.Fatalf("%s: level %+v", name, l)
				}
			}
		case venues.KindTrade:
			if m.Inst < 0 || m.TradeFirst > m.TradeNum || m.Qty < 0 {
				t.Fatalf("%s: trade %+v", name, m)
			}
		case venues.KindQuote:
			if m.Inst < 0 {
				t.Fatalf("%s: a quote of nothing", name)
			}
		}
		if m.PxScale > r.insts[max(m.Inst, 0)].PxScale && m.Inst >= 0 {
			t.Fatalf("%s: still finer at %d: %+v", name, r.insts[m.Inst].PxScale, m)
		}
	}
}

// BenchmarkConformance decodes whole recordings; bytes are those of the frames.
func BenchmarkConformance(b *testing.B) {
	for _, name := range Names() {
		v, _ := ByName(name)
		for _, file := range venuetest.RecordingsOf(b, v) {
			rec := readRecording(b, v, file)
			r := rec.reader()
			size := 0
			for _, line := range rec.lines {
				size += len(line.text)
				r.read(line)
			}
			b.Run("venue="+name+"/recording="+strings.TrimSuffix(rec.name, filepath.Ext(rec.name)), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					for _, line := range rec.lines {
						r.read(line)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rec.lines)), "ns/frame")
			})
		}
	}
}

// The registry itself: what the machine, the planner and the connections rely on.
func TestConformanceRules(t *testing.T) {
	for _, name := range Names() {
		v, _ := ByName(name)
		r := v.Rules()
		insts := []event.Instrument{{Symbol: "AAA"}, {Symbol: "BBB"}}
		sub := venues.Subscription{Quotes: true, Depth: r.Depth}
		ids := map[int64]bool{}
		last := int64(0)
		for _, c := range v.Subscribe(insts, sub) {
			if c.ID < 1 || ids[c.ID] || c.Text == "" || c.Acks < 0 || c.Inst < -1 || c.Inst >= len(insts) {
				t.Errorf("%s: command %+v", name, c)
			}
			ids[c.ID] = true
			last = max(last, c.ID)
		}
		for i, c := range v.Resubscribe(insts[1], sub, last+1) {
			if c.ID < last+1 || ids[c.ID] || !strings.Contains(strings.ToUpper(c.Text), "BBB") || strings.Contains(strings.ToUpper(c.Text), "AAA") {
				t.Errorf("%s: command %d %+v", name, i, c)
			}
			ids[c.ID] = true
		}
		if (r.PingEveryNs > 0) != (v.Ping(7) != "") {
			t.Errorf("%s: a ping every %d ns is %q", name, r.PingEveryNs, v.Ping(7))
		}
		if r.Proof == event.ProofNone || r.SilenceNs <= 0 || r.DeadAfterNs < 2e9 || r.MessageBytesMax <= 0 || r.AnswerBytesMax <= 0 || r.PingEveryNs > 0 && r.DeadAfterNs <= 2*r.PingEveryNs || r.WSURL == "" || r.RestURL == "" || r.TradingStatus == "" || r.StreamsPerConn <= 0 || r.ConnectsPerWindow <= 0 || r.CommandsPerSecond <= 0 {
			t.Errorf("%s: %+v", name, r)
		}
		if r.Truncate && r.Depth == 0 || r.Depth != 0 && !slices.Contains(r.Depths, r.Depth) || r.Continuity == venues.ChecksumOnly && r.ChecksumTop == 0 {
			t.Errorf("%s: depth %d of %v", name, r.Depth, r.Depths)
		}
	}
}
