package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/record"
)

var (
	// ErrNotOver means that a campaign cannot be deleted because it has neither finished nor been cancelled.
	ErrNotOver = errors.New("only a campaign that is over can be deleted; cancel it first")
	// ErrUnsettled means that a campaign cannot be deleted because nobody knows yet what became of some of its calls,
	// or because its uploads are not over.
	ErrUnsettled = errors.New("what became of some of its recipients is not known yet; try again later")
	// ErrChanged means that a campaign has changed since it was looked at.
	ErrChanged = errors.New("the campaign has changed meanwhile; try again")
)

// DeletedError means that a campaign was deleted. It is an ErrNotFound.
type DeletedError struct {
	Name string
	At   time.Time
}

func (e *DeletedError) Error() string { return e.Name + " " + e.Why() }

// Why says it without the campaign's name.
func (e *DeletedError) Why() string {
	return "was deleted on " + e.At.UTC().Format("2006-01-02 15:04 UTC") + "; who was invited is no longer known"
}

// Is tells that it is an ErrNotFound.
func (e *DeletedError) Is(target error) bool { return target == ErrNotFound }

// stubs is the key of what stays of a deleted campaign.
func (l *Ledgers) stubs(name string) string { return l.db.Key.Deleted(store.DeletedPart(name)) }

// deleted is a *DeletedError if a campaign was deleted, or is being deleted.
func (l *Ledgers) deleted(ctx context.Context, name string) error {
	stub, err := l.db.HGet(ctx, l.stubs(name), name).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return nil
	case err != nil:
		return fmt.Errorf("looking whether campaign %s was deleted: %w", name, err)
	}
	_, seconds, _ := strings.Cut(stub, " ")
	at, err := store.Instant(seconds + "000")
	if err != nil {
		return fmt.Errorf("when campaign %s was deleted: %w", name, err)
	}
	return &DeletedError{Name: name, At: at}
}

// Remains is what is left of a campaign that is to be deleted. Its ExpiresAt is known.
type Remains struct {
	Campaign
	// Unsettled is how many of its recipients are in a call, or wait until Clerk was asked about one.
	Unsettled int
}

const (
	// settled is the age at which a call is over whose outcome nobody has to know any more: Clerk was asked about it.
	settled = 10 * time.Minute
	// defaultExpiry is after how many days an invitation expires that says nothing itself.
	defaultExpiry = 30
)

// Remains looks at all recipients of a campaign, a few hundred at a time.
func (l *Ledgers) Remains(ctx context.Context, name string) (r Remains, err error) {
	if r.Campaign, err = l.Get(ctx, name); err != nil {
		return r, err
	}
	r.ExpiresAt = time.Time{}
	now, err := l.db.Time(ctx).Result()
	for cursor, more := uint64(0), true; more && err == nil; more = cursor != 0 {
		var rows []string
		if rows, cursor, err = l.page(ctx, name, cursor); err == nil {
			err = l.remains(ctx, &r, rows, now)
		}
	}
	return r, err
}

