package worker

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
	"example.com/usher/ratelimit"
)

// budgetsTimeout bounds how long a scrape waits for Redis.
const budgetsTimeout = 2 * time.Second

// Budgets tells at each scrape how the limits stand, and which calls rest, for all workers of a namespace together.
type Budgets struct {
	rdb       redis.UniversalClient
	namespace string
}

// NewBudgets gives the budgets of a namespace.
func NewBudgets(rdb redis.UniversalClient, namespace string) *Budgets {
	return &Budgets{rdb: rdb, namespace: namespace}
}

// gauge is a figure of every limit.
type gauge struct {
	desc  *prometheus.Desc
	value func(u ratelimit.Usage) float64
}

func newGauge(name, help string, value func(u ratelimit.Usage) float64) gauge {
	return gauge{prometheus.NewDesc("usher_limit_"+name, help, []string{"limit"}, nil), value}
}

var gauges = []gauge{
	newGauge("calls", "Calls allowed in a window.", func(u ratelimit.Usage) float64 { return float64(u.N) }),
	newGauge("window_seconds", "Length of the window.",
		func(u ratelimit.Usage) float64 { return u.Window.Seconds() }),
	newGauge("used_calls", "Calls that count in the window now, those in flight included.",
		func(u ratelimit.Usage) float64 { return float64(u.Used) }),
	newGauge("in_flight_calls", "Calls whose answer has not arrived.",
		func(u ratelimit.Usage) float64 { return float64(u.InFlight) }),
	newGauge("blocked_seconds", "Time for which Clerk has asked for no calls; 0: none.",
		func(u ratelimit.Usage) float64 { return until(u, u.BlockedUntil) }),
	newGauge("next_permit_seconds", "Time until the next permit can come free; 0: one is free.",
		func(u ratelimit.Usage) float64 { return until(u, u.NextFree) }),
}

// until is how many seconds after the reading an instant comes; of none it is 0.
func until(u ratelimit.Usage, at time.Time) float64 { return max(0, at.Sub(u.At).Seconds()) }

// standstill is about calls that Clerk serves nobody.
var standstill = prometheus.NewDesc("usher_standstill_seconds",
	"For how long Clerk has served nobody who makes these calls; nothing: it does.", []string{"calls", "reason"}, nil)

// Describe is called by the registry.
func (b *Budgets) Describe(out chan<- *prometheus.Desc) {
	out <- standstill
	for _, g := range gauges {
		out <- g.desc
	}
}

// Collect is called by the registry. Without Redis there are no figures.
func (b *Budgets) Collect(out chan<- prometheus.Metric) {
	usages, err := b.read()
	if err != nil {
		return
	}
	for _, s := range policy.Standstills(usages) {
		out <- prometheus.MustNewConstMetric(standstill, prometheus.GaugeValue, s.Lasts.Seconds(), s.Calls, s.Reason())
	}
	for _, u := range usages {
		if policy.OnlyRests(u.Name) {
			continue
		}
		for _, g := range gauges {
			out <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.value(u), u.Name)
		}
	}
}

// Standstills are the calls that rest because Clerk serves nobody who makes them. Without Redis none is known of.
func (b *Budgets) Standstills() []policy.Standstill {
	usages, _ := b.read()
	return policy.Standstills(usages)
}

func (b *Budgets) read() ([]ratelimit.Usage, error) {
	ctx, cancel := context.WithTimeout(context.Background(), budgetsTimeout)
	defer cancel()
	return ratelimit.ReadUsage(ctx, b.rdb, b.namespace)
}
