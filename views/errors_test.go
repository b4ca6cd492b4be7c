package views

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestClassify(t *testing.T) {
	pg := func(code string) error { return &pgconn.PgError{Code: code, Message: "secret"} }
	for _, c := range []struct {
		err  error
		want codes.Code
	}{
		{pg("57P01"), codes.Unavailable}, // shutdown
		{pg("57014"), codes.Unavailable}, // statement time-out
		{pg("53300"), codes.Unavailable}, // too many connections
		{pg("08006"), codes.Unavailable},
		{pg("40001"), codes.Unavailable},
		{pg("42P01"), codes.Internal}, // no such table
		{pg("42501"), codes.Internal}, // no rights
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, codes.Unavailable},
		{io.ErrUnexpectedEOF, codes.Unavailable},
		{context.DeadlineExceeded, codes.Unavailable},
		{damaged(errors.New("x"), "bundle %d", 7), codes.DataLoss},
		{errors.New("anything else"), codes.Internal},
	} {
		wrapped := fmt.Errorf("read events: %w", c.err)
		if got := classify(wrapped); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
		s := &Server{log: zerolog.Nop()}
		told := status.Convert(s.fail(t.Context(), "test", wrapped))
		if told.Code() != c.want || strings.Contains(told.Message(), "secret") || strings.Contains(told.Message(), "bundle") {
			t.Errorf("%v: the caller is told %v", c.err, told)
		}
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	s := &Server{log: zerolog.Nop()}
	if got := status.Code(s.fail(late, "test", errors.New("x"))); got != codes.DeadlineExceeded {
		t.Errorf("after the caller's deadline: %v", got)
	}
	if s.fail(t.Context(), "test", nil) != nil {
		t.Error("nothing is an error")
	}
}

func TestConfig(t *testing.T) {
	if err := (Config{}).WithDefaults().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	err := Config{
		Key: []byte("short"), ScanRows: 1, PageTime: time.Hour, StatementTime: time.Second, BundleCacheBytes: 1, RecordCacheBytes: -1,
		RedisTime: time.Hour, RedisKeep: 1, TailPoll: time.Hour, MaxTails: -1, SourceWait: time.Hour, KafkaTime: 1,
	}.Validate()
	for _, name := range []string{
		"key", "scan_rows", "page_time", "statement_time", "bundle_cache_bytes", "record_cache_bytes", "redis_time", "redis_keep", "tail_poll",
		"max_tails", "source_wait", "kafka_time",
	} {
		if err == nil || !strings.Contains(err.Error(), name+" ") {
			t.Errorf("%s is not among the problems: %v", name, err)
		}
	}
}
