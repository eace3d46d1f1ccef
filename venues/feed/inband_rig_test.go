package feed

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"deeptape/hotpath/book/booktest"
	"deeptape/hotpath/event"
)

// market is a venue with snapshots in its stream, small and true: it keeps its books,
// answers commands, and writes its frames as the venue's sheet has them. It shares no
// code with package venues; checksums are of its own making.
type market struct {
	*rig
	rng  *rand.Rand
	name string

	books      []*booktest.Book
	mid        []int64
	seq        []int64 // of each book; at Kraken none is sent
	tradeID    []int64
	subscribed []bool // the book
	trading    []bool
	frames     int64 // of the connection
	online     bool
	heard      int // commands of rig.sent that have been answered
	out        []string

	// Truth: what the book is after each frame, of the instrument that it is of.
	text  string
	truth map[string]string
	of    map[string]int           // instrument of a frame that has a truth
	shown [numLines]map[int]string // truth after the last book frame of an instrument that a line has brought
	deaf  int                      // commands that the venue does not answer
	bad   int                      // instrument that makes the venue refuse every command that subscribes to it, -1: none
	shape string                   // in which words it refuses: see refusal

	checked int
}

const (
	krakenDepth = 10 // so that the checksum covers the whole book
	seen        = 30 // levels a side that a market has
)

var marketSymbols = map[string][]string{
	"kraken": {"AAA/USD", "BBB/USD"}, "okx": {"AAA-USDT", "BBB-USDT"},
	"bybit": {"AAAUSDT", "BBBUSDT"}, "coinbase": {"AAA-USD", "BBB-USD"},
}

func newMarket(t *testing.T, name string, seed uint64) *market {
	var insts []event.Instrument
	for _, s := range marketSymbols[name] {
		insts = append(insts, event.Instrument{Venue: name, Symbol: s, PxScale: 2, QtyScale: 3, Tick: "0.01", Source: "test"})
	}
	k := &market{rig: newRig(t, insts...), rng: rand.New(rand.NewPCG(seed, 11)), name: name, truth: map[string]string{}, of: map[string]int{}, bad: -1}
	for line := range k.shown {
		k.shown[line] = map[int]string{}
	}
	k.sends = true
	k.cfg.Venue, k.cfg.Depth, k.cfg.DepthBps = name, 200, []int{1, 10, 1000}
	k.model.bands = k.cfg.DepthBps
	k.model.anyTrades = name == "okx" || name == "bybit"
	if name == "kraken" {
		k.cfg.Depth, k.model.depth = krakenDepth, krakenDepth
	}
	for range insts {
		k.books = append(k.books, booktest.New(1))
		k.mid = append(k.mid, 10_000+k.rng.Int64N(1000))
		k.seq = append(k.seq, 1+k.rng.Int64N(1000))
		k.tradeID = append(k.tradeID, 100)
	}
	k.subscribed, k.trading = make([]bool, len(insts)), make([]bool, len(insts))
	for i := range insts {
		k.change(i, 60)
	}
	k.model.truth = func(i int, seq int64, in *modelInst) error {
		if in.flags&event.FlagUnverified != 0 { // a check was given up: nothing is promised
			return nil
		}
		want := k.text
		if k.m.single() { // the book is that of the line that leads it, whatever has just come
			want = k.shown[k.m.insts[i].leader][i]
		}
		if got := bookText(in.book, -1); got != want {
			return fmt.Errorf("at id %d the book is\n%s, in truth it was\n%s", seq, got, want)
		}
		k.checked++
		return nil
	}
	return k
}

// window is the part of a book that the venue shows.
func (k *market) window(b *booktest.Book) *booktest.Book {
	w := booktest.New(1)
	for _, side := range []event.Side{event.Bid, event.Ask} {
		for n, l := range b.Levels(side) {
			if k.name != "kraken" || n < krakenDepth {
				w.Set(side, l.Px, l.Qty)
			}
		}
	}
	return w
}

