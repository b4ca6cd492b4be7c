package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/maxviazov/audittrail/internal/embedded/pgserver"
)

// BrokerArg as the first argument makes a program that calls Broker the in-process broker instead.
const BrokerArg = "serve-kfake"

// Broker runs kfake with its data in a directory and synchronous writes, as the embedded default does, in
// a process of its own: its CPU time is then counted apart from the load generator's. Arguments: port,
// directory. It ends with its parent.
func Broker(args []string) error {
	port, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("port: %w", err)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(args[1]), kfake.SyncWrites(),
		kfake.BrokerConfigs(map[string]string{"message.max.bytes": strconv.Itoa(16 << 20)}))
	if err != nil {
		return fmt.Errorf("start kfake: %w", err)
	}
	defer cluster.Close()
	select {}
}

// Kfake starts this program again as the in-process broker.
func Kfake(dir string) (*Process, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", fmt.Errorf("find this program: %w", err)
	}
	addrs, err := FreeAddrs(1)
	if err != nil {
		return nil, "", err
	}
	_, port, _ := strings.Cut(addrs[0], ":")
	p := NewProcess(dir, "kfake", self, []string{BrokerArg, port, filepath.Join(dir, "kfake")}, nil)
	return p, addrs[0], p.Start()
}

// debian15 is where Debian's package postgresql-15 has its binaries.
const debian15 = "/usr/lib/postgresql/15/bin"

// Postgres runs PostgreSQL 15 (Debian's) or 18 (the embedded library's) with durable commits, and returns
// its server, its connection string and its data directory.
func Postgres(ctx context.Context, dir string, version int) (*pgserver.Server, string, string, error) {
	var binaries pgserver.Binaries
	var err error
	if version == 15 {
		binaries, err = pgserver.Installed(ctx, debian15)
	} else {
		binaries, err = pgserver.Fetch(ctx, pgserver.FetchConfig{})
	}
	if err != nil {
		return nil, "", "", err
	}
	user, err := pgserver.Unprivileged()
	if err != nil {
		return nil, "", "", err
	}
	base := filepath.Join(dir, "postgres")
	data := filepath.Join(base, "data")
	if err := errors.Join(os.MkdirAll(base, 0o755), user.Own(base)); err != nil {
		return nil, "", "", fmt.Errorf("place of PostgreSQL: %w", err)
	}
	if err := pgserver.Init(ctx, pgserver.InitConfig{Binaries: binaries, User: user, Dir: data, Password: "bench"}); err != nil {
		return nil, "", "", err
	}
	port, err := pgserver.FreePort()
	if err != nil {
		return nil, "", "", err
	}
	// The settings a small production server would have; nothing that weakens durability.
	settings := map[string]string{"shared_buffers": "256MB", "max_wal_size": "4GB", "max_connections": "100", "max_locks_per_transaction": "512",
		"checkpoint_timeout": "15min", "wal_compression": "off"}
	server, err := pgserver.Start(ctx, pgserver.Config{Binaries: binaries, User: user, Dir: data, Port: port, Settings: settings, Log: filepath.Join(base, "log")})
	if err != nil {
		return nil, "", "", err
	}
	return server, fmt.Sprintf("postgres://%s:bench@127.0.0.1:%d/postgres?sslmode=disable", pgserver.Superuser, port), data, nil
}

// DirBytes is the size of all files below dir.
func DirBytes(dir string) (int64, error) {
	var total int64
	err := filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return nil // files of a running server come and go
			}
			return err
		}
		if info, err := e.Info(); err == nil && !e.IsDir() {
			total += info.Size()
		}
		return nil
	})
	return total, err
}

// Deadline bounds a wait with a message of its own.
func Deadline(ctx context.Context, d time.Duration, what string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("%s: not within %s", what, d))
}
