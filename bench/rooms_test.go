package bench

import (
	"go/ast"
	"go/token"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"deeptape/venues/registry"
)

// TestVenuesStayInTheirFolders: no product code asks which venue it has to do with, and
// nor does the simulator. What is special about a venue is a field of its Rules or a method
// that it has; so a new venue changes nothing outside of its folder and its dialects but
// the registries.
func TestVenuesStayInTheirFolders(t *testing.T) {
	var names []string
	for _, f := range sources(t) {
		if isVenue(f.pkg) {
			names = append(names, path.Base(f.pkg))
		}
	}
	names = append(names, registry.Names()...)
	named := func(text string) bool {
		for _, n := range names {
			if strings.Contains(strings.ToLower(text), n) {
				return true
			}
		}
		return false
	}
	if !named("Kraken") {
		t.Fatalf("the venues are not found: %v", names)
	}
	// The simulator has a dialect of each venue, and a registry of its own.
	isDialect := func(f *source) bool {
		name := path.Base(f.path)
		return f.path == "bench/vsim/dialect.go" || f.path == "bench/simvenue/registry.go" ||
			f.pkg == "bench/simvenue" && slices.ContainsFunc(names, func(n string) bool { return name == n+".go" || strings.HasPrefix(name, n+"_") })
	}
	for _, f := range sources(t) {
		tree, _, _ := strings.Cut(f.pkg, "/")
		simulator := f.pkg == "bench/simvenue" || f.pkg == "bench/vsim"
		if f.isTest || isVenue(f.pkg) || f.pkg == "venues/registry" || tree == "bench" && !simulator || isDialect(f) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ImportSpec:
				if p, _ := strconv.Unquote(n.Path.Value); isVenue(strings.TrimPrefix(p, "deeptape/")) {
					t.Errorf("%v: imports %s", f.fset.Position(n.Pos()), p)
				}
				return false
			case *ast.Ident:
				if named(n.Name) {
					t.Errorf("%v: the name %s names a venue", f.fset.Position(n.Pos()), n.Name)
				}
			case *ast.BasicLit:
				// A text that is nothing but a name is compared with one. Examples in help
				// and messages name symbols, too.
				if text, err := strconv.Unquote(n.Value); n.Kind == token.STRING && err == nil && len(text) < 20 && !strings.Contains(text, ":") && named(text) {
					t.Errorf("%v: the text %s names a venue", f.fset.Position(n.Pos()), n.Value)
				}
			}
			return true
		})
	}
}

// TestReadmes: each of the five folders has a README of about a screen, and each Go file
// that one names is there.
func TestReadmes(t *testing.T) {
	paths := map[string]bool{}
	for _, f := range sources(t) {
		for p := f.path; p != "."; { // by every end of its path
			paths[p] = true
			_, rest, ok := strings.Cut(p, "/")
			if !ok {
				break
			}
			p = rest
		}
	}
	goFile := regexp.MustCompile("`([\\w/]+\\.go)`")
	for _, folder := range []string{"bench", "cmd", "hotpath", "ilp", "venues"} {
		text, err := os.ReadFile("../" + folder + "/README.md")
		if err != nil {
			t.Error(err)
			continue
		}
		if n := strings.Count(string(text), "\n"); n > 100 {
			t.Errorf("%s/README.md has %d lines", folder, n)
		}
		for _, m := range goFile.FindAllStringSubmatch(string(text), -1) {
			if !paths[m[1]] && !strings.Contains(m[1], "NAME") {
				t.Errorf("%s/README.md names %s, which is not there", folder, m[1])
			}
		}
	}
}
