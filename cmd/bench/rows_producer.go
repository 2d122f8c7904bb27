package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hibiken/asynq"

	"example.com/usher/internal/store/queues"
	"example.com/usher/tasks"
)

// producerInvites is how many invitations of a plain producer are timed.
const producerInvites = 40

// producerMeasurement times invitations whose producer knows asynq only, and tells nobody that there is a task.
func producerMeasurement() measurement {
	const invite = "an invite of a plain asynq producer on an idle system, from enqueued to its call at Clerk"
	return measurement{
		questions: latencyQuestions(invite),
		run: func(ctx context.Context, b *bench) []answer {
			of := func(c contender) latencies { return b.latencies(ctx, c, trial{c, 1, producerInvites}) }
			usher, before, plain := of(usherPlainProducer()), of(usherPlainProducer().before()), of(plainInvites())
			note := fmt.Sprintf("%d invites, one each %s; asynq's own client puts Usher's payload into Usher's queue",
				producerInvites, inviteEvery)
			return latencyAnswers(usher, before, plain, note)
		},
	}
}

// usherPlainProducer invites each with an invite task that asynq's client enqueues, with asynq's own defaults.
func usherPlainProducer() contender {
	queue := asynq.Queue(queues.Name(tasks.DefaultNamespace, queues.Interactive))
	enqueue := func(ctx context.Context, s *stage, people []tasks.Recipient) error {
		return each(people, func(person tasks.Recipient) error {
			payload, err := json.Marshal(tasks.NewInvitePayload(person, 0))
			return s.put(ctx, asynq.NewTask(tasks.TypeInvite, payload, queue), err)
		})
	}
	return contender{name: "Usher, a plain producer", worker: usherWorker, enqueue: enqueue}
}
