package clerkclient_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/clerk/clerk-sdk-go/v2/invitation"

	"example.com/usher/clerkclient"
)

// serve plays Clerk with one answer for everything.
func serve(status int, body string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "90")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
}

func Example() {
	server := serve(200,
		`{"id":"inv_2Q","email_address":"ada@example.com","status":"pending",`+
			`"url":"https://clerk.example.com/?__clerk_ticket=eyJ"}`)
	defer server.Close()

	client, err := clerkclient.New(clerkclient.Config{Key: "sk_test_example", BaseURL: server.URL + "/v1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the call's deadline
	defer cancel()
	created, answer, err := client.Create(ctx, &invitation.CreateParams{EmailAddress: "Ada@example.com"})
	fmt.Println(created, answer.Status, err)
	// Output: clerkclient.Invitation{inv_2Q, pending} 200 <nil>
}

func ExampleError() {
	server := serve(429, `{"errors":[{"code":"too_many_requests","message":"Too many requests."}]}`)
	defer server.Close()
	client, err := clerkclient.New(clerkclient.Config{Key: "sk_test_example", BaseURL: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	_, _, err = client.Create(context.Background(), &invitation.CreateParams{EmailAddress: "ada@example.com"})
	if refusal, ok := errors.AsType[*clerkclient.Error](err); ok && refusal.Outcome == clerkclient.Throttled {
		fmt.Println("wait for", refusal.RetryAfter)
	}
	fmt.Println(err)
	// Output:
	// wait for 1m30s
	// clerk: POST /invitations: 429 too_many_requests: Too many requests. (retry after 1m30s)
}

func ExampleOutcomeOf() {
	fmt.Println(clerkclient.OutcomeOf(nil))
	fmt.Println(clerkclient.OutcomeOf(fmt.Errorf("sending: %w", &clerkclient.Error{Outcome: clerkclient.Rejected})))
	// Output:
	// created
	// rejected
}

func ExampleClient_CreateBulk() {
	server := serve(400,
		`{"errors":[{"code":"duplicate_record","message":"duplicate invitation","meta":{`+
			`"email_addresses":["Ada@example.com"]}}]}`)
	defer server.Close()
	client, err := clerkclient.New(clerkclient.Config{Key: "sk_test_example", BaseURL: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	_, _, err = client.CreateBulk(context.Background(), []*invitation.CreateParams{
		{EmailAddress: "ada@example.com"}, {EmailAddress: "grace@example.com"},
	})
	if refusal, ok := errors.AsType[*clerkclient.Error](err); ok {
		fmt.Println(refusal.Outcome, refusal.Code, refusal.Offenders)
	}
	// Output: rejected duplicate_record [ada@example.com]
}
