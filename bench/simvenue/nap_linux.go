package simvenue

import "syscall"

// nap sleeps for ns, or less.
func nap(ns int64) {
	ts := syscall.NsecToTimespec(ns)
	syscall.Nanosleep(&ts, nil)
}
