package bench

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTablesAreNamedByTheDatabase: a statement that names a table of ours outright misses
// the configured table_prefix, and reads or heals the tables of somebody else.
func TestTablesAreNamedByTheDatabase(t *testing.T) {
	outright := regexp.MustCompile(`["` + "`" + `].*\b(FROM|JOIN|INTO|TABLE|VIEW) \(?(book_delta|book_top|quotes|trades|book_depth|instruments|coverage|capture_stats|top|trade|delta|book)\b`)
	spared := map[string]bool{ // the demo has a database of its own, without a prefix
		"cmd/deeptape/demo.go": true, "cmd/deeptape/queries.go": true,
	}
	seen := 0
	for _, dir := range []string{"ilp", "cmd"} {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, e os.DirEntry, err error) error {
			name := strings.TrimPrefix(filepath.ToSlash(path), "../")
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || spared[name] {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			seen++
			for i, line := range strings.Split(string(text), "\n") {
				if outright.MatchString(line) {
					t.Errorf("%s:%d: %s\nname the table by qdb.DB.Table", name, i+1, strings.TrimSpace(line))
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen < 50 {
		t.Errorf("%d files were looked at", seen)
	}
}
