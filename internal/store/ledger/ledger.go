// Package ledger keeps the recipients of each campaign in Redis, and what became of each. A bulk-invite task carries
// only its campaign's name; its driver takes recipients from here, a call's worth at a time, and settles them.
package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
)

// version is the newest version of ledgers. A campaign has the oldest one in which its recipients can be read.
const version = 2

// State is where a campaign stands.
type State string

// The states of a campaign.
const (
	Uploading State = "uploading" // recipients are on their way into it; it makes no calls until they are there
	Scheduled State = "scheduled"
	Running   State = "running"
	Paused    State = "paused"
	Cancelled State = "cancelled"
	Finished  State = "finished"

	deleting State = "deleting" // it is none any more for whoever asks
)

var (
	// ErrNotFound means that there is no campaign of that name.
	ErrNotFound = errors.New("no such campaign")
	// ErrCancelled means that a campaign was cancelled and takes no more recipients.
	ErrCancelled = errors.New("the campaign is cancelled")
	// ErrBusy means that a start was asked for, but the campaign has begun already.
	ErrBusy = errors.New("the campaign has begun already")
	// ErrTaken means that an address cannot take another one's place: the campaign has it already.
	ErrTaken = errors.New("the campaign has that address already")
	// ErrForgotten means that an address cannot take another one's place: it was forgotten on request.
	ErrForgotten = errors.New("the address was forgotten on request")
	// ErrOver means that a campaign has finished or was cancelled: there is nothing left to pause, resume or cancel.
	ErrOver = errors.New("the campaign is over")
)

// Campaign is the head of a ledger.
type Campaign struct {
	Name        string
	State       State
	Generation  int // of its driver: one more at each start
	Recipients  int
	Sent        int
	Dead        int
	Skipped     int
	Uploads     int            // that are on their way into it
	Forgotten   int            // recipients that were removed on request; they count nowhere else
	DeadByCode  map[string]int // the cause of each dead one; never nil
	CreatedAt   time.Time
	UploadedAt  time.Time // last; zero if an earlier version did
	ExpiresAt   time.Time // when its last invitation expires; zero if nobody has looked
	ScheduledAt time.Time
	StartedAt   time.Time
	ReopenedAt  time.Time // last, after it had finished
	FinishedAt  time.Time
}

// Ran is for how long a campaign that is over has run, since it was reopened last if it ever was; 0 if it never began.
func (c Campaign) Ran() time.Duration {
	began := c.StartedAt
	if c.ReopenedAt.After(began) {
		began = c.ReopenedAt
		if c.ScheduledAt.After(began) {
			began = c.ScheduledAt
		}
	}
	if began.IsZero() || c.StartedAt.IsZero() {
		return 0
	}
	return max(0, c.FinishedAt.Sub(began))
}

// Remaining is how many recipients have no outcome yet.
func (c Campaign) Remaining() int { return c.Recipients - c.Settled() }

// Settled is how many recipients have their outcome.
func (c Campaign) Settled() int { return c.Sent + c.Dead + c.Skipped }

// Ledgers keeps the campaigns of one namespace.
type Ledgers struct {
	Memory *store.Memory // of the process, if it takes for calls
	Actor  string        // who pauses, resumes and cancels; may be empty
	db     store.DB
}

// New gives the campaigns of a namespace.
func New(rdb redis.UniversalClient, namespace string) *Ledgers {
	return &Ledgers{db: store.Open(rdb, namespace)}
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

// Get gives the head of a campaign, or ErrNotFound, which is a *DeletedError if it was deleted.
func (l *Ledgers) Get(ctx context.Context, name string) (Campaign, error) {
	campaigns, unreadable, err := l.heads(ctx, name)
	if err = errors.Join(err, errors.Join(unreadable...)); err == nil && len(campaigns) == 0 {
		if err = l.deleted(ctx, name); err == nil {
			err = fmt.Errorf("%s: %w", name, ErrNotFound)
		}
	}
	if err != nil {
		return Campaign{}, err
	}
	return campaigns[0], nil
}

// Stands tells whether there is a campaign of a name, or what stays of one that was deleted.
func (l *Ledgers) Stands(ctx context.Context, name string) (bool, error) {
	var head *redis.IntCmd
	var stub *redis.BoolCmd
	_, err := l.db.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		head = pipe.Exists(ctx, l.db.Key.Ledger(name, "meta"))
		stub = pipe.HExists(ctx, l.stubs(name), name)
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("looking whether there is a campaign already: %w", err)
	}
	return head.Val() > 0 || stub.Val(), nil
}

// listed is how many campaigns List reads at a time.
const listed = 200

// List calls do for all campaigns, the newest first, a page at a time, until it returns an error, and gives that. Those
// that cannot be read hide no others; the error, a *store.Partial, names them.
func (l *Ledgers) List(ctx context.Context, do func([]Campaign) error) error {
	return l.ListAfter(ctx, "", do)
}