// change moves the market on, and returns what the venue tells of that: levels that
// are new or other, and those that have gone. What only leaves Kraken's window is not
// told.
func (k *market) change(i, n int) (levels []event.Level) {
	b := k.books[i]
	before := k.window(b)
	k.mid[i] += k.rng.Int64N(5) - 2
	for range n {
		off := 1 + k.rng.Int64N(seen)
		side, px := event.Bid, k.mid[i]-off
		if k.rng.IntN(2) == 0 {
			side, px = event.Ask, k.mid[i]+off
		}
		b.Set(side, px, k.rng.Int64N(4)*(1+k.rng.Int64N(5000)))
	}
	for _, l := range b.Levels(event.Bid) {
		if l.Px >= k.mid[i] {
			b.Set(event.Bid, l.Px, 0)
		}
	}
	for _, l := range b.Levels(event.Ask) {
		if l.Px <= k.mid[i] {
			b.Set(event.Ask, l.Px, 0)
		}
	}
	after := k.window(b)
	for _, side := range []event.Side{event.Bid, event.Ask} {
		was, is, all := before.Bids, after.Bids, b.Bids
		if side == event.Ask {
			was, is, all = before.Asks, after.Asks, b.Asks
		}
		for _, l := range before.Levels(side) {
			if all[l.Px] == 0 {
				levels = append(levels, event.Level{Px: l.Px, Side: side})
			}
		}
		for _, l := range after.Levels(side) {
			if was[l.Px] != is[l.Px] {
				levels = append(levels, event.Level{Px: l.Px, Qty: l.Qty, Side: side})
			}
		}
	}
	return levels
}

func (k *market) all(i int) (levels []event.Level) {
	w := k.window(k.books[i])
	for _, side := range []event.Side{event.Bid, event.Ask} {
		for _, l := range w.Levels(side) {
			levels = append(levels, event.Level{Px: l.Px, Qty: l.Qty, Side: side})
		}
	}
	return levels
}

func fixedText(m int64, scale int) string {
	s := fmt.Sprintf("%0*d", scale+1, m)
	return s[:len(s)-scale] + "." + s[len(s)-scale:]
}

// list writes the levels of a side as JSON, each by a format of price and size.
func list(levels []event.Level, side event.Side, format string, px, qty func(int64) string) string {
	var out []string
	for _, l := range levels {
		if l.Side == side {
			out = append(out, fmt.Sprintf(format, px(l.Px), qty(l.Qty)))
		}
	}
	return "[" + strings.Join(out, ",") + "]"
}

func trimmed(scale int8) func(int64) string {
	return func(m int64) string { return decimalText(m, scale) }
}

func padded(scale int) func(int64) string {
	return func(m int64) string { return fixedText(m, scale) }
}

func (k *market) krakenSum(b *booktest.Book) uint32 {
	digits := func(s string) string { return strings.TrimLeft(strings.ReplaceAll(s, ".", ""), "0") }
	text := ""
	for _, side := range []event.Side{event.Ask, event.Bid} {
		for n, l := range b.Levels(side) {
			if n < 10 {
				text += digits(fixedText(l.Px, 2)) + digits(fixedText(l.Qty, 3))
			}
		}
	}
	return crc32.ChecksumIEEE([]byte(text))
}

func (k *market) okxSum(b *booktest.Book) int32 {
	var text []string
	bids, asks := b.Levels(event.Bid), b.Levels(event.Ask)
	for n := range 25 {
		if n < len(bids) {
			text = append(text, decimalText(bids[n].Px, 2), decimalText(bids[n].Qty, 3))
		}
		if n < len(asks) {
			text = append(text, decimalText(asks[n].Px, 2), decimalText(asks[n].Qty, 3))
		}
	}
	return int32(crc32.ChecksumIEEE([]byte(strings.Join(text, ":"))))
}

