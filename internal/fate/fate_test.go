package fate

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"
)

const second = time.Second

var (
	now   = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	rules = Rules{MaxAttempts: 3, SettlingTime: 30 * second, Unproven: time.Hour, Timeout: 5 * second}

	bad       = Failure{HTTPStatus: 422, Code: "form_param_format_invalid"}
	user      = Failure{HTTPStatus: 422, Code: CodeUser}
	duplicate = Failure{HTTPStatus: 400, Code: CodeDuplicate}
	down      = Failure{HTTPStatus: 503, Code: "service_unavailable"}
	plan      = Failure{HTTPStatus: 402, Code: "unsupported_subscription_plan_features"}
	odd       = Failure{HTTPStatus: 422, Code: "made_up_tomorrow"}
	errClerk  = errors.New("no whole answer")
)

// known gives what is known of a recipient with a call under way or of unknown outcome; change makes it another.
func known(change func(*Known)) Known {
	k := Known{Intent: Intent{Open: true, Until: now.Add(-time.Minute)}, Now: now}
	change(&k)
	return k
}

// fakeService is Clerk as it has served others.
type fakeService struct{ succeeded, down time.Time }

func (f fakeService) SucceededAfter(at time.Time) bool { return f.succeeded.After(at) }
func (f fakeService) DownAt(at time.Time) bool         { return f.down.Equal(at) }

func because(f Failure, reason Reason) *Failure {
	f.Reason = reason
	return &f
}

func failedAt(failures ...Failure) []Attempt {
	var history []Attempt
	for _, f := range failures {
		history = Remember(history, now, f)
	}
	return history
}

