package simvenue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// quiet serves data that start only when someone subscribes to zzzusdt.
func quiet(t *testing.T, opt Options) *Server {
	opt.Recordings = []Recording{write(t, diffs("ZZZUSDT", 3)...)}
	return start(t, opt)
}

func TestRequests(t *testing.T) {
	s := quiet(t, Options{})
	variants := "expected one of `SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"
	for _, c := range []struct{ send, want string }{
		{`{"method":"SUBSCRIBE","params":["nonesuch@trade"],"id":1}`, `{"result":null,"id":1}`},
		{`{"method":"SUBSCRIBE","params":["nonesuch@trade"],"id":-9223372036854775808}`, `{"result":null,"id":-9223372036854775808}`},
		{`{ "id" : "Ab-9_", "params" : [], "method" : "SUBSCRIBE" }`, `{"result":null,"id":"Ab-9_"}`},
		{`{"method":"UNSUBSCRIBE","params":["never@trade"],"id":null}`, `{"result":null,"id":null}`},
		{`{"method":"LIST_SUBSCRIPTIONS","id":3}`, `{"result":[],"id":3}`},
		{`{"method":"GET_PROPERTY","params":["combined"],"id":2}`, `{"result":false,"id":2}`},
		{`{"method":"SET_PROPERTY","params":["combined",true],"id":5}`, `{"result":null,"id":5}`},
		{`{"method":"SET_PROPERTY","params":["combined",1],"id":5}`, `{"code":1,"msg":"Invalid value type: expected Boolean","id":5}`},
		{`{"method":"SET_PROPERTY","params":["combined"],"id":5}`, `{"code":1,"msg":"Invalid value type: expected Boolean","id":5}`},
		{`{"method":"SET_PROPERTY","params":["combined",true,1],"id":5}`, `{"code":2,"msg":"Invalid request: too many parameters","id":5}`},
		{`{"method":"SET_PROPERTY","params":["colour",true],"id":5}`, `{"code":0,"msg":"Unknown property","id":5}`},
		{`{"method":"SET_PROPERTY","params":[null,true],"id":5}`, `{"code":2,"msg":"Invalid request: property name must be a string","id":5}`},
		{`{"method":"GET_PROPERTY","params":[],"id":5}`, `{"code":2,"msg":"Invalid request: property name must be a string","id":5}`},
		{`{"method":"LIST_SUBSCRIPTIONS","params":["x"],"id":5}`, `{"code":2,"msg":"Invalid request: too many parameters","id":5}`},
		{`{"method":"SUBSCRIB","id":5}`, "{\"code\":2,\"msg\":\"Invalid request: unknown variant `SUBSCRIB`, " + variants + ` at line 1 column 20","id":5}`},
		{`{"params":[],"id":5}`, "{\"code\":2,\"msg\":\"Invalid request: missing field `method` at line 1 column 20\",\"id\":5}"},
		{`{"method":"SUBSCRIBE","id":5}`, "{\"code\":2,\"msg\":\"Invalid request: missing field `params` at line 1 column 29\",\"id\":5}"},
		{`{"method":"SUBSCRIBE","params":"x@trade","id":5}`, `{"code":2,"msg":"Invalid request: params must be an array","id":5}`},
		{`{"method":"SUBSCRIBE","params":[7],"id":5}`, `{"code":2,"msg":"Invalid request: stream name must be a string","id":5}`},
		{`{"method":"SUBSCRIBE","params":[null],"id":5}`, `{"code":2,"msg":"Invalid request: stream name must be a string","id":5}`},
		{`{"method":"SUBSCRIBE","params":["a@trade"]}`, `{"code":2,"msg":"Invalid request: request ID must be an unsigned integer"}`},
		{`{"method":"SUBSCRIBE","params":["a@trade"],"id":1.5}`, `{"code":2,"msg":"Invalid request: request ID must be an unsigned integer"}`},
		{`{"method":"SUBSCRIBE","params":["a@trade"],"id":9223372036854775808}`, `{"code":2,"msg":"Invalid request: request ID must be an unsigned integer"}`},
		{`{"method":"SUBSCRIBE","params":["a@trade"],"id":"` + strings.Repeat("x", 37) + `"}`, `{"code":2,"msg":"Invalid request: request ID must be an unsigned integer"}`},
		{`[1]`, `{"code":2,"msg":"Invalid request: invalid type, expected an object"}`},
		{`null`, `{"code":2,"msg":"Invalid request: invalid type, expected an object"}`},
		{`x`, `{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1"}`},
		{"{\n\"id\":x}", `{"code":3,"msg":"Invalid JSON: expected value at line 2 column 6"}`},
		{``, `{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1"}`},
	} {
		cl := dial(t, s, "/ws")
		cl.send(c.send)
		if got := cl.mustText(); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.send, got, c.want)
		}
		cl.sock.Close()
	}
}

