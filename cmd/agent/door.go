package agent

import (
	"net"
	"net/http"
	"slices"
	"sync"
)

// What of the descriptors that a process may have open the status page leaves alone: for
// the journal and its readers, QuestDB, the logs and the runtime, and for each feed its
// connections, those that follow them, and a snapshot.
const (
	keptDescriptors   = 32
	descriptorsOfFeed = 6
	pageConnsLeast    = 4
	pageConnsMost     = 64
)

// pageConns is how many connections the status page may have: half of what the limit
// leaves beside everything else.
func pageConns(descriptors uint64, feeds int) int {
	left := int64(min(descriptors, 1<<20)) - keptDescriptors - descriptorsOfFeed*int64(feeds)
	return int(min(max(left/2, pageConnsLeast), pageConnsMost))
}

// door lets no more than most connections in at a time. Who comes when it is full takes
// the place of the one that has been without a request for longest, so that connections
// that say nothing keep nobody out; while all are being answered, one waits for
// room and the kernel keeps who comes behind it.
type door struct {
	net.Listener
	most int

	mu     sync.Mutex
	in     []*guest // in the order in which they came, or fell silent
	left   sync.Cond
	closed bool
}

type guest struct {
	net.Conn
	door *door
	busy bool // a request of it has begun
}

func newDoor(ln net.Listener, most int) *door {
	d := &door{Listener: ln, most: most}
	d.left.L = &d.mu
	return d
}

// Accept holds one connection more than most while it waits for room.
func (d *door) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g := &guest{Conn: c, door: d}
	d.mu.Lock()
	for len(d.in) >= d.most && d.silent() < 0 && !d.closed {
		d.left.Wait()
	}
	if d.closed {
		d.mu.Unlock()
		c.Close()
		return nil, net.ErrClosed
	}
	var out *guest
	if len(d.in) >= d.most {
		i := d.silent()
		out = d.in[i]
		d.in = slices.Delete(d.in, i, i+1)
	}
	d.in = append(d.in, g)
	d.mu.Unlock()
	if out != nil {
		out.Close()
	}
	return g, nil
}

// silent is the one that has been without a request for longest, -1: none is.
func (d *door) silent() int { return slices.IndexFunc(d.in, func(g *guest) bool { return !g.busy }) }

// Close also ends an Accept that waits for room.
func (d *door) Close() error {
	d.mu.Lock()
	d.closed = true
	d.left.Broadcast()
	d.mu.Unlock()
	return d.Listener.Close()
}

// state is the server's word on a connection.
func (d *door) state(c net.Conn, s http.ConnState) {
	g, ok := c.(*guest)
	if !ok {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	g.busy = s == http.StateActive
	if i := slices.Index(d.in, g); s == http.StateIdle && i >= 0 {
		d.in = append(slices.Delete(d.in, i, i+1), g)
		d.left.Broadcast()
	}
}

// Close gives the place back. It may be called more than once.
func (g *guest) Close() error {
	err := g.Conn.Close()
	d := g.door
	d.mu.Lock()
	d.in = slices.DeleteFunc(d.in, func(o *guest) bool { return o == g })
	d.left.Broadcast()
	d.mu.Unlock()
	return err
}
