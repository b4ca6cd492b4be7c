package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/maxviazov/audittrail/emitters/cloudtrail"
)

// logFile is a file to import. Named says that the user named it, and that it must therefore be a log file: directories of CloudTrail hold digest
// files too.
type logFile struct {
	path  string
	named bool
}

// findLogFiles lists the files named and those below directories that are called like log files, in a stable order.
func findLogFiles(paths []string) ([]logFile, error) {
	var files []logFile
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, usageError{err}
		}
		if !info.IsDir() {
			files = append(files, logFile{path, true})
			continue
		}
		err = filepath.WalkDir(path, func(p string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.Type().IsRegular() && (strings.HasSuffix(p, ".json") || strings.HasSuffix(p, ".json.gz")) {
				files = append(files, logFile{p, false})
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("look for log files: %w", err)
		}
	}
	if len(files) == 0 {
		return nil, usagef("no file named *.json or *.json.gz below %s", strings.Join(paths, ", "))
	}
	return files, nil
}

// readCloudTrail yields every record of the files. A file that is damaged costs the records behind the damage, said as one rejected record.
func readCloudTrail(ctx context.Context, files []logFile, yield func(*imported) error) error {
	for _, f := range files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := readLogFile(f, yield); err != nil {
			return err
		}
	}
	return nil
}

func readLogFile(file logFile, yield func(*imported) error) error {
	f, err := os.Open(file.path)
	if err != nil {
		return yield(&imported{file: file.path, record: 1, err: err})
	}
	defer f.Close()
	reader, err := cloudtrail.NewReader(f)
	if err != nil {
		return yield(&imported{file: file.path, record: 1, err: err})
	}
	for {
		record, err := reader.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, cloudtrail.ErrNoRecords) && !file.named:
			return yield(&imported{file: file.path, skipped: true}) // a digest file, say
		case err != nil:
			return yield(&imported{file: file.path, record: reader.Records() + 1, err: err})
		}
		r := &imported{file: file.path, record: reader.Records()}
		var notes []cloudtrail.Note
		if r.event, notes, r.err = cloudtrail.Map(record); r.err == nil {
			for _, n := range notes {
				r.notes = append(r.notes, n.Field+" "+n.Done)
			}
		}
		if err := yield(r); err != nil {
			return err
		}
	}
}