func TestSubscriptions(t *testing.T) {
	z, y := diffs("ZZZUSDT", 300), diffs("YYYUSDT", 300)
	var lines []string
	for i := range z {
		lines = append(lines, z[i], y[i])
	}
	s := start(t, Options{Recordings: []Recording{write(t, lines...)}, Speed: 4}) // 5 ms per pair
	c := dial(t, s, "/ws")
	c.send(`{"method":"SUBSCRIBE","params":["zzzusdt@depth@100ms","nonesuch@trade","zzzusdt@depth@100ms"],"id":1}`)
	if got := c.mustText(); got != `{"result":null,"id":1}` {
		t.Fatalf("first the acknowledgement: %s", got)
	}
	if got, want := c.mustText(), bareDiff("ZZZUSDT", 1001, 1001, "1.00000000", "1.00000000"); got != want {
		t.Fatalf("bare frames on /ws: got %s want %s", got, want)
	}
	// until skips data, all of which must have prefix, up to the answer.
	until := func(answer, prefix string) {
		t.Helper()
		for {
			got := c.mustText()
			if got == answer {
				return
			}
			if !strings.HasPrefix(got, prefix) {
				t.Fatalf("got %s, want %s or data %s", got, answer, prefix)
			}
		}
	}
	c.send(`{"method":"SET_PROPERTY","params":["combined",true],"id":2}`)
	until(`{"result":null,"id":2}`, `{"e":"depthUpdate"`)
	c.send(`{"method":"SUBSCRIBE","params":["yyyusdt@depth@100ms"],"id":3}`)
	until(`{"result":null,"id":3}`, `{"stream":"zzzusdt@depth@100ms","data":{`)
	c.send(`{"method":"LIST_SUBSCRIPTIONS","id":4}`)
	until(`{"result":["zzzusdt@depth@100ms","nonesuch@trade","yyyusdt@depth@100ms"],"id":4}`, `{"stream":"`)
	c.send(`{"method":"UNSUBSCRIBE","params":["zzzusdt@depth@100ms"],"id":5}`)
	until(`{"result":null,"id":5}`, `{"stream":"`)
	for i := 0; i < 10; i++ {
		if got := c.mustText(); !strings.HasPrefix(got, `{"stream":"yyyusdt@`) {
			t.Fatalf("after UNSUBSCRIBE: %s", got)
		}
	}
}

func TestStreamLimit(t *testing.T) {
	s := quiet(t, Options{})
	var names []string
	for i := 0; i < maxStreams+1; i++ {
		names = append(names, fmt.Sprintf("s%d@trade", i))
	}
	c := dial(t, s, "/stream")
	ask := func(list []string) string {
		p, _ := json.Marshal(list)
		c.send(fmt.Sprintf(`{"method":"SUBSCRIBE","params":%s,"id":1}`, p))
		return c.mustText()
	}
	if got := ask(names); !strings.HasPrefix(got, `{"code":2,`) {
		t.Fatalf("1025 at once: %s", got)
	}
	if got := ask(names[:maxStreams]); got != `{"result":null,"id":1}` {
		t.Fatalf("1024: %s", got)
	}
	if got := ask(names[5:10]); got != `{"result":null,"id":1}` {
		t.Fatalf("some again: %s", got)
	}
	if got := ask(names[maxStreams:]); !strings.HasPrefix(got, `{"code":2,`) {
		t.Fatalf("one more: %s", got)
	}
}

