package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// run tallies the lines of a test run.
func run(t *testing.T, lines ...string) (said, counts, reasons string) {
	t.Helper()
	var out strings.Builder
	y := newTally(&out)
	if err := y.read(strings.NewReader(strings.Join(lines, "\n"))); err != nil {
		t.Fatal(err)
	}
	y.end()
	dir := t.TempDir()
	c, r := filepath.Join(dir, "counts"), filepath.Join(dir, "reasons")
	if err := y.write(c, r); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(c)
	if err != nil {
		t.Fatal(err)
	}
	why, _ := os.ReadFile(r)
	return out.String(), string(b), string(why)
}

func TestTally(t *testing.T) {
	long := `{"Action":"output","Package":"p","Test":"TestB","Output":"        line\n"}`
	said, counts, why := run(t,
		`{"Action":"start","Package":"p"}`,
		`{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}`,
		`{"Action":"pass","Package":"p","Test":"TestA/part","Elapsed":0.1}`,
		`{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.1}`,
		`go: downloading something`,
		`{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:7: 1 is not 2\n"}`,
		strings.Repeat(long+"\n", 59)+long,
		`{"Action":"fail","Package":"p","Test":"TestB","Elapsed":0.1}`,
		`{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:9: no recordings\n"}`,
		`{"Action":"skip","Package":"p","Test":"TestC"}`,
		`{"Action":"output","Package":"p","Test":"TestD","Output":"    d_test.go:3: no recordings\n"}`,
		`{"Action":"skip","Package":"p","Test":"TestD"}`,
		`{"Action":"fail","Package":"p","Elapsed":1}`,
		`{"Action":"start","Package":"q"}`,
		`{"Action":"output","Package":"q","Output":"panic: test timed out\n"}`,
		`{"Action":"fail","Package":"q","Elapsed":1}`,
		`{"Action":"start","Package":"r"}`,
		`{"Action":"pass","Package":"r","Elapsed":2.04}`,
		`{"Action":"start","Package":"s"}`,
	)
	// TestB failed, q failed without a test that failed, s never ended.
	if counts != "1 3\n" {
		t.Errorf("counts are %q", counts)
	}
	for _, want := range []string{"go: downloading something\n", "FAIL p TestB\n", "1 is not 2\n", "... 21 lines ...\n", "FAIL q\npanic: test timed out\n", "ok   r 2.0 s\n", "FAIL s\n", "skip 2 of: no recordings\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if strings.Contains(said, "RUN") {
		t.Errorf("it shows a test that passed:\n%s", said)
	}
	if want := "FAIL p TestB\n    b_test.go:7: 1 is not 2\n        line\n        line\n        line\n        line\nFAIL q\npanic: test timed out\nFAIL s\n"; why != want {
		t.Errorf("reasons are\n%swant\n%s", why, want)
	}
}

// A package that cannot be built has no test that fails.
func TestBuildFails(t *testing.T) {
	said, counts, why := run(t,
		`{"ImportPath":"p [p.test]","Action":"build-output","Output":"p/a.go:1:1: undefined: x\n"}`,
		`{"ImportPath":"p [p.test]","Action":"build-fail"}`,
		`{"Action":"start","Package":"p"}`,
		`{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}`,
		`{"Action":"fail","Package":"p","Elapsed":0}`)
	if counts != "0 1\n" || !strings.Contains(said, "undefined: x") || !strings.Contains(why, "undefined: x") {
		t.Errorf("counts %q\nsaid\n%s\nreasons\n%s", counts, said, why)
	}
}
