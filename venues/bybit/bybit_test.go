package bybit

import (
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"

	"deeptape/hotpath/book/booktest"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/venuetest"
)

// told reads a frame by the sheet.
func told(v any) (out []venuetest.Told, known bool) {
	m := venuetest.Object(v)
	if topic, ok := m["topic"].(string); ok {
		parts := strings.SplitN(topic, ".", 3)
		switch {
		case parts[0] == "publicTrade":
			symbol := strings.TrimPrefix(topic, "publicTrade.")
			list, _ := m["data"].([]any)
			for _, e := range list {
				d := venuetest.Object(e)
				if d["s"] != symbol {
					return nil, false
				}
				out = append(out, venuetest.Told{Kind: venues.KindTrade, Symbol: symbol, Ms: venuetest.Number(d["T"]), Px: venuetest.Text(d["p"]), Qty: venuetest.Text(d["v"]),
					Side: map[any]string{"Buy": "buy", "Sell": "sell"}[d["S"]], TradeID: venuetest.Text(d["i"])})
			}
			return out, len(out) > 0
		case parts[0] == "orderbook" && len(parts) == 3:
			d := venuetest.Object(m["data"])
			w := venuetest.Told{Symbol: parts[2], Seq: venuetest.Number(d["u"]), Ms: venuetest.Number(m["cts"]), Bids: venuetest.Pairs(d["b"]), Asks: venuetest.Pairs(d["a"])}
			switch {
			case d["s"] != parts[2] || !venuetest.WholeText.MatchString(parts[1]):
				return nil, false
			case parts[1] == "1" && m["type"] == "snapshot":
				w.Kind = venues.KindQuote
			case parts[1] != "1" && m["type"] == "snapshot":
				w.Kind = venues.KindSnapshot
			case parts[1] != "1" && m["type"] == "delta":
				w.Kind = venues.KindDelta
				u, ok := new(big.Int).SetString(w.Seq, 10)
				if !ok {
					return nil, false
				}
				w.Prev = u.Sub(u, big.NewInt(1)).String()
			default:
				return nil, false
			}
			return []venuetest.Told{w}, true
		}
		return nil, false
	}
	w := venuetest.Told{ID: venuetest.Text(m["req_id"])}
	success, isBool := m["success"].(bool)
	switch {
	case m["op"] == "pong":
	case !isBool:
		return nil, false
	case !success:
		w.Kind, w.Text = venues.KindRefused, venuetest.Text(m["ret_msg"])
	case m["op"] == "ping":
	case m["op"] == "subscribe" || m["op"] == "unsubscribe":
		w.Kind = venues.KindAck
	case m["type"] == "COMMAND_RESP":
		w.Kind = venues.KindAck
		failed, _ := venuetest.Object(m["data"])["failTopics"].([]any)
		for i, topic := range failed {
			w.Kind = venues.KindRefused
			if i > 0 && w.Text != "" {
				w.Text += ","
			}
			w.Text += venuetest.Text(topic)
		}
	default:
		return nil, false
	}
	return []venuetest.Told{w}, true
}

var recordings = []struct {
	name  string
	venue venues.Venue
	kinds map[venues.Kind]int
	links int // as check.py counts them
	depth int
}{
	{"bybit/fastmoon_linear_btcusdt_ob500_20240601.jsonl.gz", Linear, map[venues.Kind]int{venues.KindAck: 1, venues.KindSnapshot: 1, venues.KindDelta: 482}, 482, 500},
	{"bybit/tickvault_spot_btcusdt_d50_20260825.jsonl", Spot, map[venues.Kind]int{venues.KindAck: 1, venues.KindSnapshot: 1, venues.KindDelta: 8}, 8, 50},
	{"bybit/moonstream_spot_publictrade_btcusdt_20240130.jsonl", Spot, map[venues.Kind]int{venues.KindControl: 6, venues.KindTrade: 255}, 0, 0},
}

// Each message against the oracles, and the book that they make: the venue deletes what
// leaves its window, so it has the subscribed depth all the time and is never crossed.
func TestBybitRecordings(t *testing.T) {
	for _, rec := range recordings {
		t.Run(rec.name, func(t *testing.T) {
			slow := booktest.New(1)
			px, qty := int8(0), int8(0)
			last, links := int64(event.Null), 0
			kinds, widened := venuetest.PlayRecording(t, rec.venue, "BTCUSDT", "bybit", rec.name, told, func(m *venues.Message, b *venues.Batch, inst *event.Instrument) {
				if m.Kind == venues.KindTrade {
					return
				}
				if !slow.Rescale(inst.PxScale-px, inst.QtyScale-qty) {
					t.Fatal("cannot rescale")
				}
				px, qty = inst.PxScale, inst.QtyScale
				switch {
				case m.Kind == venues.KindSnapshot:
					slow.Clear()
				case m.SeqPrev == last:
					links++
				}
				last = m.Seq
				for _, l := range b.Levels[m.Lo:m.Hi] {
					slow.Set(l.Side, l.Px, l.Qty)
				}
				bids, asks := slow.Levels(event.Bid), slow.Levels(event.Ask)
				if len(bids) != rec.depth || len(asks) != rec.depth || bids[0].Px >= asks[0].Px {
					t.Fatalf("message %d: %d and %d levels, crossed %v", m.Seq, len(bids), len(asks), bids[0].Px >= asks[0].Px)
				}
			})
			if !reflect.DeepEqual(kinds, rec.kinds) || links != rec.links {
				t.Errorf("kinds %v and %d links, want %+v", kinds, links, rec)
			}
			if widened == 0 {
				t.Error("nothing was widened")
			}
		})
	}
}

