package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/processors/sink/schema"
	"github.com/maxviazov/audittrail/proto/stream"
)

func newDoctor() *cobra.Command {
	cmd := &cobra.Command{Use: "doctor", Short: "Look at everything an installation needs and say what is wrong; exit code 3 when something is", Args: noArgs,
		Long: `Looks at configuration, certificates, Kafka, topics, PostgreSQL, schema, append-only protection and Redis, changes nothing, and says what is wrong and what to do.
What is not configured is skipped.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(cmd, config.None)
			if err != nil {
				return err
			}
			bad, looked := 0, 0
			for _, x := range examinations(cfg) {
				ctx, cancel := context.WithTimeout(cmd.Context(), 15*time.Second)
				finding, err := x.look(ctx)
				cancel()
				if !errors.Is(err, errSkipped) {
					looked++
				}
				switch {
				case errors.Is(err, errSkipped):
					fmt.Fprintf(cmd.OutOrStdout(), "skip  %-12s %s\n", x.what, finding)
				case err != nil:
					bad++
					fmt.Fprintf(cmd.OutOrStdout(), "BAD   %-12s %s\n", x.what, oneLine(err))
				default:
					fmt.Fprintf(cmd.OutOrStdout(), "ok    %-12s %s\n", x.what, finding)
				}
			}
			if bad > 0 {
				return refusedf("%s", number(bad, "problem"))
			}
			if looked == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing is configured, so nothing was looked at; of a running audittrail all ask audittrail status")
			}
			return nil
		}}
	config.AddFlags(cmd.Flags(), config.None)
	return cmd
}

// oneLine keeps an error in its row: PostgreSQL's driver writes one line for each address it tried.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

var errSkipped = errors.New("skipped")

type examination struct {
	what string
	look func(context.Context) (finding string, err error)
}

func examinations(cfg *config.Config) []examination {
	// Files were read when the configuration was checked; here they are opened again, and what is wrong with them is a finding.
	p := process{cfg: cfg, registry: prometheus.NewRegistry()}
	unusable := p.newTransport(config.None)
	settings := p.stream("audittrail-doctor")
	return []examination{
		{"certificates", func(context.Context) (string, error) { return p.examineCertificates(unusable) }},
		{"kafka", func(ctx context.Context) (string, error) {
			if cfg.Embedded() {
				return "kafka.brokers is not set", errSkipped
			}
			admin, err := stream.NewAdmin(ctx, settings)
			if err != nil {
				return "", fmt.Errorf("%w; is the broker up, and kafka.brokers right?", err)
			}
			return fmt.Sprintf("%d addresses, a broker answers", len(cfg.Kafka.Brokers)), admin.Close()
		}},
		{"topics", func(ctx context.Context) (string, error) {
			if cfg.Embedded() {
				return "kafka.brokers is not set", errSkipped
			}
			problems, err := stream.Check(ctx, settings, cfg.Layout())
			if err != nil {
				return "", err
			}
			if len(problems) > 0 {
				return "", fmt.Errorf("%s, and %d more; run audittrail topics apply, audittrail topics check shows all", problems[0], len(problems)-1)
			}
			return "every setting is as it must be", nil
		}},
		{"postgresql", func(ctx context.Context) (string, error) {
			return withPostgres(ctx, cfg, func(conn *pgx.Conn) (string, error) {
				var version string
				err := conn.QueryRow(ctx, "SELECT current_setting('server_version') || ', user ' || current_user").Scan(&version)
				return version, err
			})
		}},
		{"schema", func(ctx context.Context) (string, error) {
			return withPostgres(ctx, cfg, func(conn *pgx.Conn) (string, error) {
				v, err := schema.Version()
				return fmt.Sprintf("version %d", v), errors.Join(err, schema.Check(ctx, conn))
			})
		}},
		{"append-only", func(ctx context.Context) (string, error) {
			return withPostgres(ctx, cfg, func(conn *pgx.Conn) (string, error) {
				var super bool
				if err := conn.QueryRow(ctx, "SELECT rolsuper OR pg_has_role(current_user, $1, 'MEMBER') FROM pg_roles WHERE rolname = current_user", schema.Owner).Scan(&super); err != nil {
					return "", err
				}
				if super {
					return "", errors.New("the user of postgres.dsn is a superuser or owns the tables: it could change what is stored; use a member of audittrail_writer or audittrail_reader only")
				}
				return "the user cannot change what is stored", nil
			})
		}},
		{"redis", func(ctx context.Context) (string, error) {
			options, err := p.redisOptions()
			if err != nil {
				return "", err
			}
			if options == nil {
				return "redis.addr is not set", errSkipped
			}
			client := redis.NewClient(options)
			defer client.Close()
			return "answers", client.Ping(ctx).Err()
		}},
	}
}

func withPostgres(ctx context.Context, cfg *config.Config, look func(*pgx.Conn) (string, error)) (string, error) {
	if cfg.Postgres.DSN == "" {
		return "postgres.dsn is not set", errSkipped
	}
	conn, err := pgx.Connect(ctx, cfg.Postgres.DSN)
	if err != nil {
		return "", fmt.Errorf("%w; is the server up, and postgres.dsn right?", err)
	}
	defer conn.Close(ctx)
	return look(conn)
}

// isKafkaAway says whether an error means that no broker answered.
func isKafkaAway(err error) bool {
	var network *net.OpError
	return errors.Is(err, sarama.ErrOutOfBrokers) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network)
}
