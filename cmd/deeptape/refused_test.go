package main

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A QuestDB whose certificate is not trusted, or that refuses the password, will not be
// had by trying again: the start ends with 2 and says what to change, and no table, journal
// or connection to a venue comes of it.
func TestWrongQuestDB(t *testing.T) {
	status := http.StatusUnauthorized
	db := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	db.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of every handshake that fails
	db.StartTLS()
	defer db.Close()
	addr := strings.TrimPrefix(db.URL, "https://")
	for _, c := range []struct {
		status int
		conf   string
		want   []string
	}{
		{204, "https::addr=" + addr + ";", []string{"not trusted", "tls_verify=unsafe_off"}},
		{401, "https::addr=" + addr + ";tls_verify=unsafe_off;username=u;password=p;", []string{"401", "password"}},
		{403, "https::addr=" + addr + ";tls_verify=unsafe_off;token=t;", []string{"403", "token"}},
	} {
		status = c.status
		// The venue is away: its list costs the start no time, and no real venue is asked.
		conf := file(t, "venues: {binance: {symbols: [BTCUSDT], rest_url: 'http://127.0.0.1:1', ws_url: 'ws://127.0.0.1:1'}}\n")
		code, _, stderr := run(t, "capture", "-c", conf, "--listen", "off", "--for", "20s", "--questdb", c.conf)
		if code != 2 {
			t.Errorf("%d: exit code %d\n%s", c.status, code, stderr)
		}
		for _, w := range c.want {
			if !strings.Contains(stderr, w) {
				t.Errorf("%d: should say %q\n%s", c.status, w, stderr)
			}
		}
	}
}

// A venue that will not be had by trying again stands on the page and on /healthz while the
// run lasts, and a run with --for ends with 1.
func TestVainVenue(t *testing.T) {
	venue := httptest.NewUnstartedServer(http.NotFoundHandler())
	venue.Config.ErrorLog = log.New(io.Discard, "", 0)
	venue.StartTLS()
	defer venue.Close()
	addr := strings.TrimPrefix(venue.URL, "https://")
	conf := file(t, "venues: {binance: {symbols: [BTCUSDT], rest_url: 'http://127.0.0.1:1', ws_url: 'wss://"+addr+"'}}\n")
	cmd, errout := capture(t, "-c", conf, "--questdb", "off", "--listen", "127.0.0.1:0", "--for", "6s")
	url := says(t, errout, `url=(http://\S+)`, 30*time.Second)
	const want = "certificate is not trusted"
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(url + "/healthz")
		if err != nil {
			t.Fatalf("the run ends before /healthz has told it: %v\n%s", err, text(t, errout))
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(body), want) {
			break
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("/healthz: %d %s", resp.StatusCode, body)
		}
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(text(t, errout), want) {
		t.Errorf("exit code %d\n%s", code, text(t, errout))
	}
}

// An IPv6 literal is an address as any other: of the simulator, of both URLs of a venue and
// of the status page.
func TestIPv6(t *testing.T) {
	if l, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skipf("no IPv6 here: %v", err)
	} else {
		l.Close()
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "sim.yaml")
	out, err := os.Create(conf)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	simErr, err := os.Create(filepath.Join(dir, "sim.err"))
	if err != nil {
		t.Fatal(err)
	}
	defer simErr.Close()
	sim := exec.Command(binary, "sim", "--addr", "[::1]:0", "binance:BTCUSDT", "kraken:BTC/USD")
	sim.Stdout, sim.Stderr = out, simErr
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { sim.Process.Kill(); sim.Wait() }()
	says(t, simErr.Name(), `simulated venues are (up)`, 30*time.Second)
	if !strings.Contains(text(t, conf), "ws://[::1]:") {
		t.Fatalf("the simulator's configuration:\n%s", text(t, conf))
	}
	cmd, errout := capture(t, "-c", conf, "--questdb", "off", "--listen", "[::1]:0", "--for", "5s")
	says(t, errout, `url=(http://\[::1\]:\S+)`, 30*time.Second)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, text(t, errout))
	}
	code, stdout, stderr := run(t, "replay", "--out", "-", "--journal", filepath.Join(cmd.Dir, "journal"))
	if code != 0 || !strings.Contains(stdout, "BTCUSDT") || !strings.Contains(stdout, "BTC/USD") {
		t.Errorf("replay: code %d, %d bytes\n%s", code, len(stdout), stderr)
	}
}

// capture starts an agent in a folder of its own; errout is the file of what it says.
func capture(t *testing.T, args ...string) (cmd *exec.Cmd, errout string) {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd = exec.Command(binary, append([]string{"capture", "--journal", filepath.Join(dir, "journal")}, args...)...)
	cmd.Dir, cmd.Stderr = dir, f
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, f.Name()
}

func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// says waits until a file of a process's words has what matches, and is its first group.
func says(t *testing.T, path, re string, within time.Duration) string {
	t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if m := regexp.MustCompile(re).FindStringSubmatch(text(t, path)); m != nil {
			return m[1]
		}
		if time.Since(began) > within {
			t.Fatalf("never said %s:\n%s", re, text(t, path))
		}
	}
}