func TestBybitTexts(t *testing.T) {
	spot, linear := Spot, Linear
	insts := []event.Instrument{{Symbol: "BTCUSDT"}, {Symbol: "BTC-25DEC26"}}
	for _, c := range []struct{ got, want any }{
		{spot.StreamPath(insts, true), ""},
		{spot.Subscribe(insts, venues.Subscription{Quotes: true, Depth: 200}), []venues.Command{
			{ID: 1, Text: `{"req_id":"1","op":"subscribe","args":["orderbook.200.BTCUSDT","publicTrade.BTCUSDT","orderbook.1.BTCUSDT"]}`, Acks: 1, Inst: 0, Streams: 7, Several: [2]int{}},
			{ID: 2, Text: `{"req_id":"2","op":"subscribe","args":["orderbook.200.BTC-25DEC26","publicTrade.BTC-25DEC26","orderbook.1.BTC-25DEC26"]}`, Acks: 1, Inst: 1, Streams: 7, Several: [2]int{}}}},
		{linear.Subscribe(insts[:1], venues.Subscription{Depth: 1000}), []venues.Command{
			{ID: 1, Text: `{"req_id":"1","op":"subscribe","args":["orderbook.1000.BTCUSDT","publicTrade.BTCUSDT"]}`, Acks: 1, Inst: 0, Streams: 3, Several: [2]int{}}}},
		{linear.Resubscribe(insts[0], venues.Subscription{Quotes: true, Depth: 50}, 41), []venues.Command{
			{ID: 41, Text: `{"req_id":"41","op":"unsubscribe","args":["orderbook.50.BTCUSDT"]}`, Acks: 1, Inst: -1, Streams: 0, Several: [2]int{}},
			{ID: 42, Text: `{"req_id":"42","op":"subscribe","args":["orderbook.50.BTCUSDT"]}`, Acks: 1, Inst: -1, Streams: 1, Several: [2]int{}}}},
		{spot.Ping(7), `{"req_id":"7","op":"ping"}`},
		{spot.Checksum(nil, nil, 0, 0, nil), uint32(0)},
		{spot.SnapshotRequest("BTCUSDT", 200), venues.Request{}},
		{spot.InstrumentsRequest([]string{"BTCUSDT"}), venues.Request{Path: "/v5/market/instruments-info?category=spot", Weight: 1}},
		{linear.InstrumentsRequest([]string{"BTCUSDT"}), venues.Request{Path: "/v5/market/instruments-info?category=linear&limit=1000", Weight: 1}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("got %+v\nwant %+v", c.got, c.want)
		}
	}
	for in, want := range map[string][2]string{"btcusdt": {"BTCUSDT", "BTCUSDT"}, "1000PEPEUSDT": {"1000PEPEUSDT", "1000PEPEUSDT"}, "币安usdt": {"币安USDT", "币安USDT"}, "btcusdt-25dec26": {"", "BTCUSDT-25DEC26"},
		"": {}, "BTC/USDT": {}, "BTC.USDT": {}, "-BTC": {}, `A"B`: {}, "A B": {}, "A\xff": {}, "A,B": {}} {
		for i, v := range []venues.Venue{spot, linear} {
			if got, err := v.Symbol(in); got != want[i] || (err != nil) != (want[i] == "") {
				t.Errorf("%s: Symbol(%q) = %q, %v", v.Rules().Name, in, got, err)
			}
		}
	}
	for i, v := range []venues.Venue{spot, linear} {
		r, market := v.Rules(), []string{"spot", "linear"}[i]
		if r.Name != []string{"bybit", "bybit_linear"}[i] || r.Market != market || r.WSURL != "wss://stream.bybit.com/v5/public/"+market || r.Depth != 200 || r.RestSnapshot || r.TradesCount {
			t.Errorf("%+v", r)
		}
		// A full connection of long names: inside the venue's limits, each symbol in a
		// command of its own.
		var full []event.Instrument
		for n := range r.InstrumentsPerConn {
			full = append(full, event.Instrument{Symbol: fmt.Sprintf("1000000LONGNAME%dUSDT-25DEC26", n)})
		}
		args, topics := 0, map[string]bool{}
		for n, c := range v.Subscribe(full, venues.Subscription{Quotes: true, Depth: 1000}) {
			var text struct {
				Req_id, Op string
				Args       []string
			}
			if err := json.Unmarshal([]byte(c.Text), &text); err != nil || text.Op != "subscribe" || text.Req_id != fmt.Sprint(c.ID) || c.ID != int64(n+1) || c.Inst != n || len(text.Args) > 10 {
				t.Fatalf("%+v: %v", c, err)
			}
			for _, topic := range text.Args {
				if topics[topic] || !strings.HasSuffix(topic, full[n].Symbol) {
					t.Errorf("%q twice, or not of %q", topic, full[n].Symbol)
				}
				topics[topic] = true
				args += len(topic) + len(`"",`)
			}
		}
		if len(topics) != 3*len(full) || args > 21_000 {
			t.Errorf("%d topics of %d characters", len(topics), args)
		}
	}
}

