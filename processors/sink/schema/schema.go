package schema

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/rs/zerolog"
)

const (
	// Owner, Writer and Reader are the roles; login users are made members of the latter two.
	Owner  = "audittrail_owner"
	Writer = "audittrail_writer"
	Reader = "audittrail_reader"

	versionTable = "audittrail.schema_version"
	minServer    = 150000
	lockID       = 7_480_748_001 // advisory lock of those who migrate
)

//go:embed roles.sql
var roles string

//go:embed migrations/*.sql
var migrations embed.FS

var (
	// ErrVersion says that database and program do not fit; wrapped by [Check].
	ErrVersion = errors.New("schema version")
	// ErrNewer says of a database that does not fit that a newer program migrated it: waiting mends nothing.
	ErrNewer = errors.New("a newer program is needed")
)

// Migrate brings the database that dsn names to the newest version: makes the roles, then applies what is missing. The user of
// dsn must be a superuser or have CREATEROLE, and CREATE on the database.
func Migrate(ctx context.Context, dsn string, log zerolog.Logger) error {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if err := makeRoles(ctx, cfg); err != nil {
		return fmt.Errorf("migrate: make roles: %w", err)
	}
	cfg.RuntimeParams["role"] = Owner // everything belongs to it
	db := stdlib.OpenDB(*cfg)
	defer db.Close()
	provider, err := newProvider(db)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	results, err := provider.Up(ctx)
	for _, r := range results {
		log.Info().Int64("version", r.Source.Version).Str("file", path.Base(r.Source.Path)).Dur("took", r.Duration).Msg("schema migrated")
	}
	if err == nil && mutation != "" {
		_, err = db.ExecContext(ctx, mutation)
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

func makeRoles(ctx context.Context, cfg *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var server int
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&server); err != nil {
		return err
	}
	if server < minServer {
		return fmt.Errorf("PostgreSQL %d is too old, 15 or later is needed", server/10000)
	}
	_, err = conn.PgConn().Exec(ctx, roles).ReadAll()
	return err
}

func newProvider(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(lockID))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, files, goose.WithTableName(versionTable), goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true))
}

// Querier is a connection or a pool.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Check says whether the database has the version this program was built for. An older database wants `audittrail migrate`, a newer
// one a newer program (ErrNewer): both wrap ErrVersion. Any member of Writer or Reader may ask.
func Check(ctx context.Context, db Querier) error {
	want, err := Version()
	if err != nil {
		return err
	}
	var have int64
	err = db.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM "+versionTable).Scan(&have)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "42P01" || pg.Code == "3F000") { // no such table, no such schema
		err = nil
	}
	switch {
	case err != nil:
		return fmt.Errorf("check schema: %w", err)
	case have < want:
		return fmt.Errorf("%w: the database has %d, this program needs %d: run `audittrail migrate`", ErrVersion, have, want)
	case have > want:
		return fmt.Errorf("%w: the database has %d, this program knows %d: %w", ErrVersion, have, want, ErrNewer)
	}
	return nil
}

// Version is the newest version this program knows.
func Version() (int64, error) {
	files, err := migrations.ReadDir("migrations")
	if err != nil {
		return 0, err
	}
	return goose.NumericComponent(files[len(files)-1].Name())
}
