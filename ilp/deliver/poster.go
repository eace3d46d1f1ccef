package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"deeptape/hotpath/ring"
	"deeptape/ilp/sender"
)

// poster is the owner of one HTTP connection to QuestDB.
type poster struct {
	d      *Deliverer
	sender *sender.Sender
	bell   *ring.Doorbell
	from   origin
}

func newPoster(d *Deliverer, s origin) *poster {
	return &poster{d: d, sender: sender.New(d.opt.DB, d.sched), bell: d.sched.NewDoorbell(), from: s}
}

const (
	retryMin   = 100 * time.Millisecond
	retryMax   = 5 * time.Second
	prepareMax = time.Second
)

func (p *poster) run(ctx context.Context) {
	defer p.sender.Close()
	if !p.d.waitReady(ctx, p.bell) {
		return
	}
	for {
		b, ok := p.d.work.Await(ctx, p.bell)
		if !ok || !p.deliver(ctx, b) {
			return // the process ends; the journal still has the rows
		}
		p.d.finished.Put(b)
	}
}

// deliver posts the same bytes until QuestDB has answered for them. A batch that it refuses
// because of a row is taken apart around that row, which goes into quarantine when it is
// refused alone; its neighbours are stored. One that is too large is halved, and what is
// taken is remembered for those that come.
func (p *poster) deliver(ctx context.Context, b *batch) bool {
	wait := p.d.retryMin
	mayEnd := func() bool { return p.d.answered[b.table].Load() >= b.turn-1 }
	var ends []int
	spans := []span{{0, b.rows}} // still to be stored; the next one is the last
	for len(spans) > 0 {
		if !p.d.prepareAs(ctx, p.from) {
			return false
		}
		s := spans[len(spans)-1]
		body := b.bytes(s, ends)
		if most := p.d.mostBytes.Load(); most > 0 && int64(len(body)) > most && s.hi-s.lo > 1 {
			spans, ends = halve(spans, b, ends)
			continue
		}
		res := p.sender.Post(ctx, &sender.Batch{Table: b.table.String(), Body: body, Rows: s.hi - s.lo, MayEnd: mayEnd})
		p.d.answer(b)
		now := p.d.clock()
		switch {
		case res.Word == sender.Stored:
			p.d.Stats.Batches.Add(1)
			p.d.Stats.Bytes.Add(uint64(len(body)))
			p.d.Health.lastAckNs.Store(now)
			if p.d.Health.set(p.from, "", now) {
				p.d.opt.Log.Info("QuestDB takes rows again", "table", b.table.String())
			}
			spans, wait = spans[:len(spans)-1], p.d.retryMin
			continue
		case res.Cause == sender.CauseTooLarge && s.hi-s.lo > 1:
			p.d.mostBytes.Store(max(int64(len(body)/2), leastBytes))
			spans, ends = halve(spans, b, ends)
			continue
		case res.Word == sender.Refused && res.Cause == sender.CauseRow && res.Line <= s.hi-s.lo:
			if ends == nil {
				ends = b.rowEnds()
			}
			if s.hi-s.lo > 1 {
				bad := s.lo + res.Line - 1
				spans = spans[:len(spans)-1]
				for _, part := range []span{{bad + 1, s.hi}, {s.lo, bad}, {bad, bad + 1}} {
					if part.lo < part.hi {
						spans = append(spans, part)
					}
				}
				continue
			}
			err := p.d.quarantine(b.table.String(), res.Reason, b.bytes(s, ends))
			if err == nil {
				b.refusedOf[b.laneOf(s.lo)]++
				spans = spans[:len(spans)-1]
				continue
			}
			p.d.trouble(p.from, err.Error())
		case res.Cause == sender.CauseStopped:
			return false
		default:
			p.d.trouble(p.from, p.d.troubleOf(b, &res))
		}
		if callsForPrepare(res.Cause) {
			p.d.lost.Add(1)
		}
		p.d.Stats.Retries.Add(1)
		if !p.d.sched.Sleep(ctx, wait) {
			return false
		}
		wait = min(2*wait, retryMax)
	}
	return true
}

// leastBytes bounds what a 413 teaches: one that came out of nowhere must not make a request
// of every row for ever.
const leastBytes = 64 << 10

// halve puts the two halves of the next span in its place.
func halve(spans []span, b *batch, ends []int) ([]span, []int) {
	if ends == nil {
		ends = b.rowEnds()
	}
	s := spans[len(spans)-1]
	mid := s.lo + (s.hi-s.lo)/2
	return append(spans[:len(spans)-1], span{mid, s.hi}, span{s.lo, mid}), ends
}

