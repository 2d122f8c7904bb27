package ledger

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
)

// Start makes a scheduled campaign a running one and gives its state. ErrNotFound if there is none.
func (l *Ledgers) Start(ctx context.Context, name string) (State, error) {
	state, err := startScript.Run(ctx, l.rdb, l.keysOf(name), name).Text()
	if err != nil {
		return "", fmt.Errorf("starting campaign %s: %w", name, err)
	}
	if state == "" {
		return "", fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return State(state), nil
}

// Batch is some recipients that were taken from a campaign, for a call or for a question to Clerk. Until it is settled, or its hold
// has passed, nobody else gets them.
type Batch struct {
	Rows []Row
	// Garbage are those that cannot be read: their bytes, by id.
	Garbage map[store.AddressID][]byte
	// Now is Redis's clock when they were taken.
	Now   time.Time
	token string
}

// TakeForCall takes up to n waiting recipients of a running campaign, from the given lists in their order, and claims their addresses for
// a call that ends within a time. Their hold lasts as much longer as the margin says.
func (l *Ledgers) TakeForCall(ctx context.Context, name string, n int, within, margin time.Duration, from ...Travel) (Batch, error) {
	return l.take(ctx, name, n, "c"+uuid.NewString(), within+margin, within, from)
}

// TakeToAsk takes up to n waiting recipients for a question to Clerk that ends within hold. It claims nothing.
func (l *Ledgers) TakeToAsk(ctx context.Context, name string, n int, hold time.Duration, from ...Travel) (Batch, error) {
	return l.take(ctx, name, n, "q"+uuid.NewString(), hold, 0, from)
}

func (l *Ledgers) take(ctx context.Context, name string, n int, token string, hold, call time.Duration, from []Travel) (Batch, error) {
	travels := make([]byte, len(from))
	for i, travel := range from {
		travels[i] = byte(travel)
	}
	batch := Batch{Garbage: map[store.AddressID][]byte{}, token: token}
	flat, err := takeScript.Run(ctx, l.rdb, l.keysOf(name), n, token, hold.Milliseconds(), travels,
		l.keys.Intents(""), intent.CampaignOwner(name), call.Milliseconds()).StringSlice()
	if err != nil {
		return Batch{}, fmt.Errorf("taking recipients of campaign %s: %w", name, err)
	}
	if len(flat)%3 != 1 {
		return Batch{}, fmt.Errorf("taking recipients of campaign %s: %w", name, store.ErrGarbage)
	}
	if batch.Now, err = store.Instant(flat[0]); err != nil {
		return Batch{}, fmt.Errorf("taking recipients of campaign %s: %w", name, err)
	}
	for i := 1; i < len(flat); i += 3 {
		if len(flat[i]) != len(store.AddressID{}) {
			return Batch{}, fmt.Errorf("campaign %s: an id of %d bytes: %w", name, len(flat[i]), store.ErrGarbage)
		}
		row, err := decode(flat[i], flat[i+1])
		if err == nil && call > 0 {
			row.Intent = intent.Standing{Token: token}
			row.Intent.Since, err = store.Instant(flat[i+2])
		} else if err == nil {
			row.Intent, err = intent.Parse(flat[i+2])
		}
		if err != nil {
			batch.Garbage[store.AddressID([]byte(flat[i]))] = []byte(flat[i+1])
			continue
		}
		batch.Rows = append(batch.Rows, row)
	}
	return batch, nil
}

// Outcome is what to record of a recipient: sent, dead, or to wait again; and what becomes of its intent.
type Outcome struct {
	Row    Row
	state  byte
	travel Travel
	delay  time.Duration
	end    intent.End
	used   []string // invitations that no call of the recipient's has made; with intent.Absent
}

// SentAs records that the recipient's invitation exists: a call has made it, or a look-up has found it. Its attempts are those besides the
// call that made it, which counted as failed if it was lost.
func SentAs(row Row, end intent.End, invitationID string, at time.Time) Outcome {
	if end == intent.Found {
		row.Attempts = max(0, row.Attempts-1)
	}
	row.Foreign = end != intent.Made && end != intent.Found // one that was there before counts as the recipient's
	row.InvitationID, row.SettledAt, row.History, row.Refusal = invitationID, at.Unix(), nil, nil
	return Outcome{Row: row, state: 's', travel: InBulk, end: end}
}

// DeadOf records that the recipient is a dead letter. Its history is there.
func DeadOf(row Row, end intent.End, code string, at time.Time) Outcome {
	row.Code, row.SettledAt, row.History, row.Refusal = code, at.Unix(), nil, nil
	return Outcome{Row: row, state: 'd', travel: InBulk, end: end}
}

// WaitFor lets the recipient wait for another try: before all others now, or after a delay.
func WaitFor(row Row, end intent.End, travel Travel, delay time.Duration) Outcome {
	if delay <= 0 {
		delay = -time.Millisecond
	}
	return Outcome{Row: row, state: 'w', travel: travel, delay: delay, end: end}
}

// Clear lets the recipient wait for a call that ignores the invitations that stood in its way and were revoked.
func Clear(row Row, end intent.End, travel Travel, revoked []string) Outcome {
	row.Foreign, row.Answered, row.Refusal, row.Cleared = false, false, nil, true
	o := WaitFor(row, end, travel, 0)
	o.used = revoked
	return o
}

// Reserve lets the recipient be unsure about an invitation that stands in its way and that none of its calls has made, and keeps others from
// calling for its address meanwhile.
func Reserve(row Row, refusal fate.Failure, end intent.End) Outcome {
	row.Refusal, row.Foreign, row.Answered = &refusal, true, true
	return GoOn(row, end, Unsure)
}

// GoOn lets the recipient wait behind all others of its list: nothing was wrong with it.
func GoOn(row Row, end intent.End, travel Travel) Outcome {
	return Outcome{Row: row, state: 'w', travel: travel, end: end}
}

// Settle records outcomes of a batch and says how many: fewer than were given if its hold had passed.
func (l *Ledgers) Settle(ctx context.Context, name string, batch Batch, outcomes []Outcome) (int, error) {
	args := make([]any, 0, 3+6*len(outcomes))
	args = append(args, batch.token, l.keys.Intents(""), intent.CampaignOwner(name))
	for _, o := range outcomes {
		row, err := encode(o.state, o.travel, o.Row)
		if err != nil {
			return 0, err
		}
		token := o.Row.Intent.Token
		if o.end == intent.Opened {
			token = batch.token
		}
		args = append(args, string(o.Row.ID[:]), row, o.delay.Milliseconds(), string(o.end), token, o.Row.InvitationID+strings.Join(o.used, ","))
	}
	settled, err := settleScript.Run(ctx, l.rdb, l.keysOf(name), args...).Int()
	if err != nil {
		return 0, fmt.Errorf("settling recipients of campaign %s: %w", name, err)
	}
	return settled, nil
}

// Progress is what a driver has to do.
type Progress struct {
	State   State
	Waiting int // not looked up yet
	Ready   int // looked up, to ride in a bulk
	Singles int // waiting to travel alone
	Later   int // waiting for their next attempt
	Open    int // in a call or a question to Clerk
	Unsure  int // whose last call's outcome is not known
	// NextDue is when the next of Later and Open is due, 0 for at once; it counts only if there are any.
	NextDue time.Duration
	// Generation is the campaign's latest: a driver of an earlier one has been replaced.
	Generation int
}

// Progress tells the driver of a generation what there is to do in a campaign, and renews its lease; a running campaign with nothing
// left is finished by it.
func (l *Ledgers) Progress(ctx context.Context, name string, generation int) (Progress, error) {
	answer, err := progressScript.Run(ctx, l.rdb, l.keysOf(name), generation, name).Slice()
	if err != nil {
		return Progress{}, fmt.Errorf("reading the progress of campaign %s: %w", name, err)
	}
	if len(answer) != 9 {
		return Progress{}, fmt.Errorf("reading the progress of campaign %s: %w", name, store.ErrGarbage)
	}
	state, ok := answer[0].(string)
	numbers := make([]int, 8)
	for i := range numbers {
		n, isNumber := answer[i+1].(int64)
		numbers[i], ok = int(n), ok && isNumber
	}
	if !ok {
		return Progress{}, fmt.Errorf("reading the progress of campaign %s: %w", name, store.ErrGarbage)
	}
	return Progress{
		State: State(state), Waiting: numbers[0], Singles: numbers[1], Later: numbers[2], Open: numbers[3], Ready: numbers[4], Unsure: numbers[5],
		NextDue: time.Duration(numbers[6]) * time.Millisecond, Generation: numbers[7],
	}, nil
}

// Orphan is a running campaign that had no driver, and its new generation.
type Orphan struct {
	Name       string
	Generation int
}

// Sweep finds running campaigns without a driver. The caller enqueues a driver for each; if it cannot, a later sweep finds it again.
func (l *Ledgers) Sweep(ctx context.Context) ([]Orphan, error) {
	answer, err := sweepScript.Run(ctx, l.rdb, []string{l.keys.Running()}, l.keys.Ledgers()).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("sweeping campaigns: %w", err)
	}
	var orphans []Orphan
	for pair := range slices.Chunk(answer, 2) {
		generation, err := strconv.Atoi(pair[len(pair)-1])
		if err != nil {
			return nil, fmt.Errorf("sweeping campaigns: %w", store.ErrGarbage)
		}
		orphans = append(orphans, Orphan{Name: pair[0], Generation: generation})
	}
	return orphans, nil
}
