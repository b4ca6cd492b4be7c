package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

func newSources() *cobra.Command {
	c := family("sources", "Show and register sources", newSourcesList(), newSourcesGet(), newSourcesSet())
	addAddr(c)
	return c
}

var sourceColumns = []column[*audittrailv1.Source]{
	{"SOURCE", (*audittrailv1.Source).GetSource},
	{"OWNER", func(s *audittrailv1.Source) string { return s.GetRegistration().GetOwner() }},
	{"ENVIRONMENT", func(s *audittrailv1.Source) string { return s.GetRegistration().GetEnvironment() }},
	{"CLASSIFICATION", func(s *audittrailv1.Source) string { return s.GetRegistration().GetClassification() }},
	{"RETENTION_DAYS", func(s *audittrailv1.Source) string { return zeroEmpty(int64(s.GetRegistration().GetRetentionDays())) }},
	{"EVENTS", func(s *audittrailv1.Source) string { return zeroEmpty(s.GetActivity().GetEventCount()) }},
	{"DUPLICATES", func(s *audittrailv1.Source) string { return zeroEmpty(s.GetActivity().GetDuplicateCount()) }},
	{"LAST_SEEN", func(s *audittrailv1.Source) string { return formatTime(s.GetActivity().GetLastSeenAt()) }},
}

func zeroEmpty(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func newSourcesList() *cobra.Command {
	var prefix string
	var limit int
	cmd := &cobra.Command{Use: "list", Short: "List sources by their paths", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		conn, err := connect(cmd)
		if err != nil {
			return err
		}
		defer conn.Close()
		client := audittrailv1.NewQueryServiceClient(conn)
		out, err := newPrinter(cmd, false, sourceColumns)
		if err != nil {
			return err
		}
		err = pages(limit, 1000, func(size int32, token string) (int, string, error) {
			resp, err := client.ListSources(cmd.Context(), &audittrailv1.ListSourcesRequest{Prefix: prefix, PageSize: size, PageToken: token})
			if err != nil {
				return 0, "", fmt.Errorf("list sources: %w", err)
			}
			for _, s := range resp.Sources {
				if err := out.add(s); err != nil {
					return 0, "", err
				}
			}
			return len(resp.Sources), resp.NextPageToken, out.flush()
		})
		return finish(out, err)
	}}
	cmd.Flags().StringVar(&prefix, "prefix", "", "only this path and what is below it")
	addLimit(cmd, &limit)
	addOutput(cmd)
	return cmd
}

func newSourcesGet() *cobra.Command {
	cmd := &cobra.Command{Use: "get SOURCE", Short: "Show what is known of a source", Args: exactly(1), RunE: func(cmd *cobra.Command, args []string) error {
		conn, err := connect(cmd)
		if err != nil {
			return err
		}
		defer conn.Close()
		resp, err := audittrailv1.NewQueryServiceClient(conn).GetSource(cmd.Context(), &audittrailv1.GetSourceRequest{Source: args[0]})
		if err != nil {
			return fmt.Errorf("source %s: %w", args[0], err)
		}
		return printOne(cmd, resp.Source, sourceColumns)
	}}
	addOutput(cmd)
	return cmd
}

func newSourcesSet() *cobra.Command {
	r := new(audittrailv1.SourceRegistration)
	cmd := &cobra.Command{Use: "set SOURCE", Short: "Register a source, or replace its registration as a whole", Args: exactly(1), RunE: func(cmd *cobra.Command, args []string) error {
		conn, err := connect(cmd)
		if err != nil {
			return err
		}
		defer conn.Close()
		resp, err := audittrailv1.NewAdminServiceClient(conn).SetSource(cmd.Context(), &audittrailv1.SetSourceRequest{Source: args[0], Registration: r})
		if err != nil {
			return fmt.Errorf("register source %s: %w", args[0], err)
		}
		return printOne(cmd, resp.Source, sourceColumns)
	}}
	f := cmd.Flags()
	f.StringVar(&r.Owner, "owner", "", "team or person that answers for it, at most 128 bytes")
	f.StringVar(&r.Environment, "environment", "", "e.g. prod, at most 64 bytes")
	f.StringVar(&r.Classification, "classification", "", "e.g. confidential, at most 64 bytes")
	f.Uint32Var(&r.RetentionDays, "retention-days", 0, "days its events are kept, at most 36500; 0: the installation's default")
	addOutput(cmd)
	return cmd
}
