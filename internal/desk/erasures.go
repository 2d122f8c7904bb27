package desk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynq"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/directory"
)

// An erasure log is a file apart from Redis, to which each erasure is added before it is said to be done. After a copy
// of Redis was put back, it tells which addresses were forgotten since the copy was made. It holds no address, only
// marks, and the key of the marks is in Redis.

// erasureLine is one line of an erasure log, as JSON.
type erasureLine struct {
	At      time.Time `json:"at"`
	Key     string    `json:"key"`
	Address string    `json:"address"` // the name of its tombstone
	Lifted  bool      `json:"lifted,omitempty"`
}

var (
	keyPattern  = regexp.MustCompile(`^[0-9a-f]{16}$`)
	namePattern = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// note adds an erasure to the log, and returns when it is on disk.
func (d *Desk) note(ctx context.Context, id store.AddressID, lifted bool) error {
	if d.ErasureLog == "" {
		return nil
	}
	mark, err := d.tombstones.MarkOf(ctx, id)
	if err != nil {
		return err
	}
	line, err := json.Marshal(erasureLine{At: time.Now().UTC(), Key: mark.Key, Address: mark.Name, Lifted: lifted})
	if err == nil {
		err = appendLine(d.ErasureLog, line)
	}
	if err != nil {
		return fmt.Errorf("the erasure is not in the log: %w; the rest is not done, so repeat it", err)
	}
	return nil
}

// appendLine adds a line to a file and waits until it is on disk. A line that was broken off before stays one of its
// own.
func appendLine(path string, line []byte) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	last := []byte{'\n'}
	if end > 0 {
		if _, err := file.ReadAt(last, end-1); err != nil {
			return err
		}
	}
	line = append(line, '\n')
	if last[0] != '\n' {
		line = append([]byte{'\n'}, line...)
	}
	if _, err := file.Write(line); err != nil {
		return err
	}
	if err := file.Sync(); err != nil || end > 0 {
		return err
	}
	return syncFolder(filepath.Dir(path)) // of a new file
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// A LogError says which line of an erasure log cannot be used.
type LogError struct {
	Path string
	Line int
	Why  string
}

func (e *LogError) Error() string {
	return fmt.Sprintf("%s, line %d: %s; nothing was done", e.Path, e.Line, e.Why)
}

// maxErasureLine is how long a line may be.
const maxErasureLine = 1024

// ReadErasures reads erasure logs, in the order of time. All lines must be good, and made with the key that Redis has.
func (d *Desk) ReadErasures(ctx context.Context, paths []string) (erasures []store.Erasure, err error) {
	key, err := d.tombstones.Key(ctx)
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		found, err := readErasures(file, path, key)
		if err = errors.Join(err, file.Close()); err != nil {
			return nil, err
		}
		erasures = append(erasures, found...)
	}
	slices.SortStableFunc(erasures, func(a, b store.Erasure) int { return a.At.Compare(b.At) })
	return erasures, nil
}

func readErasures(from io.Reader, path, key string) (erasures []store.Erasure, err error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxErasureLine)
	n := 0
	for lines.Scan() {
		n++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var line erasureLine
		decoder := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		decoder.DisallowUnknownFields()
		err := decoder.Decode(&line)
		_, more := decoder.Token()
		why := ""
		switch {
		case err != nil || more != io.EOF || line.At.IsZero() || !keyPattern.MatchString(line.Key) ||
			!namePattern.MatchString(line.Address):
			why = "it is no erasure"
		case key == "":
			why = "Redis has no key of tombstones: this copy is older than the first worker's start"
		case line.Key != key:
			why = "it was made with another key than Redis has: it is of another namespace, or the copy is older " +
				"than the key"
		}
		if why != "" {
			return nil, &LogError{path, n, why}
		}
		erasures = append(erasures, store.Erasure{
			Mark: store.Mark{Key: line.Key, Name: line.Address}, At: line.At, Lifted: line.Lifted,
		})
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return nil, &LogError{path, n + 1, "it is too long"}
	}
	return erasures, lines.Err()
}

// Repeated says what repeating erasures has come to.
type Repeated struct {
	Addresses int     `json:"addresses"` // that are forgotten, by the log
	Held      int     `json:"held"`      // of which Redis held something
	Removed   Removed `json:"removed"`
}

// ForgetAgain repeats erasures. It sets all tombstones first, and then removes every address that has one and of which
// Redis still holds something. Lists that wait on the pages are removed: nobody can look into them. What cannot be read
// may hold one of them, too: the error, a *store.Partial, names it. Repeating it is safe.
func (d *Desk) ForgetAgain(
	ctx context.Context, erasures []store.Erasure, waiting func(left string),
) (r Repeated, err error) {
	forgotten := map[string]bool{}
	for _, e := range erasures {
		forgotten[e.Name] = !e.Lifted
	}
	for _, is := range forgotten {
		if is {
			r.Addresses++
		}
	}
	if err := d.tombstones.Replay(ctx, erasures); err != nil {
		return r, err
	}
	if err := d.keptLists.DropAll(ctx); err != nil {
		return r, err
	}
	held, err := d.heldAgainstWill(ctx)
	unreadable, err := store.SplitPartial(err)
	if err != nil {
		return r, err
	}
	r.Held = len(held)
	for id, folded := range held {
		f := forgetting{Desk: d, folded: folded, id: id}
		err := f.untilGone(ctx, waiting)
		r.Removed.add(f.removed)
		if err != nil {
			return r, err
		}
	}
	return r, unreadable
}