// answer notes that something has become of a batch, well or not, and lets the next one of
// its table end. Stored in order they are appended; where the second of two overtook the
// first, QuestDB wrote the rows of a flood 3.7 times each, and now 1.1 times. It is an
// economy: what is sent again later goes out of its turn.
func (d *Deliverer) answer(b *batch) {
	answered := &d.answered[b.table]
	for was := answered.Load(); was < b.turn && !answered.CompareAndSwap(was, b.turn); was = answered.Load() {
	}
	for _, p := range d.posters {
		p.sender.Wake()
	}
}

// callsForPrepare says whether the tables must be looked at before more is sent. After a
// lost connection another server may answer next, or the same one after a restart, perhaps
// with tables that it makes up by itself: without DEDUP, a batch sent twice would be stored
// twice. And a table that is not there was dropped, or somebody between us and QuestDB has
// another one behind it now: it is made again, and what it lacks is told.
func callsForPrepare(c sender.Cause) bool {
	return c == sender.CauseUnreachable || c == sender.CauseBroken || c == sender.CauseSchema
}

// trouble tells what keeps rows from being stored, once.
func (d *Deliverer) trouble(s origin, text string) {
	if d.Health.set(s, text, d.clock()) {
		d.opt.Log.Warn("QuestDB does not take rows; the journal keeps them", "reason", text)
	}
}

// troubleOf says what keeps a batch from being stored, and what heals it.
func (d *Deliverer) troubleOf(b *batch, res *sender.Outcome) string {
	text := fmt.Sprintf("%s: %s", res.Cause, res.Reason)
	switch res.Cause {
	case sender.CauseUnreachable:
		text += "; " + d.opt.DB.StartAdvice()
	case sender.CauseSchema:
		text += fmt.Sprintf("; `deeptape schema --check` says what is wrong with %s", b.table.String())
	case sender.CauseReadOnly:
		text += "; the instance takes no writes until its readonly setting is removed and it is restarted"
	case sender.CauseDisk:
		text += "; make room on the database's disk"
	case sender.CauseTooLarge:
		text += "; a single row is more than it takes: raise line.http.max.recv.buffer.size of QuestDB, or the limit of the proxy before it"
	case sender.CauseServer:
		text += fmt.Sprintf("; status %d is not QuestDB's word on a row: look at what stands between the agent and QuestDB, and at QuestDB's log", res.Status)
	}
	return text
}

// quarantine writes a row that QuestDB will never take to the table's file, with
// the reason before it. Any task.
func (d *Deliverer) quarantine(table, reason string, row []byte) error {
	name := filepath.Join(d.opt.Quarantine, table+".ilp")
	text := fmt.Appendf(nil, "# %s refused: %s\n", time.Unix(0, d.clock()).UTC().Format(time.RFC3339Nano), bytes.Join(bytes.Fields([]byte(reason)), []byte(" ")))
	text = append(text, row...)
	for !d.quarantining.CompareAndSwap(false, true) {
		d.sched.Sleep(context.Background(), time.Millisecond)
	}
	defer d.quarantining.Store(false)
	if !d.mayQuarantine() {
		return fmt.Errorf("it refuses more than %d rows a minute, so delivery has stopped; the last reason: %s; mend that, and it goes on; or, to put such rows into quarantine all the same, raise `quarantine` in the configuration and start again", d.opt.QuarantineMost, reason)
	}
	if err := d.opt.Append(name, text); err != nil {
		return fmt.Errorf("cannot put a refused row into quarantine %q: %w", name, err)
	}
	d.quarantinedNs = append(d.quarantinedNs, d.clock())
	d.Stats.Quarantined.Add(1)
	d.opt.Log.Error("QuestDB refused a row; it is in quarantine", "file", name, "reason", reason)
	return nil
}

// mayQuarantine says whether one more row may go. Many that are refused have a cause in
// common, which a person should mend: once there were too many within a minute, none goes
// any more.
func (d *Deliverer) mayQuarantine() bool {
	if n := len(d.quarantinedNs) - d.opt.QuarantineMost; n >= 0 {
		d.flooded = d.flooded || d.clock()-d.quarantinedNs[n] < int64(time.Minute)
		d.quarantinedNs = d.quarantinedNs[n:]
	}
	return !d.flooded
}

func appendFile(name string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
