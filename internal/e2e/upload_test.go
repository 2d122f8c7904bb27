package e2e

import (
	"encoding/json"
	"fmt"
	"syscall"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// TestAWorkerFinishesAnUploadWhoseProducerDied: it died when the upload was entered, before any recipient was in the
// campaign. Another is killed wherever it is; its upload is made whole or not at all.
func TestAWorkerFinishesAnUploadWhoseProducerDied(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_CREATE=0", "USHER_LIMIT_BULK=0", "USHER_LIMIT_OVERALL=0")
	const n = 300 // two slices
	recipients := make([]ledger.Recipient, n)
	for i := range recipients {
		address := fmt.Sprintf("bulk%d@example.com", i)
		data, err := json.Marshal(tasks.Recipient{EmailAddress: address})
		testkit.NoError(t, err)
		recipients[i] = ledger.Recipient{Folded: address, Data: data}
	}
	upload := ledger.New(s.rdb, "usher").Stage()
	testkit.NoError(t, upload.Add(t.Context(), recipients))
	testkit.NoError(t, upload.Enter(t.Context(), "entered", time.Time{}))
	if c := s.campaign("entered"); c.State != tasks.CampaignUploading || c.Recipients != 0 {
		t.Errorf("%+v", c)
	}

	const many = 30_000
	list := s.write("many.csv", csv("many", many))
	producer := s.begin(s.command("enqueue", nil, "bulk-invite", list, "--campaign", "killed", "--in", "1h"))
	testkit.Eventually(t, "its upload is under way", func() bool {
		return s.rdb.ZScore(t.Context(), store.Keys("usher").Campaigns(), "killed").Err() == nil
	})
	producer.stop(syscall.SIGKILL)

	s.worker()
	testkit.Eventually(t, "the campaign has ended", func() bool {
		return s.campaign("entered").State == tasks.CampaignFinished
	})
	s.onceEach(n, 0)
	testkit.Eventually(t, "nothing moves any more", func() bool {
		return s.rdb.Exists(t.Context(), store.Keys("usher").Moving()).Val() == 0
	})
	again := s.ok("bulk-invite", list, "--campaign", "killed", "--in", "1h")
	if added := again["added"].(float64); added != 0 && added != many {
		t.Errorf("the killed upload was made in part: its repetition added %v", added)
	}
	c := s.campaign("killed")
	if c.State != tasks.CampaignScheduled || c.Recipients != many || s.state("bulk:killed:1") != tasks.StateScheduled {
		t.Errorf("%+v", c)
	}
}
