package endtoend

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"deeptape/bench/simvenue"
)

// madhouse stands before a venue and lets everything through, until it goes mad, on its
// sockets or in its answers, in a way of its own at each time.
type madhouse struct {
	t     *testing.T
	to    string
	ln    net.Listener
	mu    sync.Mutex
	ways  map[bool]string // in which sockets (true) and answers are mad; "" is sane
	open  map[bool]map[net.Conn]bool
	asked map[bool]map[string]int // how often, by the way in which it was mad

	id     atomic.Int64 // of the last diff of the endless book
	poured atomic.Int64 // bytes of them
}

func startMadhouse(t *testing.T, to string) *madhouse {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &madhouse{t: t, to: to, ln: ln, ways: map[bool]string{}, open: map[bool]map[net.Conn]bool{}, asked: map[bool]map[string]int{}}
	for _, socket := range []bool{false, true} {
		m.open[socket], m.asked[socket] = map[net.Conn]bool{}, map[string]int{}
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { m.serve(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		m.turn(true, "closed")
		m.turn(false, "closed")
		all.Wait()
	})
	return m
}

// turn changes the mind of the venue; what is open of before ends.
func (m *madhouse) turn(socket bool, way string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ways[socket] = way
	for c := range m.open[socket] {
		c.Close()
	}
}

func (m *madhouse) count(socket bool, way string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked[socket][way]
}

func (m *madhouse) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	head, err := in.Peek(len("GET /stream"))
	if err != nil {
		return
	}
	socket := string(head) == "GET /stream"
	m.mu.Lock()
	way := m.ways[socket]
	m.open[socket][c] = true
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.open[socket], c)
		m.mu.Unlock()
	}()
	if way == "" {
		m.relay(c, in)
		return
	}
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		m.mu.Lock()
		m.asked[socket][way]++
		m.mu.Unlock()
		if way == "redirects" {
			fmt.Fprintf(c, "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", r.URL)
			continue
		}
		go io.Copy(io.Discard, in) // whatever the client says
		if way == "endless" {
			m.endless(c, socket, r.Header.Get("Sec-WebSocket-Key"))
		} else if socket {
			rave(c, way, r.Header.Get("Sec-WebSocket-Key"))
		} else {
			rant(c, way)
		}
		return
	}
}

func (m *madhouse) relay(c net.Conn, in io.Reader) {
	far, err := net.Dial("tcp", m.to)
	if err != nil {
		return
	}
	defer far.Close()
	go func() {
		io.Copy(far, in)
		far.Close()
	}()
	io.Copy(c, far)
}

// pour writes the text again and again, 10 MB a second at most.
func pour(c net.Conn, text []byte) {
	for began, n := time.Now(), 0; ; {
		k, err := c.Write(text)
		if err != nil {
			return
		}
		n += k
		time.Sleep(time.Duration(n)*100*time.Nanosecond - time.Since(began))
	}
}

// zeros are 2 MiB, as long as a message of Binance may be, of what is dearest to parse.
var zeros = "[" + strings.Repeat("0,", 1<<20-100) + "0]"

// rant is what a mad venue answers to a request.
func rant(c net.Conn, way string) {
	switch way {
	case "no end":
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		pour(c, fmt.Appendf(nil, "%x\r\n%s\r\n", len(zeros), zeros))
	case "a gigabyte":
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 1<<30)
		pour(c, []byte(zeros))
	case "hostile":
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(zeros), zeros)
	default:
		pour(c, soup())
	}
}

// rave is what a mad venue answers to a handshake.
func rave(c net.Conn, way, key string) {
	if way == "no end" {
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\n")
		pour(c, []byte("X-Pad: "+strings.Repeat("y", 1000)+"\r\n"))
		return
	}
	shakeHands(c, key)
	var text []byte
	frame := func(payload string) { text = append(text, ws.MustCompileFrame(ws.NewTextFrame([]byte(payload)))...) }
	switch way {
	case "a gigabyte":
		ws.WriteHeader(c, ws.Header{Fin: true, OpCode: ws.OpText, Length: 1 << 30})
		pour(c, []byte(zeros))
	case "hostile":
		for range 1000 { // and as many of them a second, about
			frame(`{"stream":"x@depth@100ms","data":{"e":"depthUpdate","s":"MADONEUSDT","U":1`)
			frame(`{"stream":"x@depth","data":{"e":"depthUpdate","b":` + strings.Repeat("[", 290) + strings.Repeat("]", 290) + `}}`)
			frame("\x00\xff{]")
		}
		frame(zeros)
		for range 9 {
			text = append(text, ws.MustCompileFrame(ws.NewPingFrame([]byte("mad")))...)
			frame(`{"data":[` + strings.Repeat(`{"":[],"":0},`, 80_000) + `0]}`)
		}
		pour(c, text)
	default:
		pour(c, soup())
	}
}

