package vsim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
	"deeptape/ilp/line"
	"deeptape/venues/feed"
	"deeptape/venues/follow"
)

// The judge holds what the database has against the journal and against the truth.
//
//	promises 1, 2, 3: the rows in the database are those that the journal derives,
//	    each once and digit for digit: none that is in no journal, none missing
//	promise 4: the ledger balances (looked at every second of a run)
//	promise 5: coverage parts all time, and where it says verified, the record is
//	    the market's true history
func (r *run) judge() error {
	derived, err := r.derive()
	if err != nil {
		return err
	}
	if err := r.compare(derived); err != nil {
		return err
	}
	for _, v := range r.venues {
		if v.history.err != nil {
			return v.history.err
		}
		for _, sh := range v.history.symbols {
			t, err := r.newTruth(v, sh)
			if err != nil {
				return err
			}
			t.records = derived.records[market{v.name, sh.name}]
			for _, k := range slices.SortedFunc(maps.Keys(r.db.coverage), byTime) {
				if k.market == (market{v.name, sh.name}) {
					t.coverage[k.stream] = append(t.coverage[k.stream], r.db.coverage[k].c)
				}
			}
			if err := t.judge(); err != nil {
				return fmt.Errorf("promise 5: %s %s: %w", v.name, sh.name, err)
			}
		}
	}
	return nil
}

// derivation is what the whole journal gives.
type derivation struct {
	records  map[market][][]byte // without coverage and instruments
	rows     map[rowKey]string
	coverage map[coverageKey]event.Coverage
}

func (r *run) derive() (*derivation, error) {
	d := &derivation{map[market][][]byte{}, map[rowKey]string{}, map[coverageKey]event.Coverage{}}
	var damage []string
	var impossible error
	from := follow.Open(follow.Options{
		FS: r.disk.whole(), Dir: journalDir,
		Damaged:    func(e *journal.DamageError) { damage = append(damage, e.Error()) }, // only a power loss may leave it
		Impossible: func(e *feed.BadInputError) { impossible = e },
	})
	defer from.Close()
	insts := map[market]*line.Inst{}
	for {
		rec, _, err := from.Next()
		if impossible != nil {
			return nil, fmt.Errorf("promise 2: %w", impossible)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("promise 2: %w", err)
		}
		var h event.Head
		h.Get(rec)
		of := from.Instrument(&h)
		key := market{of.Venue, of.Symbol}
		if insts[key] == nil {
			if insts[key], err = line.NewInst(of.Venue, of.Symbol); err != nil {
				return nil, err
			}
		}
		switch h.Kind {
		case event.RowInst:
			text, _ := json.Marshal(of)
			d.rows[rowKey{"instruments", key, h.Ts}] = string(text) + "\n"
			continue
		case event.RowCoverage:
			c := event.GetCoverage(rec)
			c.Detail = bytes.Clone(c.Detail)
			d.coverage[coverageKey{key, c.Stream, c.Ts}] = c
			continue
		}
		body, _ := line.Append(nil, insts[key], rec)
		d.records[key] = append(d.records[key], bytes.Clone(rec))
		if err := eachRow(body, func(key rowKey, text string) error {
			if _, twice := d.rows[key]; twice {
				return fmt.Errorf("promise 3: two derived rows of %s %v at %d", key.table, key.market, key.ts)
			}
			d.rows[key] = text
			return nil
		}); err != nil {
			return nil, err
		}
	}
	r.stats.Rows = len(d.rows)
	if len(damage) > 0 && r.stats.Kills == 0 && !r.disk.faulty {
		return nil, fmt.Errorf("promise 1: the journal is damaged, and nothing has damaged it: %s", strings.Join(damage, "; "))
	}
	return d, nil
}

// compare holds the rows of the database against those of the journal.
func (r *run) compare(d *derivation) error {
	r.stats.Again, r.stats.Batches = r.db.again, r.db.posts
	var extra, missing, other []string
	for k, text := range r.db.rows {
		want, ok := d.rows[k]
		switch {
		case !ok && !r.wasCut(k.ts):
			extra = append(extra, fmt.Sprintf("%s %v at %d: %s", k.table, k.market, k.ts, text))
		case ok && want != text:
			other = append(other, fmt.Sprintf("%s %v at %d: %sderived: %s", k.table, k.market, k.ts, text, want))
		}
	}
	for k, text := range d.rows {
		if _, ok := r.db.rows[k]; !ok {
			missing = append(missing, fmt.Sprintf("%s %v at %d: %s", k.table, k.market, k.ts, text))
		}
	}
	for k, c := range d.coverage {
		got, ok := r.db.coverage[k]
		if !ok {
			missing = append(missing, fmt.Sprintf("coverage %v %s at %d", k.market, k.stream, k.ts))
		} else if show(&got.c) != show(&c) {
			other = append(other, fmt.Sprintf("coverage %v: %s, derived %s", k.market, show(&got.c), show(&c)))
		}
	}
	for k, row := range r.db.coverage {
		if _, ok := d.coverage[k]; !ok && !r.wasCut(k.ts) {
			extra = append(extra, fmt.Sprintf("coverage %v: %s", k.market, show(&row.c)))
		}
	}
	for what, list := range map[string][]string{
		"promise 1: rows in the database that are in no journal":         extra,
		"promise 3: rows of the journal that are not in the database":    missing,
		"promise 2: rows in the database that differ from the journal's": other,
	} {
		if len(list) > 0 {
			slices.Sort(list)
			return fmt.Errorf("%s: %d, e.g. %s", what, len(list), list[0])
		}
	}
	return nil
}

func (r *run) wasCut(ts int64) bool {
	return slices.ContainsFunc(r.cuts, func(c cut) bool { return c.from <= ts && ts <= c.to })
}

func show(c *event.Coverage) string {
	return fmt.Sprintf("%s %d..%d %s proof %s cause %q ids %d..%d, %d messages %s", c.Stream, c.Ts, c.TsEnd, c.State, c.Proof, c.Cause, c.SeqFirst, c.SeqLast, c.Messages, c.Detail)
}