// closed returns the close frame that comes next, pings aside.
func (c *client) closed() string {
	for {
		f, err := c.next(patience)
		if err != nil {
			return err.Error()
		}
		if f.Header.OpCode == ws.OpClose {
			code, reason := ws.ParseCloseFrameData(f.Payload)
			return fmt.Sprintf("%d %s", code, reason)
		}
	}
}

func TestMessageRate(t *testing.T) {
	s := quiet(t, Options{})
	c := dial(t, s, "/ws")
	for i := 0; i < 5; i++ {
		c.send(`{"method":"LIST_SUBSCRIPTIONS","id":1}`)
	}
	for i := 0; i < 5; i++ {
		c.mustText()
	}
	time.Sleep(1050 * time.Millisecond)
	var six bytes.Buffer // in one write: a slow machine must not spread them over a second
	for i := 0; i < 4; i++ {
		ws.WriteFrame(&six, ws.MaskFrame(ws.NewTextFrame([]byte(`{"method":"LIST_SUBSCRIPTIONS","id":1}`))))
	}
	ws.WriteFrame(&six, ws.MaskFrame(ws.NewPongFrame([]byte("unsolicited"))))
	ws.WriteFrame(&six, ws.MaskFrame(ws.NewPingFrame([]byte("sixth"))))
	c.sock.Write(six.Bytes())
	if got := c.closed(); got != "1008 Too many requests" {
		t.Fatalf("closed: %s", got)
	}
	if n := s.Status().Closes["Too many requests"]; n != 1 {
		t.Fatalf("counted %d", n)
	}
}

func TestPings(t *testing.T) {
	s := quiet(t, Options{PingEvery: 250 * time.Millisecond, PongWithin: 3 * time.Second})
	begin := time.Now()
	good, deaf, wrong := dial(t, s, "/ws"), dial(t, s, "/ws"), dial(t, s, "/ws")
	ends := make(chan string, 2)
	go func() { ends <- "deaf " + deaf.closed() }()
	go func() {
		for {
			f, err := wrong.next(patience)
			if err != nil {
				ends <- "wrong " + err.Error()
				return
			}
			if f.Header.OpCode == ws.OpClose {
				_, reason := ws.ParseCloseFrameData(f.Payload)
				ends <- "wrong " + reason
				return
			}
			ws.WriteFrame(wrong.sock, ws.MaskFrame(ws.NewPongFrame(nil)))
		}
	}()
	pings := make(chan string, 1000)
	go func() { // to the end: it must outlive the others
		defer close(pings)
		for {
			f, err := good.next(patience)
			if err != nil || f.Header.OpCode != ws.OpPing {
				return
			}
			ws.WriteFrame(good.sock, ws.MaskFrame(ws.NewPongFrame(f.Payload)))
			pings <- string(f.Payload)
		}
	}()
	seen := map[string]bool{}
	for len(seen) < 6 {
		payload, ok := <-pings
		if !ok || seen[payload] || payload == "" {
			t.Fatalf("ping %d: payload %q", len(seen), payload)
		}
		seen[payload] = true
	}
	if d := time.Since(begin); d < 1400*time.Millisecond {
		t.Errorf("6 pings in %v", d)
	}
	got := map[string]bool{<-ends: true, <-ends: true}
	if !got["deaf 1008 Pong timeout"] || !got["wrong Pong timeout"] {
		t.Errorf("ends: %v", got)
	}
	deaf.sock.Close()
	wrong.sock.Close()
	for deadline := time.Now().Add(patience); s.Status().Connections != 1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections left, want the good one", s.Status().Connections)
		}
	}
}

