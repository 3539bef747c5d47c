// The first process of a group of processes: it does nothing but to take leave of those that end.
//
// It is the process of a pod's sandbox, and the first one of the whole node.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			if number, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); number <= 0 && err != syscall.EINTR {
				break
			}
		}
	}
}
