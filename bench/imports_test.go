package bench

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport says for each package of the module which others it may import. A
// package that is not here fails the test: give it a row. "x/..." is x and all
// below it. The order is that of a frame's way.
var mayImport = map[string][]string{
	// Knows no venue, no socket, no QuestDB.
	"hotpath/fixed":         {},
	"hotpath/scan":          {"hotpath/event", "hotpath/fixed"},
	"hotpath/event":         {},
	"hotpath/book":          {"hotpath/event", "hotpath/fixed"},
	"hotpath/book/booktest": {"hotpath/event"}, // the oracle shares only the words
	"hotpath/ring":          {},
	"hotpath/task":          {"hotpath/ring"},
	"hotpath/ledger":        {"hotpath/event"},
	"hotpath/lane":          {"hotpath/event", "hotpath/ledger", "hotpath/ring"},
	"hotpath/journal":       {"hotpath/event"},

	// Knows no QuestDB.
	"venues":           {"hotpath/book", "hotpath/event", "hotpath/fixed", "hotpath/scan", "hotpath/ledger"},
	anyVenue:           {"venues", "hotpath/book", "hotpath/event", "hotpath/fixed", "hotpath/scan", "hotpath/ledger"},
	"venues/registry":  {"venues", anyVenue, "hotpath/event", "hotpath/ledger"}, // those for its tests
	"venues/venuetest": {"venues", "hotpath/..."},                               // helps tests, and stands in no binary
	"venues/wire":      {},
	"venues/feed":      {"venues", "venues/registry", "hotpath/book", "hotpath/event", "hotpath/fixed", "hotpath/ledger"},
	"venues/follow":    {"venues/feed", "hotpath/event", "hotpath/journal"},
	"venues/session":   {"venues", "venues/feed", "venues/wire", "hotpath/event", "hotpath/lane", "hotpath/ledger", "hotpath/ring", "hotpath/task"},

	// Knows no venue.
	"ilp/qdb":           {},
	"ilp/schema":        {"ilp/qdb"},
	"ilp/line":          {"hotpath/event", "hotpath/fixed"},
	"ilp/line/linetest": {},
	"ilp/sender":        {"ilp/qdb", "hotpath/event", "hotpath/ring", "hotpath/task"},
	"ilp/deliver":       {"ilp/...", "hotpath/..."},
	"ilp/verify":        {"ilp/...", "hotpath/..."},

	// Written from the protocol sheets: a mistake in venues or hotpath must not
	// be made here as well.
	"bench/world":    {},
	"bench/simvenue": {"bench/world"},
	"bench/endtoend": {}, // runs the binary and reads the database with eyes of its own

	// The whole agent on a simulated machine.
	"bench/vsim": {"bench/simvenue", "bench/world", "cmd/agent", "cmd/config", "hotpath/...", "venues/...", "ilp/..."},

	// Runs venue, agent and QuestDB as processes, and reads the agent with eyes of its own.
	"bench/rig": {"bench/simvenue", "bench/world", "cmd/localdb", "hotpath/...", "venues/...", "ilp/..."},

	// Measures every stage.
	"bench":        {"hotpath/...", "venues/...", "ilp/..."},
	"bench/counts": {"hotpath/...", "venues/...", "ilp/..."},

	// Runs what git and the go tool make.
	"bench/compare": {},
	// Reads what `go test -json` prints.
	"bench/tally": {},

	// Wiring.
	"cmd/localdb":        {},
	"cmd/localdb/dbtest": {"cmd/localdb"},
	"cmd/config":         {"venues", "venues/registry", "ilp/qdb", "ilp/schema"},
	"cmd/agent":          {"cmd/config", "hotpath/...", "venues/...", "ilp/..."},
	"cmd/deeptape":       {"cmd/...", "hotpath/...", "venues/...", "ilp/...", "bench/simvenue", "bench/world"},
}

// anyVenue stands for each folder of a venue: below venues, without a row of its own.
const anyVenue = "venues/*"

func isVenue(pkg string) bool {
	_, known := mayImport[pkg]
	return path.Dir(pkg) == "venues" && !known
}

