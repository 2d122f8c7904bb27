package tasks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/store/record"
)

// DefaultRedisURL and DefaultNamespace are used by a client that is told no other.
const (
	DefaultRedisURL  = settings.DefaultRedisURL
	DefaultNamespace = "usher"
)

// Client enqueues tasks and tells what became of them. It is safe for concurrent use.
type Client struct {
	rdb       redis.UniversalClient
	owned     bool
	namespace string
	asynq     *asynq.Client
	inspector *asynq.Inspector
	records   *record.Store
	ledgers   *ledger.Ledgers
	erased    *store.Tombstones
	secret    *store.Secret // from which names of campaigns derive
}

type clientConfig struct {
	url, caFile, namespace string
	actor                  string
	rdb                    redis.UniversalClient
}

// ClientOption sets up a Client.
type ClientOption func(*clientConfig)

// RedisURL connects to a Redis: redis://, rediss://, redis+sentinel:// or redis+cluster://.
func RedisURL(url string) ClientOption { return func(c *clientConfig) { c.url = url } }

// RedisCAFile trusts the certificates in a PEM file, for rediss:// URLs.
func RedisCAFile(path string) ClientOption { return func(c *clientConfig) { c.caFile = path } }

// Redis uses a connection of the caller's, which stays open at Close.
func Redis(rdb redis.UniversalClient) ClientOption { return func(c *clientConfig) { c.rdb = rdb } }

// Namespace is the prefix of queues and keys that the workers use: 1 to 32 letters, digits, dots, dashes or
// underscores. No worker needs to have started in it yet.
func Namespace(name string) ClientOption { return func(c *clientConfig) { c.namespace = name } }

// Actor names who pauses, resumes and cancels campaigns with the client, for the workers' logs.
func Actor(name string) ClientOption { return func(c *clientConfig) { c.actor = name } }

// NewClient makes a client. It refuses a malformed namespace or URL. It does not connect yet: an unreachable Redis
// shows at the first call.
func NewClient(opts ...ClientOption) (*Client, error) {
	config := clientConfig{url: DefaultRedisURL, namespace: DefaultNamespace}
	for _, set := range opts {
		set(&config)
	}
	if err := settings.Namespace("tasks.Namespace", config.namespace); err != nil {
		return nil, err
	}
	owned := config.rdb == nil
	if owned {
		rdb, err := settings.OpenRedis(config.url, config.caFile)
		if err != nil {
			return nil, err
		}
		config.rdb = rdb
	}
	ledgers := ledger.New(config.rdb, config.namespace)
	ledgers.Actor = config.actor
	return &Client{
		rdb: config.rdb, owned: owned, namespace: config.namespace,
		asynq:     asynq.NewClientFromRedisClient(config.rdb),
		inspector: asynq.NewInspectorFromRedisClient(config.rdb),
		records:   record.NewStore(config.rdb, config.namespace),
		ledgers:   ledgers,
		erased:    store.NewTombstones(config.rdb, config.namespace),
		secret:    store.NewSecret(store.Open(config.rdb, config.namespace)),
	}, nil
}

// Connection gives the Redis and the namespace of the client, for packages that do more there.
func (c *Client) Connection() (redis.UniversalClient, string) { return c.rdb, c.namespace }

// Close closes the connection that the client opened.
func (c *Client) Close() error {
	if !c.owned {
		return nil
	}
	return c.rdb.Close()
}

// Invite enqueues the invitation of one address. Invalid input is one *InvalidError for each fault, joined, and
// nothing is enqueued. An address that was forgotten on request is ErrForgotten.
func (c *Client) Invite(ctx context.Context, recipient Recipient, opts ...Option) (Task, error) {
	recipient = recipient.Normalize()
	if err := recipient.Validate(); err != nil {
		return Task{}, err
	}
	forgotten, err := c.erased.Forgotten(ctx, store.IDOf(recipient.EmailAddress))
	if err != nil {
		return Task{}, err
	}
	if forgotten[0] {
		return Task{}, ErrForgotten
	}
	payload := NewInvitePayload(recipient, 0)
	identity, err := json.Marshal(payload)
	if err != nil {
		return Task{}, fmt.Errorf("encoding a payload: %w", err)
	}
	payload.EnqueuedAt = time.Now().UnixMilli()
	return c.enqueue(ctx, TypeInvite, queues.Interactive, identity, payload, opts)
}

