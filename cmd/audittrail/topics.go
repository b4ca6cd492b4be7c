package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/maxviazov/audittrail/internal/config"
	"github.com/maxviazov/audittrail/proto/stream"
)

func newTopics() *cobra.Command {
	apply := &cobra.Command{Use: "apply", Short: "Create the topics, or bring their settings in line; never changes the number of partitions", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newProcess(cmd, config.Topics)
			if err != nil {
				return err
			}
			if err := stream.Apply(cmd.Context(), p.stream("audittrail-topics"), p.cfg.Layout(), p.log); err != nil {
				return kafkaError(err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d topics are as they must be, %d partitions each\n", len(stream.TopicNames()), p.cfg.Kafka.Partitions)
			return nil
		}}
	check := &cobra.Command{Use: "check", Short: "Compare every setting of the topics; exit code 3 when one differs", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newProcess(cmd, config.Topics)
			if err != nil {
				return err
			}
			problems, err := stream.Check(cmd.Context(), p.stream("audittrail-topics"), p.cfg.Layout())
			if err != nil {
				return kafkaError(err)
			}
			for _, problem := range problems {
				fmt.Fprintln(cmd.OutOrStdout(), problem)
			}
			if len(problems) > 0 {
				return refusedf("%d settings are not as they must be; audittrail topics apply mends what can be mended", len(problems))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d topics are as they must be\n", len(stream.TopicNames()))
			return nil
		}}
	config.AddFlags(apply.Flags(), config.Topics)
	config.AddFlags(check.Flags(), config.Topics)
	return family("topics", "Make and check the Kafka topics", apply, check, newAcceptNew())
}

// kafkaError makes an unreachable broker exit code 4.
func kafkaError(err error) error {
	if isKafkaAway(err) {
		return unavailableError{err}
	}
	return err
}
