package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/maxviazov/audittrail/internal/access"
)

func newTokens() *cobra.Command {
	var file, name string
	var days int
	var groups []string
	create := &cobra.Command{Use: "create", Short: "Make an API token and print it, once: the file holds its hash only", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			life := time.Duration(days) * 24 * time.Hour
			if days < 1 || life > tokenLife {
				return usagef("--days: %d is not 1 to 366", days)
			}
			token, secret, err := access.NewToken(name, time.Now().Add(life), groups)
			if err != nil {
				return usagef("--name, --group: %w", err)
			}
			if err := editTokens(file, func(text string) (string, error) { return text + token.String() + "\n", nil }); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "token %s of token:%s, until %s; it is not shown again\n", token.ID, token.Name, token.NotAfter.Format(time.RFC3339))
			_, err = fmt.Fprintln(cmd.OutOrStdout(), secret)
			return err
		}}
	create.Flags().StringVar(&name, "name", "", "`name` of the principal, token:NAME")
	create.Flags().IntVar(&days, "days", 90, "how long it is valid, 1 to 366")
	create.Flags().StringSliceVar(&groups, "group", nil, "`group` of the principal; may be repeated")
	list := &cobra.Command{Use: "list", Short: "List the API tokens of the file", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		tokens, err := access.ParseTokens(text)
		if err != nil {
			return refusedf("%s: %w", file, err)
		}
		tw := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, "ID\tPRINCIPAL\tUNTIL\tGROUPS")
		for _, t := range tokens {
			fmt.Fprintf(tw, "%s\ttoken:%s\t%s\t%s\n", t.ID, t.Name, t.NotAfter.Format(time.RFC3339), strings.Join(t.Groups, ","))
		}
		return tw.Flush()
	}}
	revoke := &cobra.Command{Use: "revoke ID", Short: "Take an API token out of the file; running processes follow within tls.reload", Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return editTokens(file, func(text string) (string, error) {
				var kept strings.Builder
				found := false
				for line := range strings.Lines(text) {
					if fields := strings.Fields(line); len(fields) > 0 && fields[0] == args[0] {
						found = true
						continue
					}
					kept.WriteString(line)
				}
				if !found {
					return "", refusedf("%s has no token %s", file, args[0])
				}
				return kept.String(), nil
			})
		}}
	c := family("tokens", "Make and revoke API tokens", create, list, revoke)
	c.PersistentFlags().StringVar(&file, "file", "tokens", "the `file` of auth.tokens_file")
	return c
}

// editTokens changes the file as a whole: whoever reads it sees the old or the new one, and a crash leaves one of them. A lock beside it
// keeps two commands apart.
func editTokens(path string, edit func(string) (string, error)) (err error) {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", path, err)
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text := string(old)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	if text, err = edit(text); err != nil {
		return err
	}
	if _, err := access.ParseTokens([]byte(text)); err != nil {
		return refusedf("%s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tokens-") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
