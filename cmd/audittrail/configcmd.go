package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/maxviazov/audittrail/internal/config"
)

var roles = []config.Role{config.All, config.Emitter, config.Enricher, config.Sink, config.Gateway, config.Topics, config.Migrate, config.Retention}

func newConfig() *cobra.Command {
	show := &cobra.Command{Use: "print", Short: "Print the effective value of every key and where it came from; secrets are left out", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			role, err := roleFlag(cmd)
			if err != nil {
				return err
			}
			cfg, err := loadConfig(cmd, role)
			if err != nil {
				return err
			}
			return cfg.Print(cmd.OutOrStdout())
		}}
	check := &cobra.Command{Use: "check", Short: "Say everything that is wrong with the configuration; exit code 2 when something is", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			role, err := roleFlag(cmd)
			if err != nil {
				return err
			}
			if _, err := loadConfig(cmd, role); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the configuration is valid")
			return nil
		}}
	for _, c := range []*cobra.Command{show, check} {
		c.Flags().String("role", "", "the role that the configuration is for: what it needs is checked too ("+roleNames()+")")
		config.AddFlags(c.Flags(), config.None)
	}
	return family("config", "Print and check the configuration", show, check)
}

func roleFlag(cmd *cobra.Command) (config.Role, error) {
	name, err := cmd.Flags().GetString("role")
	if err != nil {
		return "", err
	}
	if name != "" && !slices.Contains(roles, config.Role(name)) {
		return "", usageError{errors.New("--role is " + name + ", must be one of " + roleNames())}
	}
	return config.Role(name), nil
}

func roleNames() string {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}
