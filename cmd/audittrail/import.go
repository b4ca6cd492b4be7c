package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"
	"time"

	"github.com/spf13/cobra"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

func newImport() *cobra.Command {
	c := family("import", "Import audit logs of other systems", newImportCloudTrail())
	addAddr(c)
	return c
}

func newImportCloudTrail() *cobra.Command {
	var gatewayAddr string
	cmd := &cobra.Command{Use: "cloudtrail FILE|DIR...", Short: "Import AWS CloudTrail log files, gzip too", Args: atLeastOne,
		Long: `Imports AWS CloudTrail log files (.json, .json.gz), of directories all that are below. Each record is one event with a derived id, so an import that was
interrupted can simply be run again. It ends with

  read N, accepted N, stored before N, rejected N

accepted: acknowledged now. Stored before: the id was stored already, or came earlier in this import. Rejected: named with file, record and reason,
and the exit code is 3. The whole original is kept byte for byte in details; what does not fit a field of the event is shortened or left out there
only, and counted at the end. It remembers every id while it runs, about 60 bytes each.`,
		RunE: func(cmd *cobra.Command, paths []string) error {
			files, err := findLogFiles(paths)
			if err != nil {
				return err
			}
			conn, err := connect(cmd)
			if err != nil {
				return err
			}
			defer conn.Close()
			readConn := conn
			if gatewayAddr != "" {
				if readConn, err = dial(cmd, gatewayAddr); err != nil {
					return err
				}
				defer readConn.Close()
			}
			i := newImporter(audittrailv1.NewEmitterServiceClient(conn), audittrailv1.NewQueryServiceClient(readConn), cmd.ErrOrStderr())
			// What an import before this one sent should be stored before we ask what is. It is no condition: what is sent twice is stored once.
			switch st, err := awaitStored(cmd.Context(), audittrailv1.NewAdminServiceClient(readConn), 10*time.Second); {
			case err != nil && st == nil:
				return fmt.Errorf("import: %w", err)
			case err != nil:
				fmt.Fprintln(cmd.ErrOrStderr(), "the pipeline is behind: what an earlier import sent may be counted as accepted again")
			}
			err = i.run(cmd.Context(), func(ctx context.Context, yield func(*imported) error) error {
				return readCloudTrail(ctx, files, yield)
			})
			i.summary(cmd.OutOrStdout())
			if err == nil && i.rejected > 0 {
				return refusedf("%s rejected", number(i.rejected, "record"))
			}
			if err != nil && cmd.Context().Err() != nil {
				return errors.New("interrupted; run the same import again to finish it")
			}
			return err
		}}
	cmd.Flags().StringVar(&gatewayAddr, "gateway-addr", "", "gRPC address of the gateway, where it is not that of --addr")
	return cmd
}

// imported is one record of a file.
type imported struct {
	file   string
	record int // from 1
	event  *audittrailv1.Event
	notes  []string // fields that were shortened or left out, with why
	err    error    // the record is no event

	skipped bool // no record: a file of a directory that is no log file
}

func (r *imported) where() string { return fmt.Sprintf("%s, record %d", r.file, r.record) }

// importer sends records and keeps the account.
type importer struct {
	emitter audittrailv1.EmitterServiceClient
	query   audittrailv1.QueryServiceClient
	notes   io.Writer // rejected records, progress
	live    bool      // notes is a terminal

	seen *seenIDs // the reader's alone

	mu       sync.Mutex // guards what follows
	began    time.Time
	noted    time.Time
	read     int
	accepted int
	before   int
	rejected int
	fields   map[string]int // shortened or left out, by field and why

	skipped     int // files
	skippedFile string
}

func newImporter(emitter audittrailv1.EmitterServiceClient, query audittrailv1.QueryServiceClient, notes io.Writer) *importer {
	return &importer{emitter: emitter, query: query, notes: notes, live: isTerminal(notes), seen: newSeenIDs(), fields: make(map[string]int)}
}

const importWorkers = 4

