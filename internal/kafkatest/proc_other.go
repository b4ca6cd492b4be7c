//go:build !linux

package kafkatest

import "syscall"

// sysProcAttr leaves a broker in our process group, so that at least a signal to the group ends it too.
func sysProcAttr() *syscall.SysProcAttr { return nil }
