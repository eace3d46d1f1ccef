package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// A worker is a peer of another language, a process that has the corpora in memory. It
// is told "TASK CORPUS" in a line, does that task once, from the beginning, and answers
// with a line "NS CHECK", or "error WHY". NS is the processor time of its process in what
// is the peer's of the task.
type worker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startWorker(command string, args ...string) (*worker, error) {
	w := &worker{cmd: exec.Command(command, args...)}
	w.cmd.Stderr = os.Stderr
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.out = bufio.NewReader(out)
	return w, w.cmd.Start()
}

func (w *worker) stop() {
	w.in.Close() // it ends with its input
	w.cmd.Wait()
}

func (w *worker) do(task, corpus string) (s sample, err error) {
	if _, err := fmt.Fprintf(w.in, "%s %s\n", task, corpus); err != nil {
		return s, err
	}
	answer, err := w.out.ReadString('\n')
	if err != nil {
		return s, fmt.Errorf("%s gave no answer to %s: %w", w.cmd.Path, task, err)
	}
	s.allocs = -1
	if _, err := fmt.Sscan(answer, &s.ns, &s.check); err != nil {
		return s, fmt.Errorf("%s", strings.TrimSpace(answer))
	}
	return s, nil
}

func (w *worker) peer(name, notes, task string, c *corpus) *peer {
	return &peer{name: name, notes: notes, remote: func() (sample, error) { return w.do(task, c.name) }}
}
