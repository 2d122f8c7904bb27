package main

import (
	"context"
	"fmt"
)

// bullQuestions are those of a campaign that BullMQ sends instead of the baseline.
func bullQuestions() []question {
	return []question{
		{"the same against BullMQ: time from first to last call", "× best", "lower"},
		{"the same against BullMQ: calls refused with 429", "calls", "lower"},
	}
}

// bullAnswers send with BullMQ what Usher has sent.
func (b *bench) bullAnswers(ctx context.Context, usher, before sending) []answer {
	bull := b.sendAll(ctx, bullCampaign(), campaignSize)
	took := fmt.Sprintf("baseline: BullMQ %s, two processes, a queue with a limiter for each limit, jobs for ten and for "+
		"one, the list divided by hand as the limits are: %.1f s", bullVersion, bull.span.Seconds())
	return []answer{
		{usher.times(), before.times(), bull.times(), took},
		{usher.refusals(), before.refusals(), bull.refusals(), "a call that is refused stops its queue until Retry-After"},
	}
}

// bullLatencyMeasurement times single invitations on an idle system, of Usher and of BullMQ.
func bullLatencyMeasurement() measurement {
	const invite = "against BullMQ: an invite on an idle system, from enqueued to its call at Clerk"
	return measurement{
		questions: latencyQuestions(invite),
		run: func(ctx context.Context, b *bench) []answer {
			of := func(c contender) latencies { return b.latencies(ctx, c, trial{c, 1, producerInvites}) }
			usher, before, bull := of(usherInvites()), of(usherInvites().before()), of(bullInvites())
			note := fmt.Sprintf("%d invites, one each %s; baseline: BullMQ %s, a job each; that its producer tells when it has "+
				"added one favours it by some 0.3 ms", producerInvites, inviteEvery, bullVersion)
			return latencyAnswers(usher, before, bull, note)
		},
	}
}
