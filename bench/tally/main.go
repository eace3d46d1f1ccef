// Command tally reads what `go test -json` prints and says what a person wants to know:
// a line for each package, the output of each test that failed, and how many passed.
//
//	go test -json ./... | go run ./bench/tally -counts FILE -reasons FILE
//
// It must never hide a failure: a line that is no event is printed as it is, a package
// that fails without a failed test counts as one, and a package that never ended is a
// failure. Of a long message it prints the first and the last lines, because some carry
// the logs of whole processes.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	counts := flag.String("counts", "", "file that receives the line `PASSED FAILED`")
	reasons := flag.String("reasons", "", "file to which the first lines of each failure are appended")
	flag.Parse()
	t := newTally(os.Stdout)
	if err := t.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(1)
	}
	t.end()
	if err := t.write(*counts, *reasons); err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(1)
	}
}

// event is a line of `go test -json`; see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string // of a package that cannot be built
	Test       string
	Elapsed    float64 // seconds
	Output     string
}

// isSubtest says whether the event is about a part of a test: those are not counted.
func (e event) isSubtest() bool { return strings.Contains(e.Test, "/") }

type tally struct {
	out            io.Writer
	output         map[[2]string][]string // of each running test and package
	running        map[string]bool        // packages that have begun and not ended
	failedIn       map[string]bool        // packages that have a failed test
	skipped        map[string]int         // how many tests skipped for a reason
	reasons        []string               // the first lines of each failure
	passed, failed int
}

func newTally(out io.Writer) *tally {
	return &tally{out: out, output: map[[2]string][]string{}, running: map[string]bool{}, failedIn: map[string]bool{}, skipped: map[string]int{}}
}

func (t *tally) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20) // a test may print a long line
	for lines.Scan() {
		var e event
		if !strings.HasPrefix(lines.Text(), "{") || json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(t.out, lines.Text())
			continue
		}
		t.take(e)
	}
	return lines.Err()
}

func (t *tally) take(e event) {
	id := [2]string{e.Package, e.Test}
	switch e.Action {
	case "start":
		t.running[e.Package] = true
	case "output":
		t.output[id] = append(t.output[id], e.Output)
	case "build-output":
		fmt.Fprint(t.out, e.Output)
		t.because("build of "+e.ImportPath, []string{strings.TrimRight(e.Output, "\n")})
	case "pass", "skip", "fail":
		t.ended(e, id)
		delete(t.output, id)
	}
}

// ended takes the last event of a test or of a package.
func (t *tally) ended(e event, id [2]string) {
	if e.Test == "" {
		delete(t.running, e.Package)
	}
	switch {
	case e.Action == "pass" && e.Test == "":
		fmt.Fprintf(t.out, "ok   %s %.1f s\n", e.Package, e.Elapsed)
	case e.Action == "pass" && !e.isSubtest():
		t.passed++
	case e.Action == "skip" && e.Test != "":
		t.skipped[reason(t.output[id])]++
	case e.Action == "fail" && e.Test != "":
		t.failedIn[e.Package] = true
		if !e.isSubtest() {
			t.failed++
		}
		t.show(e.Package+" "+e.Test, t.output[id])
	case e.Action == "fail" && t.failedIn[e.Package]:
		fmt.Fprintln(t.out, "FAIL", e.Package)
	case e.Action == "fail":
		t.failed++
		t.show(e.Package, t.output[id])
	}
}

// end says what is left to say once the last event has been read.
func (t *tally) end() {
	for pkg := range t.running {
		t.failed++
		t.show(pkg, []string{"the package never ended\n"})
	}
	var reasons []string
	for r, n := range t.skipped {
		reasons = append(reasons, fmt.Sprintf("skip %d of: %s", n, r))
	}
	slices.Sort(reasons)
	for _, r := range reasons {
		fmt.Fprintln(t.out, r)
	}
}

// A message with more lines than messageLines is printed without its middle. Of a
// failure reasonLines lines go to the reasons.
const messageLines, reasonLines = 40, 5

// show prints the output of a test or package that failed.
func (t *tally) show(id string, output []string) {
	fmt.Fprintln(t.out, "FAIL", id)
	messages := split(output)
	for _, m := range messages {
		if len(m) > messageLines {
			half := messageLines / 2
			m = slices.Concat(m[:half], []string{fmt.Sprintf("        ... %d lines ...", len(m)-messageLines)}, m[len(m)-half:])
		}
		fmt.Fprintln(t.out, strings.Join(m, "\n"))
	}
	var why []string
	for _, m := range messages {
		if isMessage(m[0]) && !isLog(m[0]) {
			why = append(why, m[:min(len(m), reasonLines)]...)
		}
	}
	t.because(id, why)
}

// split makes messages of a test's output: a line that is indented by eight blanks or more
// belongs to the message before it.
func split(output []string) (messages [][]string) {
	for line := range strings.Lines(strings.Join(output, "")) {
		line = strings.TrimRight(line, "\n")
		if n := len(messages); n > 0 && strings.HasPrefix(line, "        ") {
			messages[n-1] = append(messages[n-1], line)
		} else {
			messages = append(messages, []string{line})
		}
	}
	return messages
}

// isMessage says whether a line is one that a test or the runtime wrote about a failure:
// FILE.go:LINE: TEXT, a panic, a data race.
func isMessage(line string) bool {
	for _, start := range []string{"panic:", "fatal error:", "WARNING: DATA RACE"} {
		if strings.HasPrefix(line, start) {
			return true
		}
	}
	file, _, ok := strings.Cut(strings.TrimLeft(line, " "), ".go:")
	return ok && !strings.ContainsAny(file, " \t")
}

// isLog says whether a message only introduces what a process has printed.
func isLog(line string) bool { return strings.HasSuffix(line, "said:") }

// because remembers why something failed. Why may be empty.
func (t *tally) because(id string, why []string) {
	t.reasons = append(t.reasons, "FAIL "+id)
	for _, line := range why {
		t.reasons = append(t.reasons, line[:min(len(line), 500)])
	}
}

// reason is the text of a skipped test without the lines that the tool adds.
func reason(output []string) string {
	for _, m := range split(output) {
		if isMessage(m[0]) {
			_, text, _ := strings.Cut(strings.TrimLeft(m[0], " "), ": ")
			return text
		}
	}
	return "no reason given"
}

func (t *tally) write(counts, reasons string) error {
	if counts != "" {
		if err := os.WriteFile(counts, fmt.Appendf(nil, "%d %d\n", t.passed, t.failed), 0o644); err != nil {
			return fmt.Errorf("cannot write the counts: %w", err)
		}
	}
	if reasons == "" || len(t.reasons) == 0 {
		return nil
	}
	f, err := os.OpenFile(reasons, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.WriteString(strings.Join(t.reasons, "\n") + "\n")
		if e := f.Close(); err == nil {
			err = e
		}
	}
	if err != nil {
		return fmt.Errorf("cannot write the reasons: %w", err)
	}
	return nil
}