// Revoke enqueues the revocation of an invitation. An id that is none is an *InvalidError.
func (c *Client) Revoke(ctx context.Context, invitationID string, opts ...Option) (Task, error) {
	if err := ValidateInvitationID(invitationID); err != nil {
		return Task{}, err
	}
	return c.revoke(ctx, RevokePayload{InvitationID: invitationID}, opts)
}

// RevokeEmail enqueues the revocation of every invitation of an address, in whatever case, that is pending when the
// task runs; that there is none is no failure. The ended task tells how many it has revoked. A bad address is an
// *InvalidError.
func (c *Client) RevokeEmail(ctx context.Context, address string, opts ...Option) (Task, error) {
	address = CleanAddress(address)
	if err := validateAddress(address); err != nil {
		return Task{}, err
	}
	return c.revoke(ctx, RevokePayload{EmailAddress: address}, opts)
}

// RevokeCampaign enqueues the revocation of every invitation that a campaign has sent and that is pending when the
// task runs: nobody else's, and no accepted or expired one. The ended task tells how many it has revoked. A campaign
// that runs goes on sending. A bad name is an *InvalidError; a campaign that does not exist when the task runs makes
// it a dead letter.
func (c *Client) RevokeCampaign(ctx context.Context, name string, opts ...Option) (Task, error) {
	if err := ValidateCampaign(name); err != nil {
		return Task{}, err
	}
	return c.revoke(ctx, RevokePayload{Campaign: name}, opts)
}

// Delete enqueues the deletion of an invitation, whatever its status, at Clerk: for good, with the copies of its
// e-mail that Clerk stored. An id that is none is an *InvalidError. Workers of earlier versions make it a dead
// letter.
func (c *Client) Delete(ctx context.Context, invitationID string, opts ...Option) (Task, error) {
	if err := ValidateInvitationID(invitationID); err != nil {
		return Task{}, err
	}
	return c.delete(ctx, DeletePayload{InvitationID: invitationID}, opts)
}

// DeleteEmail is [Client.Delete] for every invitation of an address, in whatever case. That there is none is no
// failure. The ended task tells how many it has deleted. A bad address is an *InvalidError.
//
// If the address was forgotten on request, the task first waits until no call can create an invitation any more.
func (c *Client) DeleteEmail(ctx context.Context, address string, opts ...Option) (Task, error) {
	address = CleanAddress(address)
	if err := validateAddress(address); err != nil {
		return Task{}, err
	}
	return c.delete(ctx, DeletePayload{EmailAddress: address}, opts)
}

func (c *Client) delete(ctx context.Context, payload DeletePayload, opts []Option) (Task, error) {
	payload.Version = firstVersion
	return c.enqueue(ctx, TypeDelete, queues.Housekeeping, nil, payload, opts)
}

func (c *Client) revoke(ctx context.Context, payload RevokePayload, opts []Option) (Task, error) {
	payload.Version = firstVersion
	return c.enqueue(ctx, TypeRevoke, queues.Housekeeping, nil, payload, opts)
}

// SyncList enqueues a synchronization of the directory, the copy of Clerk's list of invitations.
func (c *Client) SyncList(ctx context.Context, opts ...Option) (Task, error) {
	return c.enqueue(ctx, TypeSyncList, queues.Housekeeping, nil, SyncListPayload{Version: firstVersion}, opts)
}

// enqueuedAtHeader is the header of a task that says when it was enqueued, in Unix milliseconds.
const enqueuedAtHeader = "enqueued_at"

