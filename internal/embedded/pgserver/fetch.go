package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// Version is the PostgreSQL that Fetch gets, and Major its major version.
const (
	Version = embeddedpostgres.V18
	Major   = 18
)

// ErrFetch says that the binaries could not be fetched, on a machine without a network for example.
var ErrFetch = errors.New("PostgreSQL binaries cannot be fetched")

// SystemPlace is where, as root, binaries and data of PostgreSQL live: the home of root is closed to the
// unprivileged user that PostgreSQL runs as.
const SystemPlace = "/var/lib/audittrail-embedded"

// FetchConfig says where the binaries come from and go to. The zero value is right outside of tests.
type FetchConfig struct {
	// Archives is the directory that caches the compressed archive. Default: the library's own,
	// ~/.embedded-postgres-go, shared with other programs that use it.
	Archives string
	// Place is the directory that holds the extracted binaries, in a subdirectory for each version. Default: SystemPlace as
	// root, else audittrail/postgresql in the user's cache directory.
	Place string
	// Repository is the base URL of the repository of the archives. Default: the library's.
	Repository string
	// Fetching is called before something is downloaded (about 15 MB). Optional.
	Fetching func()
}

// Fetch returns the binaries of PostgreSQL 18, downloading and extracting them the first time. Several processes may do
// so at once. A process that dies here leaves a temp_… directory behind, which is never used.
func Fetch(ctx context.Context, cfg FetchConfig) (Binaries, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return Binaries{}, err
	}
	home := filepath.Join(cfg.Place, fmt.Sprintf("postgresql-%s-%s-%s", Version, runtime.GOOS, runtime.GOARCH))
	bin := filepath.Join(home, "bin")
	if _, err := os.Stat(filepath.Join(bin, "postgres")); err == nil {
		return Installed(ctx, bin)
	}
	if err := MakePlace(cfg.Place); err != nil {
		return Binaries{}, fmt.Errorf("place of the PostgreSQL binaries: %w", err)
	}
	stage, err := os.MkdirTemp(cfg.Place, "temp_")
	if err != nil {
		return Binaries{}, fmt.Errorf("place of the PostgreSQL binaries: %w", err)
	}
	defer os.RemoveAll(stage)
	cached := archivesIn(cfg.Archives)
	err = cfg.extract(ctx, stage)
	if len(cached) > 0 && errors.Is(err, ErrFetch) && ctx.Err() == nil {
		// A damaged archive in the cache would fail for ever: fetch it again.
		for _, archive := range cached {
			os.Remove(archive) // when that fails, so does the second try
		}
		err = cfg.extract(ctx, stage)
	}
	if err != nil {
		return Binaries{}, err
	}
	if err := openToAll(filepath.Join(stage, "pg")); err != nil {
		return Binaries{}, fmt.Errorf("place of the PostgreSQL binaries: %w", err)
	}
	// Everything is there before the final name is: a half extracted directory cannot be taken for a whole one. When another
	// process was faster its directory stays, with the same content.
	if err := os.Rename(filepath.Join(stage, "pg"), home); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return Binaries{}, fmt.Errorf("place of the PostgreSQL binaries: %w", err)
	}
	return Installed(ctx, bin)
}

// MakePlace makes a directory that every user may enter, whatever the umask; an existing one stays as it is.
func MakePlace(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// openToAll lets every user read and run what is below dir, whatever the umask was: as root another user runs it.
func openToAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type() == fs.ModeSymlink {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if entry.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}

func (cfg FetchConfig) withDefaults() (FetchConfig, error) {
	if cfg.Archives == "" {
		if home, err := os.UserHomeDir(); err == nil {
			cfg.Archives = filepath.Join(home, ".embedded-postgres-go")
		}
	}
	if cfg.Place == "" {
		cfg.Place = SystemPlace
		if os.Geteuid() != 0 {
			cache, err := os.UserCacheDir()
			if err != nil {
				return cfg, fmt.Errorf("place of the PostgreSQL binaries: %w", err)
			}
			cfg.Place = filepath.Join(cache, "audittrail", "postgresql")
		}
	}
	if cfg.Archives == "" || !usable(cfg.Archives) {
		cfg.Archives = filepath.Join(cfg.Place, "archives")
	}
	if cfg.Fetching == nil {
		cfg.Fetching = func() {}
	}
	return cfg, nil
}

// usable reports whether the archive in dir can be read, or written if there is none: a run as root may have left it closed.
func usable(dir string) bool {
	for _, name := range archivesIn(dir) {
		f, err := os.Open(name)
		if err != nil {
			return false
		}
		f.Close()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false
	}
	f, err := os.CreateTemp(dir, "temp_")
	if err != nil {
		return len(archivesIn(dir)) > 0
	}
	f.Close()
	os.Remove(f.Name())
	return true
}

func archivesIn(dir string) []string {
	names, _ := filepath.Glob(filepath.Join(dir, "*-"+string(Version)+".txz"))
	return names
}

// extract lets the library fetch the archive and unpack it into stage/pg. The library has no call for that alone, so it
// is started on a directory that looks initialised but holds nothing: it fetches, unpacks, and fails to start. Only that
// last failure means success here.
func (cfg FetchConfig) extract(ctx context.Context, stage string) error {
	decoy := filepath.Join(stage, "decoy")
	if err := os.MkdirAll(decoy, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(decoy, "PG_VERSION"), []byte(strings.Split(string(Version), ".")[0]), 0o600); err != nil {
		return err
	}
	port, err := FreePort()
	if err != nil {
		return err
	}
	if len(archivesIn(cfg.Archives)) == 0 {
		cfg.Fetching()
	}
	settings := embeddedpostgres.DefaultConfig().Version(Version).Port(uint32(port)).CachePath(cfg.Archives).
		RuntimePath(filepath.Join(stage, "run")).BinariesPath(filepath.Join(stage, "pg")).DataPath(decoy).Logger(io.Discard)
	if cfg.Repository != "" {
		settings = settings.BinaryRepositoryURL(cfg.Repository)
	}
	server := embeddedpostgres.NewDatabase(settings)
	done := make(chan error, 1)
	go func() { done <- server.Start() }() // takes no context: abandoned when ctx ends, it only writes below stage and the cache
	select {
	case err = <-done:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrFetch, context.Cause(ctx))
	}
	if err == nil {
		return errors.Join(errors.New("an empty directory was started as a database"), server.Stop())
	}
	share(cfg.Archives)
	if !strings.HasPrefix(err.Error(), "could not start postgres") {
		return fmt.Errorf("%w: %w", ErrFetch, err)
	}
	return nil
}

// share lets everybody read the archive, which the library writes as 0600, and gives it to the owner of the directory above: a run
// under sudo would otherwise close the cache to the user's own runs. What fails here costs another download at most.
func share(dir string) {
	owner, err := OwnerOf(filepath.Dir(dir))
	for _, name := range append(archivesIn(dir), dir) {
		if os.Geteuid() == 0 && err == nil {
			_ = os.Chown(name, int(owner.UID), int(owner.GID))
		}
		if name != dir {
			_ = os.Chmod(name, 0o644)
		}
	}
}

// FreePort returns a TCP port on 127.0.0.1 that nothing listened on a moment ago.
func FreePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}
