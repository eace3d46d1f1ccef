package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	coder "github.com/coder/websocket"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	gorilla "github.com/gorilla/websocket"

	"deeptape/venues/wire"
)

// A tape is a server that has no kernel between it and the client: it answers the
// handshake, and then plays its frames for ever, at most 64 KiB a read. What is
// measured is what a client does with each byte, and no system call.
type tape struct {
	frames []byte
	at     int

	shakes chan struct{} // closed when the client's handshake is whole; nil where it makes none
	said   []byte        // by the client until then
	answer []byte        // to the handshake
}

const readBytesMax = 64 << 10

func (t *tape) Read(b []byte) (int, error) {
	if t.shakes != nil {
		<-t.shakes
	}
	if len(t.answer) > 0 {
		n := copy(b, t.answer)
		t.answer = t.answer[n:]
		return n, nil
	}
	n := copy(b[:min(len(b), readBytesMax)], t.frames[t.at:])
	t.at += n
	if t.at == len(t.frames) {
		t.at = 0
	}
	return n, nil
}

func (t *tape) Write(b []byte) (int, error) {
	if t.shakes == nil || len(t.answer) > 0 {
		return 0, fmt.Errorf("nothing more should be said, but was: %q", b)
	}
	t.said = append(t.said, b...)
	if bytes.HasSuffix(t.said, []byte("\r\n\r\n")) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(t.said)))
		if err != nil {
			return 0, err
		}
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 section 4.2.2
		t.answer = fmt.Appendf(nil, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
		close(t.shakes)
	}
	return len(b), nil
}

func (t *tape) Close() error                     { return nil }
func (t *tape) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (t *tape) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (t *tape) SetDeadline(time.Time) error      { return nil }
func (t *tape) SetReadDeadline(time.Time) error  { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }

// recorded makes a tape of all frames of a corpus, as a server writes them.
func recorded(c *corpus) []byte {
	var b []byte
	for _, f := range c.all {
		switch n := len(f); {
		case n < 126:
			b = append(b, 0x81, byte(n))
		case n < 1<<16:
			b = binary.BigEndian.AppendUint16(append(b, 0x81, 126), uint16(n))
		default:
			b = binary.BigEndian.AppendUint64(append(b, 0x81, 127), uint64(n))
		}
		b = append(b, f...)
	}
	return b
}

// reader returns the next message, valid until the next call.
type reader func() ([]byte, error)

func framesContest(c *corpus) (*contest, error) {
	frames := recorded(c)
	look := func(sum uint64, p []byte) uint64 {
		return sum*31 + uint64(len(p))<<16 + uint64(p[0])<<8 + uint64(p[len(p)-1]) + uint64(p[len(p)/2])<<32
	}
	want := uint64(0)
	for _, f := range c.all {
		want = look(want, f)
	}
	k := &contest{
		group: "websocket", corpus: c.name, messages: len(c.all), want: fmt.Sprintf("%x", want), clock: cpuNs,
		what: fmt.Sprintf("all %d frames of the recording, %d bytes on average, out of a connection's memory", len(c.all), len(frames)/len(c.all)),
	}
	for _, p := range []struct {
		name, notes string
		dial        func(t *tape) (reader, error)
	}{
		{"deeptape", "`venues/wire`, borrowed from its buffer", func(nc *tape) (reader, error) {
			conn := wire.NewConn(nc, nil, wire.Options{})
			return func() ([]byte, error) {
				p, _, out := conn.Read(time.Time{})
				if out != wire.Message {
					return nil, conn.Err()
				}
				return p, nil
			}, nil
		}},
		{"gobwas/ws, peeking", "`ReadHeaderBuffer` and `Peek` on 256 KiB of bufio", gobwasPeek},
		{"gobwas/ws wsutil", "`ReadServerData` on 256 KiB of bufio, its usual form", gobwasUsual},
		{"gorilla, own buffer", "`NextReader` into a reused buffer, 256 KiB read buffer", gorillaReused},
		{"gorilla", "`ReadMessage`, its usual form, 256 KiB read buffer", gorillaUsual},
		{"coder, own buffer", "`Reader` into a reused buffer, 256 KiB read buffer", coderReused},
		{"coder", "`Read`, its usual form, 256 KiB read buffer", coderUsual},
	} {
		next, err := p.dial(&tape{frames: frames})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		sum := uint64(0)
		k.peers = append(k.peers, &peer{name: p.name, notes: p.notes,
			work: func() error {
				sum = 0
				for range c.all {
					p, err := next()
					if err != nil {
						return err
					}
					sum = look(sum, p)
				}
				return nil
			},
			told: func() string { return fmt.Sprintf("%x", sum) }})
	}
	return k, nil
}

