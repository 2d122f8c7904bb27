package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"example.com/usher/internal/settings"
	"example.com/usher/tasks"
)

// timingFlags say when a task runs and under which id.
type timingFlags struct {
	At string `xor:"when" placeholder:"T" help:"When to run: RFC 3339, or \"2026-12-01 09:00\" in the time zone of TZ."`
	In string `xor:"when" placeholder:"D" help:"Run after a while, such as 90m, 1h30m or 2d."`
	ID string `name:"id" help:"An id of your own: repeating it with the same task adds nothing."`

	at time.Time // as it was read; zero for at once
}

func (f *timingFlags) options() ([]tasks.Option, error) {
	var opts []tasks.Option
	if f.ID != "" {
		opts = append(opts, tasks.ID(f.ID))
	}
	switch {
	case f.At != "":
		zone, err := zone()
		if err != nil {
			return nil, err
		}
		at, err := settings.Instant(f.At, time.Now(), zone)
		if err != nil {
			return nil, &usageError{err}
		}
		opts = append(opts, tasks.At(at))
	case f.In != "":
		d, err := settings.Duration("--in", f.In)
		if err != nil {
			return nil, err
		}
		opts = append(opts, tasks.In(d))
	}
	resolved, err := tasks.Resolve(opts...)
	f.at = resolved.At
	return opts, err
}

// zone is that of TZ, which Go takes for UTC in silence where it does not know it.
func zone() (*time.Location, error) {
	name := os.Getenv("TZ")
	if name == "" {
		return time.Local, nil
	}
	zone, err := time.LoadLocation(strings.TrimPrefix(name, ":"))
	if err != nil {
		return nil, &settings.Error{Name: "TZ", Got: fmt.Sprintf("%q", name), Want: "a time zone such as Europe/Berlin"}
	}
	return zone, nil
}
