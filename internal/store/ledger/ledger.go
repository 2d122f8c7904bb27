// Package ledger keeps the recipients of each campaign in Redis, and what became of each. A bulk-invite task carries
// only its campaign's name; its driver takes recipients from here, a call's worth at a time, and settles them.
package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
)

const version = 1

// State is where a campaign stands.
type State string

// The states of a campaign.
const (
	Scheduled State = "scheduled"
	Running   State = "running"
	Paused    State = "paused"
	Cancelled State = "cancelled"
	Finished  State = "finished"
)

var (
	// ErrNotFound means that there is no campaign of that name.
	ErrNotFound = errors.New("no such campaign")
	// ErrCancelled means that a campaign was cancelled and takes no more recipients.
	ErrCancelled = errors.New("the campaign is cancelled")
)

// Travel says how a recipient may be sent.
type Travel byte

// The ways to travel.
const (
	InBulk Travel = 'b' // together with others, after a look-up
	Ready  Travel = 'r' // together with others: it was looked up
	Singly Travel = 's' // alone: it may spoil a bulk, or a bulk may lose its metadata
	Unsure Travel = 'u' // not before Clerk was asked what became of its last call
)

// Row is one recipient of a campaign. Its fields beside Recipient are what its attempts have come to so far.
type Row struct {
	ID        store.AddressID `json:"-"`
	Recipient json.RawMessage `json:"r"`
	// Attempts counts the calls that failed for it, kept when it is settled; History is the latest of them.
	Attempts     int            `json:"n,omitempty"`
	History      []fate.Attempt `json:"h,omitempty"`
	InvitationID string         `json:"i,omitempty"`
	// SettledAt is when its outcome was recorded, in Unix seconds.
	SettledAt int64 `json:"t,omitempty"`
	// Code is the cause of a dead one.
	Code string `json:"c,omitempty"`
	// Alone: once Clerk knows nothing of its last call, it travels alone.
	Alone bool `json:"a,omitempty"`
	// Answered: its last call was refused for another's sake, so that nothing of it is to come.
	Answered bool `json:"d,omitempty"`
	// Foreign: Refusal is about an invitation that none of its calls has made. Of a sent one: nor have they made the one that counts as its.
	Foreign bool `json:"o,omitempty"`
	// Cleared: invitations that stood in its way were revoked, and its next call ignores them.
	Cleared bool `json:"x,omitempty"`
	// Refusal is what Clerk said to its last call; it is believed when Clerk knows nothing of an earlier one.
	Refusal *fate.Failure `json:"f,omitempty"`
	// Intent is how its intent stands, if it was taken for a call or is unsure.
	Intent intent.Standing `json:"-"`
}

// Campaign is the head of a ledger.
type Campaign struct {
	Name        string
	State       State
	Generation  int // of its driver: one more at each start
	Recipients  int
	Sent        int
	Dead        int
	Forgotten   int            // recipients that were removed on request; they count nowhere else
	DeadByCode  map[string]int // the cause of each dead one; never nil
	CreatedAt   time.Time
	ScheduledAt time.Time
	StartedAt   time.Time
	FinishedAt  time.Time
}

// Remaining is how many recipients have no outcome yet.
func (c Campaign) Remaining() int { return c.Recipients - c.Sent - c.Dead }

// Ledgers keeps the campaigns of one namespace.
type Ledgers struct {
	rdb  redis.UniversalClient
	keys store.Keys
}

// New gives the campaigns of a namespace.
func New(rdb redis.UniversalClient, namespace string) *Ledgers {
	return &Ledgers{rdb: rdb, keys: store.Keys(namespace)}
}

// TaskID is the id of the task that drives a campaign in a generation.
func TaskID(campaign string, generation int) string {
	return "bulk:" + campaign + ":" + strconv.Itoa(generation)
}

// GenerationOf reads the generation from the id of a driver's task; 0 if there is none.
func GenerationOf(taskID string) int {
	n, err := strconv.Atoi(taskID[strings.LastIndexByte(taskID, ':')+1:])
	if err != nil {
		return 0
	}
	return n
}

// keysOf are the keys of a campaign's scripts; see prelude.
func (l *Ledgers) keysOf(campaign string) []string {
	parts := []string{"meta", "rows", "waiting", "singles", "later", "open", "ready", "unsure"}
	keys := make([]string, len(parts))
	for i, part := range parts {
		keys[i] = l.keys.Ledger(campaign, part)
	}
	return append(keys, l.keys.Running(), l.keys.Lost(), l.keys.Tombstones())
}

