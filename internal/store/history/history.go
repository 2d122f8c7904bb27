// Package history remembers of an address what is written nowhere under it: the ids of its tasks that have ended, and
// dead letters that were retried. It is kept as long as records of tasks are, or for ever if it names another address,
// and goes when the address is forgotten.
package history

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
)

// keepMS is for how many ms a history is kept after its last event: 30 days.
const keepMS = `2592000000`

// Lua is what scripts begin with that end tasks. remember_task(key, id, at) remembers the id of a task that has ended
// or is a dead letter. remember_end(key, id, at, record, address) does so too, and gives the task's record with its
// address, as with_address does: who forgets the address finds it by the id. A history has bounds: it takes no more
// than 500 events, but for those that name another address. One with such an event does not expire: who forgets that
// address finds it here.
const Lua = `
local function remember(key, field, value, keep)
  local full, lasts = redis.call('HLEN', key) >= 500 and not keep, keep or redis.call('PTTL', key) == -1
  if not full then redis.call('HSETNX', key, field, value) end
  if lasts then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, ` + keepMS + `) end
  return not full or redis.call('HEXISTS', key, field) == 1
end
local function remember_task(key, id, at) return remember(key, 't:' .. id, at) end
local function with_address(record, address)
  if address == '' then return record end
  return '{"email_address":' .. cjson.encode(address) .. ',' .. string.sub(record, 2)
end
local function remember_end(key, id, at, record, address)
  return remember_task(key, id, at) and with_address(record, address) or record
end
`

// Event is something that happened to a dead letter of the address.
type Event struct {
	// Name is the event's in its address. One that has the name of an earlier one is that one again.
	Name string `json:"-"`

	At       time.Time `json:"at"`
	What     string    `json:"what"` // enqueued, died, retried, mended or deleted
	TaskID   string    `json:"task_id,omitempty"`
	Campaign string    `json:"campaign,omitempty"`
	// Failure is why it died.
	Failure *fate.Failure `json:"failure,omitempty"`
	// Address is the other one, if one took the place of another, and Peer its id in hexadecimal.
	Address string `json:"address,omitempty"`
	Peer    string `json:"peer,omitempty"`
	// Became tells that this address was replaced, and not the other one.
	Became bool `json:"became,omitempty"`
}

// Store keeps the histories of one namespace.
type Store struct{ db store.DB }

// NewStore gives the histories of a namespace.
func NewStore(rdb redis.UniversalClient, namespace string) *Store {
	return &Store{store.Open(rdb, namespace)}
}

func (s *Store) key(address store.AddressID) string { return s.db.Key.History(string(address[:])) }

// noteScript remembers events of an address, each once, unless the address, or the other one in it, was forgotten on
// request.
//
// KEYS[1] -> usher:{once}:h:ADDRESS
// KEYS[2] -> usher:{once}:forgotten
// --
// ARGV[1] -> id of the address
// ARGV[2], [3], [4] … -> of each event the id of the other one, or the same; its name; and the event in JSON
// --
// Returns 1.
var noteScript = redis.NewScript(store.TombstoneLua + Lua + `
for i = 2, #ARGV, 3 do
  if not forgotten(KEYS[2], ARGV[1]) and not forgotten(KEYS[2], ARGV[i]) then
    remember(KEYS[1], 'e:' .. ARGV[i + 1], ARGV[i + 2], ARGV[1] ~= ARGV[i])
  end
end
return 1
`)

// Note is what is to be remembered of an address.
type Note struct {
	Address store.AddressID
	Events  []Event
}

// Note remembers what several notes say, in one round trip, and gives the error of each.
func (s *Store) Note(ctx context.Context, notes ...Note) []error {
	const what = "remembering what became of a dead letter"
	calls := make([]store.Call, len(notes))
	for i, n := range notes {
		calls[i].Keys = []string{s.key(n.Address), s.db.Key.Tombstones()}
		calls[i].Args = []any{string(n.Address[:])}
		for _, e := range n.Events {
			other := n.Address
			if e.Address != "" {
				other = store.IDOf(e.Address)
				e.Peer = hex.EncodeToString(other[:])
			}
			data, err := json.Marshal(e)
			if err != nil {
				return store.Each(len(notes), fmt.Errorf("%s: %w", what, err))
			}
			calls[i].Args = append(calls[i].Args, string(other[:]), e.Name, data)
		}
	}
	return store.Errors(ctx, s.db, what, noteScript, calls)
}

// Of gives what is remembered of an address: the ids of tasks, and events in no order.
func (s *Store) Of(ctx context.Context, address store.AddressID) (tasks []string, events []Event, err error) {
	defer store.Wrap(&err, "reading the history of an address")
	fields, err := s.db.HGetAll(ctx, s.key(address)).Result()
	for field, value := range fields {
		if id, isTask := strings.CutPrefix(field, "t:"); isTask {
			tasks = append(tasks, id)
			continue
		}
		var e Event
		if json.Unmarshal([]byte(value), &e) == nil {
			events = append(events, e)
		}
	}
	return tasks, events, err
}

// eraseScript removes the history of an address, and the events of others that name it.
//
// KEYS[1] -> usher:{once}:h:ADDRESS
// --
// ARGV[1] -> id of the address in hexadecimal
// ARGV[2] -> what the keys of histories begin with
// --
// Returns 1.
var eraseScript = redis.NewScript(`
local function event(text)
  local known, e = pcall(cjson.decode, text)
  return known and type(e) == 'table' and e or {}
end
for _, text in ipairs(redis.call('HVALS', KEYS[1])) do
  local peer = event(text).peer
  if type(peer) == 'string' then
    local key = ARGV[2] .. string.gsub(peer, '%x%x', function(c) return string.char(tonumber(c, 16)) end)
    local theirs = redis.call('HGETALL', key)
    for i = 1, #theirs, 2 do
      if event(theirs[i + 1]).peer == ARGV[1] then redis.call('HDEL', key, theirs[i]) end
    end
  end
end
redis.call('DEL', KEYS[1])
return 1
`)

// Erase removes what is remembered of an address that was forgotten on request, and of it with others. Its tombstone
// is there already.
func (s *Store) Erase(ctx context.Context, address store.AddressID) (err error) {
	defer store.Wrap(&err, "erasing the history of an address")
	return eraseScript.Run(ctx, s.db, []string{s.key(address)}, hex.EncodeToString(address[:]), s.db.Key.History("")).Err()
}
