package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

var exportFormats = []string{"jsonl", "csv", "parquet"}

func newEventsExport() *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{Use: "export FILE", Short: "Write the whole result of a filter to a file: JSON lines, CSV or Parquet", Args: exactly(1),
		Long: `Writes every event that a filter accepts and that was stored when the export began, newest first, to FILE; - is standard output.

FILE appears when it is complete. Until then FILE.part holds what has come, and FILE.resume where to go on: after a break, --resume does, and the
file is the same as without one. A server that goes away for a moment is waited for. Parquet is made from FILE.part at the end, which for a while takes
the space of both.

The format is that of FILE's extension (.jsonl, .csv, .parquet) unless --format says another. docs/export.md lists the columns. In CSV a value that a
spreadsheet would run as a formula gets an apostrophe in front; --csv-raw leaves it as it is.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.file = args[0]
			if err := o.check(); err != nil {
				return err
			}
			conn, err := connect(cmd)
			if err != nil {
				return err
			}
			defer conn.Close()
			target, err := openTarget(o, cmd.OutOrStdout())
			if err != nil {
				return err
			}
			x := &exporter{client: audittrailv1.NewQueryServiceClient(conn), filter: o.filter, target: target,
				progress: newExportProgress(cmd.ErrOrStderr(), o.quiet), note: cmd.ErrOrStderr(), file: o.file}
			return x.run(cmd.Context())
		}}
	flags := cmd.Flags()
	flags.StringVar(&o.filter, "filter", "", "AIP-160 filter; empty: everything")
	flags.StringVar(&o.format, "format", "", strings.Join(exportFormats, ", ")+"; empty: by FILE's extension")
	flags.BoolVar(&o.resume, "resume", false, "go on with the export to FILE that was interrupted")
	flags.BoolVar(&o.force, "force", false, "replace FILE, and what is left of an interrupted export")
	flags.BoolVar(&o.csvRaw, "csv-raw", false, "in CSV, write values as they are, also those that a spreadsheet would run")
	flags.BoolVar(&o.quiet, "quiet", false, "show no progress on standard error")
	return cmd
}

type exportOptions struct {
	file, filter, format         string
	resume, force, csvRaw, quiet bool
}

// check fills in the format. Its errors are wrong usage.
func (o *exportOptions) check() error {
	if o.format == "" {
		o.format = strings.TrimPrefix(filepath.Ext(o.file), ".")
		if o.file == "-" {
			o.format = "jsonl"
		}
		if !slices.Contains(exportFormats, o.format) {
			return usagef("the extension of %s is none of .%s: say --format", o.file, strings.Join(exportFormats, ", ."))
		}
	}
	switch {
	case !slices.Contains(exportFormats, o.format):
		return usagef("--format %s is none of %s", o.format, strings.Join(exportFormats, ", "))
	case o.file == "-" && o.resume:
		return usagef("--resume needs a file")
	case o.file == "-" && o.format == "parquet":
		return usagef("parquet needs a file")
	case o.resume && o.force:
		return usagef("--resume goes on, --force begins again: say one of them")
	}
	return nil
}

// exporter writes one export and rides out a server that goes away.
type exporter struct {
	client   audittrailv1.QueryServiceClient
	filter   string
	target   *target
	progress *exportProgress
	note     io.Writer
	file     string
}

// run returns nil when the file is complete.
func (x *exporter) run(ctx context.Context) error {
	err := x.rideOut(ctx)
	x.progress.end()
	if err == nil {
		if err = x.target.finish(); err == nil {
			fmt.Fprintf(x.note, "%s exported to %s\n", number(int(x.target.state.Count), "event"), x.file)
			return nil
		}
	}
	keepErr := x.target.keep()
	if ctx.Err() != nil {
		err = fmt.Errorf("interrupted after %s", number(int(x.target.state.Count), "event"))
	}
	if keepErr == nil && x.target.resumable() {
		fmt.Fprintf(x.note, "go on with --resume\n")
	}
	return errors.Join(err, keepErr)
}

// rideOut connects again, once the server has answered, for as long as it is away.
func (x *exporter) rideOut(ctx context.Context) error {
	away := false
	for {
		answered, err := x.follow(ctx)
		if err == nil || ctx.Err() != nil || status.Code(err) != codes.Unavailable || x.target.state.Token == "" {
			return err
		}
		if answered {
			away = false
		}
		if !away { // once an outage, however long it is
			away = true
			x.progress.end()
			fmt.Fprintf(x.note, "%s; connecting again\n", describe(err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// follow reads one stream. It returns nil after the last response only.
func (x *exporter) follow(ctx context.Context) (answered bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := x.client.ExportEvents(ctx, &audittrailv1.ExportEventsRequest{Filter: x.filter, ResumeToken: x.target.state.Token})
	if err != nil {
		return false, fmt.Errorf("export events: %w", err)
	}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return answered, status.Error(codes.Unavailable, "the stream ended before the export was complete")
		}
		if err != nil {
			return answered, fmt.Errorf("export events: %w", err)
		}
		answered = true
		if err := x.target.take(resp); err != nil {
			return answered, err
		}
		x.progress.show(x.target.state.Count, resp)
		if resp.Done {
			return answered, nil
		}
	}
}

// exportProgress tells on standard error how far an export is: on a terminal one line that changes, else a line every ten seconds.
type exportProgress struct {
	out      io.Writer
	terminal bool
	quiet    bool
	began    time.Time
	first    int64 // events that were there when it began
	last     time.Time
	open     bool // a line on the terminal has no end yet
}

func newExportProgress(out io.Writer, quiet bool) *exportProgress {
	return &exportProgress{out: out, terminal: isTerminal(out), quiet: quiet, began: time.Now(), last: time.Now(), first: -1}
}

func (p *exportProgress) show(count int64, resp *audittrailv1.ExportEventsResponse) {
	if p.first < 0 {
		p.first = count - int64(len(resp.Events))
	}
	every := 10 * time.Second
	if p.terminal {
		every = time.Second
	}
	if p.quiet || time.Since(p.last) < every {
		return
	}
	p.last = time.Now()
	line := fmt.Sprintf("%s, %.0f/s", number(int(count), "event"), float64(count-p.first)/time.Since(p.began).Seconds())
	if resp.CompleteAfter != nil {
		line += ", back to " + formatTime(resp.CompleteAfter)
	}
	if p.terminal {
		fmt.Fprintf(p.out, "\r\x1b[K%s", line)
		p.open = true
		return
	}
	fmt.Fprintln(p.out, line)
}

// end ends the line, so that something else can be said.
func (p *exportProgress) end() {
	if p.open {
		fmt.Fprintln(p.out)
		p.open = false
	}
}

// exists says whether a file is there.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
