package main

import (
	"context"
	"fmt"
	"os"

	"deeptape/cmd/localdb"
)

type dbCmd struct {
	Start  dbStartCmd  `cmd:"" help:"Start a local QuestDB; a second start finds the first."`
	Stop   dbStopCmd   `cmd:"" help:"Stop it, and return once it is gone."`
	Status dbStatusCmd `cmd:"" help:"Say whether it runs, and where."`
}

type dbDir struct {
	Dir string `help:"Directory of the database." default:"${dbdir}"`
}

type dbStartCmd struct {
	dbDir
	Heap string `help:"Largest Java heap." default:"512m"`
	Port int    `placeholder:"PORT" help:"HTTP port, this one or none; default: the directory's own, else 9000, else one that is free."`
	PG   int    `name:"pg" placeholder:"PORT" help:"PostgreSQL port, likewise; default: the directory's own, else 8812, else one that is free."`
}

func (c *dbStartCmd) Run(ctx context.Context) error {
	for _, port := range []int{c.Port, c.PG} {
		if port < 0 || port > 65535 {
			return usageError{fmt.Errorf("%d is no port; ports are 1 to 65535", port)}
		}
	}
	info, err := localdb.Start(ctx, c.Dir, localdb.Options{Heap: c.Heap, HTTPPort: c.Port, PGPort: c.PG, Usual: true, Log: os.Stderr})
	if err != nil {
		return err
	}
	printDB(info)
	return nil
}

type dbStopCmd struct{ dbDir }

func (c *dbStopCmd) Run() error {
	was, err := localdb.Stop(c.Dir)
	if err != nil {
		return err
	}
	if was {
		fmt.Println("QuestDB is stopped")
	} else {
		fmt.Printf("no QuestDB runs in %s\n", c.Dir)
	}
	return nil
}

type dbStatusCmd struct{ dbDir }

func (c *dbStatusCmd) Run() error {
	info, err := localdb.Status(c.Dir)
	if err != nil {
		return err
	}
	if !info.Running {
		fmt.Printf("no QuestDB runs in %s; start one with `deeptape db start --dir %s`\n", c.Dir, c.Dir)
		return errFailed
	}
	printDB(info)
	return nil
}

func printDB(info localdb.Info) {
	state := "answers queries"
	if !info.Ready {
		state = "runs, but does not answer queries"
	}
	fmt.Printf("QuestDB %s %s\n", info.Version, state)
	fmt.Printf("  console  http://%s\n  client   %s\n  psql     %s\n  dir      %s\n", info.HTTP, info.Conf(), info.PG, info.Dir)
	if info.LogFile != "" {
		fmt.Printf("  log      %s\n", info.LogFile)
	}
}