// run reads in one goroutine and sends in a few. Each batch is asked for first: what is stored already is not sent again.
func (i *importer) run(ctx context.Context, read func(context.Context, func(*imported) error) error) error {
	i.began, i.noted = time.Now(), time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	batches := make(chan []*imported)
	var workers sync.WaitGroup
	for range importWorkers {
		workers.Go(func() {
			for batch := range batches {
				if err := i.store(ctx, batch); err != nil {
					cancel(err)
				}
			}
		})
	}
	var batch []*imported
	bytes := 0
	hand := func() error {
		if len(batch) == 0 {
			return nil
		}
		select {
		case batches <- batch:
			batch, bytes = nil, 0
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	err := read(ctx, func(r *imported) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !i.admit(r) {
			return nil
		}
		size := r.event.SizeVT()
		if len(batch) >= sendEvents || bytes+size > sendBytes {
			if err := hand(); err != nil {
				return err
			}
		}
		batch, bytes = append(batch, r), bytes+size
		return nil
	})
	if err == nil {
		err = hand()
	}
	close(batches)
	workers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// admit counts a record and says whether it is to be sent: not what is no valid event, and not what came before in this import.
func (i *importer) admit(r *imported) bool {
	if r.skipped {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.skip(r)
		return false
	}
	verdict, why := i.seen.judge(r)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.read++
	for _, n := range r.notes {
		i.fields[n]++
	}
	switch verdict {
	case isRejected:
		i.reject(r, why)
	case isRepeated:
		i.before++
	}
	i.progress()
	return verdict == isNew
}

// skip needs mu. One file is named for all.
func (i *importer) skip(r *imported) {
	if i.skipped++; i.skipped == 1 {
		i.skippedFile = r.file
	}
}

// reject needs mu.
func (i *importer) reject(r *imported, why string) {
	i.rejected++
	if i.live {
		fmt.Fprint(i.notes, "\r\x1b[K")
	}
	fmt.Fprintf(i.notes, "%s: %s\n", r.where(), printable(why))
}

// store sends the records of a batch that are not stored yet.
func (i *importer) store(ctx context.Context, batch []*imported) error {
	found, err := lookUp(ctx, i.query, batch)
	if err != nil {
		return fmt.Errorf("look up stored events: %w", err)
	}
	var open []*imported
	var events []*audittrailv1.Event
	for at, r := range batch {
		switch found[at] {
		case isNew:
			open, events = append(open, r), append(events, r.event)
		case isRepeated:
			i.count(&i.before)
		case isRejected:
			i.mu.Lock()
			i.reject(r, "an event with the same source, key and time but other content is stored")
			i.mu.Unlock()
		}
	}
	if len(events) == 0 {
		return nil
	}
	outcomes, err := send(ctx, i.emitter, events, nil)
	for at, o := range outcomes {
		switch {
		case o.status == nil && o.id != "":
			i.count(&i.accepted)
		case o.status != nil && !(err != nil && mayRetry(o.status)):
			i.mu.Lock()
			i.reject(open[at], describeStatus(o.status))
			i.mu.Unlock()
		}
	}
	return err
}

func (i *importer) count(n *int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	*n++
	i.progress()
}

// progress needs mu.
func (i *importer) progress() {
	every := 5 * time.Second
	if i.live {
		every = 200 * time.Millisecond
	}
	if time.Since(i.noted) < every {
		return
	}
	i.noted = time.Now()
	line := fmt.Sprintf("%s, %.0f a second", i.account(), float64(i.read)/time.Since(i.began).Seconds())
	if i.live {
		fmt.Fprintf(i.notes, "\r\x1b[K%s", line)
	} else {
		fmt.Fprintln(i.notes, line)
	}
}

func (i *importer) account() string {
	return fmt.Sprintf("read %d, accepted %d, stored before %d, rejected %d", i.read, i.accepted, i.before, i.rejected)
}

// summary is the last word: the account on the last line, before it what did not fit.
func (i *importer) summary(out io.Writer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.live {
		fmt.Fprint(i.notes, "\r\x1b[K")
	}
	if i.skipped > 0 {
		fmt.Fprintf(out, "%s without a list of records left out, such as %s\n", number(i.skipped, "file"), printable(i.skippedFile))
	}
	names := make([]string, 0, len(i.fields))
	for name := range i.fields {
		names = append(names, name)
	}
	sort.Strings(names)
	if len(names) > 0 {
		fmt.Fprintln(out, "values that did not fit (details has each in full):")
	}
	for _, name := range names {
		fmt.Fprintf(out, "  %6d  %s\n", i.fields[name], name)
	}
	fmt.Fprintln(out, i.account())
}
