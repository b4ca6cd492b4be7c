package kafkatest

import "syscall"

// sysProcAttr puts a broker in a process group of its own, so that Ctrl-C reaches only us, and lets the
// kernel kill it when we die.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