// bookFrame writes a snapshot or an update, after the change, and notes the truth.
func (k *market) bookFrame(i int, snapshot bool, levels []event.Level) string {
	sym, what := k.cfg.Instruments[i].Symbol, "update"
	prev := k.seq[i]
	if snapshot {
		what = "snapshot"
	}
	w := k.window(k.books[i])
	frame := ""
	switch k.name {
	case "kraken":
		of := func(side event.Side) string {
			return list(levels, side, `{"price":%s,"qty":%s}`, padded(2), padded(3))
		}
		frame = fmt.Sprintf(`{"channel":"book","type":%q,"data":[{"symbol":%q,"bids":%s,"asks":%s,"checksum":%d,"timestamp":"2026-09-22T10:00:00.000001Z"}]}`,
			what, sym, of(event.Bid), of(event.Ask), k.krakenSum(w))
	case "okx":
		if snapshot {
			prev = -1
		} else {
			k.seq[i] += 1 + k.rng.Int64N(9)
			if k.rng.IntN(40) == 0 { // a reset, which keeps the link
				k.seq[i] = 1 + k.rng.Int64N(prev)
			}
		}
		sum := int32(0)
		if k.rng.IntN(2) == 0 {
			sum = k.okxSum(w)
		}
		of := func(side event.Side) string {
			return list(levels, side, `["%s","%s","0","1"]`, trimmed(2), trimmed(3))
		}
		frame = fmt.Sprintf(`{"arg":{"channel":"books","instId":%q},"action":%q,"data":[{"asks":%s,"bids":%s,"ts":"1790000000000","checksum":%d,"seqId":%d,"prevSeqId":%d}]}`,
			sym, what, of(event.Ask), of(event.Bid), sum, k.seq[i], prev)
	case "bybit":
		if !snapshot {
			k.seq[i]++
			what = "delta"
		}
		of := func(side event.Side) string { return list(levels, side, `["%s","%s"]`, trimmed(2), trimmed(3)) }
		frame = fmt.Sprintf(`{"topic":"orderbook.200.%s","ts":1790000000000,"type":%q,"data":{"s":%q,"b":%s,"a":%s,"u":%d,"seq":7},"cts":1790000000000}`,
			sym, what, sym, of(event.Bid), of(event.Ask), k.seq[i])
	case "coinbase":
		var out []string
		for _, l := range levels {
			out = append(out, fmt.Sprintf(`{"side":%q,"event_time":"2026-09-22T10:00:00.5Z","price_level":%q,"new_quantity":%q}`,
				[]string{"", "bid", "offer"}[l.Side], decimalText(l.Px, 2), decimalText(l.Qty, 3)))
		}
		frame = k.numbered(fmt.Sprintf(`{"channel":"l2_data","timestamp":"2026-09-22T10:00:00.123Z","sequence_num":#,"events":[{"type":%q,"product_id":%q,"updates":[%s]}]}`,
			what, sym, strings.Join(out, ",")))
	}
	k.truth[frame], k.of[frame] = bookText(w, -1), i
	return frame
}

// numbered gives a frame its number on the connection.
func (k *market) numbered(frame string) string {
	k.frames++
	return strings.Replace(frame, "#", fmt.Sprint(k.frames-1), 1)
}

func (k *market) tradeFrame(i int) string {
	sym := k.cfg.Instruments[i].Symbol
	k.tradeID[i]++
	id := k.tradeID[i]
	switch k.name {
	case "kraken":
		return fmt.Sprintf(`{"channel":"trade","type":"update","data":[{"symbol":%q,"side":"buy","price":100.00,"qty":0.100,"ord_type":"limit","trade_id":%d,"timestamp":"2026-09-22T10:00:00.000001Z"}]}`, sym, id)
	case "okx":
		n := k.rng.Int64N(3)
		k.tradeID[i] += n
		return fmt.Sprintf(`{"arg":{"channel":"trades","instId":%q},"data":[{"instId":%q,"tradeId":"%d","px":"100","sz":"0.1","side":"sell","ts":"1790000000000","count":"%d"}]}`, sym, sym, id+n, n+1)
	case "bybit":
		return fmt.Sprintf(`{"topic":"publicTrade.%s","type":"snapshot","ts":1790000000000,"data":[{"T":1790000000000,"s":%q,"S":"Buy","v":"0.1","p":"100","i":"%d-x","BT":false,"seq":1},{"T":1790000000000,"s":%q,"S":"Sell","v":"0.1","p":"100","i":"%d-y","BT":false,"seq":1}]}`, sym, sym, id, sym, id)
	}
	k.tradeID[i]++ // two of them, the newest first
	return k.numbered(fmt.Sprintf(`{"channel":"market_trades","timestamp":"2026-09-22T10:00:00.123Z","sequence_num":#,"events":[{"type":"update","trades":[%s,%s]}]}`,
		coinbaseTrade(sym, id+1), coinbaseTrade(sym, id)))
}

