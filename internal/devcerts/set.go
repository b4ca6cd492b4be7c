package devcerts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// ErrExists says that a file is there already.
var ErrExists = errors.New("exists already, and is not overwritten")

// Roles are those that Write makes a certificate for: what AuditTrail runs, what it connects to, and a person.
var Roles = []string{"emitter", "enricher", "sink", "gateway", "all", "kafka", "postgres", "redis", "admin", "producer"}

// Options say what Write makes.
type Options struct {
	// Dir is the directory, made with mode 0700.
	Dir string
	// Life is how long everything is valid. Default 30 days.
	Life time.Duration
	// Hosts are names and addresses of every certificate besides localhost, 127.0.0.1, ::1 and the role.
	Hosts []string
}

// Write makes ca.crt and ca.key, and ROLE.crt and ROLE.key of each role with the URI spiffe://audittrail.dev/ROLE. When one of the files is there
// already it writes none. Returns the files.
func Write(o Options) ([]string, error) {
	if o.Life == 0 {
		o.Life = 30 * 24 * time.Hour
	}
	ca, err := NewCA("AuditTrail development CA", o.Life)
	if err != nil {
		return nil, err
	}
	pairs := map[string]Pair{}
	if pairs["ca"], err = ca.PEM(); err != nil {
		return nil, err
	}
	for _, role := range Roles {
		pairs[role], err = ca.Issue(Request{Name: role, Hosts: append([]string{"localhost", "127.0.0.1", "::1", role}, o.Hosts...),
			URIs: []string{"spiffe://audittrail.dev/" + role}, NotAfter: time.Now().Add(o.Life)})
		if err != nil {
			return nil, err
		}
	}
	names := append([]string{"ca"}, Roles...)
	var files []string
	for _, name := range names {
		files = append(files, filepath.Join(o.Dir, name+".crt"), filepath.Join(o.Dir, name+".key"))
	}
	for _, path := range files {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", path, errors.Join(ErrExists, err))
		}
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	for i, name := range names {
		if err := write(files[2*i], pairs[name].Cert, 0o644); err != nil {
			return nil, err
		}
		if err := write(files[2*i+1], pairs[name].Key, 0o600); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// write makes a file that is not there yet, whoever makes it meanwhile.
func write(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", path, ErrExists)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}
