package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"deeptape/bench/world"
	"deeptape/hotpath/event"
	"deeptape/ilp/qdb"
)

// what an agent derives.
type what string

const (
	full      what = "top_levels: 10\nquotes: true\n"
	deltaOnly what = "top_levels: 1\ndepth_bps: []\nquotes: false\n"
)

// pollEvery is how often the agent is asked for its status: its answers take CPU that
// counts as its own.
const pollEvery = 250 * time.Millisecond

// lastPollEvery is the same when all has been received, and what is left to learn is
// when it has been delivered.
const lastPollEvery = 100 * time.Millisecond

// lastRows is how many rows of book_delta may be left when QuestDB is asked for them all
// the time: a tenth of a second's, and few questions.
const lastRows = 120_000

// recorded is what a run of the agent has shown.
type recorded struct {
	r          *rig
	startNs    int64
	sent       int64 // by the venue, warm-up included
	base, end  status
	published  histogram
	problems   []string
	rssBytes   int64         // the most that the agent held
	toAcked    time.Duration // from the start to the last row acknowledged
	toApplied  time.Duration // and to it being visible
	toVisible  time.Duration // the same for book_delta alone: coverage comes after the rows that it tells of
	agentCPU   time.Duration // from the start until applied
	questCPU   time.Duration
	venueCPU   time.Duration
	written    int64 // rows that QuestDB wrote, each time that it did
	journalDir string
	verify     string
	deltas     int64 // rows of book_delta from the start on

	deferredMost int64 // rows of book_delta, as seen at each poll
	catchUps     int64
}

// empty takes the rows of an earlier run out of the database.
func (r *rig) empty(ctx context.Context) error {
	tables := []string{"capture_stats"}
	for table := range event.NumTables {
		tables = append(tables, table.String())
	}
	for _, table := range tables {
		var missing *qdb.SQLError
		if err := r.db.Exec(ctx, "TRUNCATE TABLE "+table); err != nil && !errors.As(err, &missing) {
			return err
		}
	}
	return nil
}

// startAgent records what a venue sends into a new journal.
func (r *rig) startAgent(ctx context.Context, addrs venueAddrs, w what) (agent *child, conf, url, journal string, err error) {
	r.runs++
	conf = filepath.Join(r.dir, fmt.Sprintf("agent%d.yaml", r.runs))
	journal = filepath.Join(r.dir, fmt.Sprintf("journal%d", r.runs))
	text := fmt.Sprintf("questdb: %q\njournal: {dir: %q}\nlisten: 127.0.0.1:0\n%svenues:\n  binance: {symbols: [%s], ws_url: %q, rest_url: %q}\n",
		r.info.Conf(), journal, w, r.symbols(), addrs.WSURL, addrs.RestURL)
	if err = os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, "", "", "", err
	}
	if agent, err = r.child("capture", nil, r.opt.deeptape, "capture", "-c", conf); err != nil {
		return nil, "", "", "", err
	}
	if url, err = agent.says(ctx, `url=(http://\S+)`); err != nil {
		agent.kill()
	}
	return agent, conf, url, journal, err
}

// errNotReady means that the start came before every book was live.
var errNotReady = errors.New("the agent is not ready when the run is to start")

// record runs venue and agent, waits until QuestDB has everything, and verifies it.
func (r *rig) record(ctx context.Context, w what) (got *recorded, err error) {
	for {
		got, err = r.recordOnce(ctx, w)
		if !errors.Is(err, errNotReady) || r.warmNs >= mostWarmNs {
			return got, err
		}
		r.warmFor(2 * r.warmNs)
		fmt.Fprintf(r.opt.out, "%v; once more, after %d s\n", err, r.warmNs/1e9)
	}
}

