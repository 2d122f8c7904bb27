package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
)

// machine is where the figures were measured: without it they mean nothing.
type machine struct {
	CPU   string `json:"cpu"`
	Count int    `json:"cpus"`
	Redis string `json:"redis"`
	Go    string `json:"go"`
}

// String is the head of the table.
func (m machine) String() string {
	return fmt.Sprintf("%d × %s · Redis %s (appendfsync always) · %s", m.Count, m.CPU, m.Redis, m.Go)
}

func describeMachine(ctx context.Context) (machine, error) {
	m := machine{CPU: runtime.GOARCH + " of unknown model", Count: runtime.NumCPU(), Go: runtime.Version()}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if model, count := parseCPUInfo(string(text)); model != "" && count > 0 {
			m.CPU, m.Count = model, count
		}
	}
	version, err := exec.CommandContext(ctx, "redis-server", "--version").Output()
	if err != nil {
		return m, fmt.Errorf("redis-server (apt-get install redis-server, brew install redis): %w", err)
	}
	m.Redis = "of unknown version"
	if found := regexp.MustCompile(`\bv=(\S+)`).FindSubmatch(version); found != nil {
		m.Redis = string(found[1])
	}
	return m, nil
}

// parseCPUInfo gives the first model named in /proc/cpuinfo, and how many processors it lists.
func parseCPUInfo(text string) (model string, count int) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "processor":
			count++
		case "model name":
			if model == "" {
				model = strings.TrimSpace(value)
			}
		}
	}
	return model, count
}
