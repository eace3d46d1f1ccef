package main

import (
	"context"
	"fmt"

	"deeptape/ilp/qdb"
	"deeptape/ilp/schema"
)

type schemaCmd struct {
	dbFlags
	Check bool `help:"Compare the tables with the database and name every difference."`
}

func (c *schemaCmd) Run(ctx context.Context) error {
	if !c.Check {
		cfg, err := c.read(c.QuestDB, "")
		if err != nil {
			return err
		}
		fmt.Print(schema.SQL(cfg.TablePrefix))
		return nil
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	if err := schema.CheckExact(ctx, db); err != nil {
		return err
	}
	fmt.Println("the tables and views are as they must be")
	return nil
}

// open connects to the configured database.
func (f *dbFlags) open() (*qdb.DB, error) {
	cfg, err := f.read(f.QuestDB, "")
	if err != nil {
		return nil, err
	}
	conf, err := database(cfg)
	if err != nil {
		return nil, err
	}
	return qdb.Open(conf), nil
}