// A client that neither reads nor answers is put out, and sets the feed free.
func TestStuckClientIsPutOut(t *testing.T) {
	var lines []string
	pad := strings.Repeat("0", 2000)
	for i := 0; i < 8000; i++ {
		lines = append(lines, fmt.Sprintf(`{"stream":"aaausdt@trade","data":{"e":"trade","E":1,"s":"AAAUSDT","t":%d,"x":"%s"}}`, i, pad))
	}
	s := start(t, Options{Recordings: []Recording{write(t, lines...)}, PingEvery: 200 * time.Millisecond, PongWithin: 300 * time.Millisecond, Speed: 1e6})
	dial(t, s, "/ws/aaausdt@trade")
	waitDone(t, s)
	if st := s.Status(); st.Connections != 0 || st.Closes["Pong timeout"] != 1 || st.Streams[0].Events != 8000 || st.Streams[0].Sent == 8000 {
		t.Fatalf("status %+v", st)
	}
}

func TestConnectionLife(t *testing.T) {
	s := quiet(t, Options{ConnLife: 200 * time.Millisecond})
	if got := dial(t, s, "/ws").closed(); got != "1001 24 hours" {
		t.Fatalf("closed: %s", got)
	}
}

func TestBrokenFrames(t *testing.T) {
	s := quiet(t, Options{})
	mask := func(f ws.Frame) []byte {
		var b bytes.Buffer
		ws.WriteFrame(&b, ws.MaskFrame(f))
		return b.Bytes()
	}
	plain := func(f ws.Frame) []byte {
		var b bytes.Buffer
		ws.WriteFrame(&b, f)
		return b.Bytes()
	}
	rsv := ws.NewTextFrame([]byte("{}"))
	rsv.Header.Rsv = ws.Rsv(true, false, false)
	for name, c := range map[string]struct {
		bytes []byte
		want  string
	}{
		"unmasked":       {plain(ws.NewTextFrame([]byte("{}"))), "1002 "},
		"reserved bit":   {mask(rsv), "1002 "},
		"lone continued": {mask(ws.NewFrame(ws.OpContinuation, true, []byte("x"))), "1002 "},
		"bad opcode":     {mask(ws.NewFrame(ws.OpCode(3), true, []byte("x"))), "1002 "},
		"long ping":      {mask(ws.NewFrame(ws.OpPing, true, make([]byte, 126))), "1002 "},
		"binary":         {mask(ws.NewBinaryFrame([]byte("{}"))), "1003 "},
		"not UTF-8":      {mask(ws.NewTextFrame([]byte{'"', 0xff, '"'})), "1007 "},
		"too big":        {mask(ws.NewTextFrame(bytes.Repeat([]byte("x"), maxMessageLen+1))), "1009 "},
		"close":          {mask(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))), "1000 "},
		"empty close":    {mask(ws.NewCloseFrame(nil)), "1000 "},
	} {
		cl := dial(t, s, "/ws")
		cl.sock.Write(c.bytes)
		if got := cl.closed(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: closed %s, want %s", name, got, c.want)
		}
		cl.sock.Close()
	}
	// A message in pieces with a ping between them is a message.
	cl := dial(t, s, "/ws")
	cl.sock.Write(mask(ws.NewFrame(ws.OpText, false, []byte(`{"method":"LIST_`))))
	cl.sock.Write(mask(ws.NewPingFrame([]byte("between"))))
	cl.sock.Write(mask(ws.NewFrame(ws.OpContinuation, true, []byte(`SUBSCRIPTIONS","id":7}`))))
	if f, err := cl.next(patience); err != nil || f.Header.OpCode != ws.OpPong || string(f.Payload) != "between" {
		t.Fatalf("pong: %+v %v", f, err)
	}
	if got := cl.mustText(); got != `{"result":[],"id":7}` {
		t.Fatalf("answer: %s", got)
	}
	// Garbage instead of frames ends the connection and nothing else.
	cl = dial(t, s, "/ws")
	cl.sock.Write(bytes.Repeat([]byte{0xff}, 300))
	cl.closed()
	if got := dial(t, s, "/ws").sock; got == nil {
		t.Fatal("the server is gone")
	}
}

