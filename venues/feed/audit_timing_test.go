package feed

import (
	"fmt"
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// BenchmarkAudit is the longest that an audit keeps its feed: the answer of 5,000 levels a
// side and ten diffs that came meanwhile, of the size of BTCUSDT's. correct: a hundred
// levels are wrong and the whole book is written.
func BenchmarkAudit(b *testing.B) {
	for name, wrong := range map[string]int{"equal": 0, "correct": 100} {
		b.Run(name, func(b *testing.B) {
			levels := func(from, step, n int, qty string) string {
				var s strings.Builder
				for i := range n {
					px := from + i*step
					fmt.Fprintf(&s, " %d.%02d=%s", px/100, px%100, qty)
				}
				return side(s.String())
			}
			body := func(id int64, bid int) []byte {
				return fmt.Appendf(nil, `{"lastUpdateId":%d,"bids":%s,"asks":%s}`, id, levels(bid, -3, 5000, "1.234"), levels(6_000_100, 3, 5000, "5.678"))
			}
			r := newRig(&testing.T{}, inst("AAAUSDT"))
			r.cfg.AuditEveryNs = 1e9
			r.run()
			r.connect()
			m := r.m
			in := event.Input{InputHead: event.InputHead{Kind: event.InputRest, Feed: 3}}
			step := func(kind event.InputKind, aux int64, data []byte) {
				in.Kind, in.Aux, in.Data = kind, aux, data
				in.Pos, in.Ts = m.pos+1, m.now+1e9
				if err := m.Step(&in); err != nil {
					b.Fatal(err)
				}
			}
			step(event.InputFrame, 0, []byte(`{"e":"depthUpdate","E":1,"s":"AAAUSDT","U":100,"u":100,"b":[],"a":[]}`))
			step(event.InputRest, event.RestAux(m.insts[0].request, 0, 200), body(100, 6_000_000))
			answers := [2][]byte{body(0, 6_000_000), body(0, 6_000_000-3*wrong)}
			rest := [2]string{string(answers[0][len(`{"lastUpdateId":0`):]), string(answers[1][len(`{"lastUpdateId":0`):])}
			diff := levels(6_000_100, 3, 46, "5.678")
			seq := int64(100)
			for n := 0; b.Loop(); n++ {
				b.StopTimer()
				for m.insts[0].request == 0 {
					step(event.InputTick, 0, nil)
				}
				id := seq
				for range 10 {
					seq++
					step(event.InputFrame, 0, fmt.Appendf(nil, `{"e":"depthUpdate","E":1,"s":"AAAUSDT","U":%d,"u":%d,"b":[],"a":%s}`, seq, seq, diff))
				}
				if wrong > 0 { // outside of the old window, or it would be asked again
					m.insts[0].horizon = [2]horizon{{true, 1 << 40}, {true, 0}}
				}
				data := fmt.Appendf(nil, `{"lastUpdateId":%d%s`, id, rest[(n+1)%2]) // the wrong one first: one round must do
				b.StartTimer()
				step(event.InputRest, event.RestAux(m.insts[0].request, 0, 200), data)
			}
			st := m.insts[0].stats
			if st.Audits == 0 || wrong > 0 && st.AuditWrong == 0 || wrong == 0 && st.AuditWrong > 0 || st.AuditsGivenUp > 0 {
				b.Fatalf("%+v", st)
			}
		})
	}
}
