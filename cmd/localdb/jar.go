package localdb

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

const (
	jarCoordinates = "org.questdb:questdb:" + Version
	jarName        = "questdb-" + Version + ".jar"
	jarSHA256      = "939bc53ab22f93dbaa6545143a6e7c536d4904c07b7f2d381e8eef10436be062"
)

var errNoMaven = errors.New("there is no Maven (mvn) to fetch its jar with")

// fetchJar returns the path of the jar, its hash checked, in a cache shared by
// all directories of this user; it brings it there if need be.
func fetchJar(ctx context.Context, log io.Writer) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cannot find a directory for QuestDB's jar: %w", err)
	}
	cache := filepath.Join(base, "deeptape")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("cannot make directory %q: %w", cache, err)
	}
	unlock, err := lockFile(ctx, filepath.Join(cache, jarName+".lock"), func() {
		fmt.Fprintln(log, "waiting for another process that fetches QuestDB's jar")
	})
	if err != nil {
		return "", err
	}
	defer unlock()
	jar := filepath.Join(cache, jarName)
	if _, err := os.Stat(jar); errors.Is(err, os.ErrNotExist) {
		if err := download(ctx, cache, jar, log); err != nil {
			return "", err
		}
		return jar, nil
	}
	return jar, checkJar(jar, "delete it, and it is fetched again")
}

// download puts the jar at path, in one step, after checking it.
func download(ctx context.Context, cache, path string, log io.Writer) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return errNoMaven
	}
	tmp, err := os.MkdirTemp(cache, "fetch-")
	if err != nil {
		return fmt.Errorf("cannot make a directory in %q: %w", cache, err)
	}
	defer os.RemoveAll(tmp)
	fmt.Fprintf(log, "fetching %s with Maven (30 MB, once)\n", jarCoordinates)
	cmd := exec.CommandContext(ctx, mvn, "-B", "dependency:copy", "-Dartifact="+jarCoordinates, "-DoutputDirectory="+tmp)
	cmd.Dir = tmp // no pom.xml here
	cmd.WaitDelay = 5 * time.Second
	out, err := runWithProgress(cmd, log)
	if ctx.Err() != nil {
		return fmt.Errorf("cannot fetch %s: %w", jarCoordinates, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("cannot fetch %s with Maven: %w\n%s", jarCoordinates, err, indent(out))
	}
	got := filepath.Join(tmp, jarName)
	if err := checkJar(got, "it is not kept; delete org/questdb/questdb in Maven's local repository and try again, "+
		"and if it comes back the same, do not trust where it comes from"); err != nil {
		return err
	}
	if err := os.Rename(got, path); err != nil {
		return fmt.Errorf("cannot keep %q: %w", path, err)
	}
	return nil
}

// runWithProgress runs a Maven command, prints to log every few seconds how far
// it is, and returns the last lines of its output.
func runWithProgress(cmd *exec.Cmd, log io.Writer) (tail string, err error) {
	pr, pw := io.Pipe()
	cmd.Stdout, cmd.Stderr = pw, pw
	if err := cmd.Start(); err != nil {
		return "", err
	}
	began := time.Now()
	var files atomic.Int64
	lines := make(chan []string)
	go func() {
		var last []string
		sc := bufio.NewScanner(pr)
		for sc.Scan() {
			if strings.Contains(sc.Text(), "Downloaded") {
				files.Add(1)
			}
			if last = append(last, sc.Text()); len(last) > 12 {
				last = last[1:]
			}
		}
		io.Copy(io.Discard, pr) // a line too long for the scanner must not block Maven
		lines <- last
	}()
	done := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		pw.Close()
		done <- err
	}()
	tick := time.NewTicker(3 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fmt.Fprintf(log, "  Maven: %d files after %.0f s\n", files.Load(), time.Since(began).Seconds())
		case err := <-done:
			return strings.Join(<-lines, "\n"), err
		}
	}
}

// checkJar compares the hash of the file with the pinned one.
func checkJar(path, remedy string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot open QuestDB's jar %q: %w", path, err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("cannot read QuestDB's jar %q: %w", path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != jarSHA256 {
		return fmt.Errorf("cannot use QuestDB's jar %q: its SHA-256 is %s, not %s: %s", path, got, jarSHA256, remedy)
	}
	return nil
}
