package localdb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	image         = "questdb/questdb:" + Version
	dockerTimeout = 30 * time.Second // for an answer of the daemon; fetching an image takes longer
)

// container is a server that docker runs. Docker keeps its output; a stopped
// one is removed.
type container struct{ docker, name string }

func (c *container) describe() string  { return "container " + c.name }
func (c *container) inContainer() bool { return true }

func dockerRun(ctx context.Context, docker string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, docker, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("docker %s: %w: %s", args[0], err, strings.TrimSpace(lastLines(stderr.Bytes(), 8)))
	}
	return stdout.String(), nil
}

// findDocker returns the docker command if its daemon answers.
func findDocker(ctx context.Context) (string, error) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		return "", errors.New("there is no docker")
	}
	ctx, cancel := context.WithTimeout(ctx, dockerTimeout)
	defer cancel()
	if _, err := dockerRun(ctx, docker, "version", "--format", "{{.Server.Version}}"); err != nil {
		return "", errors.New("docker's daemon does not answer")
	}
	return docker, nil
}

// findContainer returns nil where there is no docker to ask.
func findContainer(name string) *container {
	docker, err := exec.LookPath("docker")
	if err != nil {
		return nil
	}
	return &container{docker, name}
}

func (c *container) alive() bool {
	ctx, cancel := context.WithTimeout(context.Background(), dockerTimeout)
	defer cancel()
	out, err := dockerRun(ctx, c.docker, "inspect", "--format", "{{.State.Running}}", c.name)
	return err == nil && strings.TrimSpace(out) == "true"
}

func (c *container) stop(patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience+dockerTimeout)
	defer cancel()
	if patience > 0 {
		// Its failure shows in the removal, which must succeed.
		_, _ = dockerRun(ctx, c.docker, "stop", "--time", fmt.Sprint(int(patience.Seconds())), c.name)
	}
	_, err := dockerRun(ctx, c.docker, "rm", "--force", c.name)
	if err != nil && strings.Contains(strings.ToLower(err.Error()), "no such container") {
		return nil
	}
	return err
}

func (c *container) logTail() string {
	ctx, cancel := context.WithTimeout(context.Background(), dockerTimeout)
	defer cancel()
	// The server writes to both outputs.
	out, err := exec.CommandContext(ctx, c.docker, "logs", "--tail", "25", c.name).CombinedOutput()
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	return lastLines(out, 25)
}

type dockerEngine struct{ docker string }

func (e *dockerEngine) describe() string { return "docker, image " + image }

// containerName is the same for every start in a directory, so that docker, too,
// refuses a second server there.
func containerName(d dbDir) string {
	return fmt.Sprintf("deeptape-db-%x", sha256.Sum256([]byte(d.root)))[:len("deeptape-db-")+12]
}

// args of `docker run`. The settings are those of the Java process, except that
// inside, the server listens to all: only 127.0.0.1 is published.
func (e *dockerEngine) args(d dbDir, st state, heap string) []string {
	a := []string{"run", "--detach", "--name", containerName(d)}
	for _, m := range []struct{ addr, inside string }{{st.HTTP, "9000"}, {st.PG, "8812"}, {st.Metrics, "9003"}} {
		_, port, err := net.SplitHostPort(m.addr)
		if err != nil {
			panic(fmt.Sprintf("BUG: address %q was made by choosePorts", m.addr))
		}
		a = append(a, "--publish", "127.0.0.1:"+port+":"+m.inside)
	}
	for _, kv := range settings("0.0.0.0:9000", "0.0.0.0:8812", "0.0.0.0:9003") {
		a = append(a, "--env", kv)
	}
	a = append(a, "--env", "JVM_PREPEND=-Xms64m -Xmx"+heap)
	// The image drops root by itself; anybody else must own the files it writes.
	if uid := os.Getuid(); uid > 0 {
		a = append(a, "--user", fmt.Sprintf("%d:%d", uid, os.Getgid()))
	}
	return append(a, "--volume", d.root+":/var/lib/questdb", image)
}

func (e *dockerEngine) start(ctx context.Context, d dbDir, st *state, opt Options) (runner, error) {
	if err := d.prepare(); err != nil {
		return nil, err
	}
	c := &container{e.docker, containerName(d)}
	// A stopped container of this directory holds the name.
	if err := c.stop(0); err != nil {
		return nil, err
	}
	// Recorded first: if we die now, Stop still finds what docker made.
	st.Container = c.name
	if err := d.saveState(*st); err != nil {
		return nil, err
	}
	if _, err := dockerRun(ctx, e.docker, "inspect", "--type", "image", "--format", "{{.Id}}", image); err != nil {
		fmt.Fprintf(opt.Log, "docker fetches the image %s (once)\n", image)
	}
	if _, err := dockerRun(ctx, e.docker, e.args(d, *st, opt.Heap)...); err != nil {
		_ = c.stop(0)
		d.forget()
		return nil, fmt.Errorf("cannot start QuestDB in %q: %w", d.root, err)
	}
	return c, nil
}
