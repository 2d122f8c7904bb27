package worker

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"example.com/usher/ratelimit"
)

// budgetsTimeout bounds how long a scrape waits for Redis.
const budgetsTimeout = 2 * time.Second

// Budgets tells at each scrape how the limits stand, for all workers of a namespace together.
type Budgets struct {
	rdb       redis.UniversalClient
	namespace string

	limit, window, used, inFlight, blocked, next *prometheus.Desc
}

// NewBudgets gives the budgets of a namespace.
func NewBudgets(rdb redis.UniversalClient, namespace string) *Budgets {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("usher_limit_"+name, help, []string{"limit"}, nil)
	}
	return &Budgets{
		rdb: rdb, namespace: namespace,
		limit:    desc("calls", "Calls allowed in a window."),
		window:   desc("window_seconds", "Length of the window."),
		used:     desc("used_calls", "Calls that count in the window now, those in flight included."),
		inFlight: desc("in_flight_calls", "Calls whose answer has not arrived."),
		blocked:  desc("blocked_seconds", "Time for which Clerk has asked for no calls; 0: none."),
		next:     desc("next_permit_seconds", "Time until the next permit can come free; 0: one is free."),
	}
}

// Describe is called by the registry.
func (b *Budgets) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{b.limit, b.window, b.used, b.inFlight, b.blocked, b.next} {
		out <- desc
	}
}

// Collect is called by the registry. Without Redis there are no figures.
func (b *Budgets) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), budgetsTimeout)
	defer cancel()
	usages, err := ratelimit.ReadUsage(ctx, b.rdb, b.namespace)
	if err != nil {
		return
	}
	for _, u := range usages {
		gauge := func(desc *prometheus.Desc, value float64) {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, u.Name)
		}
		until := func(t time.Time) float64 {
			if t.IsZero() {
				return 0
			}
			return max(0, t.Sub(u.At).Seconds())
		}
		gauge(b.limit, float64(u.N))
		gauge(b.window, u.Window.Seconds())
		gauge(b.used, float64(u.Used))
		gauge(b.inFlight, float64(u.InFlight))
		gauge(b.blocked, until(u.BlockedUntil))
		gauge(b.next, until(u.NextFree))
	}
}
