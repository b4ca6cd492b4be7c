package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

var formats = []string{"table", "json", "jsonl", "yaml", "csv"}

func addOutput(cmd *cobra.Command) {
	cmd.Flags().StringP("output", "o", "table", strings.Join(formats, ", "))
}

// column is one column of the table and of the CSV.
type column[T proto.Message] struct {
	title string
	value func(T) string
}

// printer writes messages of one kind as they come.
type printer[T proto.Message] interface {
	add(T) error
	// flush shows what was added so far.
	flush() error
	// close ends the output.
	close() error
}

// newPrinter makes the printer that -o asks for. alone says that exactly one message comes: JSON and YAML are then that message, not a list.
func newPrinter[T proto.Message](cmd *cobra.Command, alone bool, columns []column[T]) (printer[T], error) {
	format, err := cmd.Flags().GetString("output")
	if err != nil {
		return nil, err
	}
	if !slices.Contains(formats, format) {
		return nil, usagef("-o %s is none of %s", format, strings.Join(formats, ", "))
	}
	out := cmd.OutOrStdout()
	switch format {
	case "json":
		return &jsonPrinter[T]{out: out, alone: alone}, nil
	case "jsonl":
		return &linePrinter[T]{out: out}, nil
	case "yaml":
		return &yamlPrinter[T]{out: out, alone: alone}, nil
	case "csv":
		p := &csvPrinter[T]{out: csv.NewWriter(out), columns: columns}
		return p, p.out.Write(titles(columns))
	default:
		return &tablePrinter[T]{out: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0), columns: columns}, nil
	}
}

// finish ends the output of a command that ended with err. After an error, that nothing was shown does not mean that there is nothing.
func finish[T proto.Message](p printer[T], err error) error {
	shown := 1
	switch p := p.(type) {
	case *tablePrinter[T]:
		shown = p.n
	case *jsonPrinter[T]:
		shown = p.n
	case *yamlPrinter[T]:
		shown = p.n
	}
	if err != nil && shown == 0 {
		return err
	}
	return errors.Join(err, p.close())
}

func titles[T proto.Message](columns []column[T]) []string {
	row := make([]string, len(columns))
	for i, c := range columns {
		row[i] = c.title
	}
	return row
}

// compactJSON is proto3 JSON without the random spaces that protojson adds on purpose.
func compactJSON(m proto.Message) ([]byte, error) {
	raw, err := protojson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("print %T: %w", m, err)
	}
	var b bytes.Buffer
	err = json.Compact(&b, raw)
	return b.Bytes(), err
}

type linePrinter[T proto.Message] struct{ out io.Writer }

func (p *linePrinter[T]) add(m T) error {
	line, err := compactJSON(m)
	if err != nil {
		return err
	}
	_, err = p.out.Write(append(line, '\n'))
	return err
}
func (p *linePrinter[T]) flush() error { return nil }
func (p *linePrinter[T]) close() error { return nil }

// jsonPrinter writes an array element by element, so that it needs no more memory for a million than for one.
type jsonPrinter[T proto.Message] struct {
	out   io.Writer
	alone bool
	n     int
}

func (p *jsonPrinter[T]) add(m T) error {
	raw, err := compactJSON(m)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	indent := "  "
	switch {
	case p.alone:
		indent = ""
	case p.n == 0:
		b.WriteString("[\n  ")
	default:
		b.WriteString(",\n  ")
	}
	p.n++
	if err := json.Indent(&b, raw, indent, "  "); err != nil {
		return err
	}
	_, err = b.WriteTo(p.out)
	return err
}
func (p *jsonPrinter[T]) flush() error { return nil }
func (p *jsonPrinter[T]) close() error {
	end := "\n]\n"
	switch {
	case p.alone:
		end = "\n"
	case p.n == 0:
		end = "[]\n"
	}
	_, err := io.WriteString(p.out, end)
	return err
}

type yamlPrinter[T proto.Message] struct {
	out   io.Writer
	alone bool
	n     int
}

func (p *yamlPrinter[T]) add(m T) error {
	raw, err := compactJSON(m)
	if err != nil {
		return err
	}
	// YAML contains JSON: read as a tree, the fields keep their order, and only the style is ours.
	var tree yaml.Node
	if err := yaml.Unmarshal(raw, &tree); err != nil {
		return fmt.Errorf("print %T: %w", m, err)
	}
	blockStyle(&tree)
	node := tree.Content[0]
	if !p.alone {
		node = &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{node}}
	}
	p.n++
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(node); err != nil {
		return fmt.Errorf("print %T: %w", m, err)
	}
	_, err = b.WriteTo(p.out)
	return err
}
func (p *yamlPrinter[T]) flush() error { return nil }
func (p *yamlPrinter[T]) close() error {
	if p.n > 0 || p.alone {
		return nil
	}
	_, err := io.WriteString(p.out, "[]\n")
	return err
}

func blockStyle(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		blockStyle(c)
	}
}

type csvPrinter[T proto.Message] struct {
	out     *csv.Writer
	columns []column[T]
}

func (p *csvPrinter[T]) add(m T) error {
	row := make([]string, len(p.columns))
	for i, c := range p.columns {
		row[i] = c.value(m)
	}
	return p.out.Write(row)
}
func (p *csvPrinter[T]) flush() error { p.out.Flush(); return p.out.Error() }
func (p *csvPrinter[T]) close() error { return p.flush() }

type tablePrinter[T proto.Message] struct {
	out     *tabwriter.Writer
	columns []column[T]
	n       int
}

func (p *tablePrinter[T]) add(m T) error {
	if p.n == 0 {
		fmt.Fprintln(p.out, strings.Join(titles(p.columns), "\t"))
	}
	p.n++
	row := make([]string, len(p.columns))
	for i, c := range p.columns {
		row[i] = cell(c.value(m))
	}
	_, err := fmt.Fprintln(p.out, strings.Join(row, "\t"))
	return err
}
func (p *tablePrinter[T]) flush() error { return p.out.Flush() }
func (p *tablePrinter[T]) close() error {
	if p.n == 0 {
		fmt.Fprintln(p.out, "nothing found")
	}
	return p.out.Flush()
}

const cellWidth = 60

// cell is a value that cannot do anything to a terminal: audit records hold what attackers wrote.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	s = printable(s)
	if utf8.RuneCountInString(s) <= cellWidth {
		return s
	}
	return string([]rune(s)[:cellWidth-1]) + "…"
}

// number is a count of things as people write it.
func number(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) && r != utf8.RuneError {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	return b.String()
}