func (r *rig) recordOnce(ctx context.Context, w what) (got *recorded, err error) {
	got = &recorded{r: r}
	if err := r.empty(ctx); err != nil {
		return nil, err
	}
	j := r.newJob()
	var addrs venueAddrs
	venue, err := r.role("venue", j, &addrs)
	if err != nil {
		return nil, err
	}
	defer venue.kill()
	agent, conf, url, journal, err := r.startAgent(ctx, addrs, w)
	if err != nil {
		return nil, err
	}
	defer agent.kill()
	got.journalDir, got.startNs = journal, j.StartNs

	// In the pause before the start everything must be settled.
	if err := pauseUntil(ctx, j.StartNs-300_000_000); err != nil {
		return nil, err
	}
	if err := getJSON(url+"/status.json", &got.base); err != nil {
		return nil, err
	}
	live := 0
	for _, s := range got.base.Symbols {
		if s.Book == "live" {
			live++
		}
	}
	if live < r.profile.Streams || got.base.LagInputs > int64(r.profile.Streams*world.PerSecond) { // a second's
		return nil, fmt.Errorf("%w: %d of %d books are live, QuestDB lags by %d inputs", errNotReady, live, r.profile.Streams, got.base.LagInputs)
	}
	agentBase, questBase, venueBase := cpu(agent.cmd.Process.Pid), cpu(r.info.PID), cpu(venue.cmd.Process.Pid)
	writtenBase, err := r.written()
	if err != nil {
		return nil, err
	}
	if err := pauseUntil(ctx, j.StartNs); err != nil {
		return nil, err
	}
	if !r.profile.Unpaced {
		if err := pauseUntil(ctx, j.StartNs+j.ForNs); err != nil {
			return nil, err
		}
	}
	seen := int64(0) // rows of book_delta
	for got.sent = math.MaxInt64; ; {
		if got.sent == math.MaxInt64 {
			if sent, over, err := r.sentNow(addrs); err != nil {
				return nil, err
			} else if over {
				got.sent = sent
			}
		}
		if err := getJSON(url+"/status.json", &got.end); err != nil {
			return nil, err
		}
		got.deferredMost = max(got.deferredMost, got.end.Rows["book_delta"].Deferred)
		every, received := pollEvery, got.end.Frames["received"] >= got.sent
		if received {
			every = lastPollEvery
			if rows := got.end.Rows["book_delta"]; seen < rows.Derived && rows.Derived-rows.Acked <= lastRows {
				if seen, err = r.visible(ctx, rows.Derived); err != nil {
					return nil, err
				}
				got.toVisible = time.Duration(time.Now().UnixNano() - j.StartNs)
				continue
			}
		}
		if received && got.end.LagInputs == 0 {
			break
		}
		if err := pause(ctx, every); err != nil {
			return nil, err
		}
	}
	if got.catchUps, err = metric(url, "deeptape_questdb_catch_ups_total"); err != nil {
		return nil, err
	}
	got.toAcked = time.Duration(time.Now().UnixNano() - j.StartNs)
	if err := r.applied(ctx); err != nil {
		return nil, err
	}
	got.toApplied = time.Duration(time.Now().UnixNano() - j.StartNs)
	got.agentCPU, got.questCPU = cpu(agent.cmd.Process.Pid)-agentBase, cpu(r.info.PID)-questBase
	got.venueCPU = cpu(venue.cmd.Process.Pid) - venueBase
	if got.written, err = r.written(); err != nil {
		return nil, err
	}
	got.written -= writtenBase
	got.rssBytes = rssMost(agent.cmd.Process.Pid)
	got.published = got.end.histogram("venue_to_published").since(got.base.histogram("venue_to_published"))
	got.deltas = got.end.Rows["book_delta"].Derived - got.base.Rows["book_delta"].Derived

	agent.cmd.Process.Signal(syscall.SIGINT)
	if err := agent.wait(); err != nil {
		return nil, err
	}
	if err := venue.end(); err != nil {
		return nil, err
	}
	if w == full {
		got.proves(ctx, conf)
	}
	return got, nil
}

// metric reads one number of /metrics.
func metric(url, name string) (int64, error) {
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`(?m)^` + name + ` ([0-9]+)$`).FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("no metric %s", name)
	}
	return strconv.ParseInt(string(m[1]), 10, 64)
}

// written counts the rows that QuestDB has put into its columns, again and again where it
// merges them.
func (r *rig) written() (int64, error) {
	return metric("http://"+r.info.Metrics, "questdb_physically_written_rows_total")
}

// proves runs verify.
func (g *recorded) proves(ctx context.Context, conf string) {
	out, err := exec.CommandContext(ctx, g.r.opt.deeptape, "verify", "-c", conf, "--journal", g.journalDir).CombinedOutput()
	g.verify = strings.TrimSpace(string(out))
	if err != nil {
		g.problems = append(g.problems, fmt.Sprintf("verify: %v\n%s", err, g.verify))
	}
}

