package main

import (
	"strings"
	"testing"
)

const someRun = `goos: linux
pkg: deeptape/bench
BenchmarkA
BenchmarkA-2   	       9	 113 ns/op	         0.5 ratio	 2 B/op	    3 allocs/op
BenchmarkB/v=x
BenchmarkB/v=x-2         	       1	 7.5 ns/op
    some_test.go:1: a word
PASS
`

func TestTake(t *testing.T) {
	s := &side{name: "base", seen: map[string]bool{}}
	for range 2 {
		if err := s.take(someRun); err != nil {
			t.Fatal(err)
		}
	}
	want := "goos: linux\npkg: deeptape/bench\nBenchmarkA-2   	       9	 113 ns/op	         0.5 ratio	 2 B/op	    3 allocs/op\nBenchmarkB/v=x-2         	       1	 7.5 ns/op\n"
	if got := s.results.String(); got != want+want {
		t.Errorf("kept\n%s", got)
	}
}

// What a run leaves out is an error, each in its own way.
func TestTakeRefuses(t *testing.T) {
	for name, run := range map[string]string{
		"skipped":        someRun + "--- SKIP: BenchmarkC\n    c_test.go:9: no recordings\n",
		"skipped inside": someRun + "    --- SKIP: BenchmarkB/v=y\n        b_test.go:9: no recordings\n",
		"failed":         someRun + "--- FAIL: BenchmarkC\n    c_test.go:9: wrong sum\n",
		"one less":       strings.Replace(someRun, "BenchmarkB/v=x-2 ", "BenchmarkB/v=x-2?", 1),
	} {
		s := &side{name: "head", seen: map[string]bool{}}
		if err := s.take(someRun); err != nil {
			t.Fatal(err)
		}
		if err := s.take(run); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
