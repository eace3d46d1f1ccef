package deliver

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/task"
	"deeptape/ilp/qdb"
)

// noted is the machine's scheduler, but that who sleeps is woken at once, and how long it
// wanted to sleep is noted.
type noted struct {
	task.Real
	slept []time.Duration
}

func (n *noted) Sleep(_ context.Context, d time.Duration) bool {
	n.slept = append(n.slept, d)
	return true
}

// TestRetriesBackOff: a QuestDB that is down, or whose disk is full, is asked ever more
// seldom, up to every five seconds; once it has taken a batch the next trouble begins anew.
func TestRetriesBackOff(t *testing.T) {
	const down, tooLarge, stored = http.StatusServiceUnavailable, http.StatusRequestEntityTooLarge, http.StatusNoContent
	var answers []int
	db := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(answers[0])
		answers = answers[1:]
	}))
	defer db.Close()
	sched := &noted{}
	bell := sched.NewDoorbell()
	l := lane.New(0, lane.Options{InputBytes: 4096, RowBytes: 4096}, nil, bell)
	d := New(Options{
		DB: qdb.Conf{Addr: strings.TrimPrefix(db.URL, "http://")}, Log: slog.New(slog.DiscardHandler), Sched: sched, NowNs: func() int64 { return time.Now().UnixNano() },
		Prepare: func(context.Context) error { return nil },
	}, bell, []*lane.Lane{l})
	p := newPoster(d, fromPoster1)
	defer p.sender.Close()
	post := func(all ...int) []time.Duration {
		answers, sched.slept = all, nil
		b := newBatch(1, 2)
		b.reset(event.TableTrades)
		b.turn = 1
		b.body = append(b.body, "trades,venue=v,symbol=s px=1i 1\ntrades,venue=v,symbol=s px=1i 2\n"...)
		b.add(0, 1, 2, d.clock())
		if !p.deliver(t.Context(), b) || len(answers) > 0 {
			t.Fatalf("the batch is given up; answers left: %v", answers)
		}
		return sched.slept
	}
	const ms = time.Millisecond
	for _, c := range []struct {
		answers []int
		want    []time.Duration
	}{
		{[]int{down, down, down, down, down, down, down, down, stored}, []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 5000 * ms, 5000 * ms}},
		{[]int{down, stored}, []time.Duration{100 * ms}},
		// Half of a batch that was too large is stored, and the other half begins anew.
		{[]int{tooLarge, down, down, stored, down, stored}, []time.Duration{100 * ms, 200 * ms, 100 * ms}},
	} {
		if got := post(c.answers...); !slices.Equal(got, c.want) {
			t.Errorf("answers %v: waited %v, want %v", c.answers, got, c.want)
		}
	}
}

// TestTooLargeIsRemembered: what a 413 has taught holds for the batches that come: they are
// sent in parts that are taken, and are not refused first.
func TestTooLargeIsRemembered(t *testing.T) {
	const most = 150 << 10
	var sizes []int64
	refused := 0
	db := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.ContentLength > most {
			refused++
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		sizes = append(sizes, r.ContentLength)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer db.Close()
	d := New(Options{
		DB: qdb.Conf{Addr: strings.TrimPrefix(db.URL, "http://")}, Log: slog.New(slog.DiscardHandler), NowNs: func() int64 { return time.Now().UnixNano() },
		Prepare: func(context.Context) error { return nil },
	}, task.Real{}.NewDoorbell(), nil)
	p := newPoster(d, fromPoster1)
	defer p.sender.Close()
	row := "trades,venue=v,symbol=s note=\"" + strings.Repeat("x", 1000) + "\" 1\n"
	for turn := uint64(1); turn <= 3; turn++ {
		b := newBatch(0, 200)
		b.reset(event.TableTrades)
		b.turn, b.rows = turn, 200
		b.body = append(b.body, strings.Repeat(row, 200)...)
		sizes = nil
		if !p.deliver(t.Context(), b) {
			t.Fatal("the batch is given up")
		}
		total := int64(0)
		for _, n := range sizes {
			total += n
		}
		if total != int64(len(b.body)) || len(sizes) < 2 || len(sizes) > 4 {
			t.Errorf("batch %d of %d bytes came as %v", turn, len(b.body), sizes)
		}
	}
	if refused != 1 {
		t.Errorf("%d requests were refused, want the first one only", refused)
	}
}
