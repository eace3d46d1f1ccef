package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// serve runs a WebSocket server for one connection on loopback: gobwas does the
// handshake, script writes raw bytes and reads what comes. Its URL is returned.
func serve(t testing.TB, script func(nc net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(2 * time.Minute))
		if _, err := ws.Upgrade(nc); err != nil {
			t.Errorf("upgrade: %v", err)
			return
		}
		script(nc)
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return "ws://" + l.Addr().String() + "/stream?streams=a/b"
}

func dialTest(t testing.TB, url string, opt Options) *Conn {
	t.Helper()
	c, err := Dial(context.Background(), url, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(1000, "") })
	return c
}

// frame makes a server's frame by hand, not by the library that the client uses.
func frame(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

const (
	fin  = 0x80
	cont = 0x0
	text = 0x1
	bin  = 0x2
	clos = 0x8
	ping = 0x9
	pong = 0xa
)

func closeBody(code uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + reason
}

// clientFrame reads one frame of the client, and checks that it is masked.
func clientFrame(r io.Reader) (op ws.OpCode, payload []byte, err error) {
	h, err := ws.ReadHeader(r)
	if err != nil {
		return 0, nil, err
	}
	if err := ws.CheckHeader(h, ws.StateServerSide); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, h.Length)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, err
	}
	ws.Cipher(payload, h.Mask, 0)
	return h.OpCode, payload, nil
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// soon is a deadline for what must come: only a test that fails waits that long.
func soon() time.Time { return time.Now().Add(time.Minute) }

// scriptConn is a net.Conn that hands out chunks and takes whatever is written.
type scriptConn struct {
	chunks [][]byte
	wrote  bytes.Buffer
	closed bool
}

func (s *scriptConn) Read(b []byte) (int, error) {
	for len(s.chunks) > 0 && len(s.chunks[0]) == 0 {
		s.chunks = s.chunks[1:]
	}
	if len(s.chunks) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.chunks[0])
	s.chunks[0] = s.chunks[0][n:]
	return n, nil
}
func (s *scriptConn) Write(b []byte) (int, error)      { return s.wrote.Write(b) }
func (s *scriptConn) Close() error                     { s.closed = true; return nil }
func (s *scriptConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *scriptConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *scriptConn) SetDeadline(time.Time) error      { return nil }
func (s *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (s *scriptConn) SetWriteDeadline(time.Time) error { return nil }

// stepClock counts: each look is one nanosecond later.
type stepClock struct{ now int64 }

func (c *stepClock) NowNs() int64 { c.now++; return c.now }

// quietTLSServer does not log the handshakes that a test makes fail.
func quietTLSServer(h http.Handler) *httptest.Server {
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	return srv
}

// testSeed is always the same, so that luck is no gate; DEEPTAPE_SEED=n tries another.
func testSeed(t testing.TB) uint64 {
	seed := uint64(1)
	if one, err := strconv.ParseUint(os.Getenv("DEEPTAPE_SEED"), 10, 64); err == nil {
		seed = one
	}
	t.Logf("DEEPTAPE_SEED=%d", seed)
	return seed
}
