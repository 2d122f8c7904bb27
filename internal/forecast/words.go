package forecast

import (
	"fmt"
	"math"
	"strings"
)

// Pace says how many recipients an hour, or a minute if that is easier to read.
func Pace(perHour float64) string {
	if perHour >= 6000 {
		return fmt.Sprintf("%.0f a minute", math.Round(perHour/60))
	}
	return fmt.Sprintf("%.0f an hour", math.Round(perHour))
}

// assumption says what an ETA rests on.
func assumption(pace string, invites, others int) string {
	var b strings.Builder
	b.WriteString("at " + pace)
	sep := ", "
	if invites > 0 {
		b.WriteString(sep + "after " + count(invites, "invite"))
		sep = " and "
	}
	if others > 0 {
		b.WriteString(sep + "beside " + count(others, "other campaign"))
	}
	return b.String() + "; if nothing fails and nobody else uses the key"
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
