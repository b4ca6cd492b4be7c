package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/internal/eventfile"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// exporting is a server of n events, five to a response, whose tokens are numbers. After breakAfter responses a stream ends with broken; once.
type exporting struct {
	audittrailv1.QueryServiceClient
	n          int
	breakAfter int
	broken     error
	streams    int
}

func exported(i int) *audittrailv1.Event {
	return &audittrailv1.Event{Id: fmt.Sprintf("id-%d", i), Source: "acme", Action: "a", OccurredAt: timestamppb.New(time.Unix(int64(i), 0)),
		Reason: "=1+1", Details: strings.Repeat("x", i%50)}
}

type exportStream struct {
	grpc.ServerStreamingClient[audittrailv1.ExportEventsResponse]
	server *exporting
	at     int
	sent   int
}

func (s *exporting) ExportEvents(_ context.Context, r *audittrailv1.ExportEventsRequest, _ ...grpc.CallOption) (
	grpc.ServerStreamingClient[audittrailv1.ExportEventsResponse], error,
) {
	s.streams++
	at := 0
	if r.ResumeToken != "" {
		var err error
		if at, err = strconv.Atoi(r.ResumeToken); err != nil {
			return nil, err
		}
	}
	return &exportStream{server: s, at: at}, nil
}

func (s *exportStream) Recv() (*audittrailv1.ExportEventsResponse, error) {
	if s.server.broken != nil && s.sent == s.server.breakAfter {
		err := s.server.broken
		s.server.broken = nil
		return nil, err
	}
	resp := new(audittrailv1.ExportEventsResponse)
	for range 5 {
		if s.at < s.server.n {
			resp.Events = append(resp.Events, exported(s.at))
			s.at++
		}
	}
	s.sent++
	if resp.Done = s.at == s.server.n; !resp.Done {
		resp.ResumeToken = strconv.Itoa(s.at)
	}
	return resp, nil
}

// runExport exports from a server into a file.
func runExport(t *testing.T, server *exporting, o exportOptions) error {
	t.Helper()
	if err := o.check(); err != nil {
		return err
	}
	target, err := openTarget(o, io.Discard)
	if err != nil {
		return err
	}
	return (&exporter{client: server, target: target, progress: newExportProgress(io.Discard, true), note: io.Discard, file: o.file}).run(t.Context())
}

func content(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAnInterruptedExportEndsAsIfItHadNotBeen breaks exports for good in the middle, spoils what was not saved, and resumes: the file is byte for
// byte that of an export that went through, in every format.
func TestAnInterruptedExportEndsAsIfItHadNotBeen(t *testing.T) {
	for _, format := range exportFormats {
		t.Run(format, func(t *testing.T) {
			dir := t.TempDir()
			whole := filepath.Join(dir, "whole."+format)
			if err := runExport(t, &exporting{n: 203}, exportOptions{file: whole}); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "broken."+format)
			server := &exporting{n: 203, breakAfter: 7, broken: status.Error(codes.Internal, "gone for good")}
			if err := runExport(t, server, exportOptions{file: file}); status.Code(err) != codes.Internal {
				t.Fatalf("got %v", err)
			}
			if exists(file) || !exists(file+".part") || !exists(file+".resume") {
				t.Error("a broken export looks complete, or cannot be resumed")
			}
			// What a crash leaves behind the last saved state.
			part, err := os.OpenFile(file+".part", os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := part.WriteString("half an eve"); err != nil {
				t.Fatal(err)
			}
			part.Close()
			for name, o := range map[string]exportOptions{
				"without --resume":    {file: file},
				"with another filter": {file: file, filter: "x", resume: true},
				"raw":                 {file: file, csvRaw: true, resume: true},
			} {
				if code := exitCode(runExport(t, server, o)); code != exitUsage {
					t.Errorf("%s: exit code %d", name, code)
				}
			}
			if err := runExport(t, server, exportOptions{file: file, resume: true}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(content(t, file), content(t, whole)) {
				t.Error("the file differs from that of an export that went through")
			}
			left, err := filepath.Glob(filepath.Join(dir, "*.*.*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if code := exitCode(runExport(t, server, exportOptions{file: file})); code != exitUsage {
				t.Errorf("a file that is there was replaced without --force: exit code %d", code)
			}
			if err := runExport(t, &exporting{n: 3}, exportOptions{file: file, force: true}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAnExportRidesOutAServerThatGoesAway(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.jsonl")
	for name, broken := range map[string]error{"unavailable": status.Error(codes.Unavailable, "away"), "cut off": io.EOF} {
		server := &exporting{n: 100, breakAfter: 3, broken: broken}
		if err := runExport(t, server, exportOptions{file: file, force: true}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var want bytes.Buffer
		w := eventfile.NewJSONLines(&want)
		for i := range 100 {
			if err := w.Add(exported(i)); err != nil {
				t.Fatal(err)
			}
		}
		if server.streams != 2 || !bytes.Equal(content(t, file), want.Bytes()) {
			t.Errorf("%s: %d streams, or not the same events", name, server.streams)
		}
	}
	// Before the first answer it says at once that nobody is there, and leaves nothing.
	server := &exporting{n: 100, broken: status.Error(codes.Unavailable, "away")}
	if err := runExport(t, server, exportOptions{file: file, force: true}); exitCode(err) != exitUnavailable || exists(file+".part") {
		t.Errorf("got %v", err)
	}
}

func TestExportOptions(t *testing.T) {
	for name, o := range map[string]exportOptions{
		"no format":             {file: "out.txt"},
		"unknown format":        {file: "out.csv", format: "xml"},
		"resume of output":      {file: "-", resume: true},
		"parquet to output":     {file: "-", format: "parquet"},
		"resume and begin anew": {file: "out.csv", resume: true, force: true},
	} {
		if code := exitCode(o.check()); code != exitUsage {
			t.Errorf("%s: exit code %d", name, code)
		}
	}
	o := exportOptions{file: "-"}
	if err := o.check(); err != nil || o.format != "jsonl" {
		t.Errorf("%v %v", o, err)
	}
}
