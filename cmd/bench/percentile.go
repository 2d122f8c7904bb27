package main

import (
	"math"
	"slices"
)

// percentile is the smallest value that p percent of them do not exceed; of none it is not a number.
func percentile(values []float64, p int) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := (len(sorted)*p + 99) / 100
	return sorted[max(0, rank-1)]
}