// endless is a book that is right in every other way: its ids follow, and each diff has
// 20,000 prices that have not been there before.
func (m *madhouse) endless(c net.Conn, socket bool, key string) {
	if !socket {
		body := fmt.Sprintf(`{"lastUpdateId":%d,"bids":[["1","1"]],"asks":[["2","1"]]}`, m.id.Load())
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		return
	}
	shakeHands(c, key)
	for {
		id := m.id.Add(1)
		text := fmt.Appendf(nil, `{"stream":"madoneusdt@depth@100ms","data":{"e":"depthUpdate","E":%d,"s":"MADONEUSDT","U":%d,"u":%d,"b":[["1","1"]],"a":[["2","1"]`, time.Now().UnixMilli(), id, id)
		for i := range int64(20_000) {
			text = fmt.Appendf(text, `,["%d","1"]`, 1000+id*20_000+i)
		}
		n, err := c.Write(ws.MustCompileFrame(ws.NewTextFrame(append(text, "]}}"...))))
		m.poured.Add(int64(n))
		if err != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func shakeHands(c net.Conn, key string) {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
}

func soup() []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([]byte, 100_000)
	for i := range out {
		out[i] = byte(rng.Uint32())
	}
	return out
}

// peakBytes is the most memory that the process has had, 0 where nobody says.
func (p *process) peakBytes() int64 {
	p.t.Helper()
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if kb := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text); kb != nil {
		return row{"kb": string(kb[1])}.int(p.t, "kb") << 10
	}
	return 0
}

// TestMadVenue: a venue that goes mad costs its neighbours nothing, and memory nobody.
// While it is, it is a gap, the status names it, and it is not called in a loop; once it
// is sane, it is recorded again.
func TestMadVenue(t *testing.T) {
	if testing.Short() || race {
		t.Skip("takes a minute")
	}
	symbols := map[string][]string{}
	for _, v := range simvenue.Venues() {
		symbols[v] = []string{simvenue.Symbol(v, "MADONE"), simvenue.Symbol(v, "MADTWO")}
	}
	share(t, waits, 76*time.Second)
	db, dir := emptyDatabase(t), t.TempDir()
	v := newStage(t, dir, symbols, simvenue.Options{Speed: 1})
	mad := startMadhouse(t, v.server.Addr())
	conf, err := os.ReadFile(v.conf)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(conf), "\n")
	for i := range lines {
		if strings.Contains(lines[i], " binance:") {
			lines[i] = strings.ReplaceAll(lines[i], v.server.Addr(), mad.ln.Addr().String())
		}
	}
	if err := os.WriteFile(v.conf, []byte(strings.Join(lines, "")), 0o644); err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, v.venue, db)
	well := func() {
		t.Helper()
		for began, since := time.Now(), time.Now(); time.Since(since) < 3*time.Second; time.Sleep(100 * time.Millisecond) {
			for _, x := range a.status().Symbols {
				if x.Coverage["book"].State != "verified" {
					since = time.Now()
				}
			}
			if time.Since(began) > 2*time.Minute {
				t.Fatalf("not all books are verified: %+v", a.status())
			}
		}
	}
	well()
	before, from := a.peakBytes(), time.Now()
	// What is asked for in each way, at least once; the waits grow to 30 s.
	mad.turn(false, "redirects")
	mad.turn(true, "") // the connection is cut, so that snapshots are asked for
	answers, sockets := []string{"redirects", "no end", "a gigabyte", "soup", "hostile"}, []string{"hostile", "a gigabyte", "soup", "no end", "redirects"}
	for socket, ways := range [][]string{answers, sockets} {
		for _, way := range ways {
			mad.turn(socket == 1, way)
			for began := time.Now(); mad.count(socket == 1, way) == 0; time.Sleep(50 * time.Millisecond) {
				if time.Since(began) > 2*time.Minute {
					t.Fatalf("%s: nobody asks any more", way)
				}
			}
			time.Sleep(time.Second)
		}
	}
	if said := strings.Join(a.status().Troubles, "\n"); !strings.Contains(said, "binance") || strings.Contains(said, "kraken") {
		t.Errorf("the status names the wrong venue: %q", said)
	}
	to := time.Now()
	mad.turn(false, "")
	mad.turn(true, "")
	well()
	st := a.status()
	st.balanced(t)
	grown := a.peakBytes() - before
	t.Logf("mad for %s: peak memory %d MB, %d MB more than before; asked for snapshots %v, for sockets %v; frames %v",
		to.Sub(from).Round(time.Second), a.peakBytes()/1e6, grown/1e6, mad.asked[false], mad.asked[true], st.Frames)
	if grown > 400<<20 {
		t.Errorf("the madness took %d MB", grown/1e6)
	}
	if st.Frames["rejected_oversized"] == 0 || st.Frames["rejected_malformed"] == 0 {
		t.Errorf("frames %v", st.Frames)
	}
	a.interrupt()
	v.server.Close()
	for _, way := range answers {
		if h, r := mad.count(true, way), mad.count(false, way); h > 12 || r > 120 {
			t.Errorf("%s: %d handshakes and %d requests", way, h, r)
		}
	}
	if all := a.errout.String(); !regexp.MustCompile(`level=WARN .*venue=binance`).MatchString(all) || regexp.MustCompile(`level=WARN .*venue=(coinbase|kraken|okx|bybit)`).MatchString(all) {
		t.Errorf("the log names the wrong venue:\n%s", tail(all))
	}
	v.verify(t, db)
	db.t = t
	db.applied()
	for _, name := range simvenue.Venues() {
		truth := v.truth(t, name)
		for _, symbol := range symbols[name] {
			s := db.readApplied(t, name, symbol)
			s.checkMade(truth[symbol])
			s.checkMadeTrades(truth[symbol])
			if name != "binance" {
				if got := s.states("book"); got != whole {
					t.Errorf("%s %s, a neighbour: %s", name, symbol, got)
				}
				continue
			}
			told := int64(0)
			for _, x := range s.coverage["book"] {
				if x.state == "gap" {
					told += max(0, min(x.to, to.UnixNano())-max(x.from, from.UnixNano()))
				} else if x.messages > 0 && x.from > from.UnixNano()+1e9 && x.to < to.UnixNano() {
					t.Errorf("%s: of the madness: %v", symbol, x)
				}
			}
			if mad := to.Sub(from); time.Duration(told) < mad-time.Second {
				t.Errorf("%s: %s of %s of madness are a gap: %v", symbol, time.Duration(told), mad, s.coverage["book"])
			}
		}
	}
}

