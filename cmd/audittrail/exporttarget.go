package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/maxviazov/audittrail/internal/eventfile"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// exportState is what FILE.resume holds: the first so many bytes of FILE.part are the events before the token.
//
// It is written after they are on disk and replaced as a whole, so that after a crash at any moment it speaks of bytes that are there; what
// the part has beyond is cut off and comes again.
type exportState struct {
	Version int    `json:"version"`
	Filter  string `json:"filter"`
	Format  string `json:"format"`
	CSVRaw  bool   `json:"csv_raw"`
	Token   string `json:"resume_token"`
	Bytes   int64  `json:"bytes"`
	Count   int64  `json:"events"`
}

const (
	exportStateVersion = 1
	// saveEvery is how often the state is saved: what comes within is read again after a crash.
	saveEvery = 2 * time.Second
)

// eventWriter is one of the writers of eventfile.
type eventWriter interface {
	Add(*audittrailv1.Event) error
	Flush() error
}

// target is where an export goes.
type target struct {
	options exportOptions
	state   exportState // of what was taken
	saved   time.Time

	part   *os.File // nil: standard output
	buffer *bufio.Writer
	bytes  *counter
	out    eventWriter
}

func (o exportOptions) part() string    { return o.file + ".part" }
func (o exportOptions) resumed() string { return o.file + ".resume" }

// openTarget opens the files of an export, new or to be continued.
func openTarget(o exportOptions, stdout io.Writer) (*target, error) {
	t := &target{options: o, saved: time.Now(),
		state: exportState{Version: exportStateVersion, Filter: o.filter, Format: o.format, CSVRaw: o.csvRaw}}
	if o.file == "-" {
		return t, t.write(stdout, true)
	}
	if o.resume {
		return t, t.reopen()
	}
	if !o.force {
		for _, name := range []string{o.resumed(), o.part(), o.file} {
			if exists(name) {
				return nil, usagef("%s is there already: --resume goes on, --force begins again", name)
			}
		}
	}
	// An old state must not speak of a new part.
	if err := os.Remove(o.resumed()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var err error
	if t.part, err = os.OpenFile(o.part(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600); err != nil {
		return nil, err
	}
	return t, t.write(t.part, true)
}

func (t *target) reopen() error {
	raw, err := os.ReadFile(t.options.resumed())
	if err != nil {
		return usagef("nothing to resume: %w", err)
	}
	asked := t.state
	if err := json.Unmarshal(raw, &t.state); err != nil || t.state.Version != exportStateVersion || t.state.Token == "" {
		return usagef("%s is not the state of an export of this version", t.options.resumed())
	}
	if asked.Filter != t.state.Filter || asked.Format != t.state.Format || asked.CSVRaw != t.state.CSVRaw {
		return usagef("the interrupted export had --filter %q --format %s --csv-raw=%v: resume it with the same", t.state.Filter, t.state.Format, t.state.CSVRaw)
	}
	if t.part, err = os.OpenFile(t.options.part(), os.O_WRONLY, 0); err != nil {
		return usagef("nothing to resume: %w", err)
	}
	size, err := t.part.Seek(0, io.SeekEnd)
	if err == nil && size < t.state.Bytes {
		err = fmt.Errorf("%s has %d bytes, and %d were written: begin again with --force", t.options.part(), size, t.state.Bytes)
	}
	if err == nil {
		err = t.part.Truncate(t.state.Bytes)
	}
	if err == nil {
		_, err = t.part.Seek(t.state.Bytes, io.SeekStart)
	}
	if err != nil {
		return errors.Join(err, t.part.Close())
	}
	return t.write(t.part, false)
}

// write puts the writers together.
func (t *target) write(to io.Writer, fresh bool) error {
	t.buffer = bufio.NewWriterSize(to, 256<<10)
	t.bytes = &counter{out: t.buffer, n: t.state.Bytes}
	switch t.options.format {
	case "jsonl":
		t.out = eventfile.NewJSONLines(t.bytes)
	case "parquet":
		t.out = eventfile.NewSpool(t.bytes)
	default:
		c := eventfile.NewCSV(t.bytes, t.options.csvRaw)
		t.out = c
		if fresh {
			return c.Header()
		}
	}
	return nil
}

// take writes what a response brings.
func (t *target) take(resp *audittrailv1.ExportEventsResponse) error {
	for _, e := range resp.Events {
		if err := t.out.Add(e); err != nil {
			return fmt.Errorf("write export: %w", err)
		}
	}
	t.state.Count += int64(len(resp.Events))
	t.state.Token = resp.ResumeToken
	if t.part == nil || resp.Done || time.Since(t.saved) < saveEvery {
		return nil
	}
	return t.save()
}

func (t *target) flush() error {
	if err := t.out.Flush(); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	if err := t.buffer.Flush(); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	return nil
}

// save makes what was taken survive a crash.
func (t *target) save() error {
	if err := t.flush(); err != nil {
		return err
	}
	if err := t.part.Sync(); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	t.state.Bytes = t.bytes.n
	raw, err := json.Marshal(t.state)
	if err != nil {
		return err
	}
	t.saved = time.Now()
	return replaceFile(t.options.resumed(), func(f *os.File) error {
		_, err := f.Write(raw)
		return err
	})
}

// resumable says whether --resume would find something.
func (t *target) resumable() bool { return t.part != nil && t.state.Token != "" }

// keep leaves the files of an export that broke so that it can be resumed.
func (t *target) keep() error {
	if t.part == nil {
		return t.flush()
	}
	var err error
	switch {
	case t.resumable():
		err = t.save()
	case !exists(t.options.resumed()): // nothing came
		err = os.Remove(t.options.part())
	}
	return errors.Join(err, t.part.Close())
}

// finish makes the file from the part. The state goes last: until then a resumption ends here again.
func (t *target) finish() error {
	if err := t.flush(); err != nil || t.part == nil {
		return err
	}
	if err := t.part.Sync(); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	err := t.part.Close()
	t.part = nil // there is nothing left to keep
	if err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	if t.options.format == "parquet" {
		if err = t.convert(); err == nil {
			err = os.Remove(t.options.part())
		}
	} else {
		err = os.Rename(t.options.part(), t.options.file)
	}
	if err != nil {
		return err
	}
	if err := os.Remove(t.options.resumed()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// convert writes the Parquet file from the spool.
func (t *target) convert() error {
	in, err := os.Open(t.options.part())
	if err != nil {
		return err
	}
	defer in.Close()
	return replaceFile(t.options.file, func(f *os.File) error {
		out := bufio.NewWriterSize(f, 256<<10)
		p := eventfile.NewParquet(out)
		if err := eventfile.ReadSpool(in, p.Add); err != nil {
			return err
		}
		return errors.Join(p.Close(), out.Flush())
	})
}

// replaceFile writes a file that is there as a whole or not at all.
func replaceFile(path string, write func(*os.File) error) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), path)
}

// counter counts what passes.
type counter struct {
	out io.Writer
	n   int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.out.Write(b)
	c.n += int64(n)
	return n, err
}
