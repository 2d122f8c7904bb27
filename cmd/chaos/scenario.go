package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// scenario is one story of failures. Its play breaks things and tells the stage what did not hold; its error means
// that the story could not be played to the end.
type scenario struct {
	name    string
	setting setting
	play    func(ctx context.Context, s *stage) error
}

// scenarios lists them in the order of playing.
func scenarios() []scenario {
	return []scenario{
		{"storm", stormSetting("64/5s", "20/5s"), playStorm(fullStorm())},
		{"blame", calm("64/5s", "20/5s"), playBlame},
		{"revoked-key", calm("10/1s", "3/1s"), playRevokedKey},
		{"stopped", stoppedSetting(), playStopped},
		{"redis-away", calm("64/5s", "20/5s"), playRedisAway},
		{"twins", calm("64/5s", "20/5s"), playTwins},
		{"late", stormSetting("64/5s", "20/5s"), playLate},
		{mixed, stormSetting("64/5s", "20/5s"), playMixed},
	}
}

// shortScenarios are for the ordinary tests.
func shortScenarios() []scenario {
	return []scenario{{"storm", stormSetting("8/2s", "3/2s"), playStorm(shortStorm())}}
}

// choose leaves the scenario of that name; no name leaves all.
func choose(all []scenario, name string) ([]scenario, error) {
	if name == "" {
		return all, nil
	}
	var names []string
	for _, sc := range all {
		if sc.name == name {
			return []scenario{sc}, nil
		}
		names = append(names, sc.name)
	}
	return nil, fmt.Errorf("-only %q: want one of %s", name, strings.Join(names, ", "))
}

// setting is what Clerk and the workers of a scenario are told.
type setting struct {
	create, bulk           string // limits, as settings have them: the same for Clerk and the workers
	timeout, settle        time.Duration
	minLatency, maxLatency time.Duration // of Clerk's answers
}

// calm is a Clerk that answers soon and a worker that does not wait long.
func calm(create, bulk string) setting {
	return setting{
		create: create, bulk: bulk, timeout: 2 * time.Second, settle: 2 * time.Second,
		minLatency: 20 * time.Millisecond, maxLatency: 80 * time.Millisecond,
	}
}