func (r *Removed) add(more Removed) {
	r.Campaigns += more.Campaigns
	r.Uploads += more.Uploads
	r.Intents += more.Intents
	r.Tasks += more.Tasks
	r.DeadLetters += more.DeadLetters
	r.Invitations += more.Invitations
}

// heldAgainstWill gives the addresses, folded, that have a tombstone and of which Redis holds something; an empty one
// where only its id stands somewhere. The error may be a *store.Partial, of what cannot be read.
func (d *Desk) heldAgainstWill(ctx context.Context) (held map[store.AddressID]string, err error) {
	held = map[store.AddressID]string{}
	note := func(ids []store.AddressID, texts []string) error {
		forgotten, err := d.tombstones.Forgotten(ctx, ids...)
		for i, is := range forgotten {
			if is && texts != nil {
				held[ids[i]] = texts[i]
			} else if is && held[ids[i]] == "" {
				held[ids[i]] = ""
			}
		}
		return err
	}
	addresses := func(texts []string) error {
		ids := make([]store.AddressID, len(texts))
		for i := range texts {
			texts[i] = store.Fold(texts[i])
			ids[i] = store.IDOf(texts[i])
		}
		return note(ids, texts)
	}
	bare := func(ids []store.AddressID) error { return note(ids, nil) }
	var partial store.Partial
	for _, walk := range []func() error{
		func() error { return d.ledgers.EachID(ctx, bare) },
		func() error { return d.eachKeyedID(ctx, bare) },
		func() error { return d.eachAddressQueued(ctx, addresses) },
		func() error { return d.eachAddressDead(ctx, addresses, bare) },
		func() error { return d.eachAddressListed(ctx, addresses) },
	} {
		unreadable, err := store.SplitPartial(walk())
		if err != nil {
			return held, err
		}
		partial.Add(unreadable)
	}
	return held, partial.With(nil)
}

// someAtOnce is how many addresses are looked up in one go.
const someAtOnce = 500

// eachKeyedID gives the ids of addresses that have intents or a history.
func (d *Desk) eachKeyedID(ctx context.Context, do func([]store.AddressID) error) error {
	keys := store.Keys(d.namespace)
	for _, prefix := range []string{keys.Intents(""), keys.History("")} {
		found, err := store.ScanKeys(ctx, d.rdb, prefix+"*")
		if err != nil {
			return err
		}
		for i, key := range found {
			found[i] = strings.TrimPrefix(key, prefix)
		}
		for chunk := range slices.Chunk(store.IDsAmong(found), someAtOnce) {
			if err := do(chunk); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachAddressQueued gives the addresses in the payloads of all tasks.
func (d *Desk) eachAddressQueued(ctx context.Context, do func([]string) error) error {
	return d.eachQueued(ctx, everyState(), func(page []*asynq.TaskInfo) error {
		var found []string
		for _, task := range page {
			found = append(found, addressesIn(task.Payload)...)
		}
		return do(found)
	})
}

// eachAddressDead gives the addresses of dead letters, and the ids of those whose text is not known.
func (d *Desk) eachAddressDead(
	ctx context.Context, texts func([]string) error, ids func([]store.AddressID) error,
) error {
	return d.DeadLetters.Each(ctx, deadletter.Filter{}, func(letter deadletter.Entry) error {
		if id, about := letter.Address(); about {
			if err := ids([]store.AddressID{id}); err != nil {
				return err
			}
		}
		found := addressesIn(letter.Payload)
		if letter.EmailAddress != "" {
			found = append(found, letter.EmailAddress)
		}
		return texts(found)
	})
}

// eachAddressListed gives the addresses in the directory.
func (d *Desk) eachAddressListed(ctx context.Context, do func([]string) error) error {
	c, err := d.Directory.Copy(ctx)
	if errors.Is(err, directory.ErrNoCopy) {
		return nil
	}
	if err != nil {
		return err
	}
	var some []string
	err = c.Each(ctx, directory.Filter{}, func(inv clerkclient.Invitation) error {
		if some = append(some, inv.EmailAddress); len(some) < someAtOnce {
			return nil
		}
		defer func() { some = nil }()
		return do(some)
	})
	if err != nil {
		return err
	}
	return do(some)
}

// addressLike matches what may be an address in a text that cannot be read otherwise.
var addressLike = regexp.MustCompile("[A-Za-z0-9.!#$%&*+/=?^_`|~-]+@[A-Za-z0-9.-]*[A-Za-z0-9]")

// addressesIn gives the addresses that a payload is about: the one that it names, or, if it cannot be read, whatever in
// it looks like one.
func addressesIn(payload []byte) []string {
	if address, named := addressNamed(payload); named {
		return []string{address}
	}
	return addressLike.FindAllString(string(payload), -1)
}
