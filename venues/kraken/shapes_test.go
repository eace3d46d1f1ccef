package kraken

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/venuetest"
)

const (
	updateFrame = `{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":78858.8,"qty":0.00000000},{"price":78857.0,"qty":0.34775324}],"asks":[],"checksum":2416540570,"timestamp":"2026-08-24T22:21:58.343688Z"}]}`
	tradeFrame  = `{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":78871.6,"qty":0.00100000,"ord_type":"limit","trade_id":91234567,"timestamp":"2026-08-24T22:21:58.343688Z"}]}`
)

// Every branch of the decoder with the message that is its evidence; those that are
// marked are in no recording, and are as the sheet gives them. The scales are 1 and 8.
func TestKrakenShapes(t *testing.T) {
	const ns = 1787610118_343688000
	update := venues.Message{Kind: venues.KindDelta, First: venuetest.Null, Seq: venuetest.Null, SeqPrev: venuetest.Null, TsEvent: ns, Checksum: 2416540570, HasChecksum: true, Hi: 2, PxScale: 1, QtyScale: 8}
	levels := []event.Level{{Px: 788588, Side: event.Bid}, {Px: 788570, Qty: 34775324, Side: event.Bid}}
	snapshot, unstamped, second := update, update, update
	snapshot.Kind, unstamped.TsEvent = venues.KindSnapshot, venuetest.Null
	second.Inst, second.Lo, second.Hi, second.Checksum = 1, 2, 3, 7
	finer := update
	finer.PxScale = 3
	trade := venues.Message{Kind: venues.KindTrade, First: venuetest.Null, Seq: venuetest.Null, SeqPrev: venuetest.Null, TsEvent: ns, PxScale: 1, QtyScale: 8, Px: 788716, Qty: 100000, Side: event.Bid, TradeID: []byte("91234567"), TradeNum: 91234567, TradeFirst: 91234567}
	sold := trade
	sold.Side = event.Ask
	fine := trade
	fine.PxScale, fine.Px = 2, 0
	older, oldest := trade, trade
	older.TradeNum, older.TradeFirst, older.TradeID = 91234566, 91234566, []byte("91234566")
	oldest.TradeNum, oldest.TradeFirst, oldest.TradeID = 9, 9, []byte("9")
	control := venues.Message{Kind: venues.KindControl, Inst: -1, TsEvent: venuetest.Null}
	ack := venues.Message{Kind: venues.KindAck, TsEvent: venuetest.Null}
	warned := venuetest.WithID(ack, 4)
	warned.Text = []byte(`["depth is large"]`)
	unknown := venuetest.WithID(ack, 4)
	unknown.Inst = -1
	refused := venues.Message{Kind: venues.KindRefused, Inst: -1, TsEvent: venuetest.Null, Text: []byte("Subscription depth not supported")}
	named := venues.Message{Kind: venues.KindRefused, Inst: 1, TsEvent: venuetest.Null, ID: 7, Text: []byte("Currency pair not supported ETH/USD")}
	trades := func(ids ...int) string {
		var list []string
		for _, id := range ids {
			list = append(list, fmt.Sprintf(`{"symbol":"BTC/USD","side":"buy","price":78871.6,"qty":0.00100000,"ord_type":"market","trade_id":%d,"timestamp":"2026-08-24T22:21:58.343688Z"}`, id))
		}
		return `{"channel":"trade","type":"snapshot","data":[` + strings.Join(list, ",") + `]}`
	}
	for _, c := range []struct {
		name   string
		frame  string
		want   []venues.Message
		levels []event.Level
	}{
		{"update", updateFrame, []venues.Message{update}, levels},
		{"snapshot", strings.Replace(updateFrame, "update", "snapshot", 1), []venues.Message{snapshot}, levels},
		{"no timestamp (sheet)", strings.Replace(updateFrame, `,"timestamp":"2026-08-24T22:21:58.343688Z"`, ``, 1), []venues.Message{unstamped}, levels},
		{"spaces and other order", `{ "data" : [ {"timestamp":"2026-08-24T22:21:58.343688Z", "checksum" : 2416540570, "asks":[ ], "bids":[ { "qty":0.00000000 , "price":78858.8 },{"qty":0.34775324,"price":78857.0}],"symbol":"BTC\/USD"}],"type":"update","channel":"book"}`, []venues.Message{update}, levels},
		{"two symbols (sheet)", strings.Replace(updateFrame, `Z"}]}`, `Z"},{"symbol":"ETH/USD","bids":[],"asks":[{"price":4000.1,"qty":1.00000000}],"checksum":7,"timestamp":"2026-08-24T22:21:58.343688Z"}]}`, 1), []venues.Message{update, second}, append(levels[:2:2], event.Level{Px: 40001, Qty: 1e8, Side: event.Ask})},
		{"the same price twice", strings.Replace(updateFrame, `78857.0`, `78858.8`, 1), []venues.Message{update}, []event.Level{{Px: 788588, Side: event.Bid}, {Px: 788588, Qty: 34775324, Side: event.Bid}}},
		{"more decimals, all zeros", strings.Replace(updateFrame, `78857.0`, `78857.000`, 1), []venues.Message{finer}, nil},
		{"trade (sheet)", tradeFrame, []venues.Message{trade}, nil},
		{"trade, a seller took (sheet)", strings.Replace(tradeFrame, "buy", "sell", 1), []venues.Message{sold}, nil},
		{"trade with surplus zeros needs no scale", strings.Replace(tradeFrame, "78871.6", "78871.600", 1), []venues.Message{trade}, nil},
		{"trade finer than the scale", strings.Replace(tradeFrame, "78871.6", "78871.65", 1), []venues.Message{fine}, nil},
		{"trades, oldest first (sheet)", trades(9, 91234566, 91234567), []venues.Message{oldest, older, trade}, nil},
		{"trades, newest first", trades(91234567, 91234566, 9), []venues.Message{oldest, older, trade}, nil},
		{"heartbeat", `{"channel":"heartbeat"}`, []venues.Message{control}, nil},
		{"status", `{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","api_version":"v2","connection_id":15113583034416118705}]}`, []venues.Message{control}, nil},
		{"status, maintenance (sheet)", `{"channel":"status","type":"update","data":[{"system":"maintenance"}]}`, []venues.Message{control}, nil},
		{"pong (sheet)", `{"method":"pong","req_id":42,"time_in":"2026-08-24T22:21:56.724795Z","time_out":"2026-08-24T22:21:56.724853Z"}`, []venues.Message{venuetest.WithID(control, 42)}, nil},
		{"ack", `{"method":"subscribe","result":{"channel":"book","depth":10,"snapshot":true,"symbol":"BTC/USD"},"success":true,"time_in":"2026-08-24T22:21:56.724795Z","time_out":"2026-08-24T22:21:56.724853Z"}`, []venues.Message{ack}, nil},
		{"ack with id (sheet)", `{"method":"subscribe","result":{"channel":"trade","symbol":"BTC/USD"},"success":true,"req_id":4}`, []venues.Message{venuetest.WithID(ack, 4)}, nil},
		{"ack of an end (sheet)", `{"method":"unsubscribe","result":{"channel":"book","depth":10,"symbol":"BTC/USD"},"success":true,"req_id":4}`, []venues.Message{venuetest.WithID(ack, 4)}, nil},
		{"ack with warnings (sheet)", `{"method":"subscribe","result":{"channel":"book","symbol":"BTC/USD","warnings":["depth is large"]},"success":true,"req_id":4}`, []venues.Message{warned}, nil},
		{"ack of a symbol that is not ours", `{"method":"subscribe","result":{"channel":"book","symbol":"SOL/USD"},"success":true,"req_id":4}`, []venues.Message{unknown}, nil},
		{"refusal (sheet)", `{"error":"Subscription depth not supported","method":"subscribe","success":false,"time_in":"x","time_out":"y"}`, []venues.Message{refused}, nil},
		{"refusal of a symbol (sheet)", `{"error":"Currency pair not supported ETH/USD","method":"subscribe","req_id":7,"success":false,"symbol":"ETH/USD"}`, []venues.Message{named}, nil},
		{"too fast (sheet)", `{"error":"Exceeded msg rate"}`, []venues.Message{{Kind: venues.KindRefused, Inst: -1, TsEvent: venuetest.Null, Text: []byte("Exceeded msg rate")}}, nil},
		{"too fast (public reports)", `{"Error":"Exceeded msg rate"}`, []venues.Message{{Kind: venues.KindRefused, Inst: -1, TsEvent: venuetest.Null, Text: []byte("Exceeded msg rate")}}, nil},
		{"nothing", `{"channel":"book","type":"update","data":[]}`, nil, nil},
	} {
		dec, _ := venuetest.DecoderAt(Venue{}, 1, 8, "BTC/USD", "ETH/USD")
		var b venues.Batch
		if reason := dec.Decode([]byte(c.frame), &b); reason != ledger.Accepted {
			t.Errorf("%s: %v", c.name, reason)
			continue
		}
		if got := append([]venues.Message(nil), b.Messages...); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, got, c.want)
		}
		if got := append([]event.Level(nil), b.Levels...); c.levels != nil && !reflect.DeepEqual(got, c.levels) {
			t.Errorf("%s: levels %v, want %v", c.name, got, c.levels)
		}
	}
}

