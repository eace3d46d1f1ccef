package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"deeptape/venues"
	"deeptape/venues/feed"
	"deeptape/venues/wire"
)

// do grants the machine's wishes.
func (s *Session) do(actions []feed.Action) {
	for _, a := range actions {
		switch a.Kind {
		case feed.ActionSend:
			s.enqueue(command{a.Line, a.Ping, a.Inst, a.Rank, a.Text})
		case feed.ActionFetch:
			s.fetch(a)
		case feed.ActionReconnect:
			s.plan(a.Line, a.Text)
		case feed.ActionNote:
			s.log.Info(a.Text)
		case feed.ActionWarn:
			s.log.Warn(a.Text)
		}
	}
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
		var ans answer
		var ok bool
		s.beside("a request", func() { ans, ok = s.get(ctx, request, a) })
		if !ok {
			return
		}
		ans.connection, ans.inst, ans.request = connection, uint16(a.Inst), a.Request
		s.inbox.Put(&ans)
		s.interrupt()
	})
}

// auditSparePercent of the weight are not for what can wait, or is asked for in vain.
const auditSparePercent = 50

// get is false if ctx ended before the answer.
func (s *Session) get(ctx context.Context, request venues.Request, a feed.Action) (ans answer, ok bool) {
	if !s.sched.Sleep(ctx, time.Duration(a.DelayNs)) {
		return ans, false
	}
	claim := wire.Claim{Weight: request.Weight, Rank: a.Rank}
	if a.Spare {
		claim.SparePercent = auditSparePercent
	}
	defer s.opt.Budgets.Weight.Withdraw(&claim)
	for {
		taken, waitNs := s.opt.Budgets.Weight.Take(s.clock.NowNs(), &claim)
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
	got, err := s.opt.Rest.Get(ctx, wire.Join(s.opt.RestURL, request.Path))
	if wait := s.opt.Budgets.Answered(s.clock.NowNs(), got); wait > 0 { // also without a whole body
		s.log.Warn("venue limits requests", "status", got.Status, "retry_after", wait)
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

// Answered takes what an answer over REST says of the budget of requests, and returns
// how long the venue wants to be left alone, 0 if it does not say so.
func (b *Budgets) Answered(nowNs int64, got wire.Answer) (wait time.Duration) {
	if got.Status == 429 || got.Status == 418 {
		wait = penalty(got.Status, got.RetryAfter)
		b.Weight.Block(nowNs + int64(wait))
	}
	if got.UsedWeight >= 0 {
		b.Weight.Observe(nowNs, got.UsedWeight)
	}
	return wait
}

// penalty is how long a venue that limits us is left alone. One that bans an address
// (418) bans it for two minutes at least, unless it says itself for how long.
func penalty(status int, retryAfter time.Duration) time.Duration {
	switch status {
	case 429:
		return max(retryAfter, time.Second)
	case 418:
		if retryAfter == 0 {
			return 2 * time.Minute
		}
	}
	return retryAfter
}

// refused says how long to wait after an attempt to connect that has failed, and makes
// all sessions of the venue wait as long. It is 0 where the venue did not ask for it.
func (s *Session) refused(err error) time.Duration {
	var refused *wire.StatusError
	if !errors.As(err, &refused) {
		return 0
	}
	wait := penalty(refused.Status, refused.RetryAfter)
	if wait > 0 {
		s.opt.Budgets.Connects.Block(s.clock.NowNs() + int64(wait))
	}
	return wait
}
