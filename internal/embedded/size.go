package embedded

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// DataSize returns the bytes in the files of a data directory, those of a PostgreSQL directory that it links to included. Files
// that vanish meanwhile count nothing.
func DataSize(dir string) (int64, error) {
	total, err := sizeOf(dir)
	if err != nil {
		return 0, err
	}
	link := filepath.Join(dir, "postgres")
	target, err := filepath.EvalSymlinks(link)
	if errors.Is(err, fs.ErrNotExist) {
		return total, nil
	}
	if err != nil {
		return 0, err
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil && target == filepath.Join(real, "postgres") {
		return total, nil // no link: counted already
	}
	linked, err := sizeOf(target)
	return total + linked, err
}

func sizeOf(dir string) (int64, error) {
	var total int64
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				total += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) && path != dir {
			return nil
		}
		return err
	})
	return total, err
}