// TestEveryRow names each rule. What is not mentioned in want is empty, but for the state, which is the known one with
// the changes of keep.
func TestEveryRow(t *testing.T) {
	t.Parallel()
	first := func(k *Known) { k.First = true }
	nothing := func(*Known) {}
	noIntent := func(k *Known) { k.Intent = Intent{} }
	with := func(changes ...func(*Known)) func(*Known) {
		return func(k *Known) {
			for _, change := range changes {
				change(k)
			}
		}
	}
	accepts := func(k *Known) { k.OnDuplicate = Accept }
	resends := func(k *Known) { k.OnDuplicate = Resend }
	ignores := func(k *Known) { k.IgnoreExisting = true }
	cancelled := func(k *Known) { k.Cancel = true }
	skips := func(k *Known) { k.OnExistingUser = Skip }
	refusedBy := func(f Failure) func(*Known) { return func(k *Known) { k.Refusal = &f } }
	attempts := func(n int, history ...Failure) func(*Known) {
		return func(k *Known) { k.Attempts, k.History = n, failedAt(history...) }
	}
	recordLost := func(k *Known) { k.Intent.RecordLost = true }
	restored := func(gone ...string) func(*Known) {
		return func(k *Known) { k.Intent.RecordLost, k.Intent.Restored, k.Gone = true, true, gone }
	}
	users := func(k *Known) { k.User = true }
	unknown := func(why string) *Failure {
		return because(Failure{Code: CodeRestored, Message: "Redis was restored from a copy, and " + why}, ReasonRejected)
	}
	goneSince := unknown("since the recipient was enqueued an invitation for the address was made that is revoked or " +
		"expired: whether it was this one nobody knows.")
	justLost := func(k *Known) { k.Intent.Until = now.Add(-10 * second) }

	minuteAgo := now.Add(-time.Minute)
	unproven := func(n int, history ...Failure) func(*State) {
		return func(s *State) { s.Unproven, s.History = n, failedAt(history...) }
	}
	both := func(a, b func(*State)) func(*State) { return func(s *State) { a(s); b(s) } }
	doubt := func(since time.Time, times int, instance bool, refusal *Failure) func(*State) {
		return func(s *State) {
			s.Doubt, s.Refusal, s.Alone = &Doubt{Since: since, Times: times, Instance: instance}, refusal, true
		}
	}
	doubtful := func(times int, instance bool, refusal *Failure) func(*Known) {
		return func(k *Known) { doubt(minuteAgo, times, instance, refusal)(&k.State) }
	}
	served := func(changes ...func(*fakeService)) func(*Known) {
		var f fakeService
		for _, change := range changes {
			change(&f)
		}
		return func(k *Known) { k.Service = f }
	}
	failing := func(changes ...func(*fakeService)) func(*Known) {
		return with(noIntent, served(changes...), func(k *Known) {
			k.Unproven = 3
			for range 3 {
				k.History = Remember(k.History, minuteAgo, down)
			}
		})
	}
	excused := func(history []Attempt) []Attempt {
		history = slices.Clone(history)
		for i := range history {
			history[i].Excused = true
		}
		return history
	}

	answer := func(a Answer) func(Known) Decision {
		return func(k Known) Decision { return k.AfterAnswer(a, 7*second, rules) }
	}
	lookUp := func(l LookUp) func(Known) Decision {
		return func(k Known) Decision { return k.AfterLookUp(l) }
	}
	question := func(err error, found ...string) func(Known) Decision {
		return func(k Known) Decision { return k.AfterQuestion(found, err, 7*second, rules) }
	}
	overcoming := func(way Way, err error) func(Known) Decision {
		return func(k Known) Decision { return k.AfterOvercoming(way, err, 7*second) }
	}
	pending := func(ours bool, ids ...string) func(Known) Decision {
		return func(k Known) Decision {
			d, revoke := k.AfterPending(ids, ours)
			if revoke {
				return Decision{Next: "revokes"}
			}
			return d
		}
	}
	verdict := func(v Verdict, again time.Duration) func(Known) Decision {
		return func(k Known) Decision { return k.AfterVerdict(v, again) }
	}
	held := func(k Known) Decision {
		d, ok := k.BeforeOvercoming(3 * second)
		if !ok {
			return Decision{Next: "goes ahead"}
		}
		return d
	}
	paused := func(k *Known) { k.Paused = true }
	stopped := func(k *Known) { k.Stopped = true }
	cancel := func(k *Known) { k.Cancel = true }

	for _, row := range []struct {
		name  string
		known func(*Known)
		event func(Known) Decision
		keep  func(*State) // changes of the state; nil: none
		want  Decision
	}{
		// A claim that was not granted.
		{"busy address", noIntent, verdict(VerdictBusy, 500*time.Millisecond), nil,
			Decision{Next: Send, In: 500 * time.Millisecond, Intent: IntentUnchanged}},
		{"busy for long", noIntent, verdict(VerdictBusy, time.Hour), nil,
			Decision{Next: Send, In: busyMax, Intent: IntentUnchanged}},
		{"busy no more", noIntent, verdict(VerdictBusy, 0), nil, Decision{Next: Send, In: busyMin, Intent: IntentUnchanged}},
		{"earlier outcome unknown", nothing, verdict(VerdictUnsure, 0), nil, Decision{Next: Ask, Intent: IntentUnchanged}},
		{"Redis may have lost its memory", noIntent, verdict(VerdictUnsure, 0), nil,
			Decision{Next: Ask, Intent: IntentUnchanged}},
		{"ended by another run", noIntent, verdict(VerdictEnded, 0), nil, Decision{Next: Leave, Intent: IntentUnchanged}},
		{"address forgotten", noIntent, verdict(VerdictErased, 0), nil, Decision{Next: Cancelled, Intent: IntentUnchanged}},

		// A person has cancelled the task. What was believed of a call before that stays.
		{"cancelled, no call of unknown outcome", with(noIntent, cancelled), question(nil), nil,
			Decision{Next: Cancelled, Intent: IntentUnchanged}},
		{"cancelled, the lost call has invited", cancelled, question(nil, "inv_1"), nil,
			Decision{Next: Sent, InvitationID: "inv_1", Intent: IntentFound}},
		{"cancelled, the lost call has not invited", cancelled, question(nil), nil,
			Decision{Next: Cancelled, Intent: IntentRefused}},
		{"cancelled, the lost call may still invite", with(justLost, cancelled), question(nil), nil,
			Decision{Next: Ask, In: 20 * second, Intent: IntentUnchanged}},
		{"cancelled, Clerk has answered, and may still invite",
			with(justLost, cancelled, func(k *Known) { k.MayRepeat = true }), question(nil), nil,
			Decision{Next: Ask, In: 20 * second, Intent: IntentUnchanged}},
		{"cancelled, at its last attempt", with(noIntent, cancelled, attempts(3, down, down, down)), question(nil), nil,
			Decision{Next: Cancelled, Intent: IntentUnchanged}},

		// An answer to a call.
		{"created", first, answer(Answer{Kind: KindCreated, InvitationID: "inv_1"}), nil,
			Decision{Next: Sent, InvitationID: "inv_1", Intent: IntentMade}},
		{"created after failures", attempts(2, down, down), answer(Answer{Kind: KindCreated, InvitationID: "inv_1"}),
			func(s *State) { s.History = nil }, Decision{Next: Sent, InvitationID: "inv_1", Intent: IntentMade}},
		{"throttled, first call", first, answer(Answer{Kind: KindNothingYet}), nil,
			Decision{Next: Send, Intent: IntentRefused}},
		{"throttled, later call", nothing, answer(Answer{Kind: KindNothingYet}), nil,
			Decision{Next: Send, Intent: IntentReleased}},
		{"may not share a call", first, answer(Answer{Kind: KindNothingYet, Alone: true}),
			func(s *State) { s.Alone = true },
			Decision{Next: Send, Intent: IntentRefused}},
		{"refused for another", first, answer(Answer{Kind: KindForAnother}), func(s *State) { s.ForAnother = true },
			Decision{Next: Ask, Intent: IntentUnknown}},
		{"refused for an unnamed one", first, answer(Answer{Kind: KindForAnother, Alone: true}),
			func(s *State) { s.ForAnother, s.Alone = true, true }, Decision{Next: Ask, Intent: IntentUnknown}},
		{"refused for another, ignores existing", with(first, ignores), answer(Answer{Kind: KindForAnother}), nil,
			Decision{Next: Ask, Intent: IntentUnknown}},
		{"refused for another, cleared", with(first, func(k *Known) { k.Cleared = true }),
			answer(Answer{Kind: KindForAnother}), nil,
			Decision{Next: Ask, Intent: IntentUnknown}},
		{"refused, first call", first, answer(Answer{Kind: KindRefused, Failure: bad}), func(s *State) { s.Attempts = 1 },
			Decision{Next: Dead, Cause: because(bad, ReasonRejected), Intent: IntentRefused}},
		{"refused, earlier outcome open", nothing, answer(Answer{Kind: KindRefused, Failure: bad}),
			func(s *State) { s.Attempts, s.Refusal = 1, &bad }, Decision{Next: Ask, Intent: IntentUnknown}},
		{"duplicate, first call", first, answer(Answer{Kind: KindRefused, Failure: duplicate}),
			func(s *State) { s.Attempts = 1 },
			Decision{Next: Dead, Cause: because(duplicate, ReasonRejected), Intent: IntentRefused}},
		{"duplicate to accept, first call", with(first, accepts), answer(Answer{Kind: KindRefused, Failure: duplicate}),
			func(s *State) { s.Attempts, s.Refusal, s.Foreign = 1, &duplicate, true },
			Decision{Next: Overcome, Intent: IntentUnknown}},
		{"duplicate to resend, first call", with(first, resends), answer(Answer{Kind: KindRefused, Failure: duplicate}),
			func(s *State) { s.Attempts, s.Refusal, s.Foreign = 1, &duplicate, true },
			Decision{Next: Overcome, Intent: IntentUnknown}},
		{"duplicate to resend, earlier outcome open", resends, answer(Answer{Kind: KindRefused, Failure: duplicate}),
			func(s *State) { s.Attempts, s.Refusal = 1, &duplicate }, Decision{Next: Ask, Intent: IntentUnknown}},
		{"another refusal, wants resend", with(first, resends), answer(Answer{Kind: KindRefused, Failure: bad}),
			func(s *State) { s.Attempts = 1 },
			Decision{Next: Dead, Cause: because(bad, ReasonRejected), Intent: IntentRefused}},
		{"a user, first call", first, answer(Answer{Kind: KindRefused, Failure: user}),
			func(s *State) { s.Attempts = 1 },
			Decision{Next: Dead, Cause: because(user, ReasonRejected), Intent: IntentRefused}},
		{"a user to skip, first call", with(first, skips, attempts(1, down)),
			answer(Answer{Kind: KindRefused, Failure: user}),
			func(s *State) { s.Attempts, s.History = 2, nil },
			Decision{Next: Skipped, Cause: because(user, ReasonRejected), Intent: IntentRefused}},
		{"a user to skip, earlier outcome open", skips, answer(Answer{Kind: KindRefused, Failure: user}),
			func(s *State) { s.Attempts, s.Refusal = 1, &user }, Decision{Next: Ask, Intent: IntentUnknown}},
		{"another refusal, wants users skipped", with(first, skips), answer(Answer{Kind: KindRefused, Failure: bad}),
			func(s *State) { s.Attempts = 1 },
			Decision{Next: Dead, Cause: because(bad, ReasonRejected), Intent: IntentRefused}},
		{"unreadable, wants users skipped", with(first, skips), answer(Answer{Kind: KindUnreadable, Failure: user}), nil,
			Decision{Next: Dead, Cause: because(user, ReasonInvalid), Intent: IntentRefused}},
		{"never sent", first, answer(Answer{Kind: KindNotSent, Failure: down}), unproven(1, down),
			Decision{Next: Ask, In: 7 * second, Intent: IntentRefused}},
		{"never sent, earlier outcome open", attempts(2, down, down), answer(Answer{Kind: KindNotSent, Failure: down}),
			unproven(1, down, down, down), Decision{Next: Ask, In: 7 * second, Intent: IntentReleased}},
		{"lost", first, answer(Answer{Kind: KindLost, Failure: down}), unproven(1, down),
			Decision{Next: Ask, In: 7 * second, Intent: IntentUnknown}},
		{"lost, last attempt", with(first, attempts(2, down, down)), answer(Answer{Kind: KindLost, Failure: down}),
			unproven(1, down, down, down), Decision{Next: Ask, In: 7 * second, Intent: IntentUnknown}},
		{"lost by a fault of ours", func(k *Known) { k.Attempts, k.Unproven = 1, 1 },
			answer(Answer{Kind: KindLost, Failure: down, Own: true}),
			func(s *State) { s.Attempts, s.Unproven, s.History = 3, 0, failedAt(down) },
			Decision{Next: Ask, In: 7 * second, Intent: IntentUnknown}},
		{"lost with others", first, answer(Answer{Kind: KindLost, Failure: down, Shared: true}),
			both(unproven(1, down), func(s *State) { s.Shared = 1 }),
			Decision{Next: Ask, In: 7 * second, Intent: IntentUnknown}},
		{"lost with others again", func(k *Known) { k.Shared = 1 },
			answer(Answer{Kind: KindLost, Failure: down, Shared: true}),
			both(unproven(1, down), func(s *State) { s.Shared, s.Alone = 2, true }),
			Decision{Next: Ask, In: 7 * second, Intent: IntentUnknown}},
		{"answered with a failure", first, answer(Answer{Kind: KindLost, Failure: down, Answered: true}),
			both(unproven(1, down), func(s *State) { s.MayRepeat, s.Alone = true, true }),
			Decision{Next: Ask, In: 7 * second, Intent: IntentUnknown}},
		{"answered with a failure, ignores existing", with(first, ignores),
			answer(Answer{Kind: KindLost, Failure: down, Answered: true}), unproven(1, down),
			Decision{Next: Ask, In: 7 * second, Intent: IntentUnknown}},
		{"answered with a failure, sent after a revocation", func(k *Known) { k.Cleared = true },
			answer(Answer{Kind: KindLost, Failure: down, Answered: true}), unproven(1, down),
			Decision{Next: Ask, In: 7 * second, Intent: IntentUnknown}},
		{"lost after an answered failure", func(k *Known) { k.MayRepeat = true },
			answer(Answer{Kind: KindLost, Failure: down}), both(unproven(1, down), func(s *State) { s.MayRepeat = false }),
			Decision{Next: Ask, In: 7 * second, Intent: IntentUnknown}},
		{"doubted, first call", first, answer(Answer{Kind: KindDoubted, Failure: plan, Instance: true}),
			doubt(now, 1, true, &plan), Decision{Next: Ask, In: 7 * second, Intent: IntentRefused}},
		{"doubted, earlier outcome open", nothing, answer(Answer{Kind: KindDoubted, Failure: odd}),
			doubt(now, 1, false, &odd), Decision{Next: Ask, In: 7 * second, Intent: IntentUnknown}},
		{"doubted again", with(first, doubtful(1, true, nil)),
			answer(Answer{Kind: KindDoubted, Failure: plan, Instance: true}), doubt(minuteAgo, 2, true, &plan),
			Decision{Next: Ask, In: 7 * second, Intent: IntentRefused}},
		{"refused for sure after a doubt", doubtful(1, true, nil), answer(Answer{Kind: KindRefused, Failure: bad}),
			func(s *State) { s.Attempts, s.Refusal, s.Doubt = 1, &bad, nil },
			Decision{Next: Ask, Intent: IntentUnknown}},
		{"unreadable", first, answer(Answer{Kind: KindUnreadable, Failure: bad}), nil,
			Decision{Next: Dead, Cause: because(bad, ReasonInvalid), Intent: IntentRefused}},
		{"unreadable, no claim", with(first, noIntent), answer(Answer{Kind: KindUnreadable, Failure: bad}), nil,
			Decision{Next: Dead, Cause: because(bad, ReasonInvalid), Intent: IntentUnchanged}},

		// A look-up before a call.
		{"nothing in the way", noIntent, lookUp(LookUp{}), nil, Decision{Next: Send, Intent: IntentUnchanged}},
		{"a user who ignores existing", noIntent, lookUp(LookUp{Alone: true}), func(s *State) { s.Alone = true },
			Decision{Next: Send, Intent: IntentUnchanged}},
		{"predicted refusal", noIntent, lookUp(LookUp{Refusal: &bad}), nil,
			Decision{Next: Dead, Cause: because(bad, ReasonRejected), Intent: IntentUnchanged}},
		{"predicted user to skip", with(noIntent, skips), lookUp(LookUp{Refusal: &user}), nil,
			Decision{Next: Skipped, Cause: because(user, ReasonRejected), Intent: IntentUnchanged}},
		{"predicted user to skip, outcome open", skips, lookUp(LookUp{Refusal: &user}),
			func(s *State) { s.Refusal = &user }, Decision{Next: Ask, Intent: IntentUnchanged}},
		{"predicted duplicate", noIntent, lookUp(LookUp{Refusal: &duplicate, PendingID: "inv_0"}), nil,
			Decision{Next: Dead, Cause: because(duplicate, ReasonRejected), Intent: IntentUnchanged}},
		{"predicted duplicate, outcome open", with(accepts), lookUp(LookUp{Refusal: &duplicate, PendingID: "inv_0"}),
			func(s *State) { s.Refusal = &duplicate }, Decision{Next: Ask, Intent: IntentUnchanged}},
		{"predicted duplicate to accept", with(noIntent, accepts),
			lookUp(LookUp{Refusal: &duplicate, PendingID: "inv_0"}),
			func(s *State) { s.Foreign = true }, Decision{Next: Sent, InvitationID: "inv_0", Intent: IntentUnchanged}},
		{"predicted duplicate to resend", with(noIntent, resends),
			lookUp(LookUp{Refusal: &duplicate, PendingID: "inv_0"}),
			func(s *State) { s.Refusal, s.Foreign = &duplicate, true },
			Decision{Next: Overcome, Intent: IntentOpened}},

		// A question about lost calls.
		{"no intent is left", with(noIntent, refusedBy(bad)), question(nil), func(s *State) { s.Refusal = nil },
			Decision{Next: Send, Intent: IntentUnchanged}},
		{"no whole answer", nothing, question(errClerk), func(s *State) { s.Unanswered = 1 },
			Decision{Next: Ask, In: 7 * second, Intent: IntentUnchanged}},
		{"found", attempts(1, down), question(nil, "inv_1"), func(s *State) { s.Attempts, s.History = 0, nil },
			Decision{Next: Sent, InvitationID: "inv_1", Intent: IntentFound}},
		{"found before the settling time", with(justLost, attempts(1, down)), question(nil, "inv_1"),
			func(s *State) { s.Attempts, s.History = 0, nil },
			Decision{Next: Sent, InvitationID: "inv_1", Intent: IntentFound}},
		{"found, after a refusal", with(attempts(2, down), refusedBy(duplicate)), question(nil, "inv_1"),
			func(s *State) { s.Attempts, s.History, s.Refusal = 1, nil, nil },
			Decision{Next: Sent, InvitationID: "inv_1", Intent: IntentFound}},
		{"the found one is another's", func(k *Known) { k.Intent.Used = []string{"inv_1"} },
			question(nil, "inv_1"), nil,
			Decision{Next: Send, Intent: IntentAbsent}},
		{"the second one found is free", func(k *Known) { k.Intent.Used = []string{"inv_1"} },
			question(nil, "inv_1", "inv_2"), nil,
			Decision{Next: Sent, InvitationID: "inv_2", Intent: IntentFound}},
		{"its invitation was deleted on request",
			with(attempts(1, down), func(k *Known) { k.Intent.Deleted = []string{"inv_1"} }), question(nil, "inv_2"),
			func(s *State) { s.Attempts, s.History = 0, nil },
			Decision{Next: Sent, InvitationID: "inv_1", Intent: IntentFound}},
		{"a duplicate in the way, nothing lost",
			with(justLost, refusedBy(duplicate), func(k *Known) { k.Foreign = true }), question(errClerk), nil,
			Decision{Next: Overcome, Intent: IntentUnchanged}},
		{"a duplicate in the way, no intent is left", with(noIntent, func(k *Known) { k.Foreign = true }),
			question(nil), func(s *State) { s.Foreign = false }, Decision{Next: Send, Intent: IntentUnchanged}},
		{"restored, pending or accepted since", restored(), question(nil, "inv_1"), nil,
			Decision{Next: Sent, InvitationID: "inv_1", Intent: IntentFound}},
		{"restored, gone since", restored("inv_1"), question(nil, "inv_1"), nil,
			Decision{Next: Dead, Intent: IntentAbsent, Cause: goneSince, Revoked: []string{"inv_1"}}},
		{"restored, gone and resent since", restored("inv_1"), question(nil, "inv_1", "inv_2"), nil,
			Decision{Next: Sent, InvitationID: "inv_2", Intent: IntentFound}},
		{"restored, gone since, and a person has decided",
			with(restored("inv_1"), func(k *Known) { k.Intent.Used = []string{"inv_1"} }), question(nil, "inv_1"), nil,
			Decision{Next: Send, Intent: IntentAbsent}},
		{"restored, a user whom Clerk refuses", with(restored(), users), question(nil), nil,
			Decision{Next: Send, Intent: IntentAbsent}},
		{"restored, a user whom Clerk may admit", with(restored(), users, ignores), question(nil), nil,
			Decision{Next: Dead, Intent: IntentAbsent, Cause: unknown("the address belongs to a user: whether it was " +
				"invited since nobody knows.")}},
		{"restored, a duplicate in the way that was resent since",
			with(restored(), refusedBy(duplicate), resends, func(k *Known) { k.Foreign = true }), question(nil, "inv_1"),
			func(s *State) { s.Refusal, s.Foreign = nil, false },
			Decision{Next: Sent, InvitationID: "inv_1", Intent: IntentFound}},
		{"restored, a duplicate is in the way still",
			with(restored(), refusedBy(duplicate), resends, func(k *Known) { k.Foreign = true }), question(nil), nil,
			Decision{Next: Overcome, Intent: IntentUnchanged}},
		{"restored, no whole answer", restored("inv_1"), question(errClerk, "inv_1"),
			func(s *State) { s.Unanswered = 1 }, Decision{Next: Ask, In: 7 * second, Intent: IntentUnchanged}},
		{"absent before the settling time", justLost, question(nil), nil,
			Decision{Next: Ask, In: 20 * second, Intent: IntentUnchanged}},
		{"absent before the settling time, ignores existing", with(justLost, ignores), question(nil), nil,
			Decision{Next: Ask, In: 20 * second, Intent: IntentUnchanged}},
		{"absent before the settling time, with a refusal", with(justLost, refusedBy(bad)), question(nil), nil,
			Decision{Next: Ask, In: 20 * second, Intent: IntentUnchanged}},
		{"absent at once after a refusal for another", with(justLost, func(k *Known) { k.ForAnother = true }),
			question(nil), func(s *State) { s.ForAnother = false }, Decision{Next: Send, Intent: IntentAbsent}},
		{"absent at once if only a record may be lost", with(justLost, recordLost), question(nil), nil,
			Decision{Next: Send, Intent: IntentProvisional}},
		{"absent while a call without a record may last, ignores existing", with(justLost, recordLost, ignores),
			question(nil), nil, Decision{Next: Ask, In: 25 * second, Intent: IntentUnchanged}},
		{"absent while a call without a record may last, with a refusal", with(justLost, recordLost, refusedBy(bad)),
			question(nil), nil, Decision{Next: Ask, In: 25 * second, Intent: IntentUnchanged}},
		{"absent", attempts(1, down), question(nil), nil, Decision{Next: Send, Intent: IntentAbsent}},
		{"absent after questions in vain", func(k *Known) { k.Unanswered = 4 }, question(nil),
			func(s *State) { s.Unanswered = 0 },
			Decision{Next: Send, Intent: IntentAbsent}},
		{"absent, refused", with(attempts(2, down), refusedBy(bad)), question(nil), func(s *State) { s.Refusal = nil },
			Decision{Next: Dead, Cause: because(bad, ReasonRejected), Intent: IntentAbsent}},
		{"absent, duplicate to accept", with(accepts, refusedBy(duplicate)), question(nil),
			func(s *State) { s.Foreign = true },
			Decision{Next: Overcome, Intent: IntentUnchanged}},
		{"absent, last attempt failed", attempts(3, down, down, down), question(nil),
			func(s *State) { s.History = failedAt(down, down) },
			Decision{Next: Dead, Cause: because(down, ReasonExhausted), Intent: IntentAbsent}},
		{"absent before the settling time, answered",
			with(justLost, func(k *Known) { k.MayRepeat, k.Alone = true, true }), question(nil),
			func(s *State) { s.MayRepeat = false }, Decision{Next: Send, Intent: IntentProvisional}},
		{"absent before the settling time, answered, refused",
			with(justLost, refusedBy(duplicate), func(k *Known) { k.MayRepeat = true }), question(nil), nil,
			Decision{Next: Ask, In: 20 * second, Intent: IntentUnchanged}},
		{"absent before the settling time, answered, last attempt",
			with(justLost, attempts(3, down, down, down), func(k *Known) { k.MayRepeat = true }), question(nil), nil,
			Decision{Next: Ask, In: 20 * second, Intent: IntentUnchanged}},
		{"found, and the failure is unproven", func(k *Known) { k.Unproven, k.History = 1, failedAt(down) },
			question(nil, "inv_1"), func(s *State) { s.Unproven, s.History = 0, nil },
			Decision{Next: Sent, InvitationID: "inv_1", Intent: IntentFound}},

		// Whose failures are they? The last three attempts failed a minute ago; nothing is known of an intent.
		{"nobody else was sent", failing(), question(nil), nil, Decision{Next: Send, Intent: IntentUnchanged}},
		{"Redis does not tell", with(failing(), func(k *Known) { k.Service = nil }), question(nil), nil,
			Decision{Next: Send, Intent: IntentUnchanged}},
		{"somebody was sent before", failing(func(f *fakeService) { f.succeeded = minuteAgo.Add(-1) }), question(nil),
			nil, Decision{Next: Send, Intent: IntentUnchanged}},
		{"somebody was sent after", failing(func(f *fakeService) { f.succeeded = now }), question(nil),
			func(s *State) { s.Attempts, s.Unproven, s.History = 3, 0, s.History[:2] },
			Decision{Next: Dead, Cause: because(down, ReasonExhausted), Intent: IntentUnchanged}},
		{"nobody was served", failing(func(f *fakeService) { f.down = minuteAgo }), question(nil),
			func(s *State) { s.Unproven, s.History = 0, excused(s.History) },
			Decision{Next: Send, Intent: IntentUnchanged}},
		{"nobody was served, and then somebody",
			failing(func(f *fakeService) { f.down, f.succeeded = minuteAgo, now }), question(nil),
			func(s *State) { s.Unproven, s.History = 0, excused(s.History) },
			Decision{Next: Send, Intent: IntentUnchanged}},
		{"an hour has passed", with(failing(), func(k *Known) { k.Now = minuteAgo.Add(time.Hour) }), question(nil),
			func(s *State) { s.Attempts, s.Unproven, s.History = 3, 0, s.History[:2] },
			Decision{Next: Dead, Cause: because(down, ReasonExhausted), Intent: IntentUnchanged}},
		{"a refusal about the instance, nobody else was sent", with(failing(), doubtful(1, true, &plan)),
			question(nil), func(s *State) { s.Refusal = nil }, Decision{Next: Send, Intent: IntentUnchanged}},
		{"a refusal about the instance, somebody was sent after",
			with(noIntent, doubtful(1, true, &plan), served(func(f *fakeService) { f.succeeded = now })),
			question(nil), func(s *State) { s.Attempts, s.Refusal, s.Doubt = 1, nil, nil },
			Decision{Next: Dead, Cause: because(plan, ReasonRejected), Intent: IntentUnchanged}},
		{"a refusal about the instance, somebody was sent before",
			with(noIntent, doubtful(1, true, &plan),
				served(func(f *fakeService) { f.succeeded = minuteAgo.Add(-second) })),
			question(nil), func(s *State) { s.Refusal = nil }, Decision{Next: Send, Intent: IntentUnchanged}},
		{"a refusal about the instance comes again, somebody was sent before",
			with(noIntent, doubtful(2, true, &plan),
				served(func(f *fakeService) { f.succeeded = minuteAgo.Add(-second) })),
			question(nil), func(s *State) { s.Attempts, s.Refusal, s.Doubt = 2, nil, nil },
			Decision{Next: Dead, Cause: because(plan, ReasonRejected), Intent: IntentUnchanged}},
		{"a refusal about the instance comes again, nobody was sent lately",
			with(noIntent, doubtful(2, true, &plan),
				served(func(f *fakeService) { f.succeeded = minuteAgo.Add(-time.Minute - second) })),
			question(nil), func(s *State) { s.Refusal = nil }, Decision{Next: Send, Intent: IntentUnchanged}},
		{"a refusal about the instance, nobody was served",
			with(noIntent, doubtful(1, true, &plan),
				served(func(f *fakeService) { f.down, f.succeeded = minuteAgo, now })),
			question(nil), func(s *State) { s.Refusal, s.Doubt = nil, nil },
			Decision{Next: Send, Intent: IntentUnchanged}},
		{"a refusal about the instance, earlier outcome open",
			with(doubtful(1, true, &plan), served(func(f *fakeService) { f.succeeded = now })),
			question(nil), func(s *State) { s.Attempts, s.Refusal, s.Doubt = 1, nil, nil },
			Decision{Next: Dead, Cause: because(plan, ReasonRejected), Intent: IntentAbsent}},
		{"a refusal that no table knows", with(noIntent, doubtful(1, false, &odd),
			served(func(f *fakeService) { f.succeeded = now })),
			question(nil), func(s *State) { s.Refusal = nil }, Decision{Next: Send, Intent: IntentUnchanged}},
		{"a refusal that no table knows comes again", with(noIntent, doubtful(2, false, &odd)), question(nil),
			func(s *State) { s.Attempts, s.Refusal, s.Doubt = 2, nil, nil },
			Decision{Next: Dead, Cause: because(odd, ReasonRejected), Intent: IntentUnchanged}},
		{"a predicted refusal after a doubt", doubtful(1, true, nil), lookUp(LookUp{Refusal: &bad}),
			func(s *State) { s.Refusal, s.Doubt = &bad, nil }, Decision{Next: Ask, Intent: IntentUnchanged}},

		// A duplicate that is to be overcome.
		{"campaign runs", accepts, held, nil, Decision{Next: "goes ahead"}},
		{"campaign paused", with(paused, accepts), held, nil,
			Decision{Next: Overcome, In: 3 * second, Intent: IntentUnchanged}},
		{"campaign cancelled", with(stopped, accepts), held, nil, Decision{Next: Send, Intent: IntentAbsent}},
		{"task cancelled", with(cancel, accepts), held, nil, Decision{Next: Send, Intent: IntentAbsent}},
		{"campaign cancelled, no intent", with(noIntent, stopped, accepts), held, nil,
			Decision{Next: Send, Intent: IntentUnchanged}},
		{"no intent keeps others from calling",
			with(noIntent, resends, refusedBy(duplicate), func(k *Known) { k.Foreign = true }), held,
			func(s *State) { s.Foreign, s.Refusal = false, nil }, Decision{Next: Send, Intent: IntentUnchanged}},
		{"another run took over", with(resends, refusedBy(duplicate), func(k *Known) { k.Foreign = true }),
			func(k Known) Decision { return k.AfterTakeover() }, func(s *State) { s.Foreign = false },
			Decision{Next: Ask, Intent: IntentUnchanged}},
		{"pending not known", resends, overcoming(Way{}, errClerk), func(s *State) { s.Unanswered = 1 },
			Decision{Next: Overcome, In: 7 * second, Intent: IntentUnchanged}},
		{"accepted", with(accepts, refusedBy(duplicate)), pending(false, "inv_1", "inv_0"),
			func(s *State) { s.Foreign, s.Refusal = true, nil },
			Decision{Next: Sent, InvitationID: "inv_1", Intent: IntentRefused}},
		{"accepted, and no call was lost", with(accepts, refusedBy(duplicate)), pending(true, "inv_0"),
			func(s *State) { s.Foreign, s.Refusal = true, nil },
			Decision{Next: Sent, InvitationID: "inv_0", Intent: IntentRefused}},
		{"nothing pending to accept", with(accepts, refusedBy(duplicate)), pending(false),
			func(s *State) { s.Refusal = nil },
			Decision{Next: Dead, Cause: because(duplicate, ReasonRejected), Intent: IntentAbsent}},
		{"to be revoked", with(resends, refusedBy(duplicate)), pending(false, "inv_0"), nil, Decision{Next: "revokes"}},
		{"nothing pending to revoke", with(resends, refusedBy(duplicate)), pending(false), nil,
			Decision{Next: "revokes"}},
		{"it may be a lost call's, which was listed late", with(justLost, resends, refusedBy(duplicate),
			func(k *Known) { k.Foreign, k.History = true, []Attempt{{}} }), pending(true, "inv_0"),
			func(s *State) { s.Foreign = false }, Decision{Next: Ask, Intent: IntentUnchanged}},
		{"cannot be revoked", with(resends, refusedBy(duplicate)), overcoming(Way{Refusal: &duplicate}, nil),
			func(s *State) { s.Refusal = nil },
			Decision{Next: Dead, Cause: because(duplicate, ReasonRejected), Intent: IntentAbsent}},
		{"revoked", with(resends, refusedBy(duplicate), func(k *Known) { k.Foreign, k.Unanswered = true, 2 }),
			overcoming(Way{Revoked: []string{"inv_0"}}, nil),
			func(s *State) { s.Foreign, s.Refusal, s.Cleared, s.Unanswered = false, nil, true, 0 },
			Decision{Next: Send, Intent: IntentAbsent, Revoked: []string{"inv_0"}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			k := known(row.known)
			row.want.State = k.State
			if row.keep != nil {
				row.keep(&row.want.State)
			}
			if row.want.Next == "goes ahead" || row.want.Next == "revokes" {
				row.want.State = State{}
			}
			if got := row.event(k); !reflect.DeepEqual(got, row.want) {
				t.Errorf("\ngot  %+v\nwant %+v", got, row.want)
			}
		})
	}
}