func coinbaseTrade(sym string, id int64) string {
	return fmt.Sprintf(`{"product_id":%q,"trade_id":"%d","price":"100","size":"0.1","time":"2026-09-22T10:00:00Z","side":"BUY"}`, sym, id)
}

func (k *market) heartbeat() string {
	switch k.name {
	case "kraken":
		return `{"channel":"heartbeat"}`
	case "coinbase":
		return k.numbered(`{"channel":"heartbeats","timestamp":"2026-09-22T10:00:00Z","sequence_num":#,"events":[{"current_time":"x","heartbeat_counter":"1"}]}`)
	case "okx":
		return "pong"
	}
	return `{"success":true,"ret_msg":"pong","conn_id":"c","req_id":"77","op":"ping"}`
}

var commandID = regexp.MustCompile(`"(?:req_id|id)":"?(\d+)`)

// obey answers the commands that the machine has sent since the last time.
func (k *market) obey() {
	for ; k.heard < len(k.sent); k.heard++ {
		text := k.sent[k.heard]
		if k.deaf > 0 {
			k.deaf--
			continue
		}
		id := "0"
		if f := commandID.FindStringSubmatch(text); f != nil {
			id = f[1]
		}
		on := !strings.Contains(text, "unsubscribe")
		if on && k.bad >= 0 && strings.Contains(text, k.cfg.Instruments[k.bad].Symbol) {
			if text := k.refusal(id); text != "" {
				k.emit(text)
			}
			continue
		}
		isBook := strings.Contains(text, `"book`) || strings.Contains(text, "orderbook.200") || strings.Contains(text, "level2")
		isTrade := strings.Contains(text, `"trade`) || strings.Contains(text, "publicTrade") || strings.Contains(text, "market_trades")
		for i, inst := range k.cfg.Instruments {
			if !strings.Contains(text, inst.Symbol) {
				continue
			}
			if isBook {
				k.subscribed[i] = on
			}
			if isTrade {
				k.trading[i] = on
			}
			switch k.name {
			case "kraken":
				channel := "trade"
				if isBook {
					channel = "book"
				}
				k.emit(fmt.Sprintf(`{"method":"subscribe","result":{"channel":%q,"symbol":%q},"success":true,"req_id":%s}`, channel, inst.Symbol, id))
			case "okx":
				k.emit(fmt.Sprintf(`{"id":%q,"event":"subscribe","arg":{"channel":"books","instId":%q},"connId":"c"}`, id, inst.Symbol))
			case "bybit":
				k.emit(fmt.Sprintf(`{"success":true,"ret_msg":"subscribe","conn_id":"c","req_id":%q,"op":"subscribe"}`, id))
			}
			if isBook && on {
				k.emit(k.bookFrame(i, true, k.all(i)))
			}
		}
		if k.name == "coinbase" {
			k.emit(k.list())
		}
	}
}