func gobwasPeek(nc *tape) (reader, error) {
	r, head, last := bufio.NewReaderSize(nc, 256<<10), make([]byte, ws.MaxHeaderSize), 0
	return func() ([]byte, error) {
		r.Discard(last)
		h, err := ws.ReadHeaderBuffer(r, head)
		if err != nil {
			return nil, err
		}
		if err := ws.CheckHeader(h, ws.StateClientSide); err != nil {
			return nil, err
		}
		last = int(h.Length)
		return r.Peek(last)
	}, nil
}

func gobwasUsual(nc *tape) (reader, error) {
	rw := struct {
		io.Reader
		io.Writer
	}{bufio.NewReaderSize(nc, 256<<10), nc}
	return func() ([]byte, error) {
		p, _, err := wsutil.ReadServerData(rw)
		return p, err
	}, nil
}

func gorillaDial(nc *tape) (*gorilla.Conn, error) {
	nc.shakes = make(chan struct{})
	d := gorilla.Dialer{ReadBufferSize: 256 << 10, NetDialContext: func(context.Context, string, string) (net.Conn, error) { return nc, nil }}
	conn, _, err := d.Dial("ws://venue/stream", nil)
	return conn, err
}

func gorillaUsual(nc *tape) (reader, error) {
	conn, err := gorillaDial(nc)
	if err != nil {
		return nil, err
	}
	return func() ([]byte, error) {
		_, p, err := conn.ReadMessage()
		return p, err
	}, nil
}

func gorillaReused(nc *tape) (reader, error) {
	conn, err := gorillaDial(nc)
	if err != nil {
		return nil, err
	}
	return reused(func() (io.Reader, error) {
		_, r, err := conn.NextReader()
		return r, err
	}), nil
}

func coderDial(nc *tape) (*coder.Conn, error) {
	nc.shakes = make(chan struct{})
	t := &http.Transport{ReadBufferSize: 256 << 10, DialContext: func(context.Context, string, string) (net.Conn, error) { return nc, nil }}
	conn, _, err := coder.Dial(context.Background(), "ws://venue/stream", &coder.DialOptions{HTTPClient: &http.Client{Transport: t}})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(-1)
	return conn, nil
}

func coderUsual(nc *tape) (reader, error) {
	conn, err := coderDial(nc)
	if err != nil {
		return nil, err
	}
	return func() ([]byte, error) {
		_, p, err := conn.Read(context.Background())
		return p, err
	}, nil
}

func coderReused(nc *tape) (reader, error) {
	conn, err := coderDial(nc)
	if err != nil {
		return nil, err
	}
	return reused(func() (io.Reader, error) {
		_, r, err := conn.Reader(context.Background())
		return r, err
	}), nil
}

func reused(open func() (io.Reader, error)) reader {
	buf := make([]byte, 0, 64<<10)
	return func() ([]byte, error) {
		r, err := open()
		if err != nil {
			return nil, err
		}
		buf = buf[:0]
		for {
			n, err := r.Read(buf[len(buf):cap(buf)])
			buf = buf[:len(buf)+n]
			if err == io.EOF {
				return buf, nil
			}
			if err != nil {
				return nil, err
			}
			if len(buf) == cap(buf) {
				buf = slices.Grow(buf, 1)
			}
		}
	}
}
