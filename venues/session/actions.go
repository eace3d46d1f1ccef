package session

import (
	"context"
	"slices"
	"time"

	"deeptape/hotpath/event"
	"deeptape/venues/feed"
	"deeptape/venues/wire"
)

// do grants the machine's wishes. The actions are the machine's memory, and
// sending steps it again: they are copied first.
func (s *Session) do(actions []feed.Action) error {
	for _, a := range slices.Clone(actions) {
		switch a.Kind {
		case feed.ActionSend:
			s.sends = append(s.sends, a.Text)
		case feed.ActionFetch:
			s.fetch(a)
		case feed.ActionReconnect:
			s.reconnect = a.Text
		case feed.ActionNote:
			s.log.Info(a.Text)
		}
	}
	return nil
}

// send sends what is due, inside the venue's budget of commands.
func (s *Session) send() {
	for len(s.sends) > 0 && s.conn != nil {
		if ok, _ := s.commands.TryTake(s.clock.NowNs(), 1); !ok {
			return
		}
		text := s.sends[0]
		s.sends = slices.Delete(s.sends, 0, 1)
		if err := s.conn.WriteText([]byte(text)); err != nil {
			return // Read will say Closed
		}
		s.counters.Commands.Add(1)
		if err := s.input(event.InputCommand, s.clock.NowNs(), 0, []byte(text)); err != nil {
			s.log.Error("cannot book a command", "err", err)
		}
	}
}

// fetch gets a snapshot in a goroutine of its own and leaves the answer in the
// inbox. Its wait for the request budget is not bounded, by the venue's own rule;
// the request itself is, by wire.Rest.
func (s *Session) fetch(a feed.Action) {
	inst := &s.cfg.Instruments[a.Inst]
	request := s.opt.Venue.SnapshotRequest(inst.Symbol, s.cfg.Depth)
	s.fetches.Add(1)
	go func() {
		defer s.fetches.Add(-1)
		time.Sleep(time.Duration(a.DelayNs))
		for {
			ok, waitNs := s.opt.Budgets.Weight.TryTake(s.clock.NowNs(), request.Weight)
			if ok {
				break
			}
			time.Sleep(time.Duration(min(waitNs, int64(time.Second))))
			if s.lane.Inputs.Closed() {
				return
			}
		}
		got, err := s.opt.Rest.Get(context.Background(), s.opt.RestURL+request.Path)
		if err == nil && (got.Status == 429 || got.Status == 418) {
			wait := max(got.RetryAfter, time.Second)
			s.opt.Budgets.Weight.Block(s.clock.NowNs() + int64(wait))
			s.log.Warn("venue limits requests", "status", got.Status, "retry_after", wait)
		}
		if err == nil && got.UsedWeight >= 0 {
			s.opt.Budgets.Weight.Observe(s.clock.NowNs(), got.UsedWeight)
		}
		ans := answer{inst: uint16(a.Inst), request: a.Request, status: uint16(got.Status), body: got.Body}
		if err != nil {
			ans.status, ans.body = 0, []byte(err.Error())
		}
		s.inbox <- ans
		s.interrupt()
	}()
}

// NewBudgets makes the budgets of a venue.
func NewBudgets(connects int, window time.Duration, weightPerMinute int) *Budgets {
	return &Budgets{Connects: wire.NewBudget(connects, window), Weight: wire.NewBudget(weightPerMinute, time.Minute)}
}
