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

// noteScript adds an action once, and forgets the oldest ones, with commands to which a worker has a right anyway.
//
// KEYS[1] -> usher:audit
// --
// ARGV[1] -> the action
// ARGV[2] -> how many are kept
// ARGV[3] -> for how long (ms)
// --
// Returns 1.
var noteScript = redis.NewScript(`
redis.call('PERSIST', KEYS[1]) -- needs no memory: Redis takes the others after it also when it is full
if not redis.call('LPOS', KEYS[1], ARGV[1]) then redis.call('LPUSH', KEYS[1], ARGV[1]) end
while redis.call('LLEN', KEYS[1]) > tonumber(ARGV[2]) do
  redis.call('LREM', KEYS[1], -1, redis.call('LINDEX', KEYS[1], -1))
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
`)

// Note adds an action, also when Redis is full, and forgets the oldest ones. One that is there already is not added
// again.
func (a *Audit) Note(ctx context.Context, action Action) (err error) {
	defer Wrap(&err, "noting an action")
	row, err := json.Marshal(action)
	if err != nil {
		return err
	}
	return noteScript.Run(ctx, a.db, []string{a.db.Key.Audit()}, row, auditMost, auditKeep.Milliseconds()).Err()
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
