package main

import (
	"errors"
	"math"
	"strconv"
)

// figure is one value, or why there is none.
type figure struct {
	value   float64
	atLeast bool // it was waited for no longer than this
	err     error
}

// errNoFigure is why there is none when nothing else went wrong.
var errNoFigure = errors.New("too little was seen to give a figure")

// measured is a value, unless an error came with it.
func measured(value float64, err error) figure {
	if err == nil && (math.IsNaN(value) || math.IsInf(value, 0)) {
		err = errNoFigure
	}
	return figure{value: value, err: err}
}

// String is the value to three digits or more, with commas at the thousands.
func (f figure) String() string {
	switch {
	case f.err != nil:
		return "-"
	case f.atLeast:
		return "> " + number(f.value)
	}
	return number(f.value)
}

func number(v float64) string {
	switch {
	case v == math.Trunc(v) || math.Abs(v) >= 100:
		return thousands(strconv.FormatFloat(v, 'f', 0, 64))
	case math.Abs(v) >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func thousands(digits string) string {
	for at := len(digits) - 3; at > 0 && digits[at-1] != '-'; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}