// ListAfter is List for the campaigns behind one of them, all if that is empty. The error may be ErrNotFound.
func (l *Ledgers) ListAfter(ctx context.Context, after string, do func([]Campaign) error) error {
	var partial store.Partial
	err := store.EachPageAfter(ctx, l.db, l.db.Key.Campaigns(), after, func(names []string) error {
		for some := range slices.Chunk(names, listed) { // who wants few reads no more
			campaigns, garbage, err := l.heads(ctx, some...)
			if err != nil {
				return err
			}
			partial.Add(garbage...)
			if err := do(campaigns); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, redis.Nil) {
		err = fmt.Errorf("%s: %w", after, ErrNotFound)
	}
	return partial.With(err)
}

func (l *Ledgers) newest(ctx context.Context, limit int) (names []string, err error) {
	defer store.Wrap(&err, "listing campaigns")
	return l.db.ZRevRange(ctx, l.db.Key.Campaigns(), 0, int64(limit)-1).Result()
}

// heads gives the heads of campaigns in the order of their names. Those that are not there are left out, and so are
// those that cannot be read, which unreadable says.
func (l *Ledgers) heads(
	ctx context.Context, names ...string,
) (campaigns []Campaign, unreadable []error, err error) {
	defer store.Wrap(&err, "reading campaigns")
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = l.db.Key.Ledger(name, "meta")
	}
	heads, err := store.ReadHashes(ctx, l.db, keys)
	if err != nil {
		return nil, nil, err
	}
	for i, head := range heads {
		if head == nil {
			unreadable = append(unreadable, fmt.Errorf("campaign %s: %w", names[i], store.ErrGarbage))
			continue
		}
		if len(head) == 0 || head["state"] == string(deleting) {
			continue // indexed just before its upload was committed, or never
		}
		c, err := campaignOf(names[i], head)
		if err != nil {
			unreadable = append(unreadable, err)
			continue
		}
		campaigns = append(campaigns, c)
	}
	return campaigns, unreadable, nil
}

func campaignOf(name string, fields map[string]string) (Campaign, error) {
	var faults []error
	number := func(field string) int {
		n, err := strconv.ParseInt(cmp.Or(fields[field], "0"), 10, 64)
		if err != nil {
			faults = append(faults, fmt.Errorf("campaign %s, field %s: %w", name, field, store.ErrGarbage))
		}
		return int(n)
	}
	at := func(field string) time.Time {
		if ms := number(field); ms > 0 {
			return time.UnixMilli(int64(ms)).UTC()
		}
		return time.Time{}
	}
	if number("v") > version {
		return Campaign{}, fmt.Errorf("%s: %w", name, store.ErrNewer)
	}
	c := Campaign{
		Name: name, State: State(fields["state"]), Generation: number("generation"), Recipients: number("recipients"),
		Sent: number("sent"), Dead: number("dead"), Skipped: number("skipped"), Forgotten: number("forgotten"),
		DeadByCode: map[string]int{},
		CreatedAt:  at("created_at"), UploadedAt: at("uploaded_at"), ScheduledAt: at("scheduled_at"),
		StartedAt: at("started_at"), ReopenedAt: at("reopened_at"), FinishedAt: at("finished_at"),
	}
	if fields["expires_of"] == fields["generation"] {
		c.ExpiresAt = at("expires_at")
	}
	c.Uploads = len(strings.Fields(fields["uploads"]))
	for field := range fields {
		if code, ok := strings.CutPrefix(field, "dead:"); ok {
			c.DeadByCode[code] = number(field)
		}
	}
	return c, errors.Join(faults...)
}

const (
	mostRunning   = 1000 // campaigns that Outlook reads
	mostScheduled = 100  // of the newest campaigns, among which it looks for scheduled ones
)

// Standing is a campaign that is to make calls, and what its ledger says of those.
type Standing struct {
	Campaign
	Counts
	InCalls int       // recipients whose call is under way
	Asked   int       // unsure recipients about whom Clerk is asked just now; they are not among Unsure
	NextDue time.Time // when the first of Later is due; zero if there is none
	Doubted bool      // what is due then is a question to Clerk: nobody knows what became of that recipient's call
}

// standingParts are the parts of a ledger that tell how its campaign stands.
func standingParts() []string {
	return []string{"rows", "waiting", "singles", "later", "open", "ready", "unsure"}
}

// standingScript tells how many recipients of campaigns are in calls, and how many wait for what. It looks at 10,000
// holds of each at most; there are no more than the calls and questions of all workers hold.
//
// KEYS -> for each campaign its standingParts
// --
// Returns JSON, a list of: the length of each part, incalls, asked, due: when the first of later is (ms; 0: there is
// none), and doubted: that one is asked about then.
var standingScript = redis.NewScript(`
local answer = {}
for i = 1, #KEYS, 7 do
  local rows, waiting, singles, later, open, ready, unsure = unpack(KEYS, i, i + 6)
  local s = { later = redis.call('ZCARD', later), open = redis.call('ZCARD', open) }
  s.incalls, s.asked, s.due = 0, 0, 0
  for part, list in pairs({ waiting = waiting, singles = singles, ready = ready, unsure = unsure }) do
    s[part] = redis.call('LLEN', list)
  end
  if s.later > 0 then
    local first = redis.call('ZRANGE', later, 0, 0, 'WITHSCORES')
    s.due, s.doubted = tonumber(first[2]), string.sub(redis.call('HGET', rows, first[1]) or '', 2, 2) == 'u'
  end
  if s.open > 0 then
    for _, member in ipairs(redis.call('ZRANGE', open, 0, 9999)) do
      local kind = string.sub(member, 17, 17)
      if kind == 'c' then s.incalls = s.incalls + 1 end
      if kind == 'u' then s.asked = s.asked + 1 end
    end
  end
  answer[#answer + 1] = s
end
return cjson.encode(answer)
`)

// Standing tells how a campaign stands, and what is left of it.
func (l *Ledgers) Standing(ctx context.Context, name string) (Standing, error) {
	head, err := l.Get(ctx, name)
	if err != nil {
		return Standing{}, err
	}
	standings, err := l.standings(ctx, []Campaign{head})
	if err != nil {
		return Standing{}, fmt.Errorf("campaign %s: %w", name, err)
	}
	return standings[0], nil
}

// standings tells how some campaigns stand.
func (l *Ledgers) standings(ctx context.Context, heads []Campaign) (standings []Standing, err error) {
	for chunk := range slices.Chunk(heads, listed) {
		var keys []string
		for _, head := range chunk {
			for _, part := range standingParts() {
				keys = append(keys, l.db.Key.Ledger(head.Name, part))
			}
		}
		var answer []struct {
			Standing
			Due int64
		}
		err := read(standingScript.Run(ctx, l.db, keys), &answer)
		if err == nil && len(answer) != len(chunk) {
			err = store.ErrGarbage
		}
		if err != nil {
			return nil, err
		}
		for i, s := range answer {
			if s.Campaign = chunk[i]; s.Due > 0 {
				s.NextDue = time.UnixMilli(s.Due)
			}
			standings = append(standings, s.Standing)
		}
	}
	return standings, nil
}

// Outlook gives the newest 1,000 running campaigns, and those among the 100 newest that are scheduled, the
// oldest first. Those that cannot be read are left out.
func (l *Ledgers) Outlook(ctx context.Context) (standings []Standing, err error) {
	defer store.Wrap(&err, "reading which campaigns are to make calls")
	heads, _, err := l.driven(ctx, mostScheduled)
	if err != nil {
		return nil, err
	}
	heads = slices.DeleteFunc(heads, func(c Campaign) bool { return c.State != Running && c.State != Scheduled })
	slices.SortFunc(heads, func(a, b Campaign) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return l.standings(ctx, heads)
}

// driven gives the campaigns that must have a driver, the newest 1,000 of them, and the newest ones of all. It tells
// how many others must have one. Those that cannot be read are left out.
func (l *Ledgers) driven(ctx context.Context, most int) (heads []Campaign, others int, err error) {
	names, others, err := l.newestRunning(ctx)
	newest, err2 := l.newest(ctx, most)
	names = slices.Sorted(slices.Values(append(names, newest...)))
	heads, _, err3 := l.heads(ctx, slices.Compact(names)...)
	return heads, others, errors.Join(err, err2, err3)
}

// newestRunning names the newest 1,000 campaigns that must have a driver, and tells how many others there are.
func (l *Ledgers) newestRunning(ctx context.Context) (names []string, others int, err error) {
	names, err = l.db.SRandMemberN(ctx, l.db.Key.Running(), math.MaxInt32).Result() // all of them
	if err != nil || len(names) <= mostRunning {
		return names, 0, err
	}
	created, err := l.db.ZMScore(ctx, l.db.Key.Campaigns(), names...).Result()
	if err == nil && len(created) != len(names) {
		err = store.ErrGarbage
	}
	if err != nil {
		return nil, 0, err
	}
	at := make(map[string]float64, len(names))
	for i, name := range names {
		at[name] = created[i]
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(at[b], at[a]), cmp.Compare(a, b)) })
	return names[:mostRunning], len(names) - mostRunning, nil
}

// UnderWay gives the campaigns that are not over: first those that run, then those that are paused, each the newest
// first, and then those that are scheduled, the soonest first. Of those that run it knows the 1,000 newest, and tells
// how many others there are; of scheduled ones it knows those among the 200 newest campaigns. Those that cannot be read
// are left out.
func (l *Ledgers) UnderWay(ctx context.Context) (heads []Campaign, others int, err error) {
	heads, others, err = l.driven(ctx, listed)
	order := []State{Running, Uploading, Paused, Scheduled}
	heads = slices.DeleteFunc(heads, func(c Campaign) bool { return !slices.Contains(order, c.State) })
	slices.SortFunc(heads, func(a, b Campaign) int {
		if a.State == Scheduled && b.State == Scheduled {
			return a.ScheduledAt.Compare(b.ScheduledAt)
		}
		return cmp.Or(slices.Index(order, a.State)-slices.Index(order, b.State), b.CreatedAt.Compare(a.CreatedAt))
	})
	return heads, others, err
}
