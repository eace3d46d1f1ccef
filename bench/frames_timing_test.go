package bench

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"deeptape/venues/wire"
)

// Why venues/wire reads frame headers itself: the same stream of messages, once by
// it and once by each way that gobwas/ws offers. Every reader sums up the lengths
// and first bytes of what it has read, and all sums must be equal.
type framesReader interface {
	next() (payload []byte, err error) // borrowed until the next call
}

var framesReaders = []struct {
	name string
	make func(nc net.Conn) framesReader
}{
	{"wire", func(nc net.Conn) framesReader { return framesWire{wire.NewConn(nc, nil, wire.Options{})} }},
	{"gobwas-bufio-peek", func(nc net.Conn) framesReader {
		return &framesPeek{r: bufio.NewReaderSize(nc, 256<<10), head: make([]byte, ws.MaxHeaderSize)}
	}},
	{"gobwas-bufio", func(nc net.Conn) framesReader { return &framesCopy{r: bufio.NewReaderSize(nc, 256<<10)} }},
	{"gobwas-plain", func(nc net.Conn) framesReader { return &framesCopy{r: nc} }},
	{"wsutil", func(nc net.Conn) framesReader { return framesUtil{nc} }},
}

type framesWire struct{ c *wire.Conn }

func (f framesWire) next() ([]byte, error) {
	p, _, out := f.c.Read(time.Time{})
	if out != wire.Message {
		return nil, f.c.Err()
	}
	return p, nil
}

// framesPeek is the best that can be had of the library: a header buffer of its own,
// and the payload looked at in bufio's buffer.
type framesPeek struct {
	r    *bufio.Reader
	head []byte
	last int
}

func (f *framesPeek) next() ([]byte, error) {
	f.r.Discard(f.last)
	h, err := ws.ReadHeaderBuffer(f.r, f.head)
	if err != nil {
		return nil, err
	}
	if err := ws.CheckHeader(h, ws.StateClientSide); err != nil {
		return nil, err
	}
	f.last = int(h.Length)
	return f.r.Peek(f.last)
}

// framesCopy is the usual way: ReadHeader, then the payload into a buffer.
type framesCopy struct {
	r   io.Reader
	buf []byte
}

func (f *framesCopy) next() ([]byte, error) {
	h, err := ws.ReadHeader(f.r)
	if err != nil {
		return nil, err
	}
	if err := ws.CheckHeader(h, ws.StateClientSide); err != nil {
		return nil, err
	}
	f.buf = slices.Grow(f.buf[:0], int(h.Length))[:h.Length]
	_, err = io.ReadFull(f.r, f.buf)
	return f.buf, err
}

type framesUtil struct{ nc net.Conn }

func (f framesUtil) next() ([]byte, error) {
	p, _, err := wsutil.ReadServerData(f.nc)
	return p, err
}

const framesPerRound = 2000

// framesTape is a round of text frames of 150 to 500 bytes, 326 on average as Binance's.
func framesTape() []byte {
	rng := rand.New(rand.NewPCG(326, 1))
	var b []byte
	for i := range framesPerRound {
		n := 150 + rng.IntN(353)
		b = append(b, 0x81, 126)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
		for j := range n {
			b = append(b, byte('a'+(i+j)%26))
		}
	}
	return b
}

// framesSource is a net.Conn that plays the tape for ever, at most 64 KiB a read.
type framesSource struct {
	net.Conn
	tape []byte
	at   int
}

func (s *framesSource) Read(b []byte) (int, error) {
	n := copy(b[:min(len(b), 64<<10)], s.tape[s.at:])
	s.at += n
	if s.at == len(s.tape) {
		s.at = 0
	}
	return n, nil
}
func (s *framesSource) SetReadDeadline(time.Time) error { return nil }

func framesRound(b testing.TB, r framesReader) (sum int) {
	for range framesPerRound {
		p, err := r.next()
		if err != nil {
			b.Fatal(err)
		}
		sum += len(p)*256 + int(p[0]) + int(p[len(p)-1])
	}
	return sum
}

// BenchmarkFrames: ns per message without a kernel, and allocations.
func BenchmarkFrames(b *testing.B) {
	tape := framesTape()
	want := framesRound(b, framesReaders[2].make(&framesSource{tape: tape}))
	for _, r := range framesReaders {
		b.Run("v="+r.name, func(b *testing.B) {
			reader := r.make(&framesSource{tape: tape})
			allocs := testing.AllocsPerRun(5, func() { framesRound(b, reader) })
			for b.Loop() {
				if framesRound(b, reader) != want {
					b.Fatalf("%s reads something else", r.name)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/framesPerRound, "ns/msg")
			b.ReportMetric(allocs/framesPerRound, "allocs/msg")
		})
	}
}

// ratioFrames: venues/wire against the usual way, the least of interleaved rounds.
func ratioFrames(t *testing.T) float64 {
	tape := framesTape()
	own, usual := framesReaders[0].make(&framesSource{tape: tape}), framesReaders[2].make(&framesSource{tape: tape})
	want := framesRound(t, framesReaders[2].make(&framesSource{tape: tape}))
	round := func(r framesReader) func() {
		return func() {
			if framesRound(t, r) != want {
				t.Fatal("something else was read")
			}
		}
	}
	ours, theirs := interleave(100, round(own), round(usual))
	t.Logf("%.1f ns a message, %s %.1f", ours/framesPerRound, framesReaders[2].name, theirs/framesPerRound)
	return ours / theirs
}

// BenchmarkFramesLoopback: over a real socket, without and with TLS, the server writing
// as fast as it can. Without, what is measured is mostly how many reads a message costs;
// with, how long it takes to decrypt, and the server's encryption where cores are few.
func BenchmarkFramesLoopback(b *testing.B) {
	cert := framesCert(b)
	for _, secure := range []bool{false, true} {
		for _, r := range framesReaders {
			b.Run(fmt.Sprintf("tls=%v/v=%s", secure, r.name), func(b *testing.B) {
				var nc net.Conn
				if secure {
					nc = framesTLS(b, cert)
				} else {
					nc = framesServer(b)
				}
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				reader := r.make(nc)
				framesRound(b, reader)
				b.ReportAllocs()
				start := threadNs()
				for b.Loop() {
					framesRound(b, reader)
				}
				b.ReportMetric(float64(threadNs()-start)/float64(b.N)/framesPerRound, "cpu-ns/msg")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/framesPerRound, "ns/msg")
			})
		}
	}
}

// framesServer is a connection to a server that writes the tape until it ends.
func framesServer(b *testing.B) net.Conn {
	return framesDial(b, func(nc net.Conn) net.Conn { return nc })
}

func framesTLS(b *testing.B, cert tls.Certificate) net.Conn {
	nc := framesDial(b, func(nc net.Conn) net.Conn { return tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{cert}}) })
	return tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) // by its own maker, a line above
}

func framesDial(b *testing.B, wrap func(net.Conn) net.Conn) net.Conn {
	tape := framesTape()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		for w := wrap(nc); err == nil; {
			_, err = w.Write(tape)
		}
	}()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		nc.Close()
		l.Close()
		<-ended
	})
	return nc
}

// framesCert is as the venues' are: a key on P-256.
func framesCert(b *testing.B) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(crand.Reader, template, template, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
