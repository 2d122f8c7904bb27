package call

import (
	"testing"

	"example.com/usher/internal/policy"
)

func TestTheRestAfterARefusalGrowsWithProbesOnly(t *testing.T) {
	t.Parallel()
	g := NewKeyGate()
	for range 100 { // calls in flight, refused together
		g.answered(false, false)
	}
	if rest := g.rest(); rest != 2*policy.KeyRest {
		t.Errorf("it rests for %s", rest)
	}
	for range 20 {
		g.answered(false, true)
	}
	if rest := g.rest(); rest != policy.KeyRestMax {
		t.Errorf("after many probes it rests for %s", rest)
	}
	g.answered(true, true)
	if !g.Open() {
		t.Error("the key works, and the gate is closed")
	}
}
