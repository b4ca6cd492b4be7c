package pgserver

import (
	"archive/zip"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestFetchBySeveralAtOnceUnderATightUmask(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	place := filepath.Join(t.TempDir(), "place")
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			binaries, err := Fetch(t.Context(), FetchConfig{Place: place})
			if err != nil || binaries.Major != Major {
				t.Errorf("major version %d: %v", binaries.Major, err)
			}
		})
	}
	wg.Wait()
	entries, err := os.ReadDir(place)
	if err != nil || len(entries) != 1 || !strings.HasPrefix(entries[0].Name(), "postgresql-18.") {
		t.Fatalf("place holds %v, %v", entries, err)
	}
	home := filepath.Join(place, entries[0].Name())
	for _, path := range []string{place, home, filepath.Join(home, "bin"), filepath.Join(home, "bin", "postgres"), filepath.Join(home, "share", "postgresql")} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: mode %v, %v: another user cannot run it", path, info.Mode(), err)
		}
	}
}

// A cached archive that cannot be unpacked is fetched again; the repository here has one that cannot be unpacked either.
func TestADamagedArchiveIsFetchedAgain(t *testing.T) {
	requests := 0
	repository := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, ".jar") {
			http.NotFound(w, r)
			return
		}
		requests++
		jar := zip.NewWriter(w)
		if f, err := jar.Create("postgres.txz"); err == nil {
			f.Write([]byte("also damaged"))
		}
		jar.Close()
	}))
	defer repository.Close()
	base := t.TempDir()
	cfg := FetchConfig{Place: filepath.Join(base, "place"), Archives: filepath.Join(base, "archives"), Repository: repository.URL}
	for round := range 2 { // the first round fills the cache, the second finds it damaged
		if _, err := Fetch(t.Context(), cfg); !errors.Is(err, ErrFetch) {
			t.Fatalf("error %v", err)
		}
		if requests != round+1 {
			t.Errorf("round %d: %d downloads", round, requests)
		}
	}
	if left, err := os.ReadDir(cfg.Place); err != nil || len(left) != 0 {
		t.Errorf("place holds %v, %v", left, err)
	}
}
