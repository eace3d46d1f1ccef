package session

import (
	"context"
	"fmt"
	"slices"
	"time"

	"deeptape/hotpath/event"
	"deeptape/venues"
	"deeptape/venues/feed"
	"deeptape/venues/wire"
)

// do grants the machine's wishes.
func (s *Session) do(actions []feed.Action) {
	for _, a := range actions {
		switch a.Kind {
		case feed.ActionSend:
			s.sends = append(s.sends, command{a.Line, a.Text})
		case feed.ActionFetch:
			s.fetch(a)
		case feed.ActionReconnect:
			s.plan(a.Line, a.Text)
		case feed.ActionNote:
			s.log.Info(a.Text)
		}
	}
}

// send sends what is due, inside the venue's budget of commands.
func (s *Session) send() error {
	for len(s.sends) > 0 && s.conn != nil {
		if ok, _ := s.commands.TryTake(s.clock.NowNs(), 1); !ok {
			return nil
		}
		line, text := s.sends[0].line, []byte(s.sends[0].text)
		d := s.lines.side
		if line != s.lines.line && (d == nil || d.texts.full()) { // it has ended, or writes nothing
			s.sends = slices.Delete(s.sends, 0, 1)
			continue
		}
		if taken, err := s.inputOf(line, event.InputCommand, s.clock.NowNs(), 0, text); err != nil || !taken {
			return err
		}
		s.sends = slices.Delete(s.sends, 0, 1)
		if line != s.lines.line {
			d.texts.put(text) // there is room: only the owner fills it
			(*d.live.Load()).Interrupt()
		} else if err := s.conn.WriteText(text); err != nil {
			return nil // Read will say Closed
		}
		s.counters.Commands.Add(1)
	}
	return nil
}

// fetch gets a snapshot in a task of its own and leaves the answer in the
// inbox. Its wait for the request budget is not bounded, by the venue's own rule;
// the request itself is, by wire.Rest. All of it ends with the connection, or when the
// machine asks for the same instrument's again.
func (s *Session) fetch(a feed.Action) {
	if s.fetchCtx == nil || s.fetchCtx.Err() != nil {
		return // the machine forgets its request when it learns of the end
	}
	if end := s.fetching[a.Inst]; end != nil {
		end() // it may be waiting still, and would use up weight for nothing
	}
	ctx, end := context.WithCancel(s.fetchCtx)
	s.fetching[a.Inst] = end
	connection := s.lines.epoch
	inst := &s.cfg.Instruments[a.Inst]
	request := s.opt.Venue.SnapshotRequest(inst.Symbol, s.cfg.Depth)
	s.fetches.Go("fetch", func() {
		defer end()
		ans, ok := s.get(ctx, request, a)
		if !ok {
			return
		}
		ans.connection, ans.inst, ans.request = connection, uint16(a.Inst), a.Request
		s.inbox.put(ans)
		s.interrupt()
	})
}

// get is false if ctx ended before the answer.
func (s *Session) get(ctx context.Context, request venues.Request, a feed.Action) (ans answer, ok bool) {
	if !s.sched.Sleep(ctx, time.Duration(a.DelayNs)) {
		return ans, false
	}
	take := s.opt.Budgets.Weight.TryTake
	if a.Spare {
		take = s.opt.Budgets.Weight.TryTakeSpare
	}
	for {
		taken, waitNs := take(s.clock.NowNs(), request.Weight)
		if taken {
			break
		}
		if waitNs == wire.Never {
			ans.body = fmt.Appendf(nil, "a request of weight %d is above the venue's limit", request.Weight)
			return ans, true
		}
		// Others may give up their place: look again now and then.
		if !s.sched.Sleep(ctx, time.Duration(min(waitNs, int64(time.Second)))) {
			return ans, false
		}
	}
	got, err := s.opt.Rest.Get(ctx, s.opt.RestURL+request.Path)
	if got.Status == 429 || got.Status == 418 { // also without a whole body
		wait := max(got.RetryAfter, time.Second)
		s.opt.Budgets.Weight.Block(s.clock.NowNs() + int64(wait))
		s.log.Warn("venue limits requests", "status", got.Status, "retry_after", wait)
	}
	if got.UsedWeight >= 0 {
		s.opt.Budgets.Weight.Observe(s.clock.NowNs(), got.UsedWeight)
	}
	if ctx.Err() != nil {
		return ans, false
	}
	if err != nil {
		s.countEnd(err)
		return answer{body: []byte(err.Error())}, true
	}
	return answer{status: uint16(got.Status), body: got.Body}, true
}

// NewBudgets makes the budgets of a venue.
func NewBudgets(connects int, window time.Duration, weightPerMinute int) *Budgets {
	return &Budgets{Connects: wire.NewBudget(connects, window), Weight: wire.NewBudget(weightPerMinute, time.Minute)}
}
