package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "audittrail",
		Short: "Records who did what, when, to what, from where and with what outcome",
		Long: `AuditTrail records who did what, when, to what, from where and with what outcome.

audittrail all runs everything on this machine, for development. In production each role is a process of its own.
Configuration comes from a file (--config or AUDITTRAIL_CONFIG), the environment (AUDITTRAIL_...) and flags; later ones win.
audittrail config print shows every key.

` + exitCodeHelp,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args:              noArgs,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().String("config", os.Getenv("AUDITTRAIL_CONFIG"), "configuration file: YAML, TOML or JSON [AUDITTRAIL_CONFIG]")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	})
	const (
		run     = "run"
		prepare = "prepare"
		client  = "client"
	)
	root.AddGroup(&cobra.Group{ID: run, Title: "Run:"}, &cobra.Group{ID: prepare, Title: "Prepare and look after:"}, &cobra.Group{ID: client, Title: "Use:"})
	for group, commands := range map[string][]*cobra.Command{
		run:     {newAll(), newEmitter(), newEnricher(), newSink(), newGateway()},
		prepare: {newTopics(), newMigrate(), newIndex(), newRetention(), newRefill(), newConfig(), newCerts(), newTokens(), newDoctor(), newVersion()},
		client:  {newImport(), newEmit(), newEvents(), newSources(), newDeadLetters(), newGaps(), newStatus(), newDemo()},
	} {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	return root
}

// noArgs, atLeastOne and exactly check arguments; what is wrong with them is wrong usage.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return usagef("%s has no command %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return usagef("%s takes no argument, and there is %q", cmd.CommandPath(), args[0])
}

func atLeastOne(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("usage: %s", cmd.UseLine())
	}
	return nil
}

func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// family is a command that only has subcommands.
func family(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return usagef("%s needs a command; see %s --help", cmd.CommandPath(), cmd.CommandPath())
	}}
	c.AddCommand(commands...)
	return c
}

// version is set by the build: -ldflags "-X main.version=v1.2.3".
var version = ""

func newVersion() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print version, commit and Go version", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		v, commit := versionAndCommit()
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "audittrail %s (commit %s, %s, %s/%s)\n", v, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return err
	}}
}

func versionAndCommit() (v, commit string) {
	v, commit = version, "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v, commit
	}
	if v == "" {
		v = info.Main.Version
	}
	dirty := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+changes"
		}
	}
	return v, commit + dirty
}
