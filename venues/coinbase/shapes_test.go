package coinbase

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/venuetest"
)

const (
	updateFrame = `{"channel":"l2_data","timestamp":"2026-08-24T22:34:13.813365299Z","sequence_num":2,"events":[{"type":"update","product_id":"BTC-USD","updates":[{"side":"bid","event_time":"2026-08-24T22:34:13.592233Z","price_level":"78856.05","new_quantity":"0.04868907"},{"side":"offer","event_time":"2026-08-24T22:34:13.592233Z","price_level":"78856.1","new_quantity":"0"}]}]}`
	tradeFrame  = `{"channel":"market_trades","client_id":"","timestamp":"2024-06-02T17:19:03.690709066Z","sequence_num":0,"events":[{"type":"update","trades":[{"product_id":"BTC-USD","trade_id":"648774347","price":"67910.02","size":"0.03291563","time":"2024-06-02T17:19:03.317655Z","side":"SELL"}]}]}`
)

// Every branch of the decoder with the message that is its evidence; those that are
// marked are in no recording, and are as the sheet gives them. The scales are 2 and 8,
// the products BTC-USD and ETH-USDC.
func TestCoinbaseShapes(t *testing.T) {
	const ns = 1787610853_592233000
	edit := func(frame string, oldNew ...string) string {
		for i := 0; i < len(oldNew); i += 2 {
			frame = venuetest.ReplaceOnce(t, frame, oldNew[i], oldNew[i+1])
		}
		return frame
	}
	update := venues.Message{Kind: venues.KindDelta, First: venuetest.Null, Seq: 2, SeqPrev: venuetest.Null, TsEvent: ns, Hi: 2, PxScale: 2, QtyScale: 8}
	levels := []event.Level{{Px: 7885605, Qty: 4868907, Side: event.Bid}, {Px: 7885610, Side: event.Ask}}
	snapshot, empty, later, untimed, finer := update, update, update, update, update
	snapshot.Kind = venues.KindSnapshot
	empty.TsEvent, empty.Hi = venuetest.Null, 0
	later.TsEvent = ns + 1
	untimed.TsEvent = venuetest.Null
	finer.PxScale, finer.QtyScale = 3, 9
	second := update
	second.Inst, second.Lo, second.Hi, second.Kind = 1, 2, 3, venues.KindSnapshot
	trade := venues.Message{Kind: venues.KindTrade, First: venuetest.Null, Seq: venuetest.Null, SeqPrev: venuetest.Null, TsEvent: 1717348743_317655000, PxScale: 2, QtyScale: 8,
		Px: 6791002, Qty: 3291563, Side: event.Bid, TradeID: []byte("648774347"), TradeNum: 648774347, TradeFirst: 648774347}
	sold := trade
	sold.Side = event.Ask
	next, other := trade, trade
	next.TradeNum, next.TradeFirst, next.TradeID = 648774348, 648774348, []byte("648774348")
	other.TradeNum, other.TradeFirst, other.TradeID, other.Inst = 7, 7, []byte("7"), 1
	control := venues.Message{Kind: venues.KindControl, Inst: -1, TsEvent: venuetest.Null}
	ack := func(inst int, id int64) venues.Message {
		return venues.Message{Kind: venues.KindAck, Inst: inst, TsEvent: venuetest.Null, ID: id}
	}
	const one = `{"product_id":"BTC-USD","trade_id":"648774347","price":"67910.02","size":"0.03291563","time":"2024-06-02T17:19:03.317655Z","side":"SELL"}`
	for _, c := range []struct {
		name   string
		frame  string
		seq    int64
		want   []venues.Message
		levels []event.Level
	}{
		{"update", updateFrame, 2, []venues.Message{update}, levels},
		{"snapshot", edit(updateFrame, `"update"`, `"snapshot"`), 2, []venues.Message{snapshot}, levels},
		{"snapshot, levels without a time (sheet)", strings.ReplaceAll(edit(updateFrame, `"update"`, `"snapshot"`), "2026-08-24T22:34:13.592233Z", "1970-01-01T00:00:00Z"), 2, []venues.Message{{Kind: venues.KindSnapshot, First: venuetest.Null, Seq: 2, SeqPrev: venuetest.Null, TsEvent: venuetest.Null, Hi: 2, PxScale: 2, QtyScale: 8}}, levels},
		{"client_id", edit(updateFrame, `"timestamp"`, `"client_id":"","timestamp"`), 2, []venues.Message{update}, levels},
		{"spaces and other order", `{ "events" : [ { "updates" : [{"new_quantity":"0.04868907","price_level":"78856.05","event_time":"2026-08-24T22:34:13.592233Z","side":"bid"} , {"side":"offer","event_time":"2026-08-24T22:34:13.592233Z","price_level":"78856.10","new_quantity":"0.000"}],"product_id":"BTC-USD","type":"update"}],"sequence_num":2,"channel":"l2_data"}`, 2, []venues.Message{update}, levels},
		{"no levels", `{"channel":"l2_data","timestamp":"2026-08-24T22:34:13.813164957Z","sequence_num":2,"events":[{"type":"update","product_id":"BTC-USD","updates":[]}]}`, 2, []venues.Message{empty}, nil},
		{"two times: the latest", edit(updateFrame, `592233Z","price_level":"78856.05"`, `592233001Z","price_level":"78856.05"`), 2, []venues.Message{later}, levels},
		{"finer than both scales", edit(updateFrame, "78856.05", "78856.051", "0.04868907", "0.048689071"), 2, []venues.Message{finer}, nil},
		{"two events, one of an alias (sheet)", edit(updateFrame, `"0"}]}]`, `"0"}]},{"type":"snapshot","product_id":"ETH-USD","updates":[{"side":"offer","event_time":"2026-08-24T22:34:13.592233Z","price_level":"4000","new_quantity":"1"}]}]`), 2, []venues.Message{update, second},
			append(levels[:2:2], event.Level{Px: 400000, Qty: 1e8, Side: event.Ask})},
		{"an alias under its own name", strings.ReplaceAll(`{"channel":"l2_data","sequence_num":2,"events":[{"type":"update","product_id":"BTC-USD","updates":[]}]}`, "BTC-USD", "ETH-USDC"), 2, []venues.Message{{Kind: venues.KindDelta, Inst: 1, First: venuetest.Null, Seq: 2, SeqPrev: venuetest.Null, TsEvent: venuetest.Null, PxScale: 2, QtyScale: 8}}, nil},
		{"no events", `{"channel":"l2_data","sequence_num":2,"events":[]}`, 2, nil, nil},
		{"trade, a buyer took", tradeFrame, 0, []venues.Message{trade}, nil},
		{"trade, a seller took", edit(tradeFrame, "SELL", "BUY"), 0, []venues.Message{sold}, nil},
		{"trades, newest first", edit(tradeFrame, one, edit(one, "648774347", "648774348")+","+one), 0, []venues.Message{trade, next}, nil},
		{"trades of two products in two events (sheet)", edit(tradeFrame, `"SELL"}]}`, `"SELL"}]},{"type":"snapshot","trades":[`+edit(one, "648774347", "7", "BTC-USD", "ETH-USD")+`]}`), 0, []venues.Message{other, trade}, nil},
		{"heartbeat, its counter as text (sheet)", `{"channel":"heartbeats","client_id":"","timestamp":"2026-09-30T02:37:15.058Z","sequence_num":17,"events":[{"current_time":"2026-09-30 02:37:15.057778606 +0000 UTC m=+21697.19","heartbeat_counter":"3049"}]}`, 17, []venues.Message{control}, nil},
		{"heartbeat, its counter as number (sheet)", `{"channel":"heartbeats","timestamp":"2026-09-30T02:37:15.058Z","sequence_num":17,"events":[{"current_time":"2026-09-30 02:37:15.057778606 +0000 UTC m=+21697.19","heartbeat_counter":3049}]}`, 17, []venues.Message{control}, nil},
		{"ack", `{"channel":"subscriptions","timestamp":"2026-08-24T22:34:13.813379359Z","sequence_num":3,"events":[{"subscriptions":{"level2":["BTC-USD"]}}]}`, 3, []venues.Message{control, ack(0, 2)}, nil},
		{"ack of everything (sheet)", `{"channel":"subscriptions","client_id":"","sequence_num":3,"events":[{"subscriptions":{"level2":["ETH-USD","BTC-USD"],"market_trades":["ETH-USDC"],"heartbeats":["heartbeats"]}}]}`, 3, []venues.Message{control, ack(-1, 1), ack(1, 4), ack(0, 2), ack(1, 5)}, nil},
		{"ack of others' products and channels", `{"channel":"subscriptions","sequence_num":3,"events":[{"subscriptions":{"level2":["SOL-USD"],"ticker":["BTC-USD"]}}]}`, 3, []venues.Message{control}, nil},
		{"ack of nothing", `{"channel":"subscriptions","sequence_num":3,"events":[{"subscriptions":{}}]}`, 3, []venues.Message{control}, nil},
		{"refusal (sheet)", `{"type":"error","message":"failure to subscribe"}`, venuetest.Null, []venues.Message{{Kind: venues.KindRefused, Inst: -1, TsEvent: venuetest.Null, Text: []byte("failure to subscribe")}}, nil},
	} {
		for _, frame := range []string{c.frame, string(enlarged([]byte(c.frame)))} {
			dec, _ := venuetest.DecoderAt(Venue{}, 2, 8, "BTC-USD", "ETH-USDC")
			var b venues.Batch
			if reason := dec.Decode([]byte(frame), &b); reason != ledger.Accepted {
				t.Errorf("%s: %v", c.name, reason)
				continue
			}
			got := append([]venues.Message(nil), b.Messages...)
			if !reflect.DeepEqual(got, c.want) || b.ConnSeq != c.seq {
				t.Errorf("%s:\n got %d %+v\nwant %d %+v", c.name, b.ConnSeq, got, c.seq, c.want)
			}
			if got := append([]event.Level(nil), b.Levels...); c.levels != nil && !reflect.DeepEqual(got, c.levels) {
				t.Errorf("%s: levels %v, want %v", c.name, got, c.levels)
			}
		}
	}
	// A name of its own outranks an alias, whatever the order; metadata knows of more.
	dec := Venue{}.NewDecoder([]event.Instrument{{Symbol: "BTC-USDC"}, {Symbol: "BTC-USD"}, {Symbol: "OLD-EUR", Pair: "NEW-EUR"}})
	var b venues.Batch
	for product, inst := range map[string]int{"BTC-USDC": 0, "BTC-USD": 1, "OLD-EUR": 2, "NEW-EUR": 2} {
		frame := `{"channel":"l2_data","sequence_num":2,"events":[{"type":"update","product_id":"` + product + `","updates":[]}]}`
		if reason := dec.Decode([]byte(frame), &b); reason != ledger.Accepted || b.Messages[0].Inst != inst {
			t.Errorf("%s: %v %+v", product, reason, b.Messages)
		}
	}
}

