package simvenue

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gobwas/ws"
	"github.com/klauspost/compress/gzip"

	"deeptape/bench/world"
)

// Tape is what one plain client of a venue sees in made markets, in the format of a
// recording (see Recording). The same world, options and length give the same bytes: no
// clock and no socket is involved.
type Tape struct {
	// Data has a line for each frame that came, each command that went, each REST body.
	Data []byte
	// Recv has as many lines: "<ns>\t<ws|tx|rest URL>". The times are the venue's own: a
	// frame arrives at the instant at which it is sent.
	Recv []byte
}

// wishes are what a client says to a venue so as to get everything of some symbols:
// what it asks the WebSocket endpoint for, the commands it then sends, and the REST
// targets that it fetches once the streams run.
type wishes struct {
	target   string
	commands []string
	fetch    []string
	ping     string // a text that keeps the connection alive; empty: none
}

// The times of a tape's client: it sends commandsEvery apart, which is slower than any
// venue's limit, fetches once its streams have run for fetchAfter, and pings.
const (
	commandsEvery = 250 * time.Millisecond
	fetchAfter    = 500 * time.Millisecond
	pingsEvery    = 15 * time.Second
	ticksEvery    = 100 * time.Millisecond
)

// NewTape plays made markets to one client for a while of their own time. A fault that
// ends or stalls the connection is an error: a tape is of one connection.
func NewTape(name string, w *world.World, faults []Fault, length time.Duration) (*Tape, error) {
	v, err := NewVenue(name, w, faults, VenueOptions{})
	if err != nil {
		return nil, err
	}
	r := &taping{v: v, wish: v.proto.wishes(v.Symbols()), nowNs: w.StartNs()}
	if err := r.run(r.nowNs + int64(length)); err != nil {
		return nil, fmt.Errorf("cannot make a tape of %s: %w", name, err)
	}
	return &Tape{r.data.Bytes(), r.recv.Bytes()}, nil
}

// taping is a tape in the making.
type taping struct {
	v          *Venue
	s          *Session
	wish       wishes
	nowNs      int64
	data, recv bytes.Buffer
	err        error
}

func (r *taping) run(untilNs int64) error {
	s, no := r.v.Open(r.nowNs, NewRequest(r.wish.target), r.take)
	if no != nil {
		return fmt.Errorf("the venue refuses the connection: %d %s", no.Status, no.Body)
	}
	r.s = s
	startNs := r.nowNs
	commandNs, fetchNs, pingNs, tickNs := startNs, startNs+int64(fetchAfter), startNs+int64(pingsEvery), startNs+int64(ticksEvery)
	commands, fetch := r.wish.commands, r.wish.fetch
	for next := r.v.Next(); r.err == nil; {
		atNs := min(next.AtNs(), tickNs)
		if len(commands) > 0 {
			atNs = min(atNs, commandNs)
		}
		if atNs >= untilNs {
			return nil
		}
		r.nowNs = atNs
		switch {
		case len(commands) > 0 && atNs == commandNs:
			r.say(commands[0])
			commands, commandNs = commands[1:], commandNs+int64(commandsEvery)
		case atNs == tickNs:
			r.s.Tick(atNs)
			tickNs += int64(ticksEvery)
			if len(fetch) > 0 && atNs >= fetchNs {
				r.get(fetch[0])
				fetch = fetch[1:]
			}
			if r.wish.ping != "" && atNs >= pingNs {
				r.say(r.wish.ping)
				pingNs += int64(pingsEvery)
			}
		default:
			r.v.Step(next, atNs)
			next = r.v.Next()
		}
	}
	return r.err
}

// take writes what comes out of the connection.
func (r *taping) take(f Frame) {
	switch {
	case f.Do != Send && f.Do != Fragment:
		r.err = fmt.Errorf("a fault or the venue ends the connection %.3f s after the start of the markets; a tape is of one connection", float64(r.nowNs-r.v.sources[0].world.StartNs())/1e9)
	case f.Op == ws.OpText:
		r.line("ws", f.Payload)
	case f.Op == ws.OpPing:
		// The answer is no line of a recording, and may only come once take has returned;
		// no tape is so long that the venue minds.
	}
}

func (r *taping) say(text string) {
	r.line("tx", []byte(text))
	r.s.Text(r.nowNs, []byte(text))
}

func (r *taping) get(target string) {
	a := r.v.Get(r.nowNs, NewRequest(target))
	if a.Status != 200 {
		r.err = fmt.Errorf("the venue answers %s with %d %s", target, a.Status, a.Body)
		return
	}
	r.line("rest "+target, a.Body)
}

func (r *taping) line(dir string, text []byte) {
	r.data.Write(text)
	r.data.WriteByte('\n')
	fmt.Fprintf(&r.recv, "%d\t%s\n", r.nowNs, dir)
}

// Write stores the tape as NAME.jsonl.gz and NAME.recv.gz in a directory, which it makes.
func (t *Tape) Write(dir, name string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("cannot make a directory for tapes: %w", err)
	}
	for _, f := range []struct {
		end  string
		text []byte
	}{{".jsonl.gz", t.Data}, {".recv.gz", t.Recv}} {
		path := filepath.Join(dir, name+f.end)
		var packed bytes.Buffer
		z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		if err == nil {
			_, err = z.Write(f.text)
		}
		if err == nil {
			err = z.Close()
		}
		if err == nil {
			err = os.WriteFile(path, packed.Bytes(), 0o644)
		}
		if err != nil {
			return fmt.Errorf("cannot write tape %q: %w", path, err)
		}
	}
	return nil
}
