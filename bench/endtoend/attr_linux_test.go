package endtoend

import "syscall"

// childAttr: a group of its own, so that one signal reaches all of it, and dead
// when we are.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