// TestEndlessBook: a book of one venue grows without end. It became 1.2 GB of memory within
// seconds, counted as live, and in small segments gigabytes of journal, since each segment
// began with all of it. Now memory and journal are bounded, the book is a gap and told, and
// a neighbour loses nothing.
func TestEndlessBook(t *testing.T) {
	if testing.Short() || race {
		t.Skip("takes half a minute")
	}
	symbols := map[string][]string{"binance": {"MADONEUSDT"}, "kraken": {simvenue.Symbol("kraken", "MADONE")}}
	share(t, waits, 40*time.Second)
	db, dir := emptyDatabase(t), t.TempDir()
	v := newStage(t, dir, symbols, simvenue.Options{Speed: 1})
	mad := startMadhouse(t, v.server.Addr())
	conf, err := os.ReadFile(v.conf)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(conf), "\n")
	for i := range lines {
		if strings.Contains(lines[i], " binance:") {
			lines[i] = strings.ReplaceAll(lines[i], v.server.Addr(), mad.ln.Addr().String())
		}
	}
	if err := os.WriteFile(v.conf, []byte(strings.Join(lines, "")), 0o644); err != nil {
		t.Fatal(err)
	}
	v.configure("journal: {segment: 1MiB}\n")
	a := startAgent(t, v.venue, db)
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		verified := 0
		for _, x := range a.status().Symbols {
			if x.Coverage["book"].State == "verified" {
				verified++
			}
		}
		if verified == 2 {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("not all books are verified: %+v", a.status())
		}
	}
	before := a.peakBytes()
	mad.turn(false, "endless")
	mad.turn(true, "endless")
	time.Sleep(12 * time.Second)
	grown := a.peakBytes() - before
	journal := int64(0)
	files, err := os.ReadDir(v.journal)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil {
			journal += info.Size()
		}
	}
	poured := mad.poured.Load()
	t.Logf("%d levels in %d MB of diffs: %d MB of memory, %d MB of journal", mad.id.Load()*20_000, poured/1e6, grown/1e6, journal/1e6)
	if grown > 600<<20 {
		t.Errorf("the book took %d MB of memory", grown/1e6)
	}
	if journal > poured+16<<20 {
		t.Errorf("%d MB of journal of %d MB of diffs", journal/1e6, poured/1e6)
	}
	mad.turn(false, "")
	mad.turn(true, "")
	a.status().balanced(t)
	a.interrupt()
	v.server.Close()
	if all := a.errout.String(); !regexp.MustCompile(`binance MADONEUSDT: the book is given up: it came to \d+ levels`).MatchString(all) {
		t.Errorf("nobody is told:\n%s", tail(all))
	}
	db.t = t
	db.applied()
	symbol := symbols["kraken"][0]
	s := db.readApplied(t, "kraken", symbol)
	s.checkMade(v.truth(t, "kraken")[symbol])
	if got := s.states("book"); got != whole {
		t.Errorf("the neighbour: %s", got)
	}
}
