package erasure

import "testing"

func TestWhatCarriesAnAddress(t *testing.T) {
	t.Parallel()
	const address = "ada@example.com"
	for payload, want := range map[string]bool{
		`{"v":1,"email_address":"ada@example.com"}`:                                                      true,
		`{"v":1,"email_address":" Ada@Example.COM"}`:                                                     true,
		`{"v":1,"email_address":"nada@example.com"}`:                                                     false,
		`{"v":1,"email_address":"bob@example.com","public_metadata":{"friend":"ada@example.com"}}`:       false, // it is bob's
		`{"v":1,"email_address":"ada@example.com","public_metadata":{"friend":"bob@example.com"},"x":1}`: true,
		`{"v":1,"campaign":"ada"}`:                                                                       false,
		`garbage of ada@example.com, kept`:                                                               true,
		`garbage <ADA@example.com>`:                                                                      true,
		`{"email_address":["ada@example.com"]}`:                                                          true,
		`garbage of nada@example.com`:                                                                    false,
		`garbage of ada@example.com.au`:                                                                  false,
		`garbage of ada@example.community`:                                                               false,
		`nada@example.com, and ada@example.com.`:                                                         true,
		``:                                                                                               false,
	} {
		if got := carries([]byte(payload), address); got != want {
			t.Errorf("%q: %t, want %t", payload, got, want)
		}
	}
}