// A rejected frame says whose messages it would have held, and of which kind.
func TestKrakenRejects(t *testing.T) {
	book := func(old, new string) string { return venuetest.ReplaceOnce(t, updateFrame, old, new) }
	trade := func(old, new string) string { return venuetest.ReplaceOnce(t, tradeFrame, old, new) }
	two := func(first, second string) string {
		return `{"channel":"book","type":"snapshot","data":[{"symbol":"` + first + `","bids":[{"price":1.5,"qty":1}],"asks":[],"checksum":1},{"symbol":"` + second + `","bids":[],"asks":[],"checksum":-1}]}`
	}
	nobody, its, trades := []venues.Message{}, []venues.Message{venuetest.LostOf(venues.KindDelta, 0)}, []venues.Message{venuetest.LostOf(venues.KindTrade, 0)}
	for _, c := range []struct {
		name, frame string
		want        ledger.Reason
		whose       []venues.Message
	}{
		{"empty", ``, ledger.Malformed, nobody},
		{"cut short", book(`Z"}]}`, `Z"}]`), ledger.Malformed, nobody},
		{"too large", book(`"channel"`, `"pad":[`+strings.Repeat("0,", 128<<10)+`0],"channel"`), ledger.Oversized, nobody},
		{"something follows", book(`Z"}]}`, `Z"}]}}`), ledger.Malformed, nobody},
		{"an array", `[1,2]`, ledger.Malformed, nobody},
		{"nested deeply", strings.Repeat(`{"data":`, 100_000), ledger.Malformed, nobody},
		{"no fields", `{}`, ledger.UnknownShape, nobody},
		{"channel that nobody asked for", `{"channel":"ticker","type":"update","data":[]}`, ledger.UnknownShape, nobody},
		{"channel is a number", `{"channel":5}`, ledger.UnknownShape, nobody},
		{"an answer without success", `{"method":"subscribe","result":{"symbol":"BTC/USD"}}`, ledger.UnknownShape, nobody},
		{"an answer with success as text", `{"method":"subscribe","result":{"symbol":"BTC/USD"},"success":"true"}`, ledger.UnknownShape, nobody},

		{"unknown symbol", book(`BTC/USD`, `SOL/USD`), ledger.UnknownSymbol, nobody},
		{"symbol in the wrong case", book(`BTC/USD`, `btc/usd`), ledger.UnknownSymbol, nobody},
		{"no symbol", book(`"symbol":"BTC/USD",`, ``), ledger.UnknownSymbol, nobody},
		{"entry is no object", `{"channel":"book","type":"update","data":[5]}`, ledger.UnknownSymbol, nobody},
		{"unknown type", book(`update`, `replace`), ledger.Malformed, its},
		{"no type", book(`"type":"update",`, ``), ledger.Malformed, its},
		{"no data", `{"channel":"book","type":"update"}`, ledger.Malformed, nobody},
		{"data is an object", `{"channel":"book","type":"update","data":{"symbol":"BTC/USD"}}`, ledger.Malformed, nobody},
		{"no bids", book(`"bids":[{"price":78858.8,"qty":0.00000000},{"price":78857.0,"qty":0.34775324}],`, ``), ledger.Malformed, its},
		{"no asks", book(`"asks":[],`, ``), ledger.Malformed, its},
		{"asks are no list", book(`"asks":[]`, `"asks":{}`), ledger.Malformed, its},
		{"level is a list", book(`"asks":[]`, `"asks":[[1,2]]`), ledger.Malformed, its},
		{"level without size", book(`"asks":[]`, `"asks":[{"price":1.5}]`), ledger.Malformed, its},
		{"level without price", book(`"asks":[]`, `"asks":[{"qty":1.5}]`), ledger.Malformed, its},
		{"price as text", book(`78857.0`, `"78857.0"`), ledger.Malformed, its},
		{"size as text", book(`0.34775324`, `"0.34775324"`), ledger.Malformed, its},
		{"size with an exponent", book(`0.34775324`, `3.4775324e-1`), ledger.Malformed, its},
		{"price with an exponent", book(`78857.0`, `7.88570E4`), ledger.Malformed, its},
		{"size negative", book(`0.34775324`, `-0.34775324`), ledger.Malformed, its},
		{"price is no number", book(`78857.0`, `NaN`), ledger.Malformed, its},
		{"price with two points", book(`78857.0`, `78.857.0`), ledger.Malformed, its},
		{"price with a plus", book(`78857.0`, `+78857.0`), ledger.Malformed, its},
		{"price with a zero in front", book(`78857.0`, `078857.0`), ledger.Malformed, its},
		{"price too large", book(`78857.0`, `922337203685477581.0`), ledger.Overflow, its},
		{"price with more decimals than any scale", book(`78857.0`, `1.0000000000000000000`), ledger.Overflow, its},
		{"price that fits at no scale", book(`78857.0`, `10.000000000000000001`), ledger.Overflow, its},
		{"no checksum", book(`"checksum":2416540570,`, ``), ledger.Malformed, its},
		{"checksum as text", book(`2416540570`, `"2416540570"`), ledger.Malformed, its},
		{"checksum negative", book(`2416540570`, `-1`), ledger.Malformed, its},
		{"checksum too large", book(`2416540570`, `4294967296`), ledger.Malformed, its},
		{"time as number", book(`"2026-08-24T22:21:58.343688Z"`, `1787610118`), ledger.Malformed, its},
		{"time of no form", book(`2026-08-24T22:21:58.343688Z`, `2026-08-24 22:21:58`), ledger.Malformed, its},
		{"the second of two is bad", two("BTC/USD", "ETH/USD"), ledger.Malformed, []venues.Message{venuetest.LostOf(venues.KindSnapshot, 0), venuetest.LostOf(venues.KindSnapshot, 1)}},
		{"the second of two is not ours", two("ETH/USD", "SOL/USD"), ledger.UnknownSymbol, []venues.Message{venuetest.LostOf(venues.KindSnapshot, 1)}},
		{"both of one symbol", two("ETH/USD", "ETH/USD"), ledger.Malformed, []venues.Message{venuetest.LostOf(venues.KindSnapshot, 1)}},

		{"trade of an unknown symbol", trade(`BTC/USD`, `SOL/USD`), ledger.UnknownSymbol, nobody},
		{"trade without id", trade(`"trade_id":91234567,`, ``), ledger.Malformed, trades},
		{"trade id as text", trade(`91234567`, `"91234567"`), ledger.Malformed, trades},
		{"trade id negative", trade(`91234567`, `-91234567`), ledger.Malformed, trades},
		{"trade without time", trade(`,"timestamp":"2026-08-24T22:21:58.343688Z"`, ``), ledger.Malformed, trades},
		{"trade without side", trade(`"side":"buy",`, ``), ledger.Malformed, trades},
		{"trade with another side", trade(`"buy"`, `"BUY"`), ledger.Malformed, trades},
		{"trade without price", trade(`"price":78871.6,`, ``), ledger.Malformed, trades},
		{"trade without size", trade(`"qty":0.00100000,`, ``), ledger.Malformed, trades},
		{"trade size negative", trade(`0.00100000`, `-0.00100000`), ledger.Malformed, trades},
		{"trade price as text", trade(`78871.6`, `"78871.6"`), ledger.Malformed, trades},
		{"trade size with an exponent", trade(`0.00100000`, `1e-3`), ledger.Malformed, trades},
		{"trade size too large", trade(`0.00100000`, `92233720369`), ledger.Overflow, trades},
	} {
		dec, _ := venuetest.DecoderAt(Venue{}, 1, 8, "BTC/USD", "ETH/USD")
		var b venues.Batch
		if got := dec.Decode([]byte(c.frame), &b); got != c.want {
			t.Errorf("%s: %v, want %v: %.200s", c.name, got, c.want, c.frame)
		} else if got := append([]venues.Message{}, b.Messages...); !reflect.DeepEqual(got, c.whose) {
			t.Errorf("%s: lost %+v, want %+v", c.name, got, c.whose)
		}
	}
	dec, _ := venuetest.DecoderAt(Venue{}, 1, 8, "BTC/USD")
	var b venues.Batch
	if got := dec.DecodeSnapshot(0, []byte(`{"error":[],"result":{}}`), &b); got != ledger.UnknownShape {
		t.Errorf("a REST snapshot: %v", got)
	}
	if r := (Venue{}).Rules(); r.SilenceNs != 3*9e9 || r.SilenceNs > math.MaxInt64/2 {
		t.Errorf("SilenceNs %d", r.SilenceNs)
	}
}

