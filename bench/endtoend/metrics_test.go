package endtoend

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// checkMetrics holds what /metrics of a running agent shows against the format's rules:
// each sample stands behind a help and a type, and Prometheus' own promtool accepts all of
// it, conventions of names included.
func (a *agent) checkMetrics(t *testing.T) {
	t.Helper()
	r, err := http.Get(a.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	typed, helped := map[string]bool{}, map[string]bool{}
	symbols := 0
	for line := range strings.Lines(string(body)) {
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "# HELP "):
			helped[words[2]] = len(words) > 3
		case strings.HasPrefix(line, "# TYPE "):
			typed[words[2]] = true
		default:
			name, _, _ := strings.Cut(words[0], "{")
			of := strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count")
			if !typed[name] && !typed[of] || !helped[name] && !helped[of] {
				t.Errorf("a sample without help or type: %s", line)
			}
			if strings.HasPrefix(line, "deeptape_ledger_difference ") && words[1] != "0" {
				t.Errorf("%s", line)
			}
			if strings.HasPrefix(line, "deeptape_symbol_messages_total{") && words[1] != "0" {
				symbols++
			}
		}
	}
	if symbols < 12 || !typed["process_resident_memory_bytes"] || !typed["go_goroutines"] {
		t.Errorf("%d streams of symbols have messages, and of the process there is %t, %t", symbols, typed["process_resident_memory_bytes"], typed["go_goroutines"])
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Errorf("CI has no promtool: %v", err)
		}
		t.Log("promtool is not here (Debian's package prometheus has it), so it was not asked")
		return
	}
	check := exec.Command(promtool, "check", "metrics")
	check.Stdin = strings.NewReader(string(body))
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}
