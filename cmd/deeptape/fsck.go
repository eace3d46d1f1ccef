package main

import (
	"fmt"
	"os"

	"deeptape/hotpath/journal"
)

type fsckCmd struct {
	Dir    string `arg:"" help:"Directory of the journal."`
	Repair bool   `help:"Cut damaged records out; the damaged file is kept beside the repaired one."`
}

func (c *fsckCmd) Run() error {
	rep, err := journal.Fsck(journal.OS, c.Dir, c.Repair, os.Stdout)
	if err != nil {
		return err
	}
	if !rep.Clean() {
		if !c.Repair {
			fmt.Fprintln(os.Stderr, "run it with --repair to cut damaged records out")
		}
		return errFailed
	}
	return nil
}
