package simvenue

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"deeptape/bench/world"
)

// loadMessage is any frame of a load.
type loadMessage struct {
	Stream string
	Data   struct {
		// encoding/json takes e for E where only one of them has a field.
		Kind   string `json:"e"`
		E, T   int64
		U      int64           `json:"U"`
		ID     int64           `json:"u"`
		Trade  int64           `json:"t"`
		Bids   json.RawMessage `json:"b"`
		Asks   json.RawMessage `json:"a"`
		BidQty json.RawMessage `json:"B"`
		AskQty json.RawMessage `json:"A"`
	}
}

// TestLoadStamps: a message carries the time at which it was due, also to a client that
// has slept meanwhile, none is missing, and the ids and the true book are those of
// what was sent.
func TestLoadStamps(t *testing.T) {
	for _, unpaced := range []bool{false, true} {
		t.Run(fmt.Sprintf("unpaced=%v", unpaced), func(t *testing.T) { testLoad(t, unpaced) })
	}
}

func testLoad(t *testing.T, unpaced bool) {
	const length = 1_200_000_000
	load := world.NewLoad(world.Profile{Name: "test", Streams: 3, Busy: 1, Bursts: 1, Unpaced: unpaced}, 5)
	now := time.Now().UnixNano()
	s, err := New(Options{Speed: 1, Load: world.NewSchedule(load, now+2e9, 1e9, length)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	// What is to come, by the schedule alone.
	var want []world.Sending
	plan := world.NewSchedule(load, now+2e9, 1e9, length)
	for list := plan.Next(); list != nil; list = plan.Next() {
		for _, x := range list {
			if x.Symbol == 0 && x.AtNs >= plan.StartNs {
				want = append(want, x)
			}
		}
	}
	name := strings.ToLower(load.Symbols[0].Name)
	c := dial(t, s, "/stream?streams="+name+"@depth@100ms/"+name+"@trade/"+name+"@bookTicker")
	// The feed waits for its first client, which so hears everything.
	start := &load.Symbols[0].Book
	book, lastID := map[string]map[string]string{"b": {}, "a": {}}, start.LastID
	for i := range start.Bids {
		setLevels(book["b"], [][2]string{{string(appendDecimal(nil, start.Bids[i].Px)), string(appendDecimal(nil, start.Bids[i].Qty))}})
		setLevels(book["a"], [][2]string{{string(appendDecimal(nil, start.Asks[i].Px)), string(appendDecimal(nil, start.Asks[i].Qty))}})
	}
	for i := 0; i < len(want); {
		text, err := c.text(patience)
		if err != nil {
			t.Fatal(err)
		}
		var m loadMessage
		dec := json.NewDecoder(strings.NewReader(text))
		if err := dec.Decode(&m); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		d := &m.Data
		if d.U != 0 {
			if d.U != lastID+1 {
				t.Fatalf("a diff of ids %d to %d after %d", d.U, d.ID, lastID)
			}
			lastID = d.ID
			for side, text := range map[string]json.RawMessage{"b": d.Bids, "a": d.Asks} {
				var levels [][2]string
				if err := json.Unmarshal(text, &levels); err != nil {
					t.Fatal(err)
				}
				setLevels(book[side], levels)
			}
		}
		x := &want[i]
		if d.E != 0 && d.E < plan.StartNs/1e6 {
			continue // the warm-up
		}
		stamp := x.AtNs / 1e6
		if unpaced && x.AtNs > plan.StartNs { // as fast as it can be sent, with the time of that
			stamp = max(d.E, plan.StartNs/1e6)
		}
		switch {
		case x.Kind == world.Diff && (d.U != x.First || d.ID != x.Last || d.E != stamp):
			t.Fatalf("message %d of %d is %.200s, want %+v", i, len(want), text, x)
		case x.Kind == world.Trade && (d.Trade != x.TradeID || d.E != stamp || d.T != stamp):
			t.Fatalf("message %d of %d is %.200s, want %+v", i, len(want), text, x)
		case x.Kind == world.Quote && (d.ID != x.Last || d.E != 0):
			t.Fatalf("message %d of %d is %.200s, want %+v", i, len(want), text, x)
		}
		if i++; i == len(want)/4 {
			time.Sleep(400 * time.Millisecond)
		}
	}
	var truth, snapshot struct {
		LastUpdateID int64
		Bids, Asks   [][2]string
	}
	getBook(t, s.RESTURL()+"/api/v3/depth?limit=5000&symbol="+load.Symbols[0].Name, &snapshot)
	getBook(t, s.RESTURL()+"/sim/book?symbol="+load.Symbols[0].Name, &truth)
	bids, asks := map[string]string{}, map[string]string{}
	setLevels(bids, truth.Bids)
	setLevels(asks, truth.Asks)
	if truth.LastUpdateID != lastID || !maps.Equal(bids, book["b"]) || !maps.Equal(asks, book["a"]) {
		t.Errorf("the true book has id %d and %d and %d levels, the client's %d, %d and %d",
			truth.LastUpdateID, len(bids), len(asks), lastID, len(book["b"]), len(book["a"]))
	}
	if snapshot.LastUpdateID != lastID || !slices.Equal(snapshot.Bids, truth.Bids[:5000]) || !slices.Equal(snapshot.Asks, truth.Asks[:5000]) {
		t.Errorf("a snapshot of id %d is not the best of the true book of id %d", snapshot.LastUpdateID, lastID)
	}
}

func setLevels(side map[string]string, levels [][2]string) {
	for _, l := range levels {
		if side[l[0]] = l[1]; strings.Trim(l[1], "0.") == "" {
			delete(side, l[0])
		}
	}
}

func getBook(t *testing.T, url string, to any) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(body, to)
	}
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}

