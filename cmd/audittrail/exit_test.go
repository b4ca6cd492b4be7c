package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/maxviazov/audittrail/internal/serve"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

func withDetails(t *testing.T, code codes.Code, d *errdetails.BadRequest, retry bool) error {
	t.Helper()
	st := status.New(code, "message")
	var err error
	if d != nil {
		st, err = st.WithDetails(d)
	}
	if retry && err == nil {
		st, err = st.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	}
	if err != nil {
		t.Fatal(err)
	}
	return st.Err()
}

func TestExitCodes(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want int
	}{
		"nothing":           {nil, exitOK},
		"anything":          {errors.New("x"), exitFailure},
		"usage":             {fmt.Errorf("a: %w", usagef("x")), exitUsage},
		"taken address":     {fmt.Errorf("a: %w", serve.ErrListen), exitUsage},
		"refused":           {refusedf("x"), exitRefused},
		"unavailable":       {unavailableError{errors.New("x")}, exitUnavailable},
		"deadline":          {fmt.Errorf("a: %w", context.DeadlineExceeded), exitUnavailable},
		"call unavailable":  {fmt.Errorf("a: %w", withDetails(t, codes.Unavailable, nil, false)), exitUnavailable},
		"overloaded":        {withDetails(t, codes.ResourceExhausted, nil, true), exitUnavailable},
		"too large":         {withDetails(t, codes.ResourceExhausted, nil, false), exitRefused},
		"invalid":           {withDetails(t, codes.InvalidArgument, nil, false), exitRefused},
		"not found":         {withDetails(t, codes.NotFound, nil, false), exitRefused},
		"another role":      {withDetails(t, codes.Unimplemented, nil, false), exitUsage},
		"broken server":     {withDetails(t, codes.Internal, nil, false), exitFailure},
		"joined, one fails": {errors.Join(nil, withDetails(t, codes.Unavailable, nil, false)), exitUnavailable},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

func TestWrongUsage(t *testing.T) {
	for _, args := range [][]string{
		{"nonsense"}, {"events"}, {"events", "nonsense"}, {"events", "list", "extra"}, {"events", "list", "--limit", "-1"}, {"events", "list", "-o", "xml"}, {"events", "get"},
		{"all", "--nonsense"}, {"all", "--sink-batch-rows", "1"}, {"all", "--grpc-listen", "0.0.0.0:7480"}, {"sink"}, {"config", "print", "--role", "x"},
		{"demo", "--rate", "0"}, {"deadletters", "redrive"}, {"deadletters", "redrive", "x"}, {"emit", "--action", "a"}, {"import", "cloudtrail"}, {"topics", "accept-new", "--kafka-brokers", "a:1"},
	} {
		r := command(t, "", args...)
		if r.code != exitUsage || !strings.HasPrefix(r.errors, "audittrail: ") {
			t.Errorf("%v: exit code %d, want %d: %s", args, r.code, exitUsage, r.errors)
		}
	}
	if r := command(t, ""); r.code != exitOK || !strings.Contains(r.out, "Exit codes:") {
		t.Errorf("without arguments: %d, %s", r.code, r.out)
	}
}

func TestConfigPrintHidesSecretsAndSaysWhereFrom(t *testing.T) {
	t.Setenv("AUDITTRAIL_POSTGRES_DSN", "postgres://u:s3cr3t@localhost/d")
	r := command(t, "", "config", "print", "--sink-batch-age", "50ms").mustBe(t, exitOK)
	for _, want := range []string{"REDACTED", "environment AUDITTRAIL_POSTGRES_DSN", "flag --sink-batch-age", "default"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("config print lacks %q:\n%s", want, r.out)
		}
	}
	if strings.Contains(r.out, "s3cr3t") {
		t.Errorf("config print shows the secret:\n%s", r.out)
	}
	t.Setenv("AUDITTRAIL_SINK_BATCHROWS", "1")
	if r := command(t, "", "config", "check").mustBe(t, exitUsage); !strings.Contains(r.errors, "did you mean AUDITTRAIL_SINK_BATCH_ROWS?") {
		t.Errorf("config check: %s", r.errors)
	}
}

func TestPerEventGivesEachItsOwnReasons(t *testing.T) {
	err := withDetails(t, codes.InvalidArgument, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: "events[0].source", Description: "is required"}, {Field: "events[2]", Description: "is too large"}, {Field: "events[0].action", Description: "is required"},
	}}, false)
	each := perEvent(status.Convert(err), 4)
	if each[1] != nil || each[3] != nil {
		t.Errorf("events 1 and 3 were not judged: %v", each)
	}
	if got := describeStatus(each[0]); got != "source is required; action is required" {
		t.Errorf("event 0: %q", got)
	}
	if got := describeStatus(each[2]); got != "is too large" {
		t.Errorf("event 2: %q", got)
	}
	whole := perEvent(status.New(codes.Unavailable, "away"), 2)
	if whole[0] == nil || whole[1] == nil {
		t.Error("what is about no event in particular is everybody's")
	}
}

func TestWaitingIsForWhatWasThere(t *testing.T) {
	at := func(end, next int64) *audittrailv1.GetStatusResponse {
		return &audittrailv1.GetStatusResponse{Partitions: []*audittrailv1.PartitionStatus{{Partition: 0}, {Partition: 1, EventsEnd: end, NextOffset: next}}}
	}
	if reached(at(10, 5), at(30, 9)) {
		t.Error("slot 9 is still open")
	}
	if !reached(at(10, 5), at(30, 10)) {
		t.Error("everything that was there is stored; the rest came later")
	}
	if reached(at(10, 5), &audittrailv1.GetStatusResponse{}) || reached(&audittrailv1.GetStatusResponse{}, &audittrailv1.GetStatusResponse{}) {
		t.Error("a status that says nothing is no answer")
	}
}
