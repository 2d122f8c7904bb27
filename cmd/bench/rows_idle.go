package main

import "context"

// idleMeasurement sees what a worker costs that has nothing to do.
func idleMeasurement() measurement {
	return measurement{
		questions: []question{
			{"an idle worker: Redis commands", "1/s", "lower"},
			{"an idle worker: CPU", "% of one", "lower"},
		},
		run: func(ctx context.Context, b *bench) []answer {
			usher, before := b.wait(ctx, usherInvites(), 0), b.wait(ctx, usherInvites().before(), 0)
			plain := b.wait(ctx, plainInvites(), 0)
			row := func(of func(waiting) float64, note string) answer {
				return answer{usher.figure(of), before.figure(of), plain.figure(of), note}
			}
			return []answer{
				row(waiting.commandRate, "after the first window's invitations; the baseline's queue looks five times a second"),
				row(waiting.cpuShare, ""),
			}
		},
	}
}
