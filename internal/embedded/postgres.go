package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/embedded/pgserver"
)

// PostgresConfig says how PostgreSQL is run.
type PostgresConfig struct {
	// Port is the port on 127.0.0.1; 0 takes a free one, another at each start. Default: 0.
	Port int
	// Flag names what the user changes Port with, and DSNFlag what names another server; for error messages.
	// Defaults: --postgres-port, --postgres-dsn.
	Flag, DSNFlag string
	// Database is the database that is made if need be. Default: audittrail.
	Database string
	// Settings are added to the server's, as in postgresql.conf.
	Settings map[string]string
	// Place is where data directories live when this process is root. Default: pgserver.SystemPlace.
	Place string
	// Fetch says where the binaries come from and go to. Default: see pgserver.FetchConfig.
	Fetch pgserver.FetchConfig
	// FetchTimeout bounds the download of the binaries. Default: 5 min.
	FetchTimeout time.Duration
	// StartTimeout bounds the start, with making the data directory and recovery after a crash. Default: 2 min.
	StartTimeout time.Duration
	// StopTimeout bounds the orderly shutdown of a server left behind, which then is stopped at once. Default: 30 s.
	StopTimeout time.Duration
	// Log receives what is done. The server's own log is a file.
	Log zerolog.Logger
}

func (cfg PostgresConfig) withDefaults() PostgresConfig {
	if cfg.Flag == "" {
		cfg.Flag = "--postgres-port"
	}
	if cfg.DSNFlag == "" {
		cfg.DSNFlag = "--postgres-dsn"
	}
	if cfg.Database == "" {
		cfg.Database = "audittrail"
	}
	if cfg.Place == "" {
		cfg.Place = pgserver.SystemPlace
	}
	if cfg.FetchTimeout == 0 {
		cfg.FetchTimeout = 5 * time.Minute
	}
	if cfg.StartTimeout == 0 {
		cfg.StartTimeout = 2 * time.Minute
	}
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = 30 * time.Second
	}
	return cfg
}

// Validate reports all problems at once.
func (cfg PostgresConfig) Validate() error {
	cfg = cfg.withDefaults()
	var errs []error
	if cfg.Port < 0 || cfg.Port > 65535 {
		errs = append(errs, fmt.Errorf("%s %d: must be 0 to 65535", cfg.Flag, cfg.Port))
	}
	for name, d := range map[string]time.Duration{"fetch": cfg.FetchTimeout, "start": cfg.StartTimeout, "stop": cfg.StopTimeout} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s timeout %s: must be positive", name, d))
		}
	}
	return errors.Join(errs...)
}

// PostgresInfo says what runs where, for the user to see.
type PostgresInfo struct {
	Address  string // host:port
	Database string
	Place    string // the data directory itself, links resolved
	RunsAs   string // the unprivileged user, when this process is root; else empty
	Password string // the file that holds the superuser's password
	Log      string // the server's log file
	PID      int
	Created  bool // the data directory was made by this start
	Leftover int  // process id of a server that a former run left behind and that was stopped; 0: none
}

// Postgres is a running PostgreSQL 18.
type Postgres struct {
	server   *pgserver.Server
	place    *place
	leftover int
	dsn      string
	info     PostgresInfo
}

// StartPostgres runs PostgreSQL on <data>/postgres, making it the first time, and returns when the database accepts
// connections. ctx bounds the start only. Errors: ErrForeign, ErrVersion, ErrInUse, ErrPortTaken, pgserver.ErrFetch, each with what to do.
func StartPostgres(ctx context.Context, data *Data, cfg PostgresConfig) (*Postgres, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	binaries, err := fetch(ctx, cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.StartTimeout, fmt.Errorf("PostgreSQL did not start within %s", cfg.StartTimeout))
	defer cancel()
	password, err := readOrMakePassword(data)
	if err != nil {
		return nil, err
	}
	place, err := openPlace(ctx, data, cfg.Place, binaries, password)
	if err != nil {
		return nil, err
	}
	p := &Postgres{place: place}
	if err := p.start(ctx, data, cfg, binaries, password); err != nil {
		return nil, errors.Join(err, place.close())
	}
	return p, nil
}

func fetch(ctx context.Context, cfg PostgresConfig) (pgserver.Binaries, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.FetchTimeout, fmt.Errorf("not within %s", cfg.FetchTimeout))
	defer cancel()
	if cfg.Fetch.Fetching == nil {
		cfg.Fetch.Fetching = func() { cfg.Log.Info().Msg("fetching PostgreSQL 18 (15 MB, once)") }
	}
	binaries, err := pgserver.Fetch(ctx, cfg.Fetch)
	if errors.Is(err, pgserver.ErrFetch) {
		return binaries, fmt.Errorf("%w; this is needed once, and takes a network: try again with one, or use a PostgreSQL server of your own with %s", err, cfg.DSNFlag)
	}
	return binaries, err
}

