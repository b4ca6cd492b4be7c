package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/maxviazov/audittrail/internal/devcerts"
)

func newCerts() *cobra.Command {
	var o devcerts.Options
	var days int
	dev := &cobra.Command{Use: "dev", Short: "Make a CA and certificates for development; refuses to overwrite", Args: noArgs,
		Long: `Makes a certificate authority and one certificate for each of ` + strings.Join(devcerts.Roles, ", ") + `: NAME.crt and NAME.key,
signed by ca.crt, for localhost, 127.0.0.1, ::1 and NAME, with the SPIFFE id spiffe://audittrail.dev/NAME. For development: the CA's key lies beside them.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if days < 1 || days > 825 {
				return usagef("--days: %d is not 1 to 825", days)
			}
			o.Life = time.Duration(days) * 24 * time.Hour
			files, err := devcerts.Write(o)
			if errors.Is(err, devcerts.ErrExists) {
				return refusedError{err}
			}
			if err != nil {
				return fmt.Errorf("make certificates: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d files in %s, valid for %s\n", len(files), o.Dir, number(days, "day"))
			return nil
		}}
	dev.Flags().StringVar(&o.Dir, "dir", "certs", "`directory` for the files")
	dev.Flags().IntVar(&days, "days", 30, "how long they are valid, 1 to 825")
	dev.Flags().StringSliceVar(&o.Hosts, "host", nil, "further DNS `name` or IP address of every certificate; may be repeated")
	return family("certs", "Make certificates for development", dev)
}