// list is Coinbase's answer to every command: all that is subscribed.
func (k *market) list() string {
	var books, trades []string
	for i, inst := range k.cfg.Instruments {
		if k.subscribed[i] {
			books = append(books, `"`+inst.Symbol+`"`)
		}
		if k.trading[i] {
			trades = append(trades, `"`+inst.Symbol+`"`)
		}
	}
	return k.numbered(fmt.Sprintf(`{"channel":"subscriptions","timestamp":"2026-09-22T10:00:00Z","sequence_num":#,"events":[{"subscriptions":{"level2":[%s],"market_trades":[%s],"heartbeats":["heartbeats"]}}]}`,
		strings.Join(books, ","), strings.Join(trades, ",")))
}

// refusal of a command, whatever it is for: it names no symbol, and Coinbase's no command.
// It may have a shape that nobody knows, be Coinbase's list that leaves it out, or nothing
// at all ("").
func (k *market) refusal(id string) string {
	switch {
	case k.shape == "nothing":
		return ""
	case k.name == "coinbase" && k.shape == "left out":
		return k.list()
	case k.shape == "strange":
		frame := `{"oops":"too many","req_id":` + id + `}`
		if k.name == "coinbase" {
			return k.numbered(`{"channel":"oops","sequence_num":#}`)
		}
		return frame
	case k.name == "kraken" && k.shape == "rate":
		return `{"Error":"Exceeded msg rate"}`
	}
	switch k.name {
	case "kraken":
		return fmt.Sprintf(`{"error":"no such thing","method":"subscribe","success":false,"req_id":%s}`, id)
	case "okx":
		return fmt.Sprintf(`{"id":%q,"event":"error","code":"60018","msg":"no such thing","connId":"c"}`, id)
	case "bybit":
		return fmt.Sprintf(`{"success":false,"ret_msg":"no such thing","conn_id":"c","req_id":%q,"op":"subscribe"}`, id)
	}
	return `{"type":"error","message":"no such thing"}`
}

func (k *market) emit(frame string) { k.out = append(k.out, frame) }

// next thing that happens in the market.
func (k *market) next() {
	i := k.rng.IntN(len(k.books))
	switch k.rng.IntN(12) {
	case 0:
		if k.trading[i] {
			k.emit(k.tradeFrame(i))
		}
	case 1:
		k.emit(k.heartbeat())
	case 2:
		if k.name == "okx" && k.subscribed[i] { // a keepalive
			sym := k.cfg.Instruments[i].Symbol
			f := fmt.Sprintf(`{"arg":{"channel":"books","instId":%q},"action":"update","data":[{"asks":[],"bids":[],"ts":"1790000000000","checksum":0,"seqId":%d,"prevSeqId":%d}]}`, sym, k.seq[i], k.seq[i])
			k.truth[f] = bookText(k.books[i], -1)
			k.emit(f)
		}
	default:
		levels := k.change(i, 1+k.rng.IntN(4))
		if k.subscribed[i] && (len(levels) > 0 || k.name != "kraken") {
			k.emit(k.bookFrame(i, false, levels))
		}
	}
}

func (k *market) open() {
	k.online, k.frames, k.out = true, 0, nil
	k.heard = len(k.sent)
	clear(k.subscribed)
	clear(k.trading)
	k.now += 1000
	k.step(event.InputConnect, 1, nil)
}

func (k *market) shut() {
	k.online, k.out = false, nil
	k.close()
}

// bring hands a frame to the machine.
func (k *market) bring(frame string) {
	k.shows(frame)
	k.frame(frame)
}

// shows notes what the book is after a frame that the line brings next.
func (k *market) shows(frame string) {
	k.text = k.truth[frame]
	if i, ok := k.of[frame]; ok {
		k.shown[k.line][i] = k.text
	}
}

// flow lets the market go on without a fault, for so many events.
func (k *market) flow(events int) {
	for n := range max(events, 1) {
		if n < events {
			k.next()
			k.obey()
		}
		for len(k.out) > 0 {
			f := k.out[0]
			k.out = k.out[1:]
			k.bring(f)
			k.obey()
		}
	}
}

// second goes by.
func (k *market) second() {
	k.now += 1e9
	k.step(event.InputTick, 0, nil)
	k.obey()
}
