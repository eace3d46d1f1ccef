//go:build !linux

package simvenue

import "time"

func nap(ns int64) { time.Sleep(time.Duration(ns)) }