// testsMayImport is what test files may import besides, apart from all of their
// own tree: oracles and stand-ins.
var testsMayImport = []string{"hotpath/book/booktest", "ilp/line/linetest", "cmd/localdb", "cmd/localdb/dbtest", "bench/simvenue", "bench/world"}

// pure packages see no network, no file and no clock: the same inputs give the
// same outputs, live, in replay and in simulation. The journal's files are the
// only exception.
var pure = []string{"hotpath/...", "venues", anyVenue, "venues/registry", "venues/feed"}

const impureByDesign = "hotpath/journal"

// stepped packages run in virtual time as well: they start tasks and wait through a
// task.Sched only.
var stepped = []string{"ilp/deliver", "ilp/sender", "venues/session"}

const maxFileLines = 600

// topLevel is all that the project keeps in its root.
var topLevel = []string{".ci", ".gitattributes", ".gitignore", "LICENSE", "Makefile", "README.md", "bench", "cmd", "go.mod", "go.sum", "hotpath", "ilp", "venues"}

func TestImports(t *testing.T) {
	for _, f := range sources(t) {
		row := f.pkg
		if isVenue(row) {
			row = anyVenue
		}
		allowed, known := mayImport[row]
		if !known {
			t.Errorf("%s: package %s has no row in mayImport of bench/imports_test.go", f.path, f.pkg)
			continue
		}
		if f.isTest {
			tree, _, _ := strings.Cut(f.pkg, "/")
			allowed = slices.Concat(allowed, testsMayImport, []string{tree + "/..."})
		}
		for _, imp := range f.imports {
			rel, internal := strings.CutPrefix(imp, "deeptape/")
			if internal && !matches(allowed, rel) {
				t.Errorf("%s: %s must not import %s (see mayImport of bench/imports_test.go)", f.path, f.pkg, rel)
			}
		}
	}
}

func TestPurePackages(t *testing.T) {
	for _, f := range sources(t) {
		if f.isTest || !matches(pure, f.pkg) || f.pkg == impureByDesign {
			continue
		}
		for _, imp := range f.imports {
			first, _, _ := strings.Cut(imp, "/")
			if slices.Contains([]string{"net", "os", "syscall", "math/rand"}, first) || strings.HasPrefix(imp, "math/rand") {
				t.Errorf("%s: %s must not import %s", f.path, f.pkg, imp)
			}
		}
		f.calls("time", func(pos token.Position, name string) {
			if name == "Now" || name == "Since" || name == "Until" {
				t.Errorf("%v: %s must not read the clock: time.%s", pos, f.pkg, name)
			}
		})
	}
}

func TestSteppedPackages(t *testing.T) {
	real := map[string]string{
		"time":    "Now Since Until Sleep After AfterFunc Tick NewTimer NewTicker",
		"context": "WithTimeout WithTimeoutCause WithDeadline WithDeadlineCause AfterFunc",
		"sync":    "WaitGroup Cond NewCond",
	}
	for _, f := range sources(t) {
		if f.isTest || !matches(stepped, f.pkg) {
			continue
		}
		for pkg, names := range real {
			f.calls(pkg, func(pos token.Position, name string) {
				if slices.Contains(strings.Fields(names), name) {
					t.Errorf("%v: %s must ask its task.Sched, not %s.%s", pos, f.pkg, pkg, name)
				}
			})
		}
		waits := func(n ast.Node, what string) {
			t.Errorf("%v: %s must leave tasks and waits to its task.Sched: %s", f.fset.Position(n.Pos()), f.pkg, what)
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				waits(n, "go")
			case *ast.SendStmt:
				waits(n, "a channel that may block")
			case *ast.UnaryExpr:
				if n.Op == token.ARROW {
					waits(n, "a channel that may block")
				}
			case *ast.SelectStmt:
				// With a default it does not wait; what it sends and receives is its own.
				for _, c := range n.Body.List {
					if c.(*ast.CommClause).Comm == nil {
						return false
					}
				}
				waits(n, "select without a default")
			}
			return true
		})
	}
}