// applied waits until QuestDB shows all that it has acknowledged.
func (r *rig) applied(ctx context.Context) error {
	for {
		res, err := r.db.Query(ctx, "SELECT count(), max(writerTxn) FROM wal_tables() WHERE writerTxn < sequencerTxn OR suspended")
		if err != nil {
			return err
		}
		if n, _ := res.Int(0, "count()"); n == 0 {
			return nil
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

// visible waits until book_delta shows so many rows, half a minute at most, and says how
// many it shows.
func (r *rig) visible(ctx context.Context, want int64) (rows int64, err error) {
	for began := time.Now(); ; {
		res, err := r.db.Query(ctx, "SELECT count() FROM book_delta")
		if err != nil {
			return 0, err
		}
		if rows, _ = res.Int(0, "count()"); rows >= want {
			return rows, nil
		}
		if time.Since(began) > 30*time.Second {
			return rows, fmt.Errorf("book_delta shows %d rows, want %d", rows, want)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return rows, err
		}
	}
}

// mostRSSBytes bounds the agent's memory whatever is sent to it: three feeds with
// their rings, their large snapshots and their books, eleven batches on their way.
const mostRSSBytes = 640 << 20

// check is what must hold on any machine.
func (g *recorded) check() error {
	bad := func(format string, args ...any) { g.problems = append(g.problems, fmt.Sprintf(format, args...)) }
	end := &g.end
	if n := end.Frames["received"] - end.Frames["control"]; n != g.sent {
		bad("%d messages received of %d sent", n, g.sent)
	}
	for name, n := range end.Frames {
		if n != 0 && (name == "lost" || strings.HasPrefix(name, "rejected")) {
			bad("%d frames %s", n, name)
		}
	}
	if n := g.published.count(); n != int64(g.r.stamped) {
		bad("%d latencies of %d messages", n, g.r.stamped)
	}
	if end.LedgerDifference != 0 {
		bad("ledger difference %d", end.LedgerDifference)
	}
	for _, f := range end.Feeds {
		if f.LostFrames != 0 || f.Disconnects != 0 {
			bad("%d frames lost, %d disconnects", f.LostFrames, f.Disconnects)
		}
	}
	for _, s := range end.Symbols {
		if s.Gaps != 0 || s.Book != "live" {
			bad("%s: %d gaps, book %s", s.Symbol, s.Gaps, s.Book)
		}
	}
	for table, rows := range end.Rows {
		if rows.Derived != rows.Acked && table != "coverage" && table != "instruments" || rows.Quarantined != 0 {
			bad("%s: %d rows derived, %d acknowledged, %d quarantined", table, rows.Derived, rows.Acked, rows.Quarantined)
		}
	}
	if g.deltas < int64(g.r.levels) {
		bad("%d rows of book_delta for %d levels", g.deltas, g.r.levels)
	}
	if g.rssBytes > mostRSSBytes {
		bad("the agent took %d MiB, more than %d", g.rssBytes>>20, mostRSSBytes>>20)
	}
	if len(g.problems) > 0 {
		return errors.New(strings.Join(g.problems, "\n"))
	}
	return nil
}

func (g *recorded) print(out io.Writer) {
	fmt.Fprintf(out, "sent     %d messages with %d levels (and %d to warm up); received %d, lost %d, gaps %d, ledger difference %d\n",
		g.r.messages, g.r.levels, g.sent-int64(g.r.messages), g.end.Frames["received"]-g.end.Frames["control"], g.end.Frames["lost"], g.gaps(), g.end.LedgerDifference)
	var derived, acked, deferred int64
	for _, rows := range g.end.Rows {
		derived, acked, deferred = derived+rows.Derived, acked+rows.Acked, deferred+rows.Deferred
	}
	fmt.Fprintf(out, "rows     %d derived, %d acknowledged, %d still deferred; while sending up to %d were, in %d catch-ups; all acknowledged %.1f s and visible %.1f s after the start\n",
		derived, acked, deferred, g.deferredMost, g.catchUps, g.toAcked.Seconds(), g.toApplied.Seconds())
	fmt.Fprintf(out, "cost     agent %.2f s, QuestDB %.2f s of CPU; the agent held %d MiB at most, of row rings %d KiB; journal %d KiB\n",
		g.agentCPU.Seconds(), g.questCPU.Seconds(), g.rssBytes>>20, g.ringHigh()>>10, g.end.Journal.Bytes>>10)
	fmt.Fprintf(out, "QuestDB  wrote each row %.1f times\n", float64(g.written)/float64(max(acked-g.ackedBefore(), 1)))
	for _, stage := range []string{"venue_to_published", "venue_to_read", "read_to_published", "published_to_journalled", "journalled_to_acknowledged"} {
		h := g.end.histogram(stage).since(g.base.histogram(stage))
		if stage == "venue_to_published" {
			stage = "schedule to published"
		}
		fmt.Fprintf(out, "latency  %-36s p50 %9s  p99 %9s  p99.9 %9s  max %9s\n", strings.ReplaceAll(stage, "_", " "),
			short(h.quantile(0.5)), short(h.quantile(0.99)), short(h.quantile(0.999)), short(h.quantile(1)))
	}
	if g.verify != "" {
		lines := strings.Split(g.verify, "\n")
		fmt.Fprintf(out, "verify   %s\n", lines[len(lines)-1])
	}
}

func (g *recorded) ackedBefore() (n int64) {
	for _, rows := range g.base.Rows {
		n += rows.Acked
	}
	return n
}

func (g *recorded) gaps() (n int64) {
	for _, s := range g.end.Symbols {
		n += s.Gaps
	}
	return n
}

func (g *recorded) ringHigh() (n int64) {
	for _, f := range g.end.Feeds {
		n += f.RingHigh
	}
	return n
}

// short is a time in three figures.
func short(ns int64) string {
	switch d := float64(max(ns, -ns)); {
	case d < 1e4:
		return fmt.Sprintf("%dns", ns)
	case d < 1e7:
		return fmt.Sprintf("%.0fus", float64(ns)/1e3)
	default:
		return fmt.Sprintf("%.0fms", float64(ns)/1e6)
	}
}

// ticksPerSecond of /proc; it has been 100 on Linux for ever.
const ticksPerSecond = 100

// cpu is what a process has used so far; 0 where it cannot be known.
func cpu(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * time.Second / ticksPerSecond
}

// rssMost is the most memory that a process has held at a time.
func rssMost(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return math.MaxInt64
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return kb << 10
}
