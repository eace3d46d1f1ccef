//go:build !race

package event

import "testing"

func TestAllocations(t *testing.T) {
	data := make([]byte, 500)
	buf := make([]byte, 0, 4096)
	h := InputHead{Kind: InputFrame, Feed: 1, Pos: 2, Ts: 3}
	c := Coverage{Ts: 1, TsEnd: 2}
	got := testing.AllocsPerRun(100, func() {
		b := AppendInput(buf, h, data)
		if in, _, err := GetInput(b); err != nil || len(in.Data) != len(data) {
			t.Error(err)
		}
		b = b[:BookSize(3)]
		head := Head{Kind: RowBook, N: 3}
		head.Put(b, len(b))
		PutLevel(b, 3, 2, Level{Px: 1})
		if GetLevel(b, 3, 2).Px != 1 {
			t.Error("px")
		}
		PutCoverage(b, &c)
		if GetCoverage(b).TsEnd != 2 {
			t.Error("ts_end")
		}
	})
	if got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}
