package main

import (
	"encoding/json"
	"fmt"
	"io"
)

// rowJSON is a row by itself, with the machine it was measured on. What was not measured is null.
type rowJSON struct {
	What            string   `json:"what"`
	Unit            string   `json:"unit"`
	Better          string   `json:"better"`
	Usher           *float64 `json:"usher"`
	UsherAtLeast    bool     `json:"usher_at_least,omitempty"`
	Before          *float64 `json:"before,omitempty"` // of an earlier build
	Baseline        *float64 `json:"baseline"`
	BaselineAtLeast bool     `json:"baseline_at_least,omitempty"`
	Ratio           *float64 `json:"ratio"`
	Note            string   `json:"note,omitempty"`
	Machine         machine  `json:"machine"`
}

func (r report) printJSON(out io.Writer) error {
	value := func(f figure) *float64 {
		if f.err != nil {
			return nil
		}
		return &f.value
	}
	lines := json.NewEncoder(out)
	for _, row := range r.rows {
		err := lines.Encode(rowJSON{
			What: row.what, Unit: row.unit, Better: row.better, Note: row.remarks(), Machine: r.machine,
			Usher: value(row.usher), UsherAtLeast: row.usher.atLeast,
			Before: value(row.before), Ratio: value(row.ratio()),
			Baseline: value(row.baseline), BaselineAtLeast: row.baseline.atLeast,
		})
		if err != nil {
			return fmt.Errorf("writing a row: %w", err)
		}
	}
	return nil
}
