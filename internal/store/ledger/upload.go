package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
)

const (
	stageChunk = 500       // recipients to one command
	stageKeep  = time.Hour // an upload that was broken off is forgotten after this
)

// ErrBusy means that a start was asked for, but the campaign has begun already.
var ErrBusy = errors.New("the campaign has begun already")

// Recipient is one to upload: its folded address identifies it, its data is the producer's.
type Recipient struct {
	Folded string
	Data   json.RawMessage
}

// Upload says what became of an upload.
type Upload struct {
	Campaign Campaign
	Added    int // recipients that are new to the campaign
	Known    int // recipients that it had already; they keep their first options and their outcome
	// Forgotten are left out: their addresses were forgotten on request.
	Forgotten int
}

// Add puts recipients into a campaign, all of them or none, and makes or reopens it as needed. A start that is not zero
// schedules a campaign that is new or finished. The caller then enqueues the driver: TaskID of the campaign's generation.
func (l *Ledgers) Add(ctx context.Context, name string, start time.Time, recipients []Recipient) (Upload, error) {
	stage := l.keys.Stage(name, uuid.NewString())
	if err := l.stage(ctx, stage, recipients); err != nil {
		return Upload{}, fmt.Errorf("uploading to campaign %s: %w", name, err)
	}
	// Indexed first: an index entry without a campaign is passed over, a campaign without one would never be seen.
	err := l.rdb.ZAddNX(ctx, l.keys.Campaigns(), redis.Z{Score: float64(time.Now().UnixMilli()), Member: name}).Err()
	if err != nil {
		return Upload{}, fmt.Errorf("uploading to campaign %s: %w", name, err)
	}
	startMS := int64(0)
	if !start.IsZero() {
		startMS = start.UnixMilli()
	}
	answer, err := commitScript.Run(ctx, l.rdb, append(l.keysOf(name), stage), version, startMS, 2*len(recipients), name).Slice()
	if err != nil {
		return Upload{}, fmt.Errorf("uploading to campaign %s: %w", name, err)
	}
	outcome, counts, err := commitAnswer(answer)
	if err != nil {
		return Upload{}, fmt.Errorf("uploading to campaign %s: %w", name, err)
	}
	switch outcome {
	case "cancelled":
		return Upload{}, fmt.Errorf("%s: %w", name, ErrCancelled)
	case "newer":
		return Upload{}, fmt.Errorf("%s: %w", name, store.ErrNewer)
	case "busy":
		return Upload{}, fmt.Errorf("%s: %w", name, ErrBusy)
	case "ok":
		campaign, err := l.Get(ctx, name)
		return Upload{Campaign: campaign, Added: counts[0], Known: counts[1], Forgotten: counts[2]}, err
	}
	return Upload{}, fmt.Errorf("uploading to campaign %s: the upload took too long (%s); try again", name, outcome)
}

func commitAnswer(answer []any) (outcome string, counts [3]int, err error) {
	if len(answer) != 1+len(counts) {
		return "", counts, fmt.Errorf("the script answered %d values", len(answer))
	}
	outcome, ok := answer[0].(string)
	for i := range counts {
		n, isNumber := answer[1+i].(int64)
		counts[i], ok = int(n), ok && isNumber
	}
	if !ok {
		return "", counts, errors.New("the script's answer is garbage")
	}
	return outcome, counts, nil
}

func (l *Ledgers) stage(ctx context.Context, key string, recipients []Recipient) error {
	for start := 0; start < len(recipients); start += stageChunk {
		chunk := recipients[start:min(start+stageChunk, len(recipients))]
		values := make([]any, 0, 2*len(chunk))
		for _, r := range chunk {
			id := store.IDOf(r.Folded)
			row, err := encode('w', InBulk, Row{Recipient: r.Data})
			if err != nil {
				return err
			}
			values = append(values, string(id[:]), row)
		}
		pipe := l.rdb.Pipeline()
		pipe.RPush(ctx, key, values...)
		pipe.Expire(ctx, key, stageKeep)
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Revive lets a dead recipient of a campaign wait for another try, with its attempts counted anew, once Clerk has been asked what
// became of its calls since an instant (ms; 0: if its intent says that there are any), and reopens the campaign if it had finished. One that is not dead is left alone, so repeating it changes nothing.
func (l *Ledgers) Revive(ctx context.Context, name string, id store.AddressID, travel Travel, since int64) (Campaign, error) {
	failed := func(err error) (Campaign, error) {
		return Campaign{}, fmt.Errorf("reviving a recipient of campaign %s: %w", name, err)
	}
	value, err := l.rdb.HGet(ctx, l.keys.Ledger(name, "rows"), string(id[:])).Result()
	if errors.Is(err, redis.Nil) {
		return failed(ErrNotFound)
	}
	if err != nil {
		return failed(err)
	}
	row, err := decode(string(id[:]), value)
	if err != nil {
		return failed(err)
	}
	revived, err := encode('w', Unsure, Row{Recipient: row.Recipient, Alone: travel == Singly})
	if err != nil {
		return failed(err)
	}
	outcome, err := reviveScript.Run(ctx, l.rdb, l.keysOf(name), string(id[:]), revived,
		l.keys.Intents(""), intent.CampaignOwner(name), since, name).Text()
	switch {
	case err != nil:
		return failed(err)
	case outcome == "cancelled":
		return failed(ErrCancelled)
	case outcome == "missing":
		return failed(ErrNotFound)
	}
	return l.Get(ctx, name)
}
