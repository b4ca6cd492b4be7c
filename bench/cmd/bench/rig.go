package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/internal/embedded/pgserver"
	"github.com/maxviazov/audittrail/internal/kafkatest"
)

// rig is one pipeline, each part a process of its own.
type rig struct {
	options
	pipeline stage.Pipeline
	kfake    *stage.Process
	kafka    *kafkatest.Cluster
	server   *pgserver.Server
	data     string // of PostgreSQL
	pool     *pgxpool.Pool
	conn     *grpc.ClientConn
	emitter  *stage.Process
	enricher *stage.Process
	sink     *stage.Process
	// httpAddrs are where emitter, enricher and sink serve HTTP.
	httpAddrs [3]string
}

func setUp(ctx context.Context, o options) (r *rig, err error) {
	r = &rig{options: o}
	defer func() {
		if err != nil {
			r.tearDown()
		}
	}()
	say("building audittrail")
	binary, err := stage.Build(ctx, o.dir)
	if err != nil {
		return r, err
	}
	brokers, err := r.startBroker(ctx)
	if err != nil {
		return r, err
	}
	say("starting PostgreSQL %d", o.postgres)
	var dsn string
	if r.server, dsn, r.data, err = stage.Postgres(ctx, o.dir, o.postgres); err != nil {
		return r, err
	}
	if r.pool, err = pgxpool.New(ctx, dsn); err != nil {
		return r, err
	}
	r.pipeline = stage.Pipeline{Dir: o.dir, Binary: binary, Brokers: brokers, DSN: dsn, Partitions: o.partitions}
	if o.profile != "" {
		r.pipeline.Env = []string{"AUDITTRAIL_PPROF=true"}
	}
	if err := r.pipeline.Prepare(ctx); err != nil {
		return r, err
	}
	addrs, err := stage.FreeAddrs(4)
	if err != nil {
		return r, err
	}
	r.httpAddrs = [3]string(addrs[1:])
	r.emitter, r.enricher, r.sink = r.pipeline.Emitter(0, addrs[0], addrs[1]), r.pipeline.Enricher(0, addrs[2]), r.pipeline.Sink(0, addrs[3])
	say("starting emitter, enricher and sink")
	for _, p := range []*stage.Process{r.emitter, r.enricher, r.sink} {
		if err := p.Start(); err != nil {
			return r, err
		}
	}
	r.conn, err = grpc.NewClient(addrs[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	return r, err
}

func (r *rig) startBroker(ctx context.Context) ([]string, error) {
	switch r.broker {
	case "kfake":
		say("starting kfake")
		p, addr, err := stage.Kfake(r.dir)
		r.kfake = p
		return []string{addr}, err
	case "kafka":
		say("starting Apache Kafka")
		var err error
		r.kafka, err = kafkatest.New(ctx, filepath.Join(r.dir, "kafka"), kafkatest.Options{HeapMiB: 768})
		if err != nil {
			return nil, err
		}
		return r.kafka.Brokers(), nil
	}
	return nil, fmt.Errorf("broker %q: must be kfake or kafka", r.broker)
}

func (r *rig) tearDown() {
	if r.conn != nil {
		r.conn.Close()
	}
	if r.pool != nil {
		r.pool.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, p := range []*stage.Process{r.emitter, r.enricher, r.sink} {
		if p != nil {
			if err := p.Stop(ctx); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}
	if r.server != nil {
		if err := r.server.Stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	if r.kfake != nil {
		r.kfake.Kill9()
	}
	if r.kafka != nil {
		r.kafka.Stop()
	}
}

// stored is the number of events in PostgreSQL, by the heads of the logs.
func (r *rig) stored(ctx context.Context) (n int64, err error) {
	err = r.pool.QueryRow(ctx, "SELECT coalesce(sum(records), 0)::int8 FROM audittrail.heads").Scan(&n)
	return n, err
}

func (r *rig) awaitStored(ctx context.Context, want int64, within time.Duration) error {
	ctx, cancel := stage.Deadline(ctx, within, fmt.Sprintf("store %d events", want))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := r.stored(ctx)
		if err == nil && n >= want {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%w; %d stored; see the logs of the roles with -dir", context.Cause(ctx), n), err)
		case <-tick.C:
		}
	}
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
