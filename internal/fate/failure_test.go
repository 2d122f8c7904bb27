package fate

import "testing"

// TestWordsHoldWhatIsKnown: Clerk's answers need not have a code, and a lost one has no status.
func TestWordsHoldWhatIsKnown(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]Failure{
		"422 form_x: It is no address.": {HTTPStatus: 422, Code: "form_x", Message: "It is no address."},
		"422: Unprocessable":            {HTTPStatus: 422, Message: "Unprocessable"},
		"timeout: no answer came":       {Code: "timeout", Message: "no answer came"},
		"no answer came":                {Message: "no answer came"},
		"503 down":                      {HTTPStatus: 503, Code: "down"},
		"503":                           {HTTPStatus: 503},
		"":                              {},
	} {
		if got := f.Words(); got != want {
			t.Errorf("%+v: %q, want %q", f, got, want)
		}
	}
}
