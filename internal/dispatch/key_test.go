package dispatch

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
)

func TestTheGateHoldsCallsBackWhileTheKeyIsRefused(t *testing.T) {
	t.Parallel()
	var refusing atomic.Bool
	refusing.Store(true)
	clerk := &fakeClerk{answer: func([]string) error {
		if refusing.Load() {
			return &clerkclient.Error{Outcome: clerkclient.Unauthorized, Status: 401, Sent: true}
		}
		return nil
	}}
	d := setup(t, clerk, 100, 25)
	sent := make(chan answer)
	go func() { sent <- sendAll(t, d, people(t, "p", 3))[0] }()
	<-d.caller.Gate.Refused()
	if d.caller.Gate.Open() {
		t.Fatal("the gate is open after a refusal")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.caller.Do(ctx, policy.Read, func(context.Context) error { return nil }); !errors.Is(err,
		context.DeadlineExceeded) {
		t.Errorf("a call went through the closed gate: %v", err)
	}
	refused := clerk.singleCalls()
	refusing.Store(false)
	if err := d.caller.CheckKey(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if a := <-sent; a.Answer.InvitationID == "" {
		t.Errorf("%+v", a)
	}
	if n := clerk.singleCalls(); n != refused+3 {
		t.Errorf("%d calls after %d refused ones, for 3 recipients", n, refused)
	}
}
