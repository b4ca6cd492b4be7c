package retention

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/internal/rollup"
	"github.com/maxviazov/audittrail/processors/sink/schema"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
)

// filled is a database with one bundle a day in each of two logs, days 1 to n before today. Of each bundle every fourth record is of a source that is
// kept for 60 days, but on even days nothing is; the last record is a day late.
type filled struct {
	dsn string
	db  *pgxpool.Pool
}

const perBundle = 256

func newFilled(t *testing.T, days int) *filled {
	t.Helper()
	dsn := embeddedtest.Postgres(t)
	if err := schema.Migrate(t.Context(), dsn, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	db, err := pgxpool.New(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	f := &filled{dsn, db}
	f.exec(t, "INSERT INTO audittrail.sources (path) VALUES ('acme/short'), ('acme/long')")
	f.exec(t, "INSERT INTO audittrail.actions (name) VALUES ('thing.done')")
	today := time.Now().UTC().Truncate(24 * time.Hour)
	for log := range int16(2) {
		f.exec(t, `INSERT INTO audittrail.heads (log_id, owner, events_topic_id, records_topic_id, partitions, size)
			VALUES ($1, gen_random_uuid(), decode(repeat('01', 16), 'hex'), decode(repeat('02', 16), 'hex'), 2, $2)`, log, days*perBundle)
	}
	f.exec(t, `DO $$ DECLARE d date; BEGIN SET LOCAL ROLE audittrail_owner;
		FOR d IN SELECT generate_series((now() AT TIME ZONE 'UTC')::date - 40, (now() AT TIME ZONE 'UTC')::date - 2, interval '1 day') LOOP
			PERFORM audittrail.add_leaf('segments', format('segments_%s', to_char(d, 'YYYYMMDD')), d, d + 1);
			PERFORM audittrail.add_leaf('rollups', format('rollups_%s', to_char(d, 'YYYYMMDD')), d, d + 1);
		END LOOP; END $$`)
	for i := range days {
		day := today.AddDate(0, 0, i-days)
		for log := range int16(2) {
			f.bundle(t, log, int64(i), day)
		}
	}
	return f
}

func (f *filled) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := f.db.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func number(day time.Time) int16 { return int16(day.Unix()/86400 - 10957) }

func (f *filled) bundle(t *testing.T, log int16, bundle int64, day time.Time) {
	t.Helper()
	var framed, hashes []byte
	var terms []uint64
	var rows [][]any
	var low, high event.ID
	for i := range perBundle {
		e := &audittrailv1.Event{Source: "acme/short", Action: "thing.done", Outcome: audittrailv1.Outcome_OUTCOME_SUCCESS, IdempotencyKey: fmt.Sprintf("%d-%d-%d", log, bundle, i),
			OccurredAt: timestamppb.New(day.Add(time.Hour + time.Duration(i)*time.Second)), Enrichment: &audittrailv1.Enrichment{RetentionDays: 3}}
		source := int32(1)
		if i%4 == 0 && number(day)%2 != 0 {
			e.Source, e.Enrichment.RetentionDays, source = "acme/long", 60, 2
		}
		if i == perBundle-1 {
			e.OccurredAt = timestamppb.New(day.Add(-time.Hour))
		}
		raw, err := e.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		framed = segment.AppendEntry(framed, segment.KindRecord, raw)
		leaf := segment.LeafHash(segment.Entry{Kind: segment.KindRecord, Payload: raw})
		hashes = append(hashes, leaf[:]...)
		terms, _ = segment.AppendTerms(terms, nil, e)
		id := event.IDOf(e)
		if i == 0 || id.Compare(low) < 0 {
			low = id
		}
		if id.Compare(high) > 0 {
			high = id
		}
		rows = append(rows, []any{bundle*perBundle + int64(i), int64(1), source, int32(1), log, int16(e.Outcome), number(day), [16]byte(id)})
	}
	f.exec(t, "INSERT INTO audittrail.tiles0 VALUES ($1, $2, $3, $4)", log, bundle, number(day), hashes)
	f.exec(t, "INSERT INTO audittrail.segments VALUES ($1, $2, $3, $4, $5, $6, $7)", number(day), log, bundle, [16]byte(low), [16]byte(high),
		[]byte(segment.BuildFilter(terms, perBundle)), segment.Encode(nil, framed))
	f.exec(t, "INSERT INTO audittrail.rollups VALUES ($1, $1, $2, $3, 1, $4)", number(day), log, bundle,
		rollup.Append(nil, []rollup.Cell{{Minute: rollup.MinuteOf(day.UnixMilli()), Source: 1, Action: 1, Count: 1}}))
	if _, err := f.db.CopyFrom(t.Context(), pgx.Identifier{"audittrail", "events"}, []string{"log_index", "fingerprint", "source_id", "action_id", "log_id", "outcome", "day", "id"},
		pgx.CopyFromRows(rows)); err != nil {
		t.Fatal(err)
	}
}

// check says what must be true after retention of 10 days, whatever happened on the way. days is how many there were.
func (f *filled) check(t *testing.T, days int) {
	t.Helper()
	ctx := t.Context()
	today := time.Now().UTC().Truncate(24 * time.Hour)
	for i := range days {
		day := today.AddDate(0, 0, i-days)
		due, keeps := days-i > 10, number(day)%2 != 0
		rows, err := f.db.Query(ctx, `SELECT s.data, t.hashes FROM audittrail.segments s JOIN audittrail.tiles0 t USING (day, log_id, bundle) WHERE day = $1`, number(day))
		if err != nil {
			t.Fatal(err)
		}
		var data, hashes []byte
		bundles, records := 0, 0
		if _, err := pgx.ForEachRow(rows, []any{&data, &hashes}, func() error {
			bundles++
			entries, err := segment.Decode(data)
			for j, e := range entries {
				if hash := segment.LeafHash(e); string(hash[:]) != string(hashes[32*j:32*j+32]) {
					t.Errorf("hash of entry %d of day %v", j, day)
				}
				if e.Kind == segment.KindRecord {
					records++
				}
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		wantBundles, wantRecords := 2, 2*perBundle
		if due {
			wantBundles, wantRecords = 0, 0
			if keeps {
				wantBundles, wantRecords = 2, 2*perBundle/4
			}
		}
		var counted int
		if err := f.db.QueryRow(ctx, "SELECT coalesce(sum(records), 0) FROM audittrail.rollups WHERE day = $1", number(day)).Scan(&counted); err != nil {
			t.Fatal(err)
		}
		if !due {
			wantCounted := 2 // as filled in
			if counted != wantCounted {
				t.Errorf("day %v: rollups of %d records, want %d", day, counted, wantCounted)
			}
		} else if counted != wantRecords {
			t.Errorf("day %v: rollups of %d records, want %d", day, counted, wantRecords)
		}
		if bundles != wantBundles || records != wantRecords {
			t.Errorf("day %d before today: %d bundles with %d records, want %d with %d", days-i, bundles, records, wantBundles, wantRecords)
		}
	}
	var tables, leaves, unguarded, unaudited, bounds int
	if err := f.db.QueryRow(ctx, `SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'audittrail'::regnamespace AND relkind = 'r' AND (relname ~ '^(segments|rollups|events)_')),
		(SELECT count(*) FROM audittrail.leaves),
		(SELECT count(*) FROM audittrail.leaves l WHERE 2 <> (SELECT count(*) FROM pg_trigger WHERE tgrelid = ('audittrail.' || leaf)::regclass AND tgenabled = 'A' AND NOT tgisinternal)),
		(SELECT count(*) FROM audittrail.retention_ledger l WHERE step = 'dropped' AND NOT EXISTS (SELECT FROM audittrail.retention_ledger a WHERE a.leaf = l.leaf AND a.step = 'audited')),
		(SELECT count(DISTINCT log_id) FROM audittrail.retention_bounds WHERE audittrail.occurred_at(removed_before) >= $1)`, today.AddDate(0, 0, -10)).Scan(&tables, &leaves, &unguarded, &unaudited, &bounds); err != nil {
		t.Fatal(err)
	}
	if tables != leaves || unguarded != 0 || unaudited != 0 || bounds != 2 {
		t.Errorf("%d tables and %d leaves; %d leaves without their triggers, %d removals without audit, bounds in %d logs", tables, leaves, unguarded, unaudited, bounds)
	}
}

// TestApply: days go, what is kept longer stays with its hashes, bounds are set, every removal is emitted; twice changes nothing; what is kept goes
// when it is due.
func TestApply(t *testing.T) {
	t.Parallel()
	f := newFilled(t, 16)
	emitted := make(map[string]Removal)
	cfg := Config{DSN: f.dsn, Days: 10, Emit: func(_ context.Context, r Removal) (event.ID, error) {
		emitted[r.Leaf] = r
		return event.NewID("a", r.Leaf, r.At), nil
	}}
	dry := cfg
	dry.DryRun = true
	would, err := Apply(t.Context(), dry, zerolog.Nop())
	if err != nil || len(emitted) > 0 {
		t.Fatal(err, emitted)
	}
	done, err := Apply(t.Context(), cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	f.check(t, 16)
	removed, kept := int64(0), int64(0)
	for _, r := range done {
		removed, kept = removed+r.Removed, kept+r.Kept
	}
	if segments := count(would, "segments"); segments != count(done, "segments") || len(emitted) != len(done) || removed+kept != 6*2*perBundle || kept != 3*2*perBundle/4 {
		t.Errorf("%d days announced, %d leaves removed, %d emitted, %d records removed, %d kept", segments, len(done), len(emitted), removed, kept)
	}
	if again, err := Apply(t.Context(), cfg, zerolog.Nop()); err != nil || count(again, "segments") > 0 {
		t.Errorf("a second run: %v, %v", again, err)
	}
	f.check(t, 16)
	// Leaves of events: monthly ones may hold events of days that are there, so this only says that none was left that could go.
	var points int
	if err := f.db.QueryRow(t.Context(), `SELECT count(*) FROM audittrail.events e WHERE NOT EXISTS (SELECT FROM audittrail.leaves l WHERE parent = 'segments'
		AND audittrail.day_number(from_day) = e.day) AND audittrail.occurred_at(id) < now() - interval '45 days'`).Scan(&points); err != nil || points > 0 {
		t.Errorf("%d rows of events that point to nothing, %v", points, err)
	}
}

func count(rs []Removal, parent string) (n int) {
	for _, r := range rs {
		if r.Parent == parent {
			n++
		}
	}
	return n
}

// TestHeld: an open bundle holds its day.
func TestHeld(t *testing.T) {
	t.Parallel()
	f := newFilled(t, 12)
	oldest := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -12)
	f.exec(t, "UPDATE audittrail.heads SET size = size + 1, open_day = $1 WHERE log_id = 1", number(oldest))
	done, err := Apply(t.Context(), Config{DSN: f.dsn, Days: 10}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for _, r := range done {
		if r.Held != "" {
			held++
			if !r.Day.Equal(oldest) {
				t.Errorf("held: %+v", r)
			}
		}
	}
	var bundles int
	if err := f.db.QueryRow(t.Context(), "SELECT count(*) FROM audittrail.segments WHERE day = $1", number(oldest)).Scan(&bundles); err != nil || bundles != 2 || held != 1 {
		t.Errorf("%d held, %d bundles of the day, %v", held, bundles, err)
	}
	if _, err := Apply(t.Context(), Config{DSN: f.dsn}, zerolog.Nop()); err == nil {
		t.Error("0 days are taken")
	}
}

const childEnv = "AUDITTRAIL_TEST_RETENTION"

// child dies by SIGKILL after the step that the environment names.
func child() {
	for {
		_, err := apply(context.Background(), Config{DSN: os.Getenv(childEnv), Days: 10}, zerolog.Nop(), func(step string) {
			if step == os.Getenv(childEnv+"_STEP") {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		})
		if !errors.Is(err, ErrBusy) { // the server has not noticed yet that the one before is dead
			fmt.Println("not killed:", err)
			return
		}
	}
}

func startChild(t *testing.T, dsn, step string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dsn, childEnv+"_STEP="+step)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// finish runs Apply when the server has noticed that the killed process is gone.
func (f *filled) finish(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, err := Apply(t.Context(), Config{DSN: f.dsn, Days: 10}, zerolog.Nop())
		if err == nil {
			return
		}
		if !errors.Is(err, ErrBusy) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestKill kills retention after each of its steps; the next run completes it.
func TestKill(t *testing.T) {
	t.Parallel()
	f := newFilled(t, 13)
	for _, step := range []string{"copied", "bounded", "detached segments", "detached rollups", "dropped", "audited"} {
		cmd := startChild(t, f.dsn, step)
		err := cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Errorf("%s: the process was not killed: %v", step, err)
		}
	}
	f.finish(t)
	f.check(t, 13)
}

// TestKillWhileDetaching: a reader holds the detaching up, the process and its backend die, and the next run finishes.
func TestKillWhileDetaching(t *testing.T) {
	t.Parallel()
	f := newFilled(t, 12)
	reader, err := f.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback(context.WithoutCancel(t.Context()))
	if _, err := reader.Exec(t.Context(), "SELECT count(*) FROM audittrail.segments"); err != nil {
		t.Fatal(err)
	}
	cmd := startChild(t, f.dsn, "never")
	pending := false
	for deadline := time.Now().Add(20 * time.Second); !pending && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err := f.db.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhdetachpending)").Scan(&pending); err != nil {
			t.Fatal(err)
		}
	}
	if !pending {
		t.Error("nothing is being detached")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	f.exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'audittrail-retention' AND datname = current_database()")
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.finish(t)
	f.check(t, 12)
}