// FuzzKraken: whatever comes, the decoder returns; what it takes and is JSON holds
// what the oracle reads in it.
func FuzzKraken(f *testing.F) {
	for _, s := range []string{updateFrame, tradeFrame, strings.Replace(updateFrame, "update", "snapshot", 1),
		`{"channel":"trade","type":"snapshot","data":[{"symbol":"ETH/USD","side":"sell","price":7.50,"qty":1e-05,"trade_id":5,"timestamp":"2026-08-24T22:21:58Z"},{"symbol":"ETH/USD","side":"sell","price":7.5,"qty":-0,"trade_id":4,"timestamp":"1970-01-01T00:00:00Z"}]}`,
		`{"channel":"heartbeat"}`, `{"method":"pong","req_id":42}`, `{"channel":"status","type":"update","data":[{"connection_id":15113583034416118705}]}`,
		`{"method":"subscribe","result":{"channel":"book","symbol":"BTC/USD","warnings":["a",1]},"success":true,"req_id":1}`,
		`{"error":"Currency pair not supported FOO/BAR","method":"subscribe","success":false,"symbol":"FOO/BAR","req_id":-1}`,
		`{"channel":"book","type":"update","data":[{"symbol":"ETH/USD","bids":[{"price":1.000000000000000001,"qty":2}],"asks":[{"price":-0.5,"qty":-0.0}],"checksum":0}]}`,
		`{"channel":"book","type":"update","data":[{"symbol":"ETH/USD","bids":[],"asks":[],"checksum":1},{"symbol":"BTC/USD","bids":[],"asks":[{"price":.5,"qty":01}],"checksum":1}]}`,
	} {
		f.Add([]byte(s), int8(1), int8(8))
		f.Add([]byte(s), int8(0), int8(18))
	}
	f.Fuzz(func(t *testing.T, frame []byte, px, qty int8) {
		if px < 0 || px > 18 || qty < 0 || qty > 18 {
			return
		}
		dec, insts := venuetest.DecoderAt(Venue{}, px, qty, "BTC/USD", "ETH/USD")
		v, err := venuetest.ParseJSON(frame)
		oracle := err == nil && !venuetest.RepeatsKey(frame) && strings.ToValidUTF8(string(frame), "") == string(frame) && !strings.Contains(string(frame), `\`)
		var b venues.Batch
		for range 3 {
			reason := dec.Decode(frame, &b)
			if reason != ledger.Accepted {
				for i, m := range b.Messages {
					if m.Inst < 0 || m.Inst > 1 || m.Inst == b.Messages[0].Inst && i > 0 {
						t.Fatalf("lost %+v", b.Messages)
					}
				}
				return
			}
			if !oracle {
				return
			}
			if err := differ(&b, insts, v); err != nil {
				t.Fatal(err)
			}
			if !venuetest.Widen(&b, dec, insts) {
				return
			}
		}
		t.Fatal("it wants ever finer scales")
	})
}

func BenchmarkKraken(b *testing.B) {
	rec := recordings[0]
	lines := venuetest.CaptureLines(b, rec.name)
	dec, _ := venuetest.DecoderAt(Venue{}, 8, 8, rec.symbols...)
	var batch venues.Batch
	levels, bytes := 0, 0
	for b.Loop() {
		levels, bytes = 0, 0
		for _, line := range lines {
			dec.Decode(line, &batch)
			levels += len(batch.Levels)
			bytes += len(line)
		}
	}
	b.SetBytes(int64(bytes))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(levels), "ns/level")
}

func FuzzScanKraken(f *testing.F) { venuetest.FuzzScanner(f, Venue{}) }
