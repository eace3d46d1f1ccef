package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"

	"deeptape/hotpath/task"
)

// What a panic does. What derives or delivers (session, journal writer, deliverer, catch-up)
// no longer knows what it has done, so the agent stops as on a signal, with exit code 1: the
// other parts write and acknowledge what they have, and the journal brings the rest at the
// next start. What only looks on (limits and packing of the journal, acknowledged positions,
// status page) says so and goes on: nothing is recorded less because nobody could be told.

// panics are those of what looks on, by what it does, until it has done it again.
type panics struct {
	mu    sync.Mutex
	texts map[string]string
}

// survive does what may fail without harm to the record. It says whether it has panicked.
func (a *Agent) survive(what string, run func()) (panicked bool) {
	err := task.Guard(what, func() error { run(); return nil })
	p := &a.panics
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		delete(p.texts, what)
		return false
	}
	if p.texts == nil {
		p.texts = map[string]string{}
	}
	if text := fmt.Sprintf("%v; recording goes on, and this is tried again; please report it with the stack from the log", err); p.texts[what] != text {
		p.texts[what] = text
		logPanic(a.log, "a part of the agent has panicked; recording goes on", err)
	}
	return true
}

// troubles are the panics that nothing has healed since.
func (p *panics) troubles() (texts []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(p.texts)) {
		texts = append(texts, p.texts[what])
	}
	return texts
}

// orStop does what the record is made by. After a panic its error ends the run.
func (a *Agent) orStop(what string, run func() error) error {
	err := task.Guard(what, run)
	logPanic(a.log, "a part of the agent has panicked; the agent stops, and what is in the journal stays", err)
	return err
}

// logPanic tells of a panic, and of no other error.
func logPanic(log *slog.Logger, text string, err error) {
	var p *task.PanicError
	if errors.As(err, &p) {
		log.Error(text, "err", p, "stack", string(p.Stack))
	}
}

// surviving answers 500 where a page panics.
func (a *Agent) surviving(page http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what := "the page " + r.URL.Path
		if a.survive(what, func() { page.ServeHTTP(w, r) }) {
			http.Error(w, "this page has panicked; the log has the stack", http.StatusInternalServerError)
		}
	})
}
