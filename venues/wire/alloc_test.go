//go:build !race

package wire

import (
	"net"
	"strings"
	"testing"
	"time"
)

// Over a real socket: a message, a fragmented message and a ping with its pong cost
// no allocation once warm.
func TestReadAllocatesNothing(t *testing.T) {
	step := make(chan struct{})
	batch := join(frame(fin|text, strings.Repeat("x", 300)), frame(text, "ab"), frame(fin|ping, "ping"), frame(fin|cont, "cd"))
	url := serve(t, func(nc net.Conn) {
		buf := make([]byte, 1024)
		for range step {
			nc.Write(batch)
			nc.Read(buf) // the pong
		}
	})
	defer close(step)
	c := dialTest(t, url, Options{})
	c.pongSentNs = -1 << 62
	deadline := time.Now().Add(time.Minute)
	round := func() {
		c.pongSentNs = 1 // the gap is long over
		step <- struct{}{}
		for range 2 {
			if _, _, out := c.Read(deadline); out != Message {
				t.Fatalf("outcome %v: %v", out, c.Err())
			}
		}
	}
	if n := testing.AllocsPerRun(500, round); n != 0 {
		t.Errorf("%v allocations per round of two messages and a ping", n)
	}
	if c.Counters.PongsSent != c.Counters.Pings || c.Counters.Pings < 500 {
		t.Errorf("counters %+v", c.Counters)
	}
}

func TestWriteTextAllocatesNothing(t *testing.T) {
	c := NewConn(&scriptConn{}, nil, Options{})
	b := []byte(`{"op":"ping"}`)
	if n := testing.AllocsPerRun(100, func() {
		c.nc.(*stampConn).Conn.(*scriptConn).wrote.Reset()
		if err := c.WriteText(b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per text", n)
	}
}
