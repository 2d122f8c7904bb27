// Package kept keeps lists of recipients that were uploaded on the pages until somebody confirms them.
//
// A list holds addresses, so it is kept for half an hour at most, and encrypted. The key is in the cookie of the
// browser that has uploaded it, and nowhere else: Redis, its files and its copies hold nothing that can be read.
// Forgetting an address deletes every list that is kept, whatever is in it, since nobody else can look.
package kept

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
)

const (
	// For is how long a list is kept.
	For = 30 * time.Minute
	// mostLists and mostBytes bound what is kept in a namespace.
	mostLists, mostBytes = 20, 256 << 20
	// chunk is how much of a list is in one key, so that no command takes Redis long.
	chunk = 256 << 10
)

var (
	// ErrGone means that a list is kept no longer.
	ErrGone = errors.New("the list is kept no longer")
	// ErrFull means that too much is kept already.
	ErrFull = errors.New("too many lists are kept")
)

// Lists are the lists that are kept in one namespace.
type Lists struct{ db store.DB }

// New gives the lists of a namespace.
func New(rdb redis.UniversalClient, namespace string) *Lists {
	return &Lists{store.Open(rdb, namespace)}
}

// List is one list, for who has its secret.
type List struct {
	ID  string
	db  store.DB
	who string
	key []byte
	box cipher.AEAD
}

func (l *Lists) list(id, who string, key []byte) (*List, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	box, err := cipher.NewGCM(block)
	return &List{ID: id, db: l.db, who: who, key: key, box: box}, err
}

// Secret is what opens the list: its id and its key.
func (x *List) Secret() string { return x.ID + "." + base64.RawURLEncoding.EncodeToString(x.key) }

// Open gives the list that a secret opens, if it is one. Only who has uploaded a list can read it.
func (l *Lists) Open(secret, who string) (*List, bool) {
	id, text, _ := strings.Cut(secret, ".")
	key, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(key) != keyBytes || len(id) != len(rand.Text()) || strings.ContainsAny(id, ":{}") {
		return nil, false
	}
	x, err := l.list(id, who, key)
	return x, err == nil
}

const keyBytes = 32

// reserveScript makes room for a list, and forgets those whose time is over.
//
// KEYS[1] -> usher:{kept}:lists
// --
// ARGV[1] -> id of the list
// ARGV[2] -> bytes
// ARGV[3] -> chunks
// ARGV[4] -> for how long it is kept (ms)
// ARGV[5] -> how many lists may be kept
// ARGV[6] -> how many bytes
// --
// Returns 1 if there is room.
var reserveScript = redis.NewScript(store.Clock + `
local lists, bytes = 0, 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local till, size = string.match(all[i + 1], '^(%d+)|(%d+)|')
  if not till or tonumber(till) <= now then
    redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] ~= ARGV[1] then
    lists, bytes = lists + 1, bytes + tonumber(size)
  end
end
if lists >= tonumber(ARGV[5]) or bytes + tonumber(ARGV[2]) > tonumber(ARGV[6]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], stamp(now + ARGV[4]) .. '|' .. ARGV[2] .. '|' .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
`)

// putScript writes a part of a list that is kept.
//
// KEYS[1] -> usher:{kept}:lists
// KEYS[2] -> usher:{kept}:ID:PART
// --
// ARGV[1] -> id of the list
// ARGV[2] -> the part
// --
// Returns 1 if the list is kept.
var putScript = redis.NewScript(store.Clock + `
local till = tonumber(string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%d+)|') or '0')
if till <= now then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', till - now)
return 1
`)

// dropScript forgets a list and deletes its parts.
//
// KEYS[1] -> usher:{kept}:lists
// --
// ARGV[1] -> id of the list
// ARGV[2] -> what the keys of its parts begin with
// ARGV[3], … -> the parts that are no chunks
// --
// Returns 1 if it was kept.
var dropScript = redis.NewScript(`
local chunks = tonumber(string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '|(%d+)$') or '0')
for i = 0, chunks - 1 do redis.call('UNLINK', ARGV[2] .. i) end
for i = 3, #ARGV do redis.call('UNLINK', ARGV[2] .. ARGV[i]) end
return redis.call('HDEL', KEYS[1], ARGV[1])
`)

