package simvenue

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"deeptape/bench/world"
)

// one is the last dialect of a venue: Kraken's with the smaller book.
func one(venue string) (last dialect) {
	for _, d := range dialects {
		if d.venue == venue {
			last = d
		}
	}
	return last
}

var fiveVenues = slices.DeleteFunc(Venues(), func(name string) bool { return factsOf(name).main })

// What each fault does to a follower that only listens, in virtual time. The
// true book is never touched by it: a new subscription heals.
func TestFaultsOfFive(t *testing.T) {
	seed := testSeed(t)
	for _, venue := range fiveVenues {
		d := one(venue)
		for _, kind := range Faults() {
			if !kind.occursAt(venue) {
				continue
			}
			t.Run(venue+" "+kind.Name, func(t *testing.T) {
				x := newVirtual(t, d, seed, kind.Name+"@20")
				if strings.HasSuffix(kind.Name, "-subscribe") {
					x = newVirtual(t, d, seed, kind.Name+"@1")
				}
				x.v.opt.NoticeLead = 2 * time.Second
				x.say(d.subscribe...)
				x.run(6e9)
				f := newFollower(venue, d.symbol, d.cut)
				do := map[Do]int{}
				for _, fr := range x.out {
					do[fr.Do]++
					if fr.Op == ws.OpText && fr.Do != Trickle && fr.Do != Oversize {
						f.text(fr.Payload)
					}
				}
				strikes := x.v.Strikes()
				if len(strikes) != 1 || strikes[0].Fault != kind.Name || strikes[0].Venue != venue || strikes[0].Symbol != d.symbol || strikes[0].Receivers != 1 {
					t.Fatalf("strikes %+v", strikes)
				}
				f.judge(t, x, kind.Name, do)

				// What comes after: a new connection, a subscription, the truth.
				x.s.End(x.now)
				x.out = nil
				x.connect()
				x.say(d.subscribe...)
				x.run(3e9)
				f = newFollower(venue, d.symbol, d.cut)
				for _, m := range x.texts() {
					f.text([]byte(m))
				}
				if len(f.broken) > 0 && (kind.Name != faultZero || venue != "kraken") {
					t.Fatalf("afterwards: %v", f.broken)
				}
				n := d.window
				if n == 0 {
					n = 1 << 30
				}
				f.agrees(t, x.v, n)
			})
		}
	}
}

// judge says what a follower must have noticed of a fault.
func (f *follower) judge(t *testing.T, x *virtual, name string, do map[Do]int) {
	t.Helper()
	proven := f.venue != "kraken" // by ids; Kraken's checksum sees the best ten only
	switch name {
	case faultDrop, faultReorder, faultMalformed:
		if proven && len(f.broken) == 0 || name == faultMalformed && len(f.broken) == 0 {
			t.Errorf("%s went unnoticed", name)
		}
	case faultDuplicate:
		if f.venue != "kraken" && len(f.broken) == 0 {
			t.Error("a repeated frame does not break the rule of ids")
		}
	case faultDisconnect, faultCutOne:
		if do[Cut] != 1 || !x.s.Gone() || f.deltas != 20 {
			t.Errorf("%d cuts after %d deltas", do[Cut], f.deltas)
		}
	case faultStall:
		if do[Hold] != 1 || len(f.broken) > 0 || f.deltas < 30 {
			t.Errorf("%d holds, %d deltas, %v", do[Hold], f.deltas, f.broken)
		}
	case faultHalfOpen:
		if do[HalfOpen] != 1 || f.deltas != 20 {
			t.Errorf("%d half-open after %d deltas", do[HalfOpen], f.deltas)
		}
	case faultLoris, faultOversized:
		if do[Trickle]+do[Oversize] != 1 || f.deltas != 19 || !x.s.Gone() {
			t.Errorf("%v, %d deltas", do, f.deltas)
		}
	case faultFragmented:
		if do[Fragment] != 1 || len(f.broken) > 0 {
			t.Errorf("%v, %v", do, f.broken)
		}
	case faultCrossed:
		if len(f.broken) == 0 {
			t.Error("a crossed book went unnoticed")
		}
	case faultCorrupt:
		if fmt.Sprint(f.broken) != "[checksum]" {
			t.Errorf("found %v", f.broken)
		}
	case faultZero:
		if f.venue == "okx" && (len(f.broken) > 0 || f.sums != 20 || f.deltas < 30) {
			t.Errorf("%d checksums, %v", f.sums, f.broken)
		}
		if f.venue == "kraken" && len(f.broken) == 0 {
			t.Error("a checksum of 0 went unnoticed")
		}
	case faultReset:
		legal := f.venue != "coinbase"
		if legal && (f.resets != 1 || len(f.broken) > 0) || !legal && len(f.broken) != 1 {
			t.Errorf("%d resets, %v", f.resets, f.broken)
		}
	case faultNotice:
		if f.notices != 1 || do[Bye] != 1 {
			t.Errorf("%d notices, %v", f.notices, do)
		}
	case faultRefuse:
		if f.refusals != 1 || f.snapshots > 0 {
			t.Errorf("%d refusals, %d snapshots", f.refusals, f.snapshots)
		}
	case faultOdd, faultIgnore:
		if f.snapshots > 0 {
			t.Errorf("%d snapshots", f.snapshots)
		}
	case faultSilent:
		if f.refusals != 0 || f.books > 0 || f.acks == 0 {
			t.Errorf("%d acks, %d book messages", f.acks, f.books)
		}
	default:
		t.Errorf("no judgement of %s", name)
	}
}

