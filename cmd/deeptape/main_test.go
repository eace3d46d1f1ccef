package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var binary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "deeptape-cmd-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "deeptape")
	if out, err := exec.Command("make", "--no-print-directory", "-C", filepath.Join("..", ".."), "build", "OUT="+binary).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build deeptape: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// run a command line in a folder of its own.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, problems bytes.Buffer
	cmd := exec.Command(binary, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), &out, &problems
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), problems.String()
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Wrong usage ends with 2 and what went wrong with 1, before anything is opened, and
// says on standard error what is wrong.
func TestExitCodes(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := taken.Addr().String()
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{2, "--for -5s: must be more than 0", []string{"capture", "--for", "-5s", "binance:BTCUSDT"}},
		{2, "--for 0s: must be more than 0", []string{"capture", "--for", "0s", "binance:BTCUSDT"}},
		{2, "is not before --to -2h", []string{"verify", "--from", "-1h", "--to", "-2h"}},
		{2, "is not before --to -2h", []string{"replay", "--from", "-1h", "--to", "-2h"}},
		{2, "is not before --to -2h", []string{"coverage", "--from", "-1h", "--to", "-2h"}},
		{2, `must look like "http::addr=`, []string{"verify", "--questdb", "nonsense"}},
		{2, `must look like "http::addr=`, []string{"replay", "--questdb", "nonsense"}},
		{2, `must look like "http::addr=`, []string{"coverage", "--questdb", "nonsense"}},
		{2, "questdb is off", []string{"verify", "--questdb", "off"}},
		{2, "questdb is off", []string{"replay", "--questdb", "off"}},
		{2, "questdb is off", []string{"schema", "--check", "--questdb", "off"}},
		{2, `"nonsense" is not HOST:PORT`, []string{"capture", "--listen", "nonsense", "binance:BTCUSDT"}},
		{2, `"nonsense" is not HOST:PORT`, []string{"capture", "--plan", "--listen", "nonsense", "binance:BTCUSDT"}},
		{2, `"127.0.0.1:x" is not HOST:PORT`, []string{"capture", "--plan", "-c", file(t, "listen: 127.0.0.1:x\n"), "binance:BTCUSDT"}},
		{2, `"nonsense" is not HOST:PORT`, []string{"sim", "--addr", "nonsense"}},
		{2, "it is a pattern, and there is no list that it could choose from; name the symbols, like BTCUSDT", []string{"sim", "binance:*USDT"}},
		{2, "at kraken: its symbols are written like BTC/USD", []string{"sim", "kraken:BTCUSD"}},
		{2, "at coinbase: its symbols are written like BTC-USD", []string{"sim", "binance:BTCUSDT", "coinbase:BTC/USD"}},
		{2, "at okx: its symbols are written like BTC-USDT", []string{"sim", "okx:BTCUSDT"}},
		{2, "at bybit: its symbols are written like BTCUSDT", []string{"sim", "bybit:BTC-USDT"}},
		{1, "address already in use", []string{"sim", "--addr", busy}},
		{1, "address already in use", []string{"capture", "--questdb", "off", "--listen", busy, "-c", file(t, "venues: {binance: {symbols: [BTCUSDT], rest_url: 'http://127.0.0.1:1', ws_url: 'ws://127.0.0.1:1'}}\n")}},
		{2, "nothing to record: name a symbol", []string{"capture"}},
		{2, "f.yaml names no symbol", []string{"capture", "-c", file(t, "quotes: true\n")}},
		{2, "for help: deeptape verify --help\n", []string{"verify", "--nosuch"}},
		{2, "for help: deeptape --help\n", []string{"nosuch"}},
		{2, "unknown flag --journal", []string{"schema", "--journal", "x"}},
		{2, "unknown flag --journal", []string{"coverage", "--journal", "x"}},
		{1, "is no journal: there is neither a segment nor a LOCK", []string{"fsck", t.TempDir()}},
		{1, "is no journal: there is neither a segment nor a LOCK", []string{"fsck", "--repair", t.TempDir()}},
		{2, `--stream must be one of "book","trades","quotes","" but got "trade"`, []string{"coverage", "--stream", "trade"}},
		{2, `"binance:": write VENUE:SYMBOL`, []string{"coverage", "binance:"}},
		// The journal that the file names is not asked for: the database is what is away.
		{1, "127.0.0.1:1", []string{"verify", "-c", file(t, "questdb: 'http::addr=127.0.0.1:1;'\njournal: {dir: nosuch}\n")}},
	} {
		code, stdout, stderr := run(t, c.args...)
		if code != c.code || !strings.Contains(stderr, c.want) || stdout != "" {
			t.Errorf("%q: code %d, want %d\nsays  %s%s\nwant  %s", c.args, code, c.code, stdout, stderr, c.want)
		}
	}
}

// A binary says from which commit it was built, so that a bug report can.
func TestVersion(t *testing.T) {
	code, stdout, _ := run(t, "--version")
	if code != 0 || !strings.HasPrefix(stdout, "deeptape ") || !strings.Contains(stdout, ", go") {
		t.Errorf("code %d: %s", code, stdout)
	}
	// Go knows the commit of a clone; of a worktree or of unpacked files it does not.
	if info, err := os.Stat(filepath.Join("..", "..", ".git")); err == nil && info.IsDir() && strings.Contains(stdout, "unknown") {
		t.Errorf("built from a clone it says %q", stdout)
	}
}

// TestStatic reads the binary that `make build` makes: on Linux it names no loader, so it
// runs where there is no C library.
func TestStatic(t *testing.T) {
	f, err := elf.Open(binary)
	if err != nil {
		t.Skip("the binary of this system is no ELF file: ", err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the binary asks for a dynamic loader; is it built without CGO_ENABLED=0?")
		}
	}
	libraries, err := f.ImportedLibraries()
	if err == nil && len(libraries) > 0 {
		t.Errorf("the binary asks for %q", libraries)
	}
}

// Only --questdb of capture may be off, and only it says so.
func TestHelp(t *testing.T) {
	for _, command := range []string{"capture", "verify", "replay", "coverage", "schema"} {
		code, stdout, _ := run(t, command, "--help")
		if code != 0 || strings.Contains(stdout, "journal only") != (command == "capture") {
			t.Errorf("%s: code %d\n%s", command, code, stdout)
		}
	}
}

// Rows may go where nothing can be synced: a pipe, a device.
func TestReplayToPipe(t *testing.T) {
	journal := filepath.Join(t.TempDir(), "journal")
	conf := file(t, "listen: off\nquestdb: off\nvenues: {binance: {symbols: [BTCUSDT], rest_url: 'http://127.0.0.1:1', ws_url: 'ws://127.0.0.1:1'}}\n")
	if code, _, stderr := run(t, "capture", "-c", conf, "--journal", journal, "--for", "1s"); code != 0 {
		t.Fatalf("capture: code %d: %s", code, stderr)
	}
	for _, out := range []string{"-", os.DevNull} {
		if code, _, stderr := run(t, "replay", "--journal", journal, "--out", out); code != 0 {
			t.Errorf("--out %s: code %d: %s", out, code, stderr)
		}
	}
}
