package feed

import (
	"fmt"
	"strings"
	"testing"
)

// The kinds of unknown frames are few whatever a venue sends, and so are their bytes; each
// is told once, and what is shown of them no terminal obeys.
func TestUnknownFramesAreBounded(t *testing.T) {
	r := newRig(t, inst("AAAUSDT"))
	r.run()
	r.connect()
	r.notes = nil
	for range 3 {
		r.frame(`{"event":"maintenance","in":"an hour"}`)
		r.frame(`{"event":"banner","in":"an hour"}`)
	}
	r.frame("\x1b[2Jplain \xff text")
	for i := range 1000 {
		r.frame(fmt.Sprintf(`{"k%d":{"event":"x"},"sample":"%s"}`, i, strings.Repeat("\u202e\x07x", 1000)))
	}
	unknown := r.m.Status().Unknown
	if len(unknown) != unknownKindsMax+1 {
		t.Fatalf("%d kinds", len(unknown))
	}
	if u := unknown[0]; u.Kind != "event=maintenance in" || u.Count != 3 || u.Sample != `{"event":"maintenance","in":"an hour"}` || u.LastTs == 0 {
		t.Errorf("%+v", u)
	}
	total := uint64(0)
	for _, u := range unknown {
		total += u.Count
		if len(u.Sample) > 3*unknownSampleBytes || strings.ContainsFunc(u.Kind+u.Sample, func(r rune) bool { return r < ' ' || r == '\u202e' }) {
			t.Errorf("%q %q", u.Kind, u.Sample)
		}
	}
	if last := unknown[len(unknown)-1]; total != 1007 || last.Kind != OtherKinds || last.Count != 1007-7-13 {
		t.Errorf("%d frames, %+v", total, last)
	}
	told := 0
	for _, n := range r.notes {
		if strings.Contains(n, "that we do not understand") {
			told++
		}
	}
	if told != unknownKindsMax+1 {
		t.Errorf("told %d times", told)
	}
}

func TestKindOf(t *testing.T) {
	for frame, want := range map[string]string{
		`{"Error":"Exceeded msg rate"}`:                                          "Error",
		`{"event":"a","arg":{"event":"b"},"code":"1"}`:                           "event=a arg event=b code",
		`{"type":["x","y"],"op":"z\"\u0001","e" : "long"}`:                       `type op=z\"\u0001 e=long`,
		`{"` + strings.Repeat("k", 5000) + `":1}`:                                "no JSON object with keys",
		`{"` + strings.Repeat("k", 50) + `":1}`:                                  strings.Repeat("k", unknownKeyBytes),
		`{"stream":"x@aggTrade","data":{"e":"aggTrade","E":1,"s":{"e":"deep"}}}`: "stream data e=aggTrade",
		`[1,2]`: "no JSON object with keys",
		``:      "no JSON object with keys",
		`{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9}`: "a b c d e f g h",
		`{"x`:  "no JSON object with keys",
		`{"x\`: "no JSON object with keys",
	} {
		if got := string(appendKind(nil, []byte(frame))); got != want {
			t.Errorf("%.60s: %q, want %q", frame, got, want)
		}
	}
}