// A rejected frame keeps its number where it is known which instruments have lost by it.
func TestCoinbaseRejects(t *testing.T) {
	book := func(old, new string) string { return venuetest.ReplaceOnce(t, updateFrame, old, new) }
	trade := func(old, new string) string { return venuetest.ReplaceOnce(t, tradeFrame, old, new) }
	two := func(first, second string) string {
		return `{"channel":"l2_data","sequence_num":2,"events":[{"type":"update","product_id":"` + first + `","updates":[]},{"type":"snapshot","product_id":"` + second + `","updates":{}}]}`
	}
	nobody, its, trades := []venues.Message{}, []venues.Message{venuetest.LostOf(venues.KindDelta, 0)}, []venues.Message{venuetest.LostOf(venues.KindTrade, 0)}
	for _, c := range []struct {
		name, frame string
		want        ledger.Reason
		seq         int64
		whose       []venues.Message
	}{
		{"empty", ``, ledger.Malformed, venuetest.Null, nobody},
		{"cut short", book(`"0"}]}]}`, `"0"}]}]`), ledger.Malformed, venuetest.Null, nobody},
		{"something follows", book(`"0"}]}]}`, `"0"}]}]}}`), ledger.Malformed, venuetest.Null, nobody},
		{"an array", `[1,2]`, ledger.Malformed, venuetest.Null, nobody},
		{"nested deeply", strings.Repeat(`{"events":`, 100_000), ledger.Malformed, venuetest.Null, nobody},
		{"no fields", `{}`, ledger.UnknownShape, venuetest.Null, nobody},
		{"only a number", `{"sequence_num":7}`, ledger.UnknownShape, 7, nobody},
		{"channel that nobody asked for", `{"channel":"ticker","sequence_num":7,"events":[]}`, ledger.UnknownShape, 7, nobody},
		{"heartbeat without number", `{"channel":"heartbeats","events":[]}`, ledger.Malformed, venuetest.Null, nobody},
		{"ack without number", `{"channel":"subscriptions","events":[]}`, ledger.Malformed, venuetest.Null, nobody},

		{"unknown product", book(`BTC-USD`, `SOL-USD`), ledger.UnknownSymbol, 2, nobody},
		{"product in the wrong case", book(`BTC-USD`, `btc-usd`), ledger.UnknownSymbol, 2, nobody},
		{"no product", book(`"product_id":"BTC-USD",`, ``), ledger.UnknownSymbol, venuetest.Null, nobody},
		{"product is a number", book(`"BTC-USD"`, `5`), ledger.UnknownSymbol, venuetest.Null, nobody},
		{"event is no object", `{"channel":"l2_data","sequence_num":2,"events":[5]}`, ledger.UnknownSymbol, venuetest.Null, nobody},
		{"no events", `{"channel":"l2_data","sequence_num":2}`, ledger.Malformed, venuetest.Null, nobody},
		{"events are an object", `{"channel":"l2_data","sequence_num":2,"events":{"product_id":"BTC-USD"}}`, ledger.Malformed, venuetest.Null, nobody},
		{"no number", book(`"sequence_num":2,`, ``), ledger.Malformed, venuetest.Null, its},
		{"number as text", book(`"sequence_num":2`, `"sequence_num":"2"`), ledger.Malformed, venuetest.Null, its},
		{"number negative", book(`"sequence_num":2`, `"sequence_num":-2`), ledger.Malformed, venuetest.Null, its},
		{"unknown type", book(`"update"`, `"replace"`), ledger.Malformed, 2, its},
		{"no updates", `{"channel":"l2_data","sequence_num":2,"events":[{"type":"update","product_id":"BTC-USD"}]}`, ledger.Malformed, 2, its},
		{"updates are a number", `{"channel":"l2_data","sequence_num":2,"events":[{"type":"update","product_id":"BTC-USD","updates":0}]}`, ledger.Malformed, 2, its},
		{"level is a list", book(`"updates":[`, `"updates":[[1,2],`), ledger.Malformed, 2, its},
		{"level without side", book(`"side":"bid",`, ``), ledger.Malformed, 2, its},
		{"side ask", book(`"offer"`, `"ask"`), ledger.Malformed, 2, its},
		{"level without time", book(`"side":"bid","event_time":"2026-08-24T22:34:13.592233Z",`, `"side":"bid",`), ledger.Malformed, 2, its},
		{"time of no form", book(`"side":"bid","event_time":"2026-08-24T`, `"side":"bid","event_time":"2026-08-24 `), ledger.Malformed, 2, its},
		{"level without price", book(`"price_level":"78856.05",`, ``), ledger.Malformed, 2, its},
		{"level without size", book(`,"new_quantity":"0.04868907"`, ``), ledger.Malformed, 2, its},
		{"price as number", book(`"78856.05"`, `78856.05`), ledger.Malformed, 2, its},
		{"size as number", book(`"0.04868907"`, `0.04868907`), ledger.Malformed, 2, its},
		{"size negative", book(`"0.04868907"`, `"-0.04868907"`), ledger.Malformed, 2, its},
		{"size with an exponent", book(`"0.04868907"`, `"4e-2"`), ledger.Malformed, 2, its},
		{"price empty", book(`"78856.05"`, `""`), ledger.Malformed, 2, its},
		{"price too large", book(`"78856.05"`, `"92233720368547758.08"`), ledger.Overflow, 2, its},
		{"price that fits at no scale", book(`"78856.05"`, `"10.000000000000000001"`), ledger.Overflow, 2, its},
		{"the second of two is bad", two("BTC-USD", "ETH-USD"), ledger.Malformed, 2, []venues.Message{venuetest.LostOf(venues.KindDelta, 0), venuetest.LostOf(venues.KindSnapshot, 1)}},
		{"the second of two is not ours", two("BTC-USD", "SOL-USD"), ledger.UnknownSymbol, 2, its},
		{"both of one product", two("BTC-USD", "BTC-USD"), ledger.Malformed, 2, its},

		{"trade of an unknown product", trade(`BTC-USD`, `SOL-USD`), ledger.UnknownSymbol, 0, nobody},
		{"no trades", `{"channel":"market_trades","sequence_num":0,"events":[{"type":"update"}]}`, ledger.Malformed, venuetest.Null, nobody},
		{"trades are an object", `{"channel":"market_trades","sequence_num":0,"events":[{"type":"update","trades":{}}]}`, ledger.Malformed, venuetest.Null, nobody},
		{"trade without number of the frame", trade(`"sequence_num":0,`, ``), ledger.Malformed, venuetest.Null, trades},
		{"trade without id", trade(`"trade_id":"648774347",`, ``), ledger.Malformed, 0, trades},
		{"trade id as number", trade(`"648774347"`, `648774347`), ledger.Malformed, 0, trades},
		{"trade id no number", trade(`"648774347"`, `"64877434x"`), ledger.Malformed, 0, trades},
		{"trade id too large", trade(`"648774347"`, `"9223372036854775808"`), ledger.Malformed, 0, trades},
		{"trade without time", trade(`"time":"2024-06-02T17:19:03.317655Z",`, ``), ledger.Malformed, 0, trades},
		{"trade without side", trade(`,"side":"SELL"`, ``), ledger.Malformed, 0, trades},
		{"trade with another side", trade(`"SELL"`, `"sell"`), ledger.Malformed, 0, trades},
		{"trade without price", trade(`"price":"67910.02",`, ``), ledger.Malformed, 0, trades},
		{"trade size negative", trade(`"0.03291563"`, `"-0.03291563"`), ledger.Malformed, 0, trades},
		{"trade size too large", trade(`"0.03291563"`, `"92233720369"`), ledger.Overflow, 0, trades},
	} {
		dec, _ := venuetest.DecoderAt(Venue{}, 2, 8, "BTC-USD", "ETH-USDC")
		var b venues.Batch
		if got := dec.Decode([]byte(c.frame), &b); got != c.want || b.ConnSeq != c.seq {
			t.Errorf("%s: %v %d, want %v %d: %.200s", c.name, got, b.ConnSeq, c.want, c.seq, c.frame)
		} else if got := append([]venues.Message{}, b.Messages...); !reflect.DeepEqual(got, c.whose) {
			t.Errorf("%s: lost %+v, want %+v", c.name, got, c.whose)
		}
	}
	dec, _ := venuetest.DecoderAt(Venue{}, 2, 8, "BTC-USD")
	var b venues.Batch
	if got := dec.DecodeSnapshot(0, []byte(`{"pricebook":{}}`), &b); got != ledger.UnknownShape {
		t.Errorf("a REST book: %v", got)
	}
}

