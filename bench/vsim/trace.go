package vsim

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// Trace is what happened in a run, a line an event: the time since the start, who,
// and what. A nil Trace keeps nothing: a run is traced when it is run again.
type Trace struct {
	Lines   []string
	startNs int64
}

func (t *Trace) add(nowNs int64, who, format string, args ...any) {
	if t != nil {
		t.Lines = append(t.Lines, fmt.Sprintf("%11.6f  %-8s %s", float64(nowNs-t.startNs)/1e9, who, fmt.Sprintf(format, args...)))
	}
}

func (m *machine) say(who, format string, args ...any) {
	if m.trace != nil {
		m.trace.add(m.nowNs, who, format, args...)
	}
}

// logger writes what the agent logs into the trace.
type logger struct {
	m     *machine
	attrs string
}

func (l logger) Enabled(_ context.Context, level slog.Level) bool {
	return l.m.trace != nil || level >= slog.LevelError
}

func (l logger) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	if r.Level > slog.LevelInfo {
		b.WriteString(r.Level.String() + " ")
	}
	b.WriteString(r.Message + l.attrs)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		if a.Key == "stack" && l.m.broken == nil { // the agent survives a panic; a simulation must not
			l.m.broken = fmt.Errorf("panic: %s", b.String())
		}
		return true
	})
	l.m.say("agent", "%s", b.String())
	return nil
}

func (l logger) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		l.attrs += fmt.Sprintf(" %s=%v", a.Key, a.Value)
	}
	return l
}

func (l logger) WithGroup(string) slog.Handler { return l }
