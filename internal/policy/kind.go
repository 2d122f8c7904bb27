package policy

import (
	"errors"
	"fmt"
	"time"

	"example.com/usher/internal/settings"
)

// ErrNamespace means that the namespace belongs to keys of the other kind.
var ErrNamespace = errors.New("the namespace belongs to the other kind of key")

// OtherKind is the error of a key of another kind than the one that a namespace belongs to. It is an ErrNamespace.
func OtherKind(namespace, bound, kind string) error {
	const format = "%w: namespace %q was first used with a %s key, and this is a %s key; set USHER_NAMESPACE to another name"
	return fmt.Errorf(format, ErrNamespace, namespace, bound, kind)
}

// OverallFor is half of what Clerk allows all calls together with a key of a kind (documented): the rest is for
// whatever else uses it.
func OverallFor(kind string) settings.Rate {
	if kind == settings.KindLive {
		return settings.Rate{N: 500, Window: 10 * time.Second}
	}
	return settings.Rate{N: 50, Window: 10 * time.Second}
}

// Default gives the limits and the timeout by which workers send that are not told otherwise, and nothing else of a
// policy.
func Default(kind string) Policy {
	return Policy{
		Create: settings.Rate{N: 100, Window: time.Hour}, Bulk: settings.Rate{N: 25, Window: time.Hour},
		Overall: OverallFor(kind), Reserve: 20, Timeout: 30 * time.Second,
	}
}