// What can be wrong with a large frame only.
func TestCoinbaseLargeRejects(t *testing.T) {
	level := `{"side":"bid","event_time":"2026-08-24T22:34:13.592233Z","price_level":"78856.05","new_quantity":"0.04868907"}`
	around := func(updates string) []byte {
		return enlarged([]byte(`{"channel":"l2_data","sequence_num":2,"events":[{"type":"update","product_id":"BTC-USD","updates":` + updates + `}]}`))
	}
	large := strings.Repeat("x", levelBytes)
	for updates, want := range map[string]ledger.Reason{
		`[` + level + `]`:                                           ledger.Accepted,
		" [ " + level + " ,\n" + level + " ] ":                      ledger.Accepted,
		`[` + strings.Replace(level, `"}`, `","x":"]}"}`, 1) + `]`:  ledger.Accepted, // brackets in a text
		`[` + strings.Replace(level, `"}`, `","x":"\"]"}`, 1) + `]`: ledger.Accepted,
		`[` + level + `,]`:                                          ledger.Malformed,
		`[,` + level + `]`:                                          ledger.Malformed,
		`[` + level + `;` + level + `]`:                             ledger.Malformed,
		`[` + level + level + `]`:                                   ledger.Malformed,
		`[` + level:                                                 ledger.Malformed,
		`[` + level + `}`:                                           ledger.Malformed,
		`[` + level + `]]`:                                          ledger.Malformed,
		`["x"]`:                                                     ledger.Malformed,
		`[[]]`:                                                      ledger.Malformed,
		`[{]`:                                                       ledger.Malformed,
		`[{"side":"bid"]`:                                           ledger.Malformed,
		`{}`:                                                        ledger.Malformed,
		`0`:                                                         ledger.Malformed,
		`"`:                                                         ledger.Malformed,
		``:                                                          ledger.Malformed,
		`[` + strings.Replace(level, "}", `,"x":"`+large+`"}`, 1) + `]`: ledger.Malformed,
	} {
		dec, _ := venuetest.DecoderAt(Venue{}, 2, 8, "BTC-USD")
		var b venues.Batch
		if got := dec.Decode(around(updates), &b); got != want {
			t.Errorf("%.100s: %v, want %v", updates, got, want)
		}
	}
	dec, _ := venuetest.DecoderAt(Venue{}, 2, 8, "BTC-USD")
	var b venues.Batch
	for frame, want := range map[string]ledger.Reason{
		`{"channel":"l2_data","sequence_num":2,"pad":"` + strings.Repeat("x", mostBytes) + `"}`:                        ledger.Oversized,
		`{"channel":"l2_data","sequence_num":2,"events":[{"updates":[` + strings.Repeat("[", largeBytes):               ledger.Malformed,
		strings.Repeat(`{"updates":`, largeBytes):                                                                      ledger.Malformed,
		`{"channel":"l2_data","sequence_num":2,"events":[` + strings.Repeat(`{"updates":[]},`, largeBytes/10) + `{}]}`: ledger.Oversized,
	} {
		if got := dec.Decode([]byte(frame), &b); got != want || b.ConnSeq != event.Null {
			t.Errorf("%.60s: %v %d, want %v", frame, got, b.ConnSeq, want)
		}
	}
}