func TestConnectLimit(t *testing.T) {
	s := quiet(t, Options{ConnectLimit: 3})
	for i := 0; i < 3; i++ {
		dial(t, s, "/ws")
	}
	if code, _, _ := get(t, s.RESTURL()+"/ws"); code != http.StatusTooManyRequests {
		t.Fatalf("the fourth: %d", code)
	}
}

func TestREST(t *testing.T) {
	rec, _ := aRecording(t, "AAAUSDT")
	s := start(t, Options{Recordings: []Recording{rec}, SnapshotWait: 20 * time.Millisecond})
	for _, c := range []struct {
		path string
		code int
		want string
	}{
		{"/api/v3/ping", 200, `{}`},
		{"/api/v3/depth?symbol=NONESUCH", 400, `{"code":-1121,"msg":"Invalid symbol."}`},
		{"/api/v3/depth", 400, `{"code":-1102,"msg":"Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."}`},
		{"/api/v3/depth?symbol=aaausdt", 400, `{"code":-1100,"msg":"Illegal characters found in parameter 'symbol'; legal range is '^[A-Z0-9-_.]{1,20}$'."}`},
		{"/api/v3/depth?symbol=AAAUSDT&limit=x", 400, `{"code":-1100,"msg":"Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'."}`},
		{"/api/v3/depth?symbol=AAAUSDT&limit=0", 400, `{"code":-1130,"msg":"Data sent for parameter 'limit' is not valid."}`},
		{"/api/v3/depth?symbol=AAAUSDT&depth=5", 400, `{"code":-1104,"msg":"Not all sent parameters were read; read '1' parameter(s) but was sent '2'."}`},
		{"/api/v3/exchangeInfo?symbol=NONESUCH", 400, `{"code":-1121,"msg":"Invalid symbol."}`},
		{`/api/v3/exchangeInfo?symbols=["AAAUSDT","NONESUCH"]`, 400, `{"code":-1121,"msg":"Invalid symbol."}`},
		{"/api/v3/exchangeInfo?symbol=AAAUSDT&symbols=x", 400, `{"code":-1128,"msg":"Combination of optional parameters invalid."}`},
		{"/sim/book?symbol=NONESUCH", 400, `{"code":-1121,"msg":"Invalid symbol."}`},
		{"/api/v3/klines", 404, "404 page not found\n"},
		{"/stream?streams=a@trade&timeUnit=MICROSECOND", 400, "timeUnit is not simulated"},
	} {
		if code, _, body := get(t, s.RESTURL()+c.path); code != c.code || body != c.want {
			t.Errorf("%s: %d %s\nwant %d %s", c.path, code, body, c.code, c.want)
		}
	}
	for _, path := range []string{"", "?symbol=AAAUSDT", `?symbols=["AAAUSDT"]`} {
		_, _, body := get(t, s.RESTURL()+"/api/v3/exchangeInfo"+path)
		var info struct {
			RateLimits []struct {
				RateLimitType, Interval string
				IntervalNum, Limit      int
			}
			Symbols []struct {
				Symbol, Status, BaseAsset, QuoteAsset string
				Filters                               []struct{ FilterType, TickSize, StepSize string }
			}
		}
		if err := json.Unmarshal([]byte(body), &info); err != nil {
			t.Fatal(err)
		}
		sym := info.Symbols[0]
		if r := info.RateLimits[0]; r.RateLimitType != "REQUEST_WEIGHT" || r.Interval != "MINUTE" || r.IntervalNum != 1 || r.Limit != 6000 {
			t.Errorf("rate limit %+v", r)
		}
		if len(info.Symbols) != 1 || sym.Symbol != "AAAUSDT" || sym.Status != "TRADING" || sym.BaseAsset != "AAA" || sym.QuoteAsset != "USDT" ||
			sym.Filters[0].TickSize != "1.00000000" || sym.Filters[1].StepSize != "0.10000000" {
			t.Errorf("symbol %+v", sym)
		}
	}
}

