// Command compare measures two revisions of the benchmarks against each other: it
// builds the test binary of a package at a base revision and in the working tree, runs
// the two in turn, so that both get the same share of whatever else the machine does,
// and prints what benchstat makes of it.
//
//	compare [-bench REGEXP] [-count N] [-benchtime T] [-pkg DIR] BASE
//
// It must never compare what was not measured: a benchmark that skips, or fails, or a
// run without results, is an error. A benchmark that only one of the two knows is named.
//
// The base is checked out beside the repository's own files (git worktree), in a
// directory that goes away again. Both binaries run in their own package's directory,
// with the same recordings (DEEPTAPE_CAPTURES, DEEPTAPE_RECORDING).
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// benchstat is pinned: another version may print another table.
const benchstat = "golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

type side struct {
	name    string
	dir     string // of the package
	binary  string
	results bytes.Buffer
	seen    map[string]bool
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	pattern := flags.String("bench", ".", "`regexp` of benchmarks")
	count := flags.Int("count", 10, "runs of each side")
	benchtime := flags.String("benchtime", "0.1s", "as go test takes it")
	pkg := flags.String("pkg", "./bench", "package, from the module's root")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 || *count < 1 {
		return errors.New("usage: compare [-bench REGEXP] [-count N] [-benchtime T] [-pkg DIR] BASE")
	}
	root, err := output(ctx, "", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	rev, err := output(ctx, root, "git", "rev-parse", "--verify", flags.Arg(0)+"^{commit}")
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "deeptape-compare-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	tree := filepath.Join(tmp, "tree")
	if _, err := output(ctx, root, "git", "worktree", "add", "--detach", tree, rev); err != nil {
		return err
	}
	// Also after an interrupt.
	defer output(context.WithoutCancel(ctx), root, "git", "worktree", "remove", "--force", tree)

	if err := captures(root); err != nil {
		return err
	}
	sides := []*side{
		{name: "base", dir: filepath.Join(tree, *pkg), seen: map[string]bool{}},
		{name: "head", dir: filepath.Join(root, *pkg), seen: map[string]bool{}},
	}
	for _, s := range sides {
		s.binary = filepath.Join(tmp, s.name+".test")
		if _, err := output(ctx, s.dir, "go", "test", "-c", "-o", s.binary, "."); err != nil {
			return fmt.Errorf("cannot build %s: %w", s.name, err)
		}
	}
	for i := range *count {
		fmt.Fprintf(os.Stderr, "compare: run %d of %d\n", i+1, *count)
		for _, s := range sides {
			// -test.v: else a benchmark that skips says nothing.
			out, err := output(ctx, s.dir, s.binary, "-test.run=^$", "-test.v", "-test.benchmem", "-test.bench="+*pattern, "-test.benchtime="+*benchtime, "-test.timeout=30m")
			if err != nil {
				return fmt.Errorf("cannot run %s: %w", s.name, err)
			}
			if err := s.take(out); err != nil {
				return err
			}
		}
		slices.Reverse(sides) // who is second may find the machine warmer
	}
	slices.SortFunc(sides, func(a, b *side) int { return strings.Compare(a.name, b.name) })
	for i, s := range sides {
		if len(s.seen) == 0 {
			return fmt.Errorf("no benchmark of %s matches %q", s.name, *pattern)
		}
		for _, name := range slices.Sorted(maps.Keys(s.seen)) {
			if !sides[1-i].seen[name] {
				fmt.Fprintf(os.Stderr, "compare: only %s has %s\n", s.name, name)
			}
		}
		if err := os.WriteFile(filepath.Join(tmp, s.name), s.results.Bytes(), 0o666); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, "go", "run", benchstat, "base", "head")
	cmd.Dir, cmd.Stdout, cmd.Stderr = tmp, os.Stdout, os.Stderr
	return cmd.Run()
}

var (
	skipped = regexp.MustCompile(`(?m)(?:^    .*\n)*^ *--- (SKIP|FAIL): (\S+).*\n(?:    .*\n)*`)
	result  = regexp.MustCompile(`^(Benchmark\S*)\s+\d+\s+\S+ ns/op`)
	setting = regexp.MustCompile(`^(goos|goarch|pkg|cpu): `)
)

// take keeps the results of one run.
func (s *side) take(out string) error {
	if m := skipped.FindStringSubmatch(out); m != nil {
		return fmt.Errorf("%s does not measure %s, so that nothing can be compared:\n%s", s.name, m[2], m[0])
	}
	n := 0
	for line := range strings.SplitSeq(out, "\n") {
		if m := result.FindStringSubmatch(line); m != nil {
			s.seen[m[1]] = true
			n++
		} else if !setting.MatchString(line) {
			continue
		}
		s.results.WriteString(line + "\n")
	}
	if len(s.seen) != n {
		return fmt.Errorf("%s ran %d benchmarks, and %d before", s.name, n, len(s.seen))
	}
	return nil
}

// captures makes the path of the recordings absolute: the base runs elsewhere.
func captures(root string) error {
	dir := os.Getenv("DEEPTAPE_CAPTURES")
	if dir == "" {
		dir = filepath.Join(root, "..", "shared", "captures")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	return os.Setenv("DEEPTAPE_CAPTURES", abs)
}

// output runs a command to its end; what it says on standard error goes into the error.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(append([]string{filepath.Base(name)}, args...), " "), err, errs.String(), out)
	}
	return strings.TrimSpace(string(out)), nil
}