// TestLoadKeepsItsBook: what is not asked for is put together so that memory stays
// bounded, and still makes the book that all diffs in order make.
func TestLoadKeepsItsBook(t *testing.T) {
	load := world.NewLoad(world.Profile{Name: "test", Streams: 1, Busy: 1, Bursts: 1, Unpaced: true}, 9)
	v, err := newVenue("binance", VenueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	src, err := newLoad(v, world.NewSchedule(load, world.DefaultStartNs, 0, 1_500e9))
	if err != nil {
		t.Fatal(err)
	}
	bids, asks := map[int64]int64{}, map[int64]int64{}
	put := func(side map[int64]int64, levels []world.Level) {
		for _, l := range levels {
			if side[l.Px] = l.Qty; l.Qty == 0 {
				delete(side, l.Px)
			}
		}
	}
	put(bids, load.Symbols[0].Book.Bids)
	put(asks, load.Symbols[0].Book.Asks)
	for ev, ok := src.pull(); ok; ev, ok = src.pull() {
		for _, x := range ev.due {
			if x.Kind == world.Diff {
				put(bids, load.Symbols[0].Diffs[x.Template].Bids)
				put(asks, load.Symbols[0].Diffs[x.Template].Asks)
			}
		}
		v.step(ev)
		if n := len(ev.load.symbols[0].pending); n > 8*len(load.Symbols[0].Diffs) {
			t.Fatalf("%d diffs wait", n)
		}
	}
	_, gotBids, gotAsks, _ := v.Book(load.Symbols[0].Name)
	for _, side := range []struct {
		want map[int64]int64
		got  [][2]string
	}{{bids, gotBids}, {asks, gotAsks}} {
		if len(side.got) != len(side.want) {
			t.Fatalf("%d levels, want %d", len(side.got), len(side.want))
		}
		for _, l := range side.got {
			px, _ := units(l[0])
			if qty, _ := units(l[1]); side.want[px] != qty {
				t.Fatalf("level %v, want size %d", l, side.want[px])
			}
		}
	}
}