// A fault that cannot occur is refused by name; one may name its venue.
func TestFaultsArmed(t *testing.T) {
	w, err := NewMarkets("bybit", 1, epochNs, "BTCUSDT")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"corrupt-checksum@1":         "occurs only at kraken, okx",
		"drop@1:okx:BTC-USDT":        "okx is not served",
		"drop@1:BTCUSD":              `nearest is "BTCUSDT"`,
		"drop@1:bybit:BTCUSDT":       "",
		"reset-sequence@1:bybit":     "",
		"refuse-subscribe@2:BTCUSDT": "",
	} {
		faults, err := ParseFaults(text)
		if err != nil {
			t.Fatal(err)
		}
		if faults[0].String() != text {
			t.Errorf("%q comes back as %q", text, faults[0])
		}
		_, err = NewVenue("bybit", w, faults, VenueOptions{})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// The faults of the transport, on the wire.
func TestTransportFaults(t *testing.T) {
	d := one("okx")
	serve := func(t *testing.T, fault string) (*Server, *client) {
		w, err := NewMarkets("okx", 1, time.Now().UnixNano(), d.symbol)
		if err != nil {
			t.Fatal(err)
		}
		s := start(t, Options{Worlds: map[string]*world.World{"okx": w}, Speed: 20, Faults: mustFaults(t, fault+"@5"), TrickleEvery: 5 * time.Millisecond, NoticeLead: 200 * time.Millisecond})
		c := dialVenue(t, s, "okx")
		c.send(d.subscribe[0])
		for c.mustText(); ; { // the acknowledgement, then the snapshot and four updates
			if strings.Contains(c.mustText(), `"snapshot"`) {
				break
			}
		}
		for i := 0; i < 4; i++ {
			c.mustText()
		}
		return s, c
	}
	t.Run("half-open", func(t *testing.T) {
		_, c := serve(t, "half-open")
		c.mustText()
		c.send("ping")
		c.silent(300 * time.Millisecond)
	})
	t.Run("fragmented", func(t *testing.T) {
		_, c := serve(t, "fragmented")
		var ops []ws.OpCode
		text := ""
		for i := 0; i < 4; i++ {
			f, err := c.next(2 * time.Second)
			if err != nil {
				t.Fatal(err)
			}
			ops = append(ops, f.Header.OpCode)
			text += string(f.Payload)
		}
		if fmt.Sprint(ops) != fmt.Sprint([]ws.OpCode{ws.OpText, ws.OpPing, ws.OpContinuation, ws.OpContinuation}) || !jsonValid([]byte(text)) {
			t.Fatalf("%v: %s", ops, text)
		}
		c.mustText()
	})
	t.Run("oversized", func(t *testing.T) {
		_, c := serve(t, "oversized")
		head := make([]byte, 10)
		c.sock.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := io.ReadFull(c.r, head); err != nil || head[0] != 0x81 || head[1] != 127 || binary.BigEndian.Uint64(head[2:]) != 1<<30 {
			t.Fatalf("%x %v", head, err)
		}
	})
	t.Run("slow-loris", func(t *testing.T) {
		_, c := serve(t, "slow-loris")
		begin, n := time.Now(), 0
		for b := make([]byte, 1); n < 40; n++ {
			c.sock.SetReadDeadline(time.Now().Add(2 * time.Second))
			if _, err := io.ReadFull(c.r, b); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(begin); d < 100*time.Millisecond {
			t.Fatalf("40 bytes in %v", d)
		}
	})
	t.Run("malformed", func(t *testing.T) {
		_, c := serve(t, "malformed")
		if m := c.mustText(); jsonValid([]byte(m)) {
			t.Fatalf("sound: %s", m)
		}
		if m := c.mustText(); !jsonValid([]byte(m)) {
			t.Fatalf("the next one too: %s", m)
		}
	})
	t.Run("notice", func(t *testing.T) {
		s, c := serve(t, "notice")
		for !strings.Contains(c.mustText(), "64008") {
		}
		for {
			if _, err := c.text(3 * time.Second); err != nil {
				if !strings.Contains(err.Error(), "1001 after notice") {
					t.Fatal(err)
				}
				break
			}
		}
		if st := s.Status(); st.Closes["after notice"] != 1 {
			t.Fatalf("%+v", st.Closes)
		}
	})
}

// At speed 0 a cut loses a second, and the snapshot that a fast client gets
// afterwards is the one that what follows continues.
func TestCutLosesASecond(t *testing.T) {
	for _, c := range replayCases() {
		if !strings.Contains(c.file, "DERIVED") {
			continue
		}
		t.Run(c.venue, func(t *testing.T) {
			symbol := map[string]string{"kraken": "SC/EUR", "coinbase": "SKL-USD"}[c.venue]
			s, _ := c.server(t, Options{Faults: mustFaults(t, "disconnect@30:"+symbol)})
			cl := dialVenue(t, s, c.venue)
			for _, m := range c.subscribe {
				cl.send(m)
			}
			before := 0
			for {
				m, err := cl.text(5 * time.Second)
				if err != nil {
					break
				}
				if !control.MatchString(m) {
					before++
				}
			}
			cl = dialVenue(t, s, c.venue)
			for _, m := range c.subscribe {
				cl.send(m)
			}
			f := newFollower(c.venue, symbol, map[string]int{"kraken": 1000}[c.venue])
			all := collect(t, s, cl)
			after := 0
			for _, m := range all {
				f.text([]byte(m))
				if !control.MatchString(m) {
					after++
				}
			}
			if len(f.broken) > 0 || f.snapshots != 1 {
				t.Fatalf("%d snapshots, %v", f.snapshots, f.broken)
			}
			f.agrees(t, s.places[0].v, 1<<30)
			if lost := c.frames + 10 - before - after; lost < 20 || lost > 1000 {
				t.Errorf("%d frames lost of %d", lost, c.frames)
			}
		})
	}
}

// Whatever a client says, the venue answers with JSON (or pong) or closes.
func FuzzVenueText(f *testing.F) {
	for i, d := range dialects {
		for _, m := range append(d.subscribe, d.unsubscribe, d.resubscribe, "ping", "{", "[]", "null", `{"op":1}`, `{"method":"subscribe","params":{"symbol":[null]}}`) {
			f.Add(i, m)
		}
	}
	made := map[int]*virtual{} // a venue for many connections: making one takes its time
	f.Fuzz(func(t *testing.T, i int, msg string) {
		if i < 0 || i >= len(dialects) {
			return
		}
		d := dialects[i]
		x := made[i]
		if x == nil {
			symbol := strings.Replace(d.symbol, "BTC", "ZZZ", 1) // a smaller book
			w, err := NewMarkets(d.venue, 1, epochNs, symbol)
			if err != nil {
				t.Fatal(err)
			}
			v, err := NewVenue(d.venue, w, nil, VenueOptions{ConnectLimit: 1 << 40})
			if err != nil {
				t.Fatal(err)
			}
			x = &virtual{v: v, now: epochNs}
			made[i] = x
		}
		x.t, x.out = t, nil
		x.connect()
		defer x.s.End(x.now)
		msg = strings.ReplaceAll(msg, "BTC", "ZZZ")
		x.say(msg, msg)
		x.run(100e6)
		for _, m := range x.texts() {
			if m != "pong" && !jsonValid([]byte(m)) {
				t.Fatalf("%s to %q: %.300s", d.venue, msg, m)
			}
		}
		if len(x.texts()) == 0 && !x.s.Gone() {
			t.Fatalf("%s to %q: no answer", d.venue, msg)
		}
	})
}

// Whatever a line of a recording holds, loading refuses it or the feed sends it.
func FuzzVenueRecording(f *testing.F) {
	for i, m := range []string{
		`{"channel":"l2_data","timestamp":"T","sequence_num":1,"events":[{"type":"snapshot","product_id":"A","updates":[{"side":"bid","price_level":"1","new_quantity":"2"}]}]}`,
		`{"channel":"book","type":"snapshot","data":[{"symbol":"A/B","bids":[{"price":1.10,"qty":1e3}],"asks":[],"checksum":1}]}`,
		`{"channel":"trade","type":"update","data":[{"symbol":"A/B","trade_id":1}]}`,
		`{"arg":{"channel":"books","instId":"A"},"action":"update","data":[{"asks":[["1","2","0","1"]],"bids":[[]],"seqId":2,"prevSeqId":1}]}`,
		`{"topic":"orderbook.50.A","type":"delta","data":{"s":"A","b":[["1","2"]],"a":[],"u":1,"seq":2}}`,
		`{"topic":"orderbook.-1.A","data":7}`,
		`{"channel":"market_trades","sequence_num":-0,"events":[{"type":"update","trades":[{"product_id":"A"}]}]}`,
	} {
		f.Add(i%len(fiveVenues), m)
	}
	f.Fuzz(func(t *testing.T, i int, line string) {
		if i < 0 || i >= len(fiveVenues) || strings.ContainsAny(line, "\n\r") {
			return
		}
		path := filepath.Join(t.TempDir(), "rec.jsonl")
		if err := os.WriteFile(path, []byte(line+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		v, err := newVenue(fiveVenues[i], VenueOptions{})
		if err != nil {
			t.Fatal(err)
		}
		src, err := readRecording(v, path)
		if err != nil {
			return
		}
		s, _ := v.Open(epochNs, NewRequest(v.proto.facts().wsPath), func(Frame) {})
		for _, tp := range v.topics {
			s.subscribe(tp.name, tp)
		}
		for {
			ev, ok := src.pull()
			if !ok {
				break
			}
			v.step(ev)
		}
		for _, tp := range v.topics {
			s.greet(tp)
		}
	})
}