func TestHouseRules(t *testing.T) {
	documented := map[string]bool{}
	rawAtomic := regexp.MustCompile(`^(Add|And|Or|Load|Store|Swap|CompareAndSwap)(Int|Uint|Pointer)`)
	for _, f := range sources(t) {
		documented[f.pkg] = documented[f.pkg] || f.ast.Doc != nil && !f.isTest
		if lines := strings.Count(f.text, "\n"); lines > maxFileLines && !f.isTest {
			t.Errorf("%s: %d lines, more than %d: split it", f.path, lines, maxFileLines)
		}
		// A field of type atomic.Uint64 cannot be read plainly by mistake.
		f.calls("sync/atomic", func(pos token.Position, name string) {
			if rawAtomic.MatchString(name) {
				t.Errorf("%v: atomic.%s: use the types of sync/atomic", pos, name)
			}
		})
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no comment that says what it does", pkg)
		}
	}
}

// TestTree looks at what is committed.
func TestTree(t *testing.T) {
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("not a git checkout: %v", err)
	}
	files := strings.Split(strings.TrimRight(string(out), "\x00"), "\x00")
	// Built from pieces so as not to find themselves.
	elsewhere := regexp.MustCompile(`(^|[^\w.~$}/])/(` + strings.Join([]string{"work", "root", "home", "Users", "tmp"}, "|") + `)/` +
		`|` + strings.Join([]string{`proxy\.golang` + `\.org`, `repo1?\.maven` + `\.`, `registry[\w-]*\.docker` + `\.`, `docker\.` + `io`, `deb\.debian` + `\.`}, "|"))
	for _, name := range files {
		if first, _, _ := strings.Cut(name, "/"); !slices.Contains(topLevel, first) {
			t.Errorf("%s: the root of the project holds only %s", name, strings.Join(topLevel, " "))
		}
		b, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			if os.IsNotExist(err) {
				continue // deleted, not yet committed
			}
			t.Fatal(err)
		}
		if strings.Contains(string(b[:min(len(b), 8000)]), "\x00") {
			continue // not text
		}
		for i, line := range strings.Split(string(b), "\n") {
			if m := elsewhere.FindString(line); m != "" {
				t.Errorf("%s:%d: names a place outside the project: %q", name, i+1, m)
			}
		}
	}
}

// matches reports whether pkg is one of the patterns.
func matches(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, tree := strings.CutSuffix(p, "/...")
		return pkg == prefix || p == anyVenue && isVenue(pkg) || tree && strings.HasPrefix(pkg, prefix+"/")
	})
}

type source struct {
	path    string // from the module's root
	pkg     string // its directory
	text    string
	isTest  bool
	imports []string
	fset    *token.FileSet
	ast     *ast.File
}

// sources parses every Go file of the module, whatever its build tags.
func sources(t *testing.T) []*source {
	t.Helper()
	var all []*source
	err := filepath.WalkDir("..", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if base := e.Name(); name != ".." && (strings.HasPrefix(base, ".") || base == "testdata") {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil && name != ".." {
				return fs.SkipDir // a module of its own
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(name, ".."+string(filepath.Separator)))
		f := &source{path: rel, pkg: path.Dir(rel), text: string(b), isTest: strings.HasSuffix(rel, "_test.go"), fset: token.NewFileSet()}
		if f.ast, err = parser.ParseFile(f.fset, rel, b, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			return err
		}
		for _, imp := range f.ast.Imports {
			p, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return fmt.Errorf("%s: %w", rel, err)
			}
			f.imports = append(f.imports, p)
		}
		all = append(all, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("found only %d Go files", len(all))
	}
	return all
}

// calls visits every use of a name of the imported package.
func (f *source) calls(importPath string, visit func(pos token.Position, name string)) {
	local := ""
	for _, imp := range f.ast.Imports {
		if p, err := strconv.Unquote(imp.Path.Value); err == nil && p == importPath {
			local = path.Base(importPath)
			if imp.Name != nil {
				local = imp.Name.Name
			}
		}
	}
	if local == "" {
		return
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == local {
				visit(f.fset.Position(sel.Pos()), sel.Sel.Name)
			}
		}
		return true
	})
}
