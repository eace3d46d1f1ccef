package session

import (
	"slices"
	"sync/atomic"
	"time"

	"deeptape/hotpath/event"
	"deeptape/venues"
	"deeptape/venues/feed"
	"deeptape/venues/wire"
)

// Commands go out inside the limits that the venue documents: so many a second on a
// connection, or for all connections of our address together, and at some venues so
// many subscriptions an hour. What finds no room waits, by its rank (feed.Action): within
// a session the queue is kept in that order, between sessions the budget's line is
// (wire.Claim). Pings are no subscriptions and pass by what waits for the hour. The machine
// knows what has not been sent, asks for no more meanwhile, and coverage says so.

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
	notBefore    [2]int64     // the hour is used up until then: for all, and for what fails
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

// failedSparePercent of a limit are not for what is asked for in vain: what was live a
// moment ago must find room at once, and not only come next.
const failedSparePercent = 50

type command struct {
	line uint8
	ping bool
	inst int // that it is for, -1 for several
	rank int64
	text string
}

// enqueue puts a command before those that are less urgent. Those of one instrument keep
// their order, for one may end what the next begins: they all become as urgent as it is.
// Nothing passes by one that is for several.
func (s *Session) enqueue(c command) {
	if c.inst >= 0 {
		var before []command
		s.sends = slices.DeleteFunc(s.sends, func(p command) bool {
			lifted := p.line == c.line && p.inst == c.inst && p.rank > c.rank
			if lifted {
				p.rank = c.rank
				before = append(before, p)
			}
			return lifted
		})
		for _, p := range before {
			s.insert(p)
		}
	}
	s.insert(c)
}

func (s *Session) insert(c command) {
	at := len(s.sends)
	for ; at > 0 && !c.ping; at-- {
		if p := &s.sends[at-1]; p.line == c.line && !p.ping && (p.rank <= c.rank || p.inst == c.inst || p.inst < 0 || c.inst < 0) {
			break
		}
	}
	s.sends = slices.Insert(s.sends, at, c)
}

// admit says whether a command may go out now, or how long to wait before the next look.
func (s *Session) admit(c command, nowNs int64) (ok bool, waitNs int64) {
	l := &s.limits[c.line]
	fails := 0
	if feed.Failed(c.rank) {
		fails = 1
	}
	if !c.ping && nowNs < l.notBefore[fails] {
		return false, l.notBefore[fails] - nowNs
	}
	if s.opt.Budgets.Commands != nil {
		// Connections that wait to be dialled will have commands as well, and are not yet in
		// their line: see reserve.
		if fails == 1 && l.sent && s.opt.Budgets.Connects.Before(nowNs, c.rank) {
			return false, reservePollNs
		}
		claim := &s.claims[c.line]
		claim.Weight, claim.Rank, claim.SparePercent, claim.Follow = 1, c.rank, max(firstSparePercent, fails*failedSparePercent), -1
		for _, next := range s.sends {
			if next.line == c.line && next.rank == c.rank {
				claim.Follow++ // c itself stands in the queue, too
			}
		}
		if !l.sent {
			claim.Rank, claim.SparePercent = feed.RankLive-1, 0
		}
		if ok, waitNs = l.second.Take(nowNs, claim); !ok {
			return false, waitNs
		}
	} else if ok, waitNs = l.second.TryTake(nowNs, 1); !ok {
		return false, waitNs
	}
	if l.hour != nil && !c.ping {
		if ok, waitNs = l.hour.TryTakeSpare(nowNs, 1, fails*failedSparePercent); !ok {
			s.counters.CommandsHeld.Add(1)
			l.notBefore[1] = nowNs + waitNs
			why := "half of the venue's limit of subscriptions an hour is used up: what it refuses is asked for later"
			if fails == 0 {
				l.notBefore[0] = nowNs + waitNs
				why = "the venue's limit of subscriptions an hour is used up: resubscriptions wait, and their books are gaps"
			}
			s.log.Warn(why, "line", c.line, "retry_in", time.Duration(waitNs).Round(time.Second))
			return false, waitNs
		}
	}
	l.sent = true
	return true, 0
}

// send sends what is due and may go: the commands of a line in the order of the queue, but
// for pings.
func (s *Session) send() error {
	defer s.tellQueue()
	var waits [2]bool
	s.sendNs = s.clock.NowNs() + reservePollNs
	for i := 0; i < len(s.sends) && s.conn != nil; {
		c := s.sends[i]
		d := s.lines.side
		direct := c.line == s.lines.line
		switch {
		case !direct && d == nil: // it has ended
			s.sends = slices.Delete(s.sends, i, i+1)
			continue
		case waits[c.line] && !c.ping, !direct && d.texts.Len() >= sideTexts:
			waits[c.line] = true
			i++
			continue
		}
		now := s.clock.NowNs()
		if ok, waitNs := s.admit(c, now); !ok {
			s.sendNs = min(s.sendNs, now+max(waitNs, sendPollNs))
			waits[c.line] = true
			i++
			continue
		}
		text := []byte(c.text)
		if taken, err := s.inputOf(c.line, event.InputCommand, s.clock.NowNs(), 0, text); err != nil || !taken {
			return err
		}
		// What the machine wanted of this input, or of a loss before it, may stand before c now.
		if i = slices.IndexFunc(s.sends, func(p command) bool { return p.line == c.line && p.text == c.text }); i < 0 {
			return nil // it went with its connection
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

// dialRank is how urgent a connection is: see feed.Action. A second one, beside one that
// carries the feed, comes after those whose feed is down.
func (s *Session) dialRank(beside bool) int64 {
	of := 0
	if beside {
		of = 1
	}
	switch {
	case s.failedNs[of] != 0:
		return feed.RankFailed(s.failedNs[of])
	case beside:
		return feed.RankSecond
	case s.healthy:
		return feed.RankLive
	}
	return feed.RankNew
}

// mayDial says whether a connection may be dialled now, inside the venue's budgets, or how
// long to wait before the next look. Who may must dial, or give back what he reserved.
func (s *Session) mayDial(line uint8, rank int64) (ok bool, waitNs int64) {
	claim, now := &s.dials[line], s.clock.NowNs()
	claim.Weight, claim.Rank = 1, rank
	if s.opt.Budgets.Commands != nil && (!s.opt.Budgets.Connects.First(now, claim) || !s.reserve(line)) {
		return false, reservePollNs
	}
	if ok, waitNs = s.opt.Budgets.Connects.Take(now, claim); !ok {
		s.unreserve(line)
		return false, min(waitNs, tickNs)
	}
	return true, 0
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

// tellQueue tells the other sessions how many commands wait here. What fails is not
// counted: it lets everybody go first, so nobody has to wait for it with a connection.
func (s *Session) tellQueue() {
	if s.opt.Budgets.Commands == nil {
		return
	}
	n := s.reserved[0] + s.reserved[1]
	for i := range s.sends {
		if !feed.Failed(s.sends[i].rank) {
			n++
		}
	}
	for i := range s.claims {
		if !slices.ContainsFunc(s.sends, func(c command) bool { return c.line == uint8(i) }) {
			s.opt.Budgets.Commands.Withdraw(&s.claims[i])
		}
	}
	s.opt.Budgets.queued.Add(int64(n - s.queued))
	s.queued = n
}
