package clerktest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"example.com/usher/clerkclient/clerktest"
)

// invite stands for the code under test.
func invite(url, address string) (status int, err error) {
	req, err := http.NewRequest(http.MethodPost, url+"/invitations",
		strings.NewReader(fmt.Sprintf(`{"email_address":%q}`, address)))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer sk_test_x")
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// A sandbox plays Clerk and tells afterwards what was sent to whom. In a test, NewServer does the serving.
func Example() {
	sandbox := clerktest.New(clerktest.Documented("sk_test_x"))
	server := httptest.NewServer(sandbox.Mux())
	defer server.Close()

	sandbox.AddUser("member@example.com")
	for _, address := range []string{"ann@example.com", "Ann@example.com", "member@example.com"} {
		status, err := invite(server.URL+"/v1", address)
		fmt.Println(address, status, err)
	}
	for _, sent := range sandbox.Ledger() {
		fmt.Println("sent to", sent.Address)
	}
	// Output:
	// ann@example.com 200 <nil>
	// Ann@example.com 400 <nil>
	// member@example.com 422 <nil>
	// sent to ann@example.com
}

// The answer is lost, the invitation is not: whoever sends again is told that it exists already.
func ExampleSandbox_Inject() {
	sandbox := clerktest.New(clerktest.Config{})
	server := httptest.NewServer(sandbox)
	defer server.Close()

	sandbox.Inject(clerktest.Fault{Kind: clerktest.FaultReset, After: true, Endpoint: clerktest.Create, Times: 1})
	_, err := invite(server.URL, "ann@example.com")
	fmt.Println("lost:", err != nil)
	status, err := invite(server.URL, "ann@example.com")
	fmt.Println(status, err, len(sandbox.Ledger()))
	// Output:
	// lost: true
	// 400 <nil> 1
}

// With a clock of its own, a test need not wait for an hour to see a limit end.
func ExampleConfig() {
	now := time.Date(2026, 1, 1, 9, 0, 0, 0, time.UTC)
	sandbox := clerktest.New(clerktest.Config{
		Create: clerktest.Limit{N: 1, Window: time.Hour},
		Now:    func() time.Time { return now },
	})
	server := httptest.NewServer(sandbox)
	defer server.Close()

	for _, address := range []string{"ann@example.com", "bob@example.com"} {
		fmt.Println(invite(server.URL, address))
	}
	now = now.Add(time.Hour)
	fmt.Println(invite(server.URL, "bob@example.com"))
	fmt.Println("most in any hour:", sandbox.Stats().Create.Max)
	// Output:
	// 200 <nil>
	// 429 <nil>
	// 200 <nil>
	// most in any hour: 2
}

// A sandbox in its own process is steered over HTTP.
func ExampleSandbox_Control() {
	sandbox := clerktest.New(clerktest.Config{})
	server := httptest.NewServer(sandbox.Mux())
	defer server.Close()

	resp, err := http.Post(server.URL+"/_sandbox/faults", "application/json",
		strings.NewReader(`{"kind":"html","status":503,"times":1}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.StatusCode)
	fmt.Println(invite(server.URL+"/v1", "ann@example.com"))
	fmt.Println(invite(server.URL+"/v1", "ann@example.com"))
	// Output:
	// 200
	// 503 <nil>
	// 200 <nil>
}
