package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
)

// rateLimitError says that Clerk refused a call with 429 and when to come back.
type rateLimitError struct{ retryIn time.Duration }

// Error says it in a sentence.
func (e *rateLimitError) Error() string { return fmt.Sprintf("rate limited (retry in %s)", e.retryIn) }

func isRateLimit(err error) bool {
	_, ok := errors.AsType[*rateLimitError](err)
	return ok
}

// retryDelay obeys Clerk where it says when, and is asynq's own elsewhere.
func retryDelay(retried int, err error, task *asynq.Task) time.Duration {
	if limited, ok := errors.AsType[*rateLimitError](err); ok && limited.retryIn > 0 {
		return limited.retryIn
	}
	return asynq.DefaultRetryDelayFunc(retried, err, task)
}