// enqueuedNow are the headers of a task that is enqueued now.
func enqueuedNow() map[string]string {
	return map[string]string{enqueuedAtHeader: strconv.FormatInt(time.Now().UnixMilli(), 10)}
}

// enqueue enqueues a payload. Its identity tells it from other payloads under the same id; nil is the payload itself.
func (c *Client) enqueue(
	ctx context.Context, kind string, lane queues.Lane, identity []byte, payload any, opts []Option,
) (Task, error) {
	options, err := Resolve(opts...)
	if err != nil {
		return Task{}, err
	}
	data, err := json.Marshal(payload)
	if err != nil {
		return Task{}, fmt.Errorf("encoding a payload: %w", err)
	}
	if identity == nil {
		identity = data
	}
	queue := queues.Name(c.namespace, lane)
	id := options.id()
	if options.ID != "" {
		own := record.Record{Type: kind, Queue: queue, Digest: digest(kind, options.asked(identity))}
		found, err := c.takeID(ctx, id, own, options.At)
		if errors.Is(err, ErrConflict) {
			task, _ := c.existing(ctx, id) // what is known of it says what to do
			return task, err
		}
		if err != nil {
			return Task{}, err
		}
		if found.State.Ended() {
			return c.existing(ctx, id)
		}
		// One that has not ended is enqueued again: that finishes an enqueue that was broken off, and else adds
		// nothing.
	}
	task := asynq.NewTaskWithHeaders(kind, data, enqueuedNow())
	fresh, err := queues.Enqueue(ctx, c.rdb, c.asynq, task, queue, id, options.At)
	if err != nil {
		return Task{}, err
	}
	if !fresh && options.ID != "" {
		return c.existing(ctx, id)
	}
	enqueued := newTask(id, kind, queue, options.At)
	enqueued.EnqueuedAt = EnqueuedAt(kind, data, task.Headers())
	return enqueued, nil
}

// takeID takes an id of the producer's own, or returns what is known of the task that has it. With another payload
// that is ErrConflict. The id of a dead task is free again when its dead letter is deleted and asynq does not know the
// task any more.
func (c *Client) takeID(
	ctx context.Context, id string, own record.Record, at time.Time,
) (found record.Record, err error) {
	own.State = record.Open
	found, exists, err := c.records.Claim(ctx, id, own, at)
	if err != nil || !exists {
		return record.Record{}, err
	}
	if found.Free && !c.queued(id) {
		taken, err := c.records.Change(ctx, id, func(r *record.Record) bool {
			free := r.Free
			if free {
				*r = own
			}
			return free
		})
		if err != nil || taken {
			return record.Record{}, err
		}
	}
	if found.Type != own.Type || found.Digest != own.Digest {
		return record.Record{}, fmt.Errorf("%s: %w", id, ErrConflict)
	}
	return found, nil
}

// queued tells whether asynq knows a task, or may know it.
func (c *Client) queued(id string) bool {
	info, err := queues.FindTask(c.inspector, c.namespace, id)
	return err != nil || info != nil
}

// existing tells how a task stands that was enqueued before. Of a dead one that was retried that is its last retry.
func (c *Client) existing(ctx context.Context, id string) (Task, error) {
	exists := fmt.Errorf("%s: %w", id, ErrExists)
	r, _, err := c.records.Get(ctx, id)
	if err == nil && r.State == record.Dead && r.Retry != "" {
		if task, err := c.Status(ctx, r.Retry); err == nil {
			return task, exists
		}
	}
	task, err := c.Status(ctx, id)
	if err != nil {
		return Task{}, err
	}
	return task, exists
}

func newTask(id, kind, queue string, at time.Time) Task {
	task := Task{ID: id, Type: kind, Queue: queue, State: StatePending}
	if at.After(time.Now()) {
		task.State, task.ScheduledAt = StateScheduled, at.UTC()
	}
	return task
}

func digest(kind string, data []byte) string {
	sum := sha256.Sum256(append([]byte(kind+"\n"), data...))
	return hex.EncodeToString(sum[:16])
}
