package worker

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask"
	"example.com/usher/internal/dispatch"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/intent"
	"example.com/usher/tasks"
)

// way is what was found to do about an invitation that stands in the way of a recipient.
type way struct {
	accepted string        // id of the invitation that counts as the recipient's
	refusal  *fate.Failure // the recipient is a dead letter
	cleared  []string      // ids of the invitations that were revoked: the next call ignores them
}

// overcomes tells whether a recipient wants more than a dead letter when an invitation for it exists already.
func overcomes(person dispatch.Recipient, failure fate.Failure) bool {
	wants := person.OnDuplicate
	return failure.Code == ask.CodeDuplicate && (wants == tasks.AcceptDuplicate || wants == tasks.ResendDuplicate)
}

// overcome does what a recipient wants about a duplicate that none of its own calls has made. Its intent is open meanwhile, so that nobody else calls for the
// address. Everything it does may be repeated. An error means that Clerk could not be asked.
func (w *Worker) overcome(ctx context.Context, person dispatch.Recipient, refusal fate.Failure) (way, error) {
	pending, err := w.questions.PendingOf(ctx, person.EmailAddress)
	switch {
	case err != nil:
		return way{}, err
	case person.OnDuplicate == tasks.AcceptDuplicate && len(pending) > 0:
		return way{accepted: pending[0].ID}, nil
	case person.OnDuplicate == tasks.AcceptDuplicate:
		return way{refusal: &refusal}, nil // what stands in the way is not pending
	}
	var cleared []string
	for _, inv := range pending {
		if err := w.clear(ctx, inv.ID); err != nil {
			e, answered := errors.AsType[*clerkclient.Error](err)
			if !answered || e.Outcome != clerkclient.Rejected {
				return way{}, err
			}
			failure := rejection(dispatch.Result{Refusal: e}) // it was accepted a moment ago, say
			return way{refusal: &failure}, nil
		}
		cleared = append(cleared, inv.ID)
	}
	return way{cleared: cleared}, nil
}

// clear revokes an invitation that stands in the way.
func (w *Worker) clear(ctx context.Context, id string) error {
	_, err := w.caller.Do(ctx, policy.Revoke, func(ctx context.Context) error {
		_, err := w.revokeOne(ctx, id)
		return err
	})
	return err
}

// overcome goes on with a task whose recipient meets a duplicate.
func (i *inviteRun) overcome(ctx context.Context, token string) (ending, error) {
	found, err := i.w.overcome(ctx, i.person, *i.refusal)
	switch {
	case err != nil:
		i.asked++
		return i.w.pause(ctx, i.r, i.w.policy.Backoff(i.asked)+time.Millisecond)
	case found.accepted != "":
		return i.end(token, intent.Refused, ending{invitationID: found.accepted})
	case found.refusal != nil:
		return i.end(token, intent.Absent, ending{dead: found.refusal})
	}
	i.person = i.person.IgnoringExisting()
	i.refusal, i.foreign, i.doubt = nil, false, false
	s := i.settlement(token, intent.Absent)
	s.Used = found.cleared
	return ending{}, i.write(s)
}

// reserve opens an intent for a task whose recipient a look-up has found to meet a duplicate.
func (i *inviteRun) reserve(ctx context.Context, failure fate.Failure) (ending, error) {
	token := "d" + uuid.NewString()
	if err := i.write(i.settlement(token, intent.Opened)); err != nil {
		return ending{}, err
	}
	i.refusal, i.foreign = &failure, true
	return i.overcome(ctx, token)
}