// Keep keeps a list for who has uploaded it. The error is ErrFull if there is no room.
func (l *Lists) Keep(ctx context.Context, who string, data []byte) (x *List, err error) {
	defer store.Wrap(&err, "keeping a list")
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails
	if x, err = l.list(rand.Text(), who, key); err != nil {
		return nil, err
	}
	packed, err := pack(data)
	if err != nil {
		return nil, err
	}
	chunks := (len(packed) + chunk - 1) / chunk
	room, err := reserveScript.Run(ctx, l.db, []string{l.db.Key.KeptLists()}, x.ID, len(packed), chunks,
		For.Milliseconds(), mostLists, mostBytes).Bool()
	if err == nil && !room {
		err = ErrFull
	}
	for i := 0; i < chunks && err == nil; i++ {
		err = x.put(ctx, strconv.Itoa(i), packed[i*chunk:min(len(packed), (i+1)*chunk)])
	}
	if err != nil && room {
		_, _ = x.Drop(context.WithoutCancel(ctx)) // or else it takes room until its time is over
	}
	return x, err
}

// Bytes gives the list as it was uploaded. The error is ErrGone if it is kept no longer.
func (x *List) Bytes(ctx context.Context) (data []byte, err error) {
	defer store.Wrap(&err, "reading a list that was kept")
	head, err := x.db.HGet(ctx, x.db.Key.KeptLists(), x.ID).Result()
	if errors.Is(err, redis.Nil) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	chunks, err := strconv.Atoi(head[strings.LastIndexByte(head, '|')+1:])
	if err != nil || chunks > mostBytes/chunk {
		return nil, store.ErrGarbage
	}
	var packed []byte
	for i := range chunks {
		one, err := x.get(ctx, strconv.Itoa(i))
		if err != nil {
			return nil, err
		}
		packed = append(packed, one...)
	}
	return unpack(packed) // gzip's sum shows that no chunk is missing
}

// The parts of a list that are no chunks: what the file says, and what Clerk does.
const (
	Check   = "check"
	Answers = "answers"
)

// Note keeps a value with the list. The error is ErrGone if that is kept no longer.
func (x *List) Note(ctx context.Context, part string, value any) (err error) {
	defer store.Wrap(&err, "noting what is known of a list")
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return x.put(ctx, part, data)
}

// Read reads a value that was noted. The error is ErrGone if there is none.
func (x *List) Read(ctx context.Context, part string, value any) (err error) {
	defer store.Wrap(&err, "reading what is known of a list")
	data, err := x.get(ctx, part)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, value)
}

// Drop deletes the list, and tells whether it was kept.
func (x *List) Drop(ctx context.Context) (bool, error) { return drop(ctx, x.db, x.ID) }

// DropAll deletes every list.
func (l *Lists) DropAll(ctx context.Context) error {
	ids, err := l.db.HKeys(ctx, l.db.Key.KeptLists()).Result()
	for _, id := range ids {
		if err == nil {
			_, err = drop(ctx, l.db, id)
		}
	}
	return err
}

func drop(ctx context.Context, db store.DB, id string) (kept bool, err error) {
	defer store.Wrap(&err, "deleting a list that was kept")
	return dropScript.Run(ctx, db, []string{db.Key.KeptLists()}, id, db.Key.Kept(id, ""), Check, Answers).Bool()
}

// put encrypts a part and writes it. What encrypts it names the list, the part, and who may read it.
func (x *List) put(ctx context.Context, part string, data []byte) error {
	nonce := make([]byte, x.box.NonceSize(), x.box.NonceSize()+len(data)+x.box.Overhead())
	_, _ = rand.Read(nonce) // never fails
	sealed := x.box.Seal(nonce, nonce, data, x.about(part))
	keys := []string{x.db.Key.KeptLists(), x.db.Key.Kept(x.ID, part)}
	there, err := putScript.Run(ctx, x.db, keys, x.ID, sealed).Bool()
	if err == nil && !there {
		err = ErrGone
	}
	return err
}

func (x *List) get(ctx context.Context, part string) ([]byte, error) {
	sealed, err := x.db.Get(ctx, x.db.Key.Kept(x.ID, part)).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	if len(sealed) < x.box.NonceSize() {
		return nil, store.ErrGarbage
	}
	data, err := x.box.Open(nil, sealed[:x.box.NonceSize()], sealed[x.box.NonceSize():], x.about(part))
	if err != nil { // written by somebody else, or for somebody else: to this one it does not exist
		return nil, ErrGone
	}
	return data, nil
}

func (x *List) about(part string) []byte { return []byte(x.ID + "|" + part + "|" + x.who) }

func pack(data []byte) ([]byte, error) {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(data)
	err = errors.Join(err, w.Close())
	return packed.Bytes(), err
}

func unpack(packed []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrGarbage, err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrGarbage, err)
	}
	return data, nil
}
