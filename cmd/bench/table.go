package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// row is a row of the table.
type row struct {
	question
	answer
}

// ratio is Usher's figure divided by the baseline's. Where the baseline was not waited for to its end it is too large.
func (r row) ratio() figure {
	if r.usher.err != nil || r.baseline.err != nil || r.usher.atLeast || r.baseline.value == 0 {
		return figure{err: errNoFigure}
	}
	return figure{value: r.usher.value / r.baseline.value}
}

func (r row) ratioText() string {
	ratio := r.ratio()
	switch {
	case ratio.err != nil:
		return ratio.String()
	case r.baseline.atLeast:
		return "< " + small(ratio.value)
	}
	return small(ratio.value)
}

// small keeps two digits of what the other figures would round to nothing.
func small(v float64) string {
	if v > 0 && v < 0.01 {
		return strconv.FormatFloat(v, 'f', 4, 64)
	}
	return number(v)
}

// remarks are the note, and why a figure is missing.
func (r row) remarks() string {
	var all []string
	if r.note != "" {
		all = append(all, r.note)
	}
	for _, side := range []struct {
		name string
		figure
	}{{"Usher", r.usher}, {"before", r.before}, {"baseline", r.baseline}} {
		if side.err != nil && !absent(side.err) {
			all = append(all, side.name+" not measured: "+side.err.Error())
		}
	}
	return strings.Join(all, "; ")
}

// report is the table and where it was measured.
type report struct {
	machine  machine
	rows     []row
	compared bool // with an earlier build
}

// complete tells whether every figure was measured for which there is a program.
func (r report) complete() bool {
	for _, row := range r.rows {
		for _, side := range []figure{row.usher, row.before, row.baseline} {
			if side.err != nil && !absent(side.err) && !errors.Is(side.err, errNoNode) {
				return false
			}
		}
	}
	return true
}

func (r report) print(out io.Writer, asJSON bool) error {
	if asJSON {
		return r.printJSON(out)
	}
	t := table.NewWriter()
	style := table.StyleLight
	style.Options.SeparateRows = true
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.AppendHeader(table.Row{"what", "unit", "Usher", "before", "baseline", "ratio", "better", "note"})
	t.SetColumnConfigs([]table.ColumnConfig{
		{Name: "what", WidthMax: 40, WidthMaxEnforcer: text.WrapSoft},
		{Name: "Usher", Align: text.AlignRight},
		{Name: "before", Align: text.AlignRight, Hidden: !r.compared},
		{Name: "baseline", Align: text.AlignRight},
		{Name: "ratio", Align: text.AlignRight},
		{Name: "note", WidthMax: 56, WidthMaxEnforcer: text.WrapSoft},
	})
	for _, row := range r.rows {
		t.AppendRow(table.Row{
			row.what, row.unit, row.usher, row.before, row.baseline, row.ratioText(), row.better, row.remarks(),
		})
	}
	_, err := fmt.Fprintf(out, "%s\n%s\n", r.machine, t.Render())
	return err
}
