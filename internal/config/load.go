package config

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

const envPrefix = "AUDITTRAIL_"

// notKeys are variables with our prefix that are not configuration: where the configuration and the server are, and switches of tests.
var notKeys = []string{"AUDITTRAIL_CONFIG", "AUDITTRAIL_ADDR", "AUDITTRAIL_CLIENT_*", "AUDITTRAIL_MUTATION*", "AUDITTRAIL_TEST_*", "AUDITTRAIL_EMBEDDED*", "AUDITTRAIL_BENCH_*"}

// Source is what Load reads from.
type Source struct {
	// File is the path of the configuration file; empty: none.
	File string
	// Env are the variables of the environment, as os.Environ gives them. Empty ones count as not set.
	Env []string
	// Flags of the command, as AddFlags made them; nil: none.
	Flags *pflag.FlagSet
}

// Load reads the configuration of a role. It returns a *Problems with everything that is wrong, unknown keys included.
func Load(role Role, src Source) (*Config, error) {
	c := &Config{origin: make(map[string]string, len(keys))}
	env := environment(src.Env)
	problems := unknownVariables(env)

	file := viper.New()
	if src.File != "" {
		file.SetConfigFile(src.File)
		if err := file.ReadInConfig(); err != nil {
			return nil, &Problems{[]error{fmt.Errorf("read configuration: %w", err)}}
		}
		problems = append(problems, unknownKeys(file, src.File)...)
	}
	for _, k := range keys {
		text, origin := k.def, "default"
		if file.IsSet(k.name) {
			text, origin = asText(file.Get(k.name)), "file "+src.File
		}
		if v := env[EnvName(k.name)]; v != "" {
			text, origin = v, "environment "+EnvName(k.name)
		}
		if src.Flags != nil {
			if f := src.Flags.Lookup(FlagName(k.name)); f != nil && f.Changed {
				text, origin = f.Value.String(), "flag --"+f.Name
			}
		}
		c.origin[k.name] = origin
		if err := k.value(c).Set(text); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w (%s)", k.name, redacted(k, text, err), origin))
		}
	}
	c.Postgres.DSN, c.Postgres.MigrateDSN = c.completeDSN(c.Postgres.DSN), c.completeDSN(c.Postgres.MigrateDSN)
	c.applyEmbeddedDefaults(role)
	problems = append(problems, c.validate(role)...)
	if len(problems) > 0 {
		return nil, &Problems{problems}
	}
	return c, nil
}

// applyEmbeddedDefaults gives a single broker a layout that it can have.
func (c *Config) applyEmbeddedDefaults(role Role) {
	if role != All || !c.Embedded() {
		return
	}
	for name, set := range map[string]func(){
		"kafka.partitions":          func() { c.Kafka.Partitions = 4 },
		"kafka.replication":         func() { c.Kafka.Replication = 1 },
		"kafka.min_insync_replicas": func() { c.Kafka.MinInsync = 1 },
	} {
		if c.origin[name] == "default" {
			set()
			c.origin[name] = "default of the embedded broker"
		}
	}
}

// Problems is everything that is wrong with a configuration.
type Problems struct{ list []error }

// Error lists the problems, one a line.
func (p *Problems) Error() string { return errors.Join(p.list...).Error() }

// Unwrap gives the problems.
func (p *Problems) Unwrap() []error { return p.list }

func environment(pairs []string) map[string]string {
	env := make(map[string]string)
	for _, pair := range pairs {
		if name, value, ok := strings.Cut(pair, "="); ok && strings.HasPrefix(name, envPrefix) {
			env[name] = value
		}
	}
	return env
}

func unknownVariables(env map[string]string) []error {
	known := make([]string, len(keys))
	for i, k := range keys {
		known[i] = EnvName(k.name)
	}
	var problems []error
	for name := range env {
		if !slices.Contains(known, name) && !isNotKey(name) {
			problems = append(problems, fmt.Errorf("unknown environment variable %s, did you mean %s?", name, nearest(name, known)))
		}
	}
	sort.Slice(problems, func(i, j int) bool { return problems[i].Error() < problems[j].Error() })
	return problems
}

func isNotKey(name string) bool {
	return slices.ContainsFunc(notKeys, func(pattern string) bool {
		prefix, wild := strings.CutSuffix(pattern, "*")
		return name == pattern || wild && strings.HasPrefix(name, prefix)
	})
}

func unknownKeys(file *viper.Viper, path string) []error {
	known := make([]string, len(keys))
	for i, k := range keys {
		known[i] = k.name
	}
	var problems []error
	inFile := file.AllKeys()
	slices.Sort(inFile)
	for _, name := range inFile {
		if !slices.Contains(known, name) {
			problems = append(problems, fmt.Errorf("unknown key %s in %s, did you mean %s?", name, path, nearest(name, known)))
		}
	}
	return problems
}

// asText is the text form of what the file's parser made of a value.
func asText(v any) string {
	if list, ok := v.([]any); ok {
		parts := make([]string, len(list))
		for i, e := range list {
			parts[i] = fmt.Sprint(e)
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(v)
}

// redacted keeps a secret that was not understood out of the message.
func redacted(k key, text string, err error) error {
	if k.secret != nil && strings.Contains(err.Error(), text) {
		return errors.New("not understood")
	}
	return err
}