func TestWeights(t *testing.T) {
	rec := write(t, diffs("AAAUSDT", 2)...) // no REST line: never a gate
	s := start(t, Options{Recordings: []Recording{rec}, WeightLimit: 400, BanAfter: 2})
	s.places[0].v.limiter.minute = -1 // the first request begins a minute
	if left := 60 - time.Now().Second(); left < 10 {
		time.Sleep(time.Duration(left+1) * time.Second) // not over the end of one
	}
	used := 0
	for _, c := range []struct{ path, weight int }{{1, 5}, {100, 5}, {101, 25}, {500, 25}, {1000, 50}, {1001, 250}} {
		code, h, _ := get(t, fmt.Sprintf("%s/api/v3/depth?symbol=AAAUSDT&limit=%d", s.RESTURL(), c.path))
		used += c.weight
		if got := h.Get("X-MBX-USED-WEIGHT-1M"); code != 200 || got != fmt.Sprint(used) {
			t.Fatalf("limit %d: %d, used %s want %d", c.path, code, got, used)
		}
	}
	_, h, _ := get(t, s.RESTURL()+"/api/v3/exchangeInfo")
	if got := h.Get("X-MBX-USED-WEIGHT-1M"); got != "380" {
		t.Fatalf("exchangeInfo: used %s", got)
	}
	for i, want := range []int{429, 429, 418, 418} {
		code, h, body := get(t, s.RESTURL()+"/api/v3/depth?symbol=AAAUSDT&limit=500")
		if code != want || h.Get("Retry-After") == "" || h.Get("Retry-After") == "0" || !strings.Contains(body, `"code":-1003`) {
			t.Fatalf("request %d over the budget: %d %v %s", i, code, h, body)
		}
	}
	if code, _, _ := get(t, s.RESTURL()+"/api/v3/ping"); code != 418 {
		t.Fatalf("banned from all: %d", code)
	}
	if code, _, _ := get(t, s.RESTURL()+"/sim/status"); code != 200 {
		t.Fatalf("control pages have no budget: %d", code)
	}
}

// The limiter's own clockwork, with times of the test.
func TestWeightMinutes(t *testing.T) {
	l := weightLimiter{limit: 10, banAfter: 1}
	at := time.Unix(6_000, 0)
	for i, c := range []struct {
		after  time.Duration
		weight int
		status int
		retry  int
	}{
		{0, 10, 200, 0},
		{15 * time.Second, 1, 429, 45},
		{60 * time.Second, 10, 200, 0},
		{61 * time.Second, 1, 429, 59},
		{62 * time.Second, 1, 418, 120},
		{90 * time.Second, 1, 418, 93},
		{181 * time.Second, 1, 418, 2},
		{183 * time.Second, 1, 200, 0},
	} {
		status, _, retry, _ := l.take(c.weight, at.Add(c.after))
		if status != c.status || retry != c.retry {
			t.Errorf("step %d: %d retry %d, want %d retry %d", i, status, retry, c.status, c.retry)
		}
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		`{"method":"SUBSCRIBE","params":["a@trade"],"id":1}`, `{"method":"SET_PROPERTY","params":["combined",true],"id":"x"}`,
		`{"method":null,"id":null}`, `{"id":1,"id":2}`, `[]`, "\n{", `{"method":"GET_PROPERTY","params":[[]],"id":1}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		v, err := newVenue("binance", VenueOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var out Frame
		s, _ := v.Open(1, NewRequest("/ws"), func(f Frame) { out = f })
		s.Text(1, msg)
		var answer struct {
			Result json.RawMessage
			ID     json.RawMessage
			Code   *int
			Msg    string
		}
		if err := json.Unmarshal(out.Payload, &answer); err != nil {
			t.Fatalf("%q: %v in %s", msg, err, out.Payload)
		}
		if !json.Valid(msg) != (answer.Code != nil && *answer.Code == 3) {
			t.Fatalf("%q: %s", msg, out.Payload)
		}
		if answer.Code == nil && (answer.Result == nil || answer.ID == nil) {
			t.Fatalf("%q: neither result nor error: %s", msg, out.Payload)
		}
	})
}
