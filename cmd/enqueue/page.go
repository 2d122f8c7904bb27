package main

import (
	"errors"
	"fmt"
	"strings"

	"example.com/usher/internal/store"
)

// PageFlags say how much of a list is shown. kong calls AfterApply when it has read them.
type PageFlags struct {
	Limit *int `xor:"page" placeholder:"N" help:"Show at most N. Default: 50; with --json all."`
	All   bool `xor:"page" help:"Show all."`
}

// AfterApply refuses a limit that shows nothing.
func (f *PageFlags) AfterApply() error {
	if f.Limit != nil && *f.Limit < 1 {
		return usage("--limit %d shows nothing: give 1 or more, or --all", *f.Limit)
	}
	return nil
}

const (
	// rowsShown is how many rows of a list a person is shown.
	rowsShown = 50
	// tableRows is how many rows one table has: a longer list is several tables, so that nobody holds all of it.
	tableRows = 500
)

// noteMore tells a person that a list was cut.
func (o *output) noteMore(shown int) {
	first := fmt.Sprintf("%d are", shown)
	if shown == 1 {
		first = "one is"
	}
	o.note("Only the first %s shown: --limit N shows more, --all shows all.", first)
}

// most is how many rows are shown, or 0 for all. A program, or a file, is given all unless it says otherwise.
func (f PageFlags) most(o *output) int {
	switch {
	case f.Limit != nil:
		return *f.Limit
	case f.All, o.json, o.into != nil:
		return 0
	}
	return rowsShown
}

// rows reads a list: it calls write for each row until that returns an error, and gives that.
type rows func(write func(view) error) error

// errEnough ends the reading of a list of which enough is shown.
var errEnough = errors.New("enough is shown")

// cut passes on as many rows as are shown, and stops the reading at the next one. It tells how many were passed on,
// and whether there are more.
func (f PageFlags) cut(o *output, each rows, write func(view) error) (shown int, more bool, err error) {
	most := f.most(o)
	err = each(func(row view) error {
		if most > 0 && shown == most {
			more = true
			return errEnough
		}
		shown++
		return write(row)
	})
	if more {
		partial, other := store.SplitPartial(err)
		if errors.Is(other, errEnough) {
			other = nil
		}
		err = errors.Join(other, partial)
	}
	return shown, more, err
}

// list shows the rows that each gives: objects to a program, tables with some fields to a person, who is told if
// there are more. It never holds more than one table. It tells how many rows it has shown, and whether there are more.
func (f PageFlags) list(o *output, none, fields string, each rows) (shown int, more bool, err error) {
	defer func() { o.given = shown }()
	if o.into != nil && !o.json {
		err = rawFlag{}.csv(o.into, strings.Split(fields, ","), func(write func(view) error) (err error) {
			shown, more, err = f.cut(o, each, write)
			return err
		})
		return shown, more, err
	}
	var table []view
	shown, more, err = f.cut(o, each, func(row view) error {
		if o.object(row); o.json {
			return o.failed
		}
		if table = append(table, row); len(table) == tableRows {
			o.table("", fields, table)
			table = table[:0]
		}
		return o.failed
	})
	if len(table) > 0 || shown == 0 && err == nil {
		o.table(none, fields, table)
	}
	if more {
		o.noteMore(shown)
	}
	return shown, more, err
}
