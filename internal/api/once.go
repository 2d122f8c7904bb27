package api

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

// once is what a request with an Idempotency-Key is known by, and what else there is to know about one that creates.
type once struct {
	id      string // of the task, without its owner; empty without a key
	request string // stands for path, parameters and decoded body
}

// once gives what a request is known by. Two names may use one key.
func (s *Server) once(ctx context.Context, a *asker, body any) (o once, err error) {
	if o.id, err = s.keyID(ctx, a); o.id == "" || err != nil {
		return o, err
	}
	decoded, err := json.Marshal(body)
	if err != nil {
		return o, err
	}
	o.request = digest(a.key, a.method, a.path, a.query, string(decoded))
	return o, nil
}

// keyID stands for the key of a request in the id of its task, which whoever may read sees: a key may be guessable, as
// one that holds an address is. It is empty without a key.
func (s *Server) keyID(ctx context.Context, a *asker) (string, error) {
	if a.key == "" {
		return "", nil
	}
	secret, err := s.secret.Derive(ctx, "idempotency keys")
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(a.key))
	return hex.EncodeToString(mac.Sum(nil)[:16]), nil
}

func digest(parts ...string) string {
	hash := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(hash, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

// options tell the client who asks, and what.
func (a *asker) options(o once) tasks.Option {
	return func(options *tasks.Options) {
		options.Owner, options.ID, options.Request = a.name, o.id, o.request
	}
}

// alone takes the key of a request, so that another request with it is refused meanwhile.
func (s *Server) alone(ctx context.Context, a *asker) (release func(), err error) {
	id, err := s.keyID(ctx, a)
	if id == "" || err != nil {
		return func() {}, err
	}
	release, err = s.db.Take(ctx, record.OwnedID(a.name, id))
	if errors.Is(err, store.ErrBusy) {
		return nil, inUse()
	}
	return release, err
}

// aloneHere is alone among the requests of this server. That is enough for a request that enqueues one task: Redis lets
// only one of several take the id, and the others are told of its task.
func (s *Server) aloneHere(a *asker, o once) (release func(), err error) {
	if o.id == "" {
		return func() {}, nil
	}
	id := record.OwnedID(a.name, o.id)
	if _, taken := s.underway.LoadOrStore(id, true); taken {
		return nil, inUse()
	}
	return func() { s.underway.Delete(id) }, nil
}

func inUse() *Problem {
	return problem(http.StatusConflict, keyInUse, "a request with this Idempotency-Key is under way").after(1)
}

// typeRequest is the type of the record of a request that has enqueued no task of its own.
const typeRequest = "request"

// act does what enqueues no task of its own, once for a key. replay tells how it stands if it was done before: it is
// given the id of the task that was enqueued, if one was.
func act[O any](
	ctx context.Context, s *Server, a *asker, body any, do func() (out *O, task string, err error),
	replay func(task string) (*O, error),
) (out *O, replayed bool, err error) {
	if a.key == "" {
		out, _, err = do()
		return out, false, err
	}
	o, err := s.once(ctx, a, body)
	if err != nil {
		return nil, false, err
	}
	release, err := s.alone(ctx, a)
	if err != nil {
		return nil, false, err
	}
	defer release()
	records, id := record.NewStore(s.Redis, s.Namespace), record.OwnedID(a.name, o.id)
	found, known, err := records.Get(ctx, id)
	switch {
	case err != nil:
		return nil, false, err
	case known && (found.Type != typeRequest || found.Digest != o.request):
		return nil, false, tasks.ErrConflict
	case known:
		out, err = replay(found.Retry)
		return out, true, err
	}
	out, task, err := do()
	if err != nil {
		return nil, false, err
	}
	done := record.Record{Type: typeRequest, Digest: o.request, State: record.Done, Retry: task}
	return out, false, records.Put(context.WithoutCancel(ctx), id, done)
}