func TestARunThatIsNotTheFirstBeginsWithAQuestion(t *testing.T) {
	t.Parallel()
	if first, again := Start(false), Start(true); first != Send || again != Ask {
		t.Errorf("%s and %s, want send and ask", first, again)
	}
}

func TestADecisionSharesNothingWithWhatWasKnown(t *testing.T) {
	t.Parallel()
	k := known(func(k *Known) { k.Attempts, k.History = 3, failedAt(down, down, down) })
	k.AfterQuestion(nil, nil, 0, rules)
	if len(k.History) != 3 {
		t.Errorf("the history that was known has %d attempts", len(k.History))
	}
}

// TestNothingIsProvisionalOnceNoCallFollows: an intent that only its owner may use would keep all others away.
func TestNothingIsProvisionalOnceNoCallFollows(t *testing.T) {
	t.Parallel()
	rules := Rules{MaxAttempts: 3, SettlingTime: time.Minute, Timeout: time.Second}
	now := time.Now()
	for name, k := range map[string]Known{
		"answered": {State: State{MayRepeat: true}, Intent: Intent{Open: true, Until: now}, Now: now},
		"lost":     {Intent: Intent{Open: true, Until: now, RecordLost: true}, Now: now},
	} {
		if d := k.AfterQuestion(nil, nil, time.Second, rules); d.Next != Send || d.Intent != IntentProvisional {
			t.Errorf("%s, running: %+v", name, d)
		}
		k.Stopped = true
		d := k.AfterQuestion(nil, nil, time.Second, rules)
		if d.Next != Ask || d.Intent != IntentUnchanged || d.In < time.Minute {
			t.Errorf("%s, cancelled: %+v", name, d)
		}
		k.Now = now.Add(time.Hour)
		if d := k.AfterQuestion(nil, nil, time.Second, rules); d.Intent != IntentAbsent {
			t.Errorf("%s, settled: %+v", name, d)
		}
	}
}

// TestAQuestionThatDidNotGetToARecipientChangesNothing: it is asked about by the next question, and no wait is longer
// for that.
func TestAQuestionThatDidNotGetToARecipientChangesNothing(t *testing.T) {
	t.Parallel()
	k := known(func(k *Known) { k.Attempts, k.Unanswered = 2, 1 })
	got := k.AfterQuestion(nil, fmt.Errorf("asking: %w", ErrNotAsked), time.Minute, rules)
	if want := (Decision{State: k.State, Next: Ask, Intent: IntentUnchanged}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
