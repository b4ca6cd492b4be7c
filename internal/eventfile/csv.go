package eventfile

import (
	"encoding/csv"
	"io"
	"strings"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// CSV writes RFC 4180: commas, quotes where needed, lines ending in LF, and a first line of names.
//
// Audit records hold what attackers wrote, and a spreadsheet runs a cell that begins like a formula. Unless Raw is set, such a value gets an
// apostrophe in front (Cell): whoever wants the value back takes one leading apostrophe away from every cell.
type CSV struct {
	// Raw writes values as they are.
	Raw bool

	out *csv.Writer
	row []string
}

// NewCSV writes to w. Header writes the line of names; a file that is continued has it.
func NewCSV(w io.Writer, raw bool) *CSV {
	return &CSV{Raw: raw, out: csv.NewWriter(w), row: make([]string, len(Columns))}
}

// Header writes the names of the columns.
func (c *CSV) Header() error {
	for i, column := range Columns {
		c.row[i] = column.Name
	}
	return c.out.Write(c.row)
}

// Add writes an event.
func (c *CSV) Add(e *audittrailv1.Event) error {
	for i, column := range Columns {
		c.row[i] = column.text(e)
		if !c.Raw {
			c.row[i] = Cell(c.row[i])
		}
	}
	return c.out.Write(c.row)
}

// Flush hands over to the writer below what was added.
func (c *CSV) Flush() error {
	c.out.Flush()
	return c.out.Error()
}

// Cell makes a value safe for spreadsheets: one that begins with what begins a formula, or with an apostrophe, gets an apostrophe in front.
func Cell(value string) string {
	if value != "" && strings.IndexByte("=+-@\t\r\n'", value[0]) >= 0 || strings.HasPrefix(value, "＝") || strings.HasPrefix(value, "＋") ||
		strings.HasPrefix(value, "－") || strings.HasPrefix(value, "＠") {
		return "'" + value
	}
	return value
}
