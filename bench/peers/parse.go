package main

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"

	"github.com/bytedance/sonic"
	"github.com/valyala/fastjson"

	"deeptape/hotpath/event"
	"deeptape/hotpath/fixed"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/registry"
)

// parsed is what a parser makes of a book message: its ids, its time in ms, and its
// levels as exact integers at the instrument's scales. Valid until the next message.
type parsed struct {
	inst              int
	first, last, time int64
	levels            []event.Level
}

type parser func(frame []byte, out *parsed) error

// parsers reads the messages of a corpus. Each parser reuses all that it can.
func parseContest(c *corpus, rust *worker) (*contest, error) {
	deeptape, err := deeptapeParser(c)
	if err != nil {
		return nil, err
	}
	k := &contest{
		group: "parse", corpus: c.name, messages: len(c.frames), levels: c.levels, want: c.wantParsed, clock: cpuNs,
		what: "a frame into ids, time and levels",
	}
	bySymbol := map[string]int{}
	for i, inst := range c.insts {
		bySymbol[inst.Symbol] = i
	}
	for _, p := range []struct {
		name, notes string
		parse       parser
	}{
		{"deeptape", "`venues` decoder, exact integers", deeptape},
		{"fastjson", "reused parser, exact integers", fastjsonParser(c, bySymbol)},
		{"sonic", "`ConfigFastest`, into a reused struct, no copy, exact integers", textParser(c, bySymbol, func(b []byte, v *frameText) error {
			return sonic.ConfigFastest.UnmarshalFromString(text(b), v)
		})},
		{"encoding/json", "into a reused struct, exact integers", textParser(c, bySymbol, func(b []byte, v *frameText) error {
			return json.Unmarshal(b, v)
		})},
	} {
		check, err := parseCheck(c, p.parse)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		var out parsed
		levels := 0
		k.peers = append(k.peers, &peer{name: p.name, notes: p.notes,
			work: func() error {
				levels = 0
				for _, f := range c.frames {
					if err := p.parse(f, &out); err != nil {
						return err
					}
					levels += len(out.levels)
				}
				return nil
			},
			told: func() string {
				if levels != c.levels {
					return fmt.Sprintf("%d levels, and %d are right", levels, c.levels)
				}
				return check
			}})
	}
	k.peers = append(k.peers,
		rust.peer("serde_json (Rust)", "borrowed struct, exact integers", "parse-serde", c),
		rust.peer("sonic-rs (Rust)", "borrowed struct, exact integers", "parse-sonic", c),
		rust.peer("barter-data (Rust)", "its own type: serde_json and Decimal", "parse-barter", c))
	return k, nil
}

func parseCheck(c *corpus, parse parser) (string, error) {
	h := fnv.New64a()
	var out parsed
	for _, f := range c.frames {
		if err := parse(f, &out); err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%d %d %d\n", out.first, out.last, out.time)
		inst := &c.insts[out.inst]
		for _, l := range out.levels {
			fmt.Fprintf(h, "%d %s %s\n", l.Side-event.Bid, eightDigits(l.Px, inst.PxScale), eightDigits(l.Qty, inst.QtyScale))
		}
	}
	return strconv.FormatUint(h.Sum64(), 16), nil
}

func deeptapeParser(c *corpus) (parser, error) {
	venue, err := registry.ByName("binance")
	if err != nil {
		return nil, err
	}
	d, b := venue.NewDecoder(c.insts), &venues.Batch{}
	return func(frame []byte, out *parsed) error {
		if r := d.Decode(frame, b); r != ledger.Accepted || len(b.Messages) != 1 || b.Messages[0].Kind != venues.KindDelta {
			return fmt.Errorf("cannot decode %q: %v", frame, r)
		}
		m := &b.Messages[0]
		out.inst, out.first, out.last, out.time = m.Inst, m.First, m.Seq, m.TsEvent/1e6
		out.levels = b.Levels[m.Lo:m.Hi]
		return nil
	}, nil
}

func fastjsonParser(c *corpus, bySymbol map[string]int) parser {
	var p fastjson.Parser
	return func(frame []byte, out *parsed) error {
		v, err := p.ParseBytes(frame)
		if err != nil {
			return err
		}
		v = v.Get("data")
		out.inst = bySymbol[text(v.GetStringBytes("s"))]
		inst := &c.insts[out.inst]
		out.first, out.last, out.time = v.GetInt64("U"), v.GetInt64("u"), v.GetInt64("E")
		out.levels = out.levels[:0]
		for side, key := range [2]string{"b", "a"} {
			for _, l := range v.GetArray(key) {
				pair := l.GetArray()
				px, err := fixed.Parse(pair[0].GetStringBytes(), inst.PxScale)
				if err != nil {
					return err
				}
				qty, err := fixed.Parse(pair[1].GetStringBytes(), inst.QtyScale)
				if err != nil {
					return err
				}
				out.levels = append(out.levels, event.Level{Px: px, Qty: qty, Side: event.Bid + event.Side(side)})
			}
		}
		return nil
	}
}

// textParser is for parsers that fill a struct.
func textParser(c *corpus, bySymbol map[string]int, unmarshal func([]byte, *frameText) error) parser {
	var f frameText
	return func(frame []byte, out *parsed) error {
		if err := unmarshal(frame, &f); err != nil {
			return err
		}
		d := &f.Data
		out.inst = bySymbol[d.Symbol]
		inst := &c.insts[out.inst]
		out.first, out.last, out.time = d.First, d.Last, d.Time
		out.levels = out.levels[:0]
		for side, levels := range [2][][2]string{d.Bids, d.Asks} {
			for i := range levels {
				px, err := fixed.Parse(borrow(levels[i][0]), inst.PxScale)
				if err != nil {
					return err
				}
				qty, err := fixed.Parse(borrow(levels[i][1]), inst.QtyScale)
				if err != nil {
					return err
				}
				out.levels = append(out.levels, event.Level{Px: px, Qty: qty, Side: event.Bid + event.Side(side)})
			}
		}
		return nil
	}
}
