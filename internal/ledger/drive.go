package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Start makes a scheduled campaign a running one and gives its state. ErrNotFound if there is none.
func (l *Ledgers) Start(ctx context.Context, name string) (State, error) {
	state, err := startScript.Run(ctx, l.rdb, l.keys(name)).Text()
	if err != nil {
		return "", fmt.Errorf("starting campaign %s: %w", name, err)
	}
	if state == "" {
		return "", fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return State(state), nil
}

// Batch is some recipients that were taken from a campaign. Until it is settled, or its hold has passed, nobody else
// gets them.
type Batch struct {
	Rows []Row
	// Garbage are those that cannot be read: their bytes, by id.
	Garbage map[ID][]byte
	token   string
}

// Take takes up to n waiting recipients of a running campaign, from the given lists in their order, for a call or a look-up that
// ends within hold.
func (l *Ledgers) Take(ctx context.Context, name string, n int, hold time.Duration, from ...Travel) (Batch, error) {
	travels := make([]byte, len(from))
	for i, travel := range from {
		travels[i] = byte(travel)
	}
	batch := Batch{Garbage: map[ID][]byte{}, token: uuid.NewString()}
	flat, err := takeScript.Run(ctx, l.rdb, l.keys(name), n, batch.token, hold.Milliseconds(), travels).StringSlice()
	if err != nil {
		return Batch{}, fmt.Errorf("taking recipients of campaign %s: %w", name, err)
	}
	for i := 0; i+1 < len(flat); i += 2 {
		if len(flat[i]) != len(ID{}) {
			return Batch{}, fmt.Errorf("campaign %s: an id of %d bytes: %w", name, len(flat[i]), ErrGarbage)
		}
		row, err := decode(flat[i], flat[i+1])
		if err != nil {
			batch.Garbage[ID([]byte(flat[i]))] = []byte(flat[i+1])
			continue
		}
		batch.Rows = append(batch.Rows, row)
	}
	return batch, nil
}

// Outcome is what to record of a recipient: sent, dead, or to wait again.
type Outcome struct {
	Row    Row
	state  byte
	travel Travel
	delay  time.Duration
}

// SentAs records that the recipient's invitation exists.
func SentAs(row Row, invitationID string, at time.Time) Outcome {
	row.InvitationID, row.SettledAt, row.Attempts, row.History = invitationID, at.Unix(), 0, nil
	return Outcome{Row: row, state: 's', travel: InBulk}
}

// DeadOf records that the recipient is a dead letter. Its history is there.
func DeadOf(row Row, code string, at time.Time) Outcome {
	row.Code, row.SettledAt, row.Attempts, row.History = code, at.Unix(), 0, nil
	return Outcome{Row: row, state: 'd', travel: InBulk}
}

// WaitFor lets the recipient wait for another try: before all others now, or after a delay.
func WaitFor(row Row, travel Travel, delay time.Duration) Outcome {
	if delay <= 0 {
		delay = -time.Millisecond
	}
	return Outcome{Row: row, state: 'w', travel: travel, delay: delay}
}

// GoOn lets the recipient wait behind all others of its list: nothing was wrong with it.
func GoOn(row Row, travel Travel) Outcome { return Outcome{Row: row, state: 'w', travel: travel} }

// Settle records outcomes of a batch and says how many: fewer than were given if its hold had passed.
func (l *Ledgers) Settle(ctx context.Context, name string, batch Batch, outcomes []Outcome) (int, error) {
	args := make([]any, 0, 1+3*len(outcomes))
	args = append(args, batch.token)
	for _, o := range outcomes {
		row, err := encode(o.state, o.travel, o.Row)
		if err != nil {
			return 0, err
		}
		args = append(args, string(o.Row.ID[:]), row, o.delay.Milliseconds())
	}
	settled, err := settleScript.Run(ctx, l.rdb, l.keys(name), args...).Int()
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
	Open    int // in a call or a look-up
	// NextDue is when the next of Later and Open is due, 0 for at once; it counts only if there are any.
	NextDue time.Duration
}

// Progress tells what there is to do in a campaign; a running one with nothing left is finished by it.
func (l *Ledgers) Progress(ctx context.Context, name string) (Progress, error) {
	answer, err := progressScript.Run(ctx, l.rdb, l.keys(name)).Slice()
	if err != nil {
		return Progress{}, fmt.Errorf("reading the progress of campaign %s: %w", name, err)
	}
	if len(answer) != 7 {
		return Progress{}, fmt.Errorf("reading the progress of campaign %s: %w", name, ErrGarbage)
	}
	state, ok := answer[0].(string)
	numbers := make([]int, 6)
	for i := range numbers {
		n, isNumber := answer[i+1].(int64)
		numbers[i], ok = int(n), ok && isNumber
	}
	if !ok {
		return Progress{}, fmt.Errorf("reading the progress of campaign %s: %w", name, ErrGarbage)
	}
	return Progress{
		State: State(state), Waiting: numbers[0], Singles: numbers[1], Later: numbers[2], Open: numbers[3], Ready: numbers[4],
		NextDue: time.Duration(numbers[5]) * time.Millisecond,
	}, nil
}
