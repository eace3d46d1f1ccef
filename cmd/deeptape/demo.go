package main

type demoCmd struct{}
type verifyCmd struct{}
type coverageCmd struct{}

func (demoCmd) Run() error { return nil }
func (verifyCmd) Run() error { return nil }
func (coverageCmd) Run() error { return nil }
