package embedded

import (
	"errors"
	"fmt"
	"net"
)

// ErrPortTaken says that an address cannot be listened on; the message names it and the flag that changes it.
var ErrPortTaken = errors.New("address is taken")

// tryListen reports, in words for the user, why the address cannot be listened on.
func tryListen(what, addr, flag string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return portError(what, addr, flag, err)
	}
	return ln.Close()
}

func portError(what, addr, flag string, err error) error {
	return fmt.Errorf("%w: %s cannot listen on %s (%w); stop what listens there, or choose another with %s", ErrPortTaken, what, addr, err, flag)
}