func (p *Postgres) start(ctx context.Context, data *Data, cfg PostgresConfig, binaries pgserver.Binaries, password string) error {
	logFile := data.path("postgres.log")
	if err := rotate(logFile); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	run := pgserver.Config{Binaries: binaries, User: p.place.user, Dir: p.place.dir, Log: logFile, Settings: map[string]string{
		"fsync": "on", "max_locks_per_transaction": "512", "password_encryption": "scram-sha-256",
	}}
	for name, value := range cfg.Settings {
		run.Settings[name] = value
	}
	port, err := p.run(ctx, cfg, run)
	if err != nil {
		return err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	dsn := url.URL{Scheme: "postgres", User: url.UserPassword(pgserver.Superuser, password), Host: address, RawQuery: "sslmode=disable"}
	if err := makeDatabase(ctx, dsn, cfg.Database); err != nil {
		return errors.Join(fmt.Errorf("start PostgreSQL: %w", err), p.stopServer(cfg.StopTimeout))
	}
	pid, err := p.server.Pid()
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	dsn.Path = cfg.Database
	p.dsn = dsn.String()
	p.info = PostgresInfo{Address: address, Database: cfg.Database, Place: p.place.dir, Password: data.path(passwordName), Log: logFile,
		PID: pid, Created: p.place.created, Leftover: p.leftover}
	if p.place.user != nil {
		p.info.RunsAs = p.place.user.Name
	}
	return nil
}

func (p *Postgres) stopLeftover(ctx context.Context, cfg PostgresConfig) error {
	ctx, cancel := context.WithTimeout(ctx, 2*cfg.StopTimeout)
	defer cancel()
	pid, err := pgserver.StopLeftover(ctx, p.place.dir)
	if err == nil && pid != 0 {
		p.leftover = pid
		cfg.Log.Warn().Int("pid", pid).Msg("stopped the PostgreSQL that a former run left behind")
	}
	return err
}

// passing are what the server's log says when a start fails for a reason that passes: a free port was lost to somebody else,
// processes of a killed server still hold its shared memory until they notice, or a server of a run killed a moment
// ago was just starting.
var passing = []string{"could not bind", "pre-existing shared memory block", `"postmaster.pid" already exists`}

// run stops what a former run left behind and starts the server.
func (p *Postgres) run(ctx context.Context, cfg PostgresConfig, run pgserver.Config) (port int, err error) {
	for try := 0; ; try++ {
		if err := p.stopLeftover(ctx, cfg); err != nil {
			return 0, err
		}
		run.Port = cfg.Port
		if cfg.Port == 0 {
			if run.Port, err = pgserver.FreePort(); err != nil {
				return 0, err
			}
		} else if err := tryListen("PostgreSQL", net.JoinHostPort("127.0.0.1", strconv.Itoa(cfg.Port)), cfg.Flag); err != nil {
			return 0, fmt.Errorf("start PostgreSQL: %w", err)
		}
		if p.server, err = pgserver.Start(ctx, run); err == nil {
			return run.Port, nil
		}
		passes := slices.ContainsFunc(passing, func(reason string) bool { return strings.Contains(err.Error(), reason) })
		if !passes || try == 20 {
			return 0, err
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return 0, err
		}
	}
}

// makeDatabase makes the database if it does not exist: the server may have died between its first start and this.
func makeDatabase(ctx context.Context, server url.URL, name string) error {
	server.Path = "postgres"
	conn, err := pgx.Connect(ctx, server.String())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil || exists {
		return err
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" TEMPLATE template0"); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// DSN is the connection string of the superuser, with the password.
func (p *Postgres) DSN() string { return p.dsn }

// Info says what runs where.
func (p *Postgres) Info() PostgresInfo { return p.info }

// Done is closed when the server has ended, whatever the reason.
func (p *Postgres) Done() <-chan struct{} { return p.server.Done() }

// Stop shuts the server down in order, or at once when ctx ends. It returns when the server is gone. Close connections first: it
// ends those that are left.
func (p *Postgres) Stop(ctx context.Context) error {
	return errors.Join(p.server.Stop(ctx), p.place.close())
}

func (p *Postgres) stopServer(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return p.server.Stop(ctx)
}

const passwordName = "postgres-password"

// readOrMakePassword returns the superuser's password. It is written before the data directory is made, so that no
// directory is without one.
func readOrMakePassword(data *Data) (string, error) {
	path := data.path(passwordName)
	content, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(content)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("password of PostgreSQL: %w", err)
	}
	if _, err := os.Lstat(data.path("postgres")); err == nil {
		return "", fmt.Errorf("%w: %s is there but its password file %s is not; put the file back, or choose another directory with --data",
			ErrForeign, data.path("postgres"), path)
	}
	password := rand.Text()
	if err := writeFile(path, password+"\n"); err != nil {
		return "", fmt.Errorf("password of PostgreSQL: %w", err)
	}
	return password, nil
}

// rotate keeps the server's log small: at a start, a log over 16 MiB becomes <name>.1.
func rotate(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Size() > 16<<20 {
		err = os.Rename(path, path+".1")
	}
	return err
}