// encode gives a row as it is stored: its state and way of travel as one byte each, then JSON.
func encode(state byte, travel Travel, row Row) (string, error) {
	data, err := json.Marshal(row)
	if err != nil {
		return "", fmt.Errorf("encoding a recipient: %w", err)
	}
	return string([]byte{state, byte(travel)}) + string(data), nil
}

func decode(id, value string) (Row, error) {
	if len(id) != len(store.AddressID{}) || len(value) < 2 {
		return Row{}, fmt.Errorf("a recipient: %w", store.ErrGarbage)
	}
	row := Row{ID: store.AddressID([]byte(id))}
	if err := json.Unmarshal([]byte(value[2:]), &row); err != nil {
		return Row{}, fmt.Errorf("a recipient: %w", store.ErrGarbage)
	}
	return row, nil
}

// Get gives the head of a campaign, or ErrNotFound.
func (l *Ledgers) Get(ctx context.Context, name string) (Campaign, error) {
	fields, err := l.rdb.HGetAll(ctx, l.keys.Ledger(name, "meta")).Result()
	if err != nil {
		return Campaign{}, fmt.Errorf("reading campaign %s: %w", name, err)
	}
	if len(fields) == 0 {
		return Campaign{}, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return campaignOf(name, fields)
}

func campaignOf(name string, fields map[string]string) (Campaign, error) {
	var errs []error
	number := func(field string) int64 {
		if fields[field] == "" {
			return 0
		}
		n, err := strconv.ParseInt(fields[field], 10, 64)
		if err != nil {
			errs = append(errs, fmt.Errorf("campaign %s, field %s: %w", name, field, store.ErrGarbage))
		}
		return n
	}
	at := func(field string) time.Time {
		if ms := number(field); ms > 0 {
			return time.UnixMilli(ms).UTC()
		}
		return time.Time{}
	}
	if number("v") > version {
		return Campaign{}, fmt.Errorf("%s: %w", name, store.ErrNewer)
	}
	c := Campaign{
		Name: name, State: State(fields["state"]), Generation: int(number("generation")),
		Recipients: int(number("recipients")), Sent: int(number("sent")), Dead: int(number("dead")), Forgotten: int(number("forgotten")), DeadByCode: map[string]int{},
		CreatedAt: at("created_at"), ScheduledAt: at("scheduled_at"), StartedAt: at("started_at"), FinishedAt: at("finished_at"),
	}
	for field := range fields {
		if code, ok := strings.CutPrefix(field, "dead:"); ok {
			c.DeadByCode[code] = int(number(field))
		}
	}
	return c, errors.Join(errs...)
}

// List gives the newest campaigns first, at most limit of them.
func (l *Ledgers) List(ctx context.Context, limit int) ([]Campaign, error) {
	names, err := l.rdb.ZRevRange(ctx, l.keys.Campaigns(), 0, int64(limit)-1).Result()
	if err != nil {
		return nil, fmt.Errorf("listing campaigns: %w", err)
	}
	campaigns, unreadable, err := l.heads(ctx, names)
	return campaigns, errors.Join(err, unreadable)
}

// heads gives the heads of campaigns in the order of their names. Those that are not there are left out, and so are those that cannot be
// read, which unreadable says.
func (l *Ledgers) heads(ctx context.Context, names []string) (campaigns []Campaign, unreadable, err error) {
	if len(names) == 0 {
		return nil, nil, nil
	}
	pipe := l.rdb.Pipeline()
	read := make([]*redis.MapStringStringCmd, len(names))
	for i, name := range names {
		read[i] = pipe.HGetAll(ctx, l.keys.Ledger(name, "meta"))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, nil, fmt.Errorf("reading campaigns: %w", err)
	}
	campaigns = make([]Campaign, 0, len(names))
	for i, name := range names {
		if len(read[i].Val()) == 0 {
			continue // indexed just before its upload was committed, or never
		}
		c, err := campaignOf(name, read[i].Val())
		if err != nil {
			unreadable = errors.Join(unreadable, err)
			continue
		}
		campaigns = append(campaigns, c)
	}
	return campaigns, unreadable, nil
}