var updatesOfNoList = regexp.MustCompile(`"updates":\s*[^\[\s]`)

// FuzzCoinbase: whatever comes, the decoder returns; what it takes and is JSON holds
// what the oracle reads in it, and the same frame made large says the same.
func FuzzCoinbase(f *testing.F) {
	for _, s := range []string{updateFrame, tradeFrame, strings.Replace(updateFrame, `"update"`, `"snapshot"`, 1),
		`{"channel":"heartbeats","sequence_num":17,"events":[{"current_time":"x","heartbeat_counter":3049}]}`,
		`{"channel":"subscriptions","sequence_num":3,"events":[{"subscriptions":{"level2":["ETH-USD","BTC-USD"],"market_trades":["ETH-USD"],"heartbeats":["heartbeats"]}}]}`,
		`{"type":"error","message":"failure to subscribe"}`,
		`{"channel":"l2_data","sequence_num":9223372036854775807,"events":[{"type":"update","product_id":"ETH-USD","updates":[]},{"type":"snapshot","product_id":"BTC-USD","updates":[{"side":"offer","event_time":"1970-01-01T00:00:00Z","price_level":"-0","new_quantity":"1.000000000000000001"}]}]}`,
		`{"channel":"market_trades","sequence_num":1,"events":[{"trades":[{"product_id":"ETH-USD","trade_id":"2","price":"7.50","size":"1","time":"2026-08-24T22:21:58Z","side":"BUY"},{"product_id":"ETH-USD","trade_id":"1","price":"7","size":"0","time":"2026-08-24T22:21:58.000000001Z","side":"SELL"}]}]}`,
	} {
		f.Add([]byte(s), int8(2), int8(8))
		f.Add([]byte(s), int8(0), int8(18))
	}
	f.Fuzz(func(t *testing.T, frame []byte, px, qty int8) {
		if px < 0 || px > 18 || qty < 0 || qty > 18 {
			return
		}
		dec, insts := venuetest.DecoderAt(Venue{}, px, qty, "BTC-USD", "ETH-USD")
		v, err := venuetest.ParseJSON(frame)
		oracle := err == nil && !venuetest.RepeatsKey(frame) && strings.ToValidUTF8(string(frame), "") == string(frame) && !strings.Contains(string(frame), `\`)
		var b, large venues.Batch
		for range 3 {
			reason := dec.Decode(frame, &b)
			small := venues.Batch{Messages: cloneMessages(b.Messages), Levels: append([]event.Level(nil), b.Levels...), ConnSeq: b.ConnSeq}
			if oracle && len(frame) < largeBytes && frame[0] == '{' && !updatesOfNoList.Match(frame) && !strings.Contains(string(frame), `"pad"`) {
				if got := dec.Decode(enlarged(frame), &large); reason == ledger.Accepted && (got != reason || !reflect.DeepEqual(cloneMessages(large.Messages), small.Messages) || !reflect.DeepEqual(append([]event.Level(nil), large.Levels...), small.Levels) || large.ConnSeq != small.ConnSeq) {
					t.Fatalf("made large: %v %+v\nwant %v %+v", got, large, reason, small)
				}
			}
			if reason != ledger.Accepted {
				for i, m := range small.Messages {
					if m.Inst < 0 || m.Inst > 1 || m.Inst == small.Messages[0].Inst && i > 0 {
						t.Fatalf("lost %+v, number %d", small.Messages, small.ConnSeq)
					}
				}
				return
			}
			if !oracle {
				return
			}
			if err := differ(&small, insts, v); err != nil {
				t.Fatal(err)
			}
			if !venuetest.Widen(&small, dec, insts) {
				return
			}
		}
		t.Fatal("it wants ever finer scales")
	})
}

func BenchmarkCoinbase(b *testing.B) {
	for name, lines := range map[string][][]byte{
		"updates":  venuetest.CaptureLines(b, recordings[0].name)[20:],
		"trades":   venuetest.CaptureLines(b, recordings[1].name),
		"snapshot": {fullSnapshot()},
	} {
		b.Run(name, func(b *testing.B) {
			dec, _ := venuetest.DecoderAt(Venue{}, 8, 8, append(recordings[0].symbols, "BTC-USD")...)
			var batch venues.Batch
			n, bytes := 0, 0
			for b.Loop() {
				n, bytes = 0, 0
				for _, line := range lines {
					dec.Decode(line, &batch)
					n += max(len(batch.Levels), len(batch.Messages))
					bytes += len(line)
				}
			}
			b.SetBytes(int64(bytes))
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/level")
		})
	}
}

func FuzzScanCoinbase(f *testing.F) { venuetest.FuzzScanner(f, Venue{}) }