// In the form of the sheet: there is no recording of one.
func TestBybitInstruments(t *testing.T) {
	const spot = `{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[
		{"symbol":"BTCUSDT","baseCoin":"BTC","quoteCoin":"USDT","status":"Trading","lotSizeFilter":{"basePrecision":"0.000001","quotePrecision":"0.0000001","minOrderQty":"0.000011"},"priceFilter":{"tickSize":"0.01"}},
		{"symbol":"ETHUSDT","baseCoin":"ETH","quoteCoin":"USDT","status":"Trading","lotSizeFilter":{"basePrecision":"0.00001"},"priceFilter":{"tickSize":"0.01"}}]},"retExtInfo":{},"time":1787612486096}`
	const linear = `{"retCode":0,"retMsg":"OK","result":{"category":"linear","nextPageCursor":"","list":[
		{"symbol":"BTCUSDT","contractType":"LinearPerpetual","status":"PreLaunch","baseCoin":"BTC","quoteCoin":"USDT","priceScale":"2","priceFilter":{"minPrice":"0.10","maxPrice":"1999999.80","tickSize":"0.10"},"lotSizeFilter":{"qtyStep":"0.001","minOrderQty":"0.001","minNotionalValue":"5"}}]},"retExtInfo":{},"time":1787612486096}`
	for _, c := range []struct {
		v    Venue
		body string
		want event.Instrument
	}{
		{Spot, spot, event.Instrument{Venue: "bybit", Symbol: "BTCUSDT", Pair: "BTC-USDT", Market: "spot", Base: "BTC", Quote: "USDT", PxScale: 2, QtyScale: 6, Tick: "0.01", Lot: "0.000001", Status: "Trading", Source: "instruments-info"}},
		{Linear, linear, event.Instrument{Venue: "bybit_linear", Symbol: "BTCUSDT", Pair: "BTC-USDT", Market: "linear", Base: "BTC", Quote: "USDT", PxScale: 1, QtyScale: 3, Tick: "0.10", Lot: "0.001", Status: "PreLaunch", Source: "instruments-info"}},
	} {
		got, weight, err := c.v.Instruments([]byte(c.body), []string{"BTCUSDT", "NOSUCH"})
		if err != nil || weight != 0 || !reflect.DeepEqual(got, []event.Instrument{c.want}) {
			t.Errorf("%v, weight %d: got %+v\nwant %+v", err, weight, got, c.want)
		}
		for _, bad := range []string{``, `{`, `{}`, `{"retCode":10006,"retMsg":"Too many visits!","result":{}}`, `{"retCode":"0","result":{"list":[]}}`,
			strings.Replace(c.body, `"tickSize":"`, `"tickSize":"x`, 1), strings.Replace(strings.Replace(c.body, `"basePrecision"`, `"x"`, 1), `"qtyStep"`, `"x"`, 1)} {
			if _, _, err := c.v.Instruments([]byte(bad), []string{"BTCUSDT"}); err == nil {
				t.Errorf("%q is taken", bad)
			}
		}
	}
}

// The largest frame of trades that the venue sends: 1,024 of them.
func TestBybitManyTrades(t *testing.T) {
	var list []string
	for i := range 1024 {
		list = append(list, fmt.Sprintf(`{"i":"%d","T":1706607146299,"p":"43391.95","v":"0.%06d","S":"%s","s":"BTCUSDT","BT":false}`, 2290000000102202106+i, i+1, []string{"Buy", "Sell"}[i%2]))
	}
	frame := []byte(`{"topic":"publicTrade.BTCUSDT","ts":1706607146301,"type":"snapshot","data":[` + strings.Join(list, ",") + `]}`)
	insts := []event.Instrument{{Symbol: "BTCUSDT", PxScale: 2, QtyScale: 6}}
	var b venues.Batch
	if reason := (Spot).NewDecoder(insts).Decode(frame, &b); reason != ledger.Accepted || len(b.Messages) != 1024 {
		t.Fatalf("%v, %d messages", reason, len(b.Messages))
	}
	v, err := venuetest.ParseJSON(frame)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := told(v)
	for i := range want {
		if err := want[i].Fits(&b.Messages[i], &b, insts); err != nil {
			t.Fatal(err)
		}
	}
}
