package main

import (
	"encoding/binary"
	"io"
	"io/fs"
	"net"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/ring"
	"deeptape/ilp/line"
	"deeptape/venues/feed"
	"deeptape/venues/wire"
)

// wireRound: a record is a text message; they come as frames, 64 KiB a read.
func wireRound(records [][]byte) (func() uint64, error) {
	src := &source{}
	for _, rec := range records {
		switch n := len(rec); {
		case n < 126:
			src.tape = append(src.tape, 0x81, byte(n))
		case n < 1<<16:
			src.tape = append(src.tape, 0x81, 126, byte(n>>8), byte(n))
		default:
			src.tape = binary.BigEndian.AppendUint64(append(src.tape, 0x81, 127), uint64(n))
		}
		src.tape = append(src.tape, rec...)
	}
	c := wire.NewConn(src, nil, wire.Options{})
	return func() uint64 {
		var sum uint64
		for range records {
			p, _, out := c.Read(time.Time{})
			if out != wire.Message {
				panic(c.Err())
			}
			sum += uint64(len(p)) + uint64(p[0])
		}
		return sum
	}, nil
}

// source is a connection that plays a tape for ever.
type source struct {
	net.Conn
	tape []byte
	at   int
}

func (s *source) SetReadDeadline(time.Time) error { return nil }
func (s *source) Read(b []byte) (int, error) {
	n := copy(b[:min(len(b), 64<<10)], s.tape[s.at:])
	if s.at += n; s.at == len(s.tape) {
		s.at = 0
	}
	return n, nil
}

// feedRound: a record is an input, the first one a run, the second a connect. The rows
// go through a lane's ring and are dropped behind it. Each round is a connection's life.
func feedRound(records [][]byte) (func() uint64, error) {
	l := lane.New(0, lane.Options{InputBytes: 1 << 20, RowBytes: 8 << 20, InputOwnedBytes: 1 << 20, RowOwnedBytes: 1 << 20}, nil, nil)
	m := feed.New(l, &l.Frames, l.Rows.Feed())
	var inputs []event.Input
	for _, rec := range records {
		in, _, err := event.GetInput(rec)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, in)
	}
	var pos uint64
	var now int64
	var requests [16]uint32
	step := func(in event.Input) (sum uint64) {
		pos++
		now = max(now+100_000, in.Ts)
		in.Pos, in.Ts = pos, now
		if in.Kind == event.InputRest {
			_, inst, status := event.SplitRestAux(in.Aux)
			in.Aux = event.RestAux(requests[inst], inst, status)
		}
		if in.Kind == event.InputFrame { // as a session does
			m.Foresee(in.Data)
		}
		l.Begin(pos)
		if err := m.Step(&in); err != nil {
			panic(err)
		}
		l.End()
		for _, a := range m.Actions() {
			if a.Kind == feed.ActionFetch {
				requests[a.Inst] = a.Request
			}
		}
		l.SetWritten(pos)
		for rec := l.Peek(); rec != nil; rec = l.Peek() {
			sum += uint64(len(rec))
			l.Release()
		}
		return sum
	}
	step(inputs[0])
	round := func() uint64 {
		var sum uint64
		for _, in := range inputs[1:] {
			sum += step(in)
		}
		return sum + step(event.Input{InputHead: event.InputHead{Kind: event.InputClose}})
	}
	round() // books and buffers grow
	return round, nil
}

// ringRound: a record goes in and comes out; sixteen in a row, as a burst does.
func ringRound(records [][]byte) (func() uint64, error) {
	r := ring.New(8<<20, ring.NewDoorbell())
	return func() uint64 {
		var sum uint64
		for i, rec := range records {
			b, out := r.Claim(len(rec))
			if out != ring.OK {
				panic(out)
			}
			// Whose time the content takes is the writer's: feed's, not the ring's.
			b[0] = rec[0]
			r.Commit()
			if i%16 == 15 || i == len(records)-1 {
				for b := r.Peek(); b != nil; b = r.Peek() {
					sum += uint64(b[0])
					r.Release()
				}
			}
		}
		return sum
	}, nil
}

// journalRound: a record is an input; 64 KiB or 64 records make a block, which goes
// nowhere.
func journalRound(records [][]byte) (func() uint64, error) {
	w, _, err := journal.Open(nowhere{}, "journal", journal.Options{})
	if err != nil {
		return nil, err
	}
	var pos uint64
	return func() uint64 {
		for i, rec := range records {
			pos++
			binary.LittleEndian.PutUint64(rec[8:], pos) // a journal takes no input twice
			err := w.Append(rec)
			if err == nil && i%64 == 63 {
				err = w.Flush()
			}
			if err != nil {
				panic(err)
			}
		}
		return w.Stats().StoredBytes
	}, nil
}

// lineRound: a record is a row record of any kind that has rows.
func lineRound(records [][]byte) (func() uint64, error) {
	inst, err := line.NewInst("binance", "BTCUSDT")
	if err != nil {
		return nil, err
	}
	var dst []byte
	round := func() uint64 {
		dst = dst[:0]
		for _, rec := range records {
			dst, _ = line.Append(dst, inst, rec)
		}
		return uint64(len(dst))
	}
	round() // dst grows
	return round, nil
}

// nowhere is a file system that takes everything and keeps nothing.
type nowhere struct{}

type nofile struct{ size int64 }

func (nowhere) MkdirAll(string) error               { return nil }
func (nowhere) List(string) ([]string, error)       { return nil, nil }
func (nowhere) Create(string) (journal.File, error) { return &nofile{}, nil }
func (nowhere) Open(string) (journal.File, error)   { return nil, fs.ErrNotExist }
func (nowhere) Rename(string, string) error         { return nil }
func (nowhere) Link(string, string) error           { return nil }
func (nowhere) Remove(string) error                 { return nil }
func (nowhere) SyncDir(string) error                { return nil }
func (nowhere) Lock(string) (io.Closer, error)      { return &nofile{}, nil }
func (f *nofile) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
func (f *nofile) Write(b []byte) (int, error)       { f.size += int64(len(b)); return len(b), nil }
func (f *nofile) Truncate(size int64) error         { f.size = size; return nil }
func (f *nofile) Size() (int64, error)              { return f.size, nil }
func (f *nofile) Sync() error                       { return nil }
func (f *nofile) Close() error                      { return nil }
