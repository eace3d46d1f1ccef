// Package follow reads a journal behind its writer and derives its rows again. Whoever
// wants the record goes this way: the catch-up of live capture, replay, verify, rows to a
// file. The journal is the only thing that a follower shares with the capture.
//
//	journal ─► Inputs (passes over damage, and says so) ─► feed.Derivation ─► row records
//
// It must never write anywhere, never wait for the writer (io.EOF says that there is
// nothing more at present, and a later call may find more), and never pass over what
// cannot be read without saying so, unless somebody has been told of it already.
//
// Invariants: the records of a feed come in the order in which the feed made them, the
// instrument of a record before it; Complete never says more than has been handed out.
package follow

import (
	"errors"
	"io"
	"log/slog"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
	"deeptape/venues/feed"
)

// Options say what of a journal is followed, and who is told of what is missing.
type Options struct {
	FS    journal.FS // nil: the files of this machine
	Dir   string
	From  journal.Position  // the zero Position is the beginning; another must have a keyframe or a run behind it
	Feeds []uint16          // none: all of them
	Until map[uint16]uint64 // the last input of each feed, where earlier runs only are wanted; nil: no end

	// Damaged is told once of each part of the journal that cannot be read, Impossible of
	// each input that cannot be right though its checksum is. nil: somebody else has been
	// told, and they are passed over in silence.
	Damaged    func(*journal.DamageError)
	Impossible func(*feed.BadInputError)
}

// WarnDamaged says in a log what of a journal cannot be read.
func WarnDamaged(log *slog.Logger) func(*journal.DamageError) {
	return func(damage *journal.DamageError) {
		log.Warn("journal is damaged; only what the damage covers is lost", "damage", damage)
	}
}

// WarnImpossible says in a log which inputs cannot be right.
func WarnImpossible(log *slog.Logger) func(*feed.BadInputError) {
	return func(e *feed.BadInputError) {
		log.Warn("an input of the journal cannot be right, though its checksum is; its feed goes on at its next keyframe, and the time until then is a gap",
			"feed", e.Feed, "pos", e.Pos, "at", time.Unix(0, e.Ts).UTC(), "err", e.Err)
	}
}

// Inputs are the inputs of a journal that can be read. One goroutine.
type Inputs struct {
	r       *journal.Reader
	until   map[uint16]uint64
	damaged func(*journal.DamageError)
}

// OpenInputs reads the inputs alone; Feeds and Impossible say nothing here. No file is
// opened before the first Next.
func OpenInputs(o Options) *Inputs {
	if o.FS == nil {
		o.FS = journal.OS
	}
	return &Inputs{journal.NewReader(o.FS, o.Dir, o.From), o.Until, o.Damaged}
}

// Next returns the next input; its Data is borrowed until the next call. io.EOF means that
// there is nothing more at present, any other error is the disk's.
func (i *Inputs) Next() (event.Input, error) {
	for {
		in, err := i.r.Next()
		var damage *journal.DamageError
		if errors.As(err, &damage) {
			if i.damaged != nil {
				i.damaged(damage)
			}
			continue
		}
		// In one journal, whatever an earlier run wrote stands before what a later one writes.
		if err == nil && i.until != nil && in.Pos > i.until[in.Feed] {
			err = io.EOF
		}
		return in, err
	}
}

// Close closes the file that is open.
func (i *Inputs) Close() { i.r.Close() }

// Follower derives the rows of a journal. One goroutine.
type Follower struct {
	inputs *Inputs // nil: they are somebody else's
	d      *feed.Derivation
	insts  map[instKey]*event.Instrument
	feed   uint16 // of the last record
}

type instKey struct {
	feed uint16
	inst uint32
}

// Open follows a journal. No file is opened before the first Next.
func Open(o Options) *Follower {
	inputs := OpenInputs(o)
	f := New(inputs, o.Impossible, o.Feeds...)
	f.inputs = inputs
	return f
}

// New follows inputs that are in no file.
func New(in feed.Inputs, impossible func(*feed.BadInputError), feeds ...uint16) *Follower {
	d := feed.NewDerivation(in, feeds...)
	d.PassOver(func(e *feed.BadInputError) {
		if impossible != nil {
			impossible(e)
		}
	})
	return &Follower{d: d, insts: map[instKey]*event.Instrument{}}
}

// Next returns the next row record and the feed that it belongs to. The record is borrowed
// until the next call. io.EOF means that there is nothing more at present; any other error
// is the disk's, or says that an instrument record cannot be read.
func (f *Follower) Next() (rec []byte, feedID uint16, err error) {
	rec, feedID, err = f.d.Next()
	if err != nil {
		return nil, feedID, err
	}
	f.feed = feedID
	if event.KindOf(rec) == event.RowInst {
		inst, err := event.InstrumentOf(rec)
		if err != nil {
			return nil, feedID, err
		}
		var h event.Head
		h.Get(rec)
		f.insts[instKey{feedID, h.Inst}] = &inst
	}
	return rec, feedID, nil
}

// Instrument is that of the record that Next returned last. It is not to be changed, and
// stays as it is when the feed tells of the instrument anew.
func (f *Follower) Instrument(h *event.Head) *event.Instrument {
	return f.insts[instKey{f.feed, h.Inst}]
}

// Complete is the last input of a feed all of whose rows have been handed out: a follower
// that has stored them may begin behind it.
func (f *Follower) Complete(feedID uint16) uint64 { return f.d.Pos(feedID) }

// Machine is that of a feed as its inputs have left it, nil where none has been read.
func (f *Follower) Machine(feedID uint16) *feed.Machine { return f.d.Machine(feedID) }

// Close closes the file that is open.
func (f *Follower) Close() {
	if f.inputs != nil {
		f.inputs.Close()
	}
}

// Each hands every record of the wanted symbols that carries rows or coverage to emit,
// until the journal's present end. The record is borrowed for the call.
func (f *Follower) Each(want func(venue, symbol string) bool, emit func(of *event.Instrument, rec []byte) error) error {
	wanted := map[*event.Instrument]bool{}
	for {
		rec, _, err := f.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var h event.Head
		h.Get(rec)
		inst := f.Instrument(&h)
		if h.Kind == event.RowInst {
			wanted[inst] = want(inst.Venue, inst.Symbol)
			continue
		}
		if wanted[inst] {
			if err := emit(inst, rec); err != nil {
				return err
			}
		}
	}
}
