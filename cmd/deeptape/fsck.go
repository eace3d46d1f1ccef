package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"deeptape/cmd/agent"
	"deeptape/hotpath/journal"
)

type fsckCmd struct {
	Dir    string `arg:"" help:"Directory of the journal."`
	Repair bool   `help:"Cut damaged records out; the damaged file is kept beside the repaired one."`
}

func (c *fsckCmd) Run() error {
	if err := isJournal(c.Dir); err != nil { // before a repair makes a LOCK
		return err
	}
	rep, err := journal.Fsck(journal.OS, c.Dir, c.Repair, os.Stdout)
	if err != nil {
		return err
	}
	gone := agent.EndsGone(c.Dir, rep.Ends)
	for _, text := range gone {
		fmt.Println(text)
	}
	if !rep.Clean() {
		if !c.Repair {
			fmt.Fprintln(os.Stderr, "run it with --repair to cut damaged records out")
		}
		return errFailed
	}
	if len(gone) > 0 {
		return errFailed
	}
	return nil
}

// isJournal is an error for a directory in which no journal has ever been: nothing
// wrong would be found there.
func isJournal(dir string) error {
	segments, err := journal.Segments(journal.OS, dir)
	if err != nil {
		return fmt.Errorf("cannot read journal %q: %w", dir, err)
	}
	if len(segments) > 0 {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, "LOCK")); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%q is no journal: there is neither a segment nor a LOCK in it", dir)
	} else if err != nil {
		return fmt.Errorf("cannot read journal %q: %w", dir, err)
	}
	return nil
}
