package session

import (
	"context"
	"sync"

	"deeptape/venues/wire"
)

// What a session needs of the network, so that it also runs on a simulated one.

// Conn is one WebSocket connection. One task owns it; only Interrupt is for any.
// See wire.Conn, whose words these are; times are on the session's clock.
type Conn interface {
	// ReadBy returns the next message, borrowed until the next ReadBy, and its stamp;
	// or why there is none.
	ReadBy(deadlineNs int64) (payload []byte, stampNs int64, outcome wire.ReadOutcome)
	Interrupt()
	WriteText(b []byte) error
	Close(code uint16, reason string)
	Err() error
	ProgressNs() int64 // stamp of the last read that got on, 0 for none
}

// Dial connects. A message longer than maxMessageBytes ends the connection, before
// memory is taken for it.
type Dial func(ctx context.Context, url string, maxMessageBytes int) (Conn, error)

// Rest fetches over HTTP. See wire.Rest.
type Rest interface {
	Get(ctx context.Context, url string) (wire.Answer, error)
}

// DialWire makes Options.Dial of the real network.
func DialWire(clock wire.Clock) Dial {
	return func(ctx context.Context, url string, maxMessageBytes int) (Conn, error) {
		conn, err := wire.Dial(ctx, url, wire.Options{Clock: clock, MaxMessageBytes: maxMessageBytes})
		if err != nil {
			return nil, err
		}
		return conn, nil
	}
}

// answer to a request for a snapshot.
type answer struct {
	connection int64 // that it was fetched for
	inst       uint16
	request    uint32
	status     uint16
	body       []byte
}

// outbox holds the commands that wait for the second line's reader to write them.
type outbox struct {
	mu    sync.Mutex
	texts [][]byte
}

// put is false if there is no room: the reader writes nothing.
func (o *outbox) put(text []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.texts) >= sideTexts {
		return false
	}
	o.texts = append(o.texts, text)
	return true
}

// take returns the oldest text, or nil.
func (o *outbox) take() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.texts) == 0 {
		return nil
	}
	text := o.texts[0]
	o.texts = o.texts[1:]
	return text
}

func (o *outbox) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.texts) >= sideTexts
}

// inbox holds the answers until the owner takes them. An instrument has at most one
// request under way, and those of ended connections leave nothing here.
type inbox struct {
	mu      sync.Mutex
	answers []answer
}

func (b *inbox) put(a answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers = append(b.answers, a)
}

// take returns the oldest answer, or nil.
func (b *inbox) take() *answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.answers) == 0 {
		return nil
	}
	a := b.answers[0]
	b.answers = b.answers[1:]
	return &a
}

func (b *inbox) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers = nil
}