// remains adds some rows to what is left.
func (l *Ledgers) remains(ctx context.Context, r *Remains, rows []string, now time.Time) (err error) {
	defer store.Wrap(&err, "reading the intents of campaign %s", r.Name)
	var intents []*redis.StringCmd
	_, err = l.db.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := 0; i+1 < len(rows); i += 2 {
			key := l.db.Key.Intents(rows[i])
			intents = append(intents, pipe.HGet(ctx, key, intent.CampaignOwner(r.Name)))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	for i, stands := range intents {
		entry, err := entryOf(rows[2*i], rows[2*i+1])
		if err == nil && !errors.Is(stands.Err(), redis.Nil) {
			err = stands.Err()
		}
		if err != nil {
			return err
		}
		if entry.State == RowOpen || !intent.Over(stands.Val(), now.Add(-settled)) {
			r.Unsettled++
		}
		if entry.State == RowSent {
			if at := expiry(entry); at.After(r.ExpiresAt) {
				r.ExpiresAt = at
			}
		}
	}
	return nil
}

// expiry is when the invitation of a recipient expires.
func expiry(e Entry) time.Time {
	said := struct {
		ExpiresInDays int `json:"expires_in_days"`
	}{}
	if json.Unmarshal(e.Recipient, &said) != nil || said.ExpiresInDays == 0 {
		said.ExpiresInDays = defaultExpiry
	}
	return time.Unix(e.SettledAt, 0).AddDate(0, 0, said.ExpiresInDays).UTC()
}

// markScript marks a campaign as one that is being deleted, if nothing of it is under way. From then on it is gone for
// whoever asks, and nobody can upload to it any more. It begins with a write that needs no memory: then Redis takes
// the others too when it is full.
//
// KEYS[13] -> usher:{once}:moving
// KEYS[14] -> usher:{once}:deleting
// KEYS[15] -> usher:{once}:deleted:PART  hash: generation and when (s), by name; it stays for ever
// --
// ARGV[5] -> the generation that was looked at
// ARGV[6] -> 1: the dead letters of its recipients go too
// --
// Returns JSON: outcome (ok, missing, running, unsure or changed) and the state of the campaign.
var markScript = redis.NewScript(prelude + `
redis.call('SREM', KEYS[13], '')
local function answer(outcome) return cjson.encode({ outcome = outcome, state = state or '' }) end
if redis.call('HEXISTS', KEYS[15], name) == 1 then return answer('ok') end
if not state then return answer('missing') end
if state ~= 'finished' and state ~= 'cancelled' then return answer('running') end
if uploads ~= '' or redis.call('HEXISTS', meta, 'dropping') == 1 or
  redis.call('LLEN', unsure) + redis.call('ZCARD', open) + redis.call('ZCARD', later) > 0 then
  return answer('unsure')
end
if number('generation') ~= tonumber(ARGV[5]) then return answer('changed') end
redis.call('HSET', meta, 'state', 'deleting', 'letters', ARGV[6])
redis.call('HSET', KEYS[15], name, ARGV[5] .. ' ' .. stamp(math.floor(now / 1000)))
redis.call('SADD', KEYS[14], name)
redis.call('SREM', KEYS[13], name)
redis.call('SREM', running, name)
return answer('ok')
`)

// clearScript takes a step of deleting a campaign: of some of its recipients it removes the intents, unless one is
// open, and the dead letters if they go too. Then it lets the ids that producers gave its uploads expire. When nothing
// of that is left it removes the ledger.
//
// KEYS[13] -> usher:{once}:deleting
// KEYS[14] -> usher:{once}:c:NAME:ids
// --
// ARGV[5] -> what the keys of records begin with
// ARGV[6] -> for how long a record is kept (ms)
// --
// Returns 1 while there is more to do.
var clearScript = redis.NewScript(prelude + `
redis.call('SREM', KEYS[13], '')
if not deleting then return redis.call('SREM', KEYS[13], name) * 0 end
local cursor, letters_too = unpack(redis.call('HMGET', meta, 'cursor', 'letters'))
local function clear(id, row)
  local stands = intent.read(intents .. id, owner)
  if stands == 'p' or stands == 'a' then
    redis.call('HDEL', intents .. id, owner)
    intent.tidy(intents .. id)
  end
  if letters_too == '1' and string.sub(row, 1, 1) == 'd' then
    local letter = name .. ':' .. string.gsub(id, '.', function(c) return string.format('%02x', string.byte(c)) end)
    redis.call('UNLINK', letter_keys .. letter)
    unlist_letter(letters, letter)
  end
end
if cursor ~= 'end' then
  local scan = redis.call('HSCAN', rows, cursor or '0', 'COUNT', slice)
  for i = 1, #scan[2], 2 do clear(scan[2][i], scan[2][i + 1]) end
  redis.call('HSET', meta, 'cursor', scan[1] == '0' and 'end' or scan[1])
  return 1
end
local ids = redis.call('SPOP', KEYS[14], slice)
for _, id in ipairs(ids) do redis.call('PEXPIRE', ARGV[5] .. id, ARGV[6]) end
if #ids > 0 then return 1 end
redis.call('UNLINK', meta, rows, waiting, singles, later, open, ready, unsure, mended, KEYS[14])
redis.call('SREM', KEYS[13], name)
return 0
`)

// Delete deletes a campaign that is over, as it stood when its Remains were read, and the dead letters of its
// recipients if they are to go too. Once it is marked, whoever calls Clear goes on with what was broken off. What
// stays is its name, its generation and when it was deleted. The error may be ErrNotFound, ErrNotOver, ErrUnsettled
// or ErrChanged. Deleting it again changes nothing.
func (l *Ledgers) Delete(ctx context.Context, c Campaign, letters bool) error {
	if err := l.mark(ctx, c, letters); err != nil {
		return err
	}
	return l.Clear(ctx, c.Name)
}

// mark marks a campaign as one that is being deleted.
func (l *Ledgers) mark(ctx context.Context, c Campaign, letters bool) error {
	more := []string{l.db.Key.Moving(), l.db.Key.Deleting(), l.stubs(c.Name)}
	_, err := l.change(ctx, markScript, c.Name, more, c.Generation, letters)
	return err
}

// Clear goes on with the deletion of a campaign until it is gone.
func (l *Ledgers) Clear(ctx context.Context, name string) (err error) {
	defer store.Wrap(&err, "deleting campaign %s", name)
	if err := l.db.ZRem(ctx, l.db.Key.Campaigns(), name).Err(); err != nil {
		return err
	}
	for more := true; more && err == nil; {
		more, err = l.clear(ctx, name)
	}
	return err
}

// clear takes one step of a deletion.
func (l *Ledgers) clear(ctx context.Context, name string) (more bool, err error) {
	keys := []string{l.db.Key.Deleting(), l.db.Key.Ledger(name, "ids")}
	return l.run(ctx, clearScript, name, keys, l.db.Key.Record(""), record.Keep.Milliseconds()).Bool()
}

// noteExpiryScript notes when the last invitation of a campaign expires.
//
// ARGV[5] -> the generation that was looked at
// ARGV[6] -> when it expires (ms)
// --
// Returns 1.
var noteExpiryScript = redis.NewScript(prelude + `
if state then redis.call('HSET', meta, 'expires_of', ARGV[5], 'expires_at', ARGV[6]) end
return 1
`)

// NoteExpiry notes when the last invitation of a campaign expires, until it has others.
func (l *Ledgers) NoteExpiry(ctx context.Context, r Remains) (err error) {
	defer store.Wrap(&err, "noting when the invitations of campaign %s expire", r.Name)
	return l.run(ctx, noteExpiryScript, r.Name, nil, r.Generation, r.ExpiresAt.UnixMilli()).Err()
}

// Deleting gives campaigns that are being deleted, at most 1,000 of them.
func (l *Ledgers) Deleting(ctx context.Context) (names []string, err error) {
	defer store.Wrap(&err, "listing campaigns that are being deleted")
	return l.db.SRandMemberN(ctx, l.db.Key.Deleting(), mostRunning).Result()
}

// noteIDScript notes the id that a producer gave an upload to a campaign. The id's record is kept until the campaign is
// deleted.
//
// KEYS[13] -> usher:{once}:c:NAME:ids
// KEYS[14] -> usher:{once}:t:ID
// --
// ARGV[5] -> id
// --
// Returns 1.
var noteIDScript = redis.NewScript(prelude + `
if state then
  redis.call('SADD', KEYS[13], ARGV[5])
  redis.call('PERSIST', KEYS[14])
end
return 1
`)

// NoteID notes the id that a producer gave an upload to a campaign.
func (l *Ledgers) NoteID(ctx context.Context, name, id string) (err error) {
	defer store.Wrap(&err, "noting an id of campaign %s", name)
	keys := []string{l.db.Key.Ledger(name, "ids"), l.db.Key.Record(id)}
	return l.run(ctx, noteIDScript, name, keys, id).Err()
}
