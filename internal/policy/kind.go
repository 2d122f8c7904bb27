package policy

import (
	"errors"
	"fmt"
	"time"

	"example.com/usher/internal/settings"
)

// ErrNamespace means that the namespace is for keys of the other kind.
var ErrNamespace = errors.New("the namespace belongs to the other kind of key")

// OtherKind is the error of a key that is not of the kind that a namespace is bound to. It is an ErrNamespace.
func OtherKind(namespace, bound, kind string) error {
	return fmt.Errorf("%w: namespace %q was first used with a %s key, and this is a %s key; "+
		"set USHER_NAMESPACE to another name", ErrNamespace, namespace, bound, kind)
}

// Default returns the limits, the reserve and the timeout of workers without settings, and nothing else of a policy.
// Overall is half of what Clerk allows for a key of this kind (documented). The rest is for other users of the key.
func Default(kind string) Policy {
	p := Policy{
		Create:  settings.Rate{N: 100, Window: time.Hour},
		Bulk:    settings.Rate{N: 25, Window: time.Hour},
		Overall: settings.Rate{N: 50, Window: 10 * time.Second},
		Reserve: 20, Timeout: 30 * time.Second,
	}
	if kind == settings.KindLive {
		p.Overall.N = 500
	}
	return p
}
