package tasks_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/alicebob/miniredis/v2"

	"example.com/usher/tasks"
)

// A signup service invites one person at a time. The id makes a repeated request harmless.
func ExampleClient_Invite() {
	redis, err := miniredis.Run() // stands for the Redis that the workers use
	if err != nil {
		panic(err)
	}
	defer redis.Close()

	client, err := tasks.NewClient(tasks.RedisURL("redis://" + redis.Addr()))
	if err != nil {
		panic(err)
	}
	defer client.Close()

	ctx := context.Background()
	recipient := tasks.Recipient{
		EmailAddress:   "ada@example.com",
		PublicMetadata: map[string]any{"plan": "pro"},
		RedirectURL:    "https://app.example.com/welcome",
	}
	for range 2 { // as if the caller repeated its request
		task, err := client.Invite(ctx, recipient, tasks.ID("signup-4711"))
		switch {
		case errors.Is(err, tasks.ErrExists) && task.State == tasks.StateDead:
			fmt.Println(task.ID, "has failed, and waits for a person:", task.Error.Code) // this is no success
		case errors.Is(err, tasks.ErrExists):
			fmt.Println(task.ID, "was enqueued before and is", task.State)
		case err != nil:
			fmt.Println("try again later:", err)
		default:
			fmt.Println(task.ID, "is", task.State)
		}
	}
	// Output:
	// signup-4711 is pending
	// signup-4711 was enqueued before and is pending
}

// An admin service invites a list. The campaign's name makes it grow instead of being sent twice.
func ExampleClient_BulkInvite() {
	redis, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer redis.Close()
	client, err := tasks.NewClient(tasks.RedisURL("redis://" + redis.Addr()))
	if err != nil {
		panic(err)
	}
	defer client.Close()

	ctx := context.Background()
	list := []tasks.Recipient{{EmailAddress: "ada@example.com"}, {EmailAddress: "grace@example.com"}}
	task, err := client.BulkInvite(ctx, tasks.BulkRequest{Campaign: "spring", Recipients: list})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s: %d added\n", task.Bulk.Campaign, task.Bulk.Added)

	list = append(list, tasks.Recipient{EmailAddress: "alan@example.com"},
		tasks.Recipient{EmailAddress: "ADA@example.com"})
	task, err = client.BulkInvite(ctx, tasks.BulkRequest{Campaign: "spring", Recipients: list})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s: %d added, %d known, %d duplicate\n", task.Bulk.Campaign, task.Bulk.Added, task.Bulk.Known,
		task.Bulk.Duplicates)
	// Output:
	// spring: 2 added
	// spring: 1 added, 2 known, 1 duplicate
}

// An admin page shows how a campaign stands, and lets a person stop it.
func ExampleClient_Campaign() {
	redis, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer redis.Close()
	client, err := tasks.NewClient(tasks.RedisURL("redis://" + redis.Addr()))
	if err != nil {
		panic(err)
	}
	defer client.Close()

	ctx := context.Background()
	if _, err := client.Campaign(ctx, "spring"); errors.Is(err, tasks.ErrNotFound) {
		fmt.Println("there is none yet")
	}
	list := []tasks.Recipient{{EmailAddress: "ada@example.com"}, {EmailAddress: "grace@example.com"}}
	if _, err := client.BulkInvite(ctx, tasks.BulkRequest{Campaign: "spring", Recipients: list}); err != nil {
		panic(err)
	}
	campaign, err := client.Campaign(ctx, "spring")
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s: %d of %d to go, %s\n", campaign.State, campaign.Remaining, campaign.Recipients,
		campaign.Assumption)
	// Output:
	// there is none yet
	// running: 2 of 2 to go, no ETA: no worker has run yet, so its limits are unknown
}

// A paused campaign can go on; a cancelled one is over.
func ExampleClient_Cancel() {
	redis, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer redis.Close()
	client, err := tasks.NewClient(tasks.RedisURL("redis://" + redis.Addr()))
	if err != nil {
		panic(err)
	}
	defer client.Close()

	ctx := context.Background()
	list := []tasks.Recipient{{EmailAddress: "ada@example.com"}}
	if _, err := client.BulkInvite(ctx, tasks.BulkRequest{Campaign: "spring", Recipients: list}); err != nil {
		panic(err)
	}
	for _, do := range []func(context.Context, string) (tasks.Campaign, error){client.Pause, client.Resume,
		client.Cancel, client.Resume} {
		campaign, err := do(ctx, "spring")
		switch {
		case errors.Is(err, tasks.ErrCampaignOver):
			fmt.Println("it is over")
		case err != nil:
			panic(err)
		default:
			fmt.Println(campaign.State)
		}
	}
	// Output:
	// paused
	// running
	// cancelled
	// it is over
}

// An admin service takes back what has not been accepted yet: of one address, or of a whole campaign.
func ExampleClient_RevokeCampaign() {
	redis, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer redis.Close()
	client, err := tasks.NewClient(tasks.RedisURL("redis://" + redis.Addr()))
	if err != nil {
		panic(err)
	}
	defer client.Close()

	ctx := context.Background()
	byAddress, err := client.RevokeEmail(ctx, "ada@example.com")
	if err != nil {
		panic(err)
	}
	byCampaign, err := client.RevokeCampaign(ctx, "spring", tasks.ID("take-back-spring"))
	if err != nil {
		panic(err)
	}
	fmt.Println(byAddress.Type, byAddress.State)
	fmt.Println(byCampaign.ID, byCampaign.State) // Wait tells how many it has revoked
	// Output:
	// revoke pending
	// take-back-spring pending
}

// Bad input is refused whole, with every fault at its place in the list.
func ExampleInvalidError() {
	client, err := tasks.NewClient()
	if err != nil {
		panic(err)
	}
	defer client.Close()
	_, err = client.BulkInvite(context.Background(), tasks.BulkRequest{Recipients: []tasks.Recipient{
		{EmailAddress: "ada@example.com"}, {EmailAddress: "ada"},
		{EmailAddress: "bob@example.com", ExpiresInDays: 999},
	}})
	if faults, ok := err.(interface{ Unwrap() []error }); ok {
		for _, fault := range faults.Unwrap() {
			if invalid, ok := errors.AsType[*tasks.InvalidError](fault); ok {
				fmt.Println(invalid.Index, invalid.Field, invalid.Reason)
			}
		}
	}
	// Output:
	// 1 email_address is not an e-mail address
	// 2 expires_in_days 999 is not between 1 and 365
}
