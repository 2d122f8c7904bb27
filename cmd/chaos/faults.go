package main

import (
	"context"
	"maps"
)

// fault is something that the sandbox does to a share of the calls.
type fault struct {
	name  string
	share float64
	form  map[string]any // in the control's JSON
}

// injectShares injects faults of which each strikes its share of all calls.
func (s *stage) injectShares(ctx context.Context, faults []fault) error {
	for i, probability := range probabilities(faults) {
		form := maps.Clone(faults[i].form)
		form["probability"] = probability
		if err := s.clerk.inject(ctx, faults[i].name, form); err != nil {
			return err
		}
	}
	return nil
}

// probabilities are what the sandbox is told, which tries faults in turn: those behind have a larger share of what
// the ones before leave.
func probabilities(faults []fault) []float64 {
	left := 1.0
	var told []float64
	for _, f := range faults {
		told = append(told, f.share/left)
		left -= f.share
	}
	return told
}
