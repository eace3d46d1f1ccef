package session

import (
	"slices"
	"sync/atomic"
	"time"

	"deeptape/hotpath/event"
	"deeptape/venues"
	"deeptape/venues/wire"
)

// Commands go out inside the limits that the venue documents: so many a second on a
// connection, or for all connections of our address together, and at some venues so
// many subscriptions an hour. What finds no room waits, in its order; pings are no
// subscriptions and pass by what waits for the hour. The machine knows what has not been
// sent, asks for no more meanwhile, and coverage says so.

// Budgets are shared by all sessions of a venue.
type Budgets struct {
	Connects *wire.Budget
	Weight   *wire.Budget
	Commands *wire.Budget // of our address; nil where the venue counts them by connection

	burst  int64        // commands of our address that may wait at a time
	queued atomic.Int64 // and those that do, with those that connections being dialled will send
}

// NewBudgets makes the budgets of a venue. The weight a minute is its Rules' until it
// says its own.
func NewBudgets(rules *venues.Rules) *Budgets {
	b := &Budgets{
		Connects: wire.NewBudget(rules.ConnectsPerWindow, time.Duration(rules.ConnectWindowNs)),
		Weight:   wire.NewBudget(rules.RestWeightPerMinute, time.Minute),
	}
	if rules.CommandsOfAddress {
		b.Commands = wire.NewBudget(rules.CommandsPerSecond, time.Second)
		b.burst = 2 * int64(rules.CommandsPerSecond)
	}
	return b
}

// limits of one connection.
type limits struct {
	second, hour *wire.Budget // hour: nil where there is no such limit
	sent         bool         // a command has been
	notBefore    int64        // the hour is used up until then
}

func newLimits(rules *venues.Rules, of *Budgets) limits {
	l := limits{second: of.Commands}
	if l.second == nil {
		l.second = wire.NewBudget(rules.CommandsPerSecond, time.Second)
	}
	if rules.CommandsPerHour > 0 {
		l.hour = wire.NewBudget(rules.CommandsPerHour, time.Hour)
	}
	return l
}

// firstSparePercent of an address's commands are kept for the first one of a connection:
// Coinbase cuts one that is up for 5 s and has sent none.
const firstSparePercent = 16

type command struct {
	line uint8
	ping bool
	text string
}

// admit says whether a command may go out now.
func (s *Session) admit(c command, nowNs int64) bool {
	l := &s.limits[c.line]
	if !c.ping && nowNs < l.notBefore {
		return false
	}
	spare := 0
	if s.opt.Budgets.Commands != nil && l.sent {
		spare = firstSparePercent
	}
	if ok, _ := l.second.TryTakeSpare(nowNs, 1, spare); !ok {
		return false
	}
	if l.hour != nil && !c.ping {
		if ok, waitNs := l.hour.TryTake(nowNs, 1); !ok {
			l.notBefore = nowNs + waitNs
			s.counters.CommandsHeld.Add(1)
			s.log.Warn("the venue's limit of subscriptions an hour is used up: resubscriptions wait, and their books are gaps", "line", c.line, "retry_in", time.Duration(waitNs).Round(time.Second))
			return false
		}
	}
	l.sent = true
	return true
}

// send sends what is due and may go. The commands of a line keep their order, but for
// pings.
func (s *Session) send() error {
	defer s.tellQueue()
	var waits [2]bool
	for i := 0; i < len(s.sends) && s.conn != nil; {
		c := s.sends[i]
		d := s.lines.side
		direct := c.line == s.lines.line
		switch {
		case !direct && d == nil: // it has ended
			s.sends = slices.Delete(s.sends, i, i+1)
			continue
		case waits[c.line] && !c.ping, !direct && d.texts.Len() >= sideTexts, !s.admit(c, s.clock.NowNs()):
			waits[c.line] = true
			i++
			continue
		}
		text := []byte(c.text)
		if taken, err := s.inputOf(c.line, event.InputCommand, s.clock.NowNs(), 0, text); err != nil || !taken {
			return err
		}
		s.sends = slices.Delete(s.sends, i, i+1)
		if !direct {
			d.texts.Put(text)
			(*d.live.Load()).Interrupt()
		} else if err := s.conn.WriteText(text); err != nil {
			return nil // Read will say Closed
		}
		s.counters.Commands.Add(1)
	}
	return nil
}

// reserve says whether a connection may be dialled: where the commands of all of our
// connections share one limit, only if those that it will send can go out soon. A venue
// cuts a connection that is up and sends nothing.
func (s *Session) reserve(line uint8) bool {
	b := s.opt.Budgets
	if b.Commands == nil {
		return true
	}
	n := len(s.opt.Venue.Subscribe(s.cfg.Instruments, venues.Subscription{Quotes: s.cfg.Quotes, Depth: s.cfg.Depth}))
	for {
		queued := b.queued.Load()
		if queued > 0 && queued+int64(n) > b.burst {
			return false
		}
		if b.queued.CompareAndSwap(queued, queued+int64(n)) {
			break
		}
	}
	s.queued += n
	s.reserved[line] = n
	return true
}

// unreserve: the connection's commands are in the queue, or it is no more.
func (s *Session) unreserve(line uint8) {
	s.reserved[line] = 0
	s.tellQueue()
}

// tellQueue tells the other sessions how many commands wait here.
func (s *Session) tellQueue() {
	if s.opt.Budgets.Commands == nil {
		return
	}
	n := len(s.sends) + s.reserved[0] + s.reserved[1]
	s.opt.Budgets.queued.Add(int64(n - s.queued))
	s.queued = n
}
