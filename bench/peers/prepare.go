package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Where everything that is built or converted goes, below the folder of this program.
const (
	buildDir = ".build"
	rustPeer = "rust/release/peers"
	venvDir  = "venv"
)

// prepare fetches and builds the peers. It may use the network; measuring may not.
func prepare(captures string) error {
	if err := os.MkdirAll(buildDir, 0o755); err != nil {
		return err
	}
	for _, r := range recordings {
		if err := convert(filepath.Join(captures, "binance", r.file), r.symbol, corpusPath(buildDir, r.name)); err != nil {
			return fmt.Errorf("cannot convert recording %s: %w (is DEEPTAPE_CAPTURES right?)", r.file, err)
		}
	}
	target, err := filepath.Abs(filepath.Join(buildDir, "rust"))
	if err != nil {
		return err
	}
	logf("building the Rust peers (minutes, the first time)")
	cargo := exec.Command("cargo", "build", "--release", "--quiet", "--manifest-path", "rust/Cargo.toml")
	cargo.Env = append(os.Environ(), "CARGO_TARGET_DIR="+target, "RUSTFLAGS=-C target-cpu=native")
	if err := loud(cargo); err != nil {
		return fmt.Errorf("cannot build the Rust peers (needs cargo 1.85 or later): %w", err)
	}
	return prepareVenv()
}

// prepareVenv makes a Python with the pinned packages, unless it is there.
func prepareVenv() error {
	wanted, err := os.ReadFile("python/requirements.txt")
	if err != nil {
		return err
	}
	venv := filepath.Join(buildDir, venvDir)
	stamp := filepath.Join(venv, "requirements.txt")
	if have, err := os.ReadFile(stamp); err == nil && bytes.Equal(have, wanted) {
		return nil
	}
	logf("installing cryptofeed (its parts in C are built here, a minute)")
	python := "python3.11"
	if _, err := exec.LookPath(python); err != nil {
		python = "python3"
	}
	if err := loud(exec.Command(python, "-m", "venv", "--clear", venv)); err != nil {
		return fmt.Errorf("cannot make a Python environment (needs Python 3.11 with venv): %w", err)
	}
	if err := loud(exec.Command(filepath.Join(venv, "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "python/requirements.txt")); err != nil {
		return fmt.Errorf("cannot install cryptofeed (its parts need a C compiler): %w", err)
	}
	return os.WriteFile(stamp, wanted, 0o644)
}

func loud(cmd *exec.Cmd) error {
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// isolated runs this program again where there is no network: a namespace of its own,
// which has no interface but a loopback that is down.
func isolated(args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var said []string
	for _, flags := range [][]string{{"-n"}, {"-r", "-n"}} { // as root, or as anybody
		out, err := exec.Command("unshare", append(flags, "true")...).CombinedOutput()
		if err == nil {
			return exec.Command("unshare", append(append(flags, self), args...)...), nil
		}
		said = append(said, fmt.Sprintf("unshare %s: %v %s", strings.Join(flags, " "), err, bytes.TrimSpace(out)))
	}
	return nil, fmt.Errorf("cannot make a network namespace, without which nothing is measured: %s", strings.Join(said, "; "))
}
