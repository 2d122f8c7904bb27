package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// auditMost is how many actions are kept, and auditKeep for how long after the last one.
	auditMost = 1000
	auditKeep = 90 * 24 * time.Hour
)

// Action is something that a person did on a page.
type Action struct {
	At   time.Time `json:"at"`
	Who  string    `json:"who"`
	What string    `json:"what"` // in words, without an address
	N    int       `json:"n"`    // how many it was done to
}

// Audit is the list of the actions in one namespace.
type Audit struct{ db DB }

// NewAudit gives the actions of a namespace.
func NewAudit(rdb redis.UniversalClient, namespace string) *Audit {
	return &Audit{Open(rdb, namespace)}
}

// Note adds an action, and forgets the oldest ones.
func (a *Audit) Note(ctx context.Context, who, what string, n int) (err error) {
	defer Wrap(&err, "noting an action")
	row, err := json.Marshal(Action{At: time.Now().UTC(), Who: who, What: what, N: n})
	if err != nil {
		return err
	}
	key := a.db.Key.Audit()
	_, err = a.db.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.LPush(ctx, key, row)
		pipe.LTrim(ctx, key, 0, auditMost-1)
		pipe.Expire(ctx, key, auditKeep)
		return nil
	})
	return err
}

// List gives the actions that are kept, the latest first. One that cannot be read is left out.
func (a *Audit) List(ctx context.Context) (actions []Action, err error) {
	defer Wrap(&err, "reading the actions")
	rows, err := a.db.LRange(ctx, a.db.Key.Audit(), 0, auditMost-1).Result()
	for _, row := range rows {
		var one Action
		if json.Unmarshal([]byte(row), &one) == nil {
			actions = append(actions, one)
		}
	}
	return actions, err
}
