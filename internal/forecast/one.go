package forecast

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/ledger"
)

// Of foretells one running campaign by the limits of a worker, as if there were no other campaign. It reads little, so
// each driver may ask for its own.
func Of(
	ctx context.Context, rdb redis.UniversalClient, namespace string, p policy.Policy, campaign string,
) (Forecast, error) {
	o := Outlook{At: time.Now()}
	if err := o.readLimits(ctx, rdb, namespace, p); err != nil {
		return Forecast{}, err
	}
	if err := o.readInvites(ctx, rdb, namespace); err != nil {
		return Forecast{}, err
	}
	s, err := ledger.New(rdb, namespace).Standing(ctx, campaign)
	if err != nil {
		return Forecast{}, err
	}
	o.Campaigns = []Campaign{o.campaign(s, p.LooksUp())}
	return o.Foresee()[campaign], nil
}
