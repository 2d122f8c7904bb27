package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc/PID/stat: Linux shows programs 100 a second on every architecture that Go runs
// on.
const tick = time.Second / 100

// cpuTime is how long a process has had a processor, in the program and in the kernel for it.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("a process's time is told by Linux only: %w", err)
	}
	return parseStat(string(text))
}

// parseStat adds the 14th and the 15th field, utime and stime. The second one, the name, may hold spaces and brackets.
func parseStat(text string) (time.Duration, error) {
	const utime, stime = 14 - 3, 15 - 3 // after the name
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) <= stime {
		return 0, fmt.Errorf("/proc/PID/stat has only %d fields after the name", len(fields))
	}
	var ticks int64
	for _, field := range []string{fields[utime], fields[stime]} {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/PID/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// peakMemory is the most memory that a running process has had so far, in bytes.
func peakMemory(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("a process's memory is told by Linux only: %w", err)
	}
	return parsePeak(string(text))
}

// parsePeak finds the line VmHWM, which is in kB of 1,024 bytes.
func parsePeak(text string) (int64, error) {
	for line := range strings.Lines(text) {
		value, found := strings.CutPrefix(line, "VmHWM:")
		if !found {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/PID/status: VmHWM: %w", err)
		}
		return n << 10, nil
	}
	return 0, errors.New("/proc/PID/status has no VmHWM: the process has ended")
}
