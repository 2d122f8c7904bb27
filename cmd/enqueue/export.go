package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"time"

	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/store/ledger"
)

type campaignExportCommand struct {
	campaignName
	CSV bool `name:"csv" help:"Write CSV, which is the default."`
	outputFlag
}

// Run is called by kong.
func (c *campaignExportCommand) Run(a *app) (err error) {
	if c.CSV && a.out.json {
		return &usageError{errors.New("--csv and --json exclude each other")}
	}
	campaign, err := a.ledgers.Get(a.ctx, c.Name) // before a file is made for one that does not exist
	if err != nil {
		return err
	}
	into, end, err := c.open(a.out.stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	x := exporter{app: a, campaign: campaign, directory: directory.New(a.rdb, a.namespace), write: csvWriter(into)}
	if a.out.json {
		x.write = jsonWriter(into)
	}
	if err := a.ledgers.Each(a.ctx, c.Name, x.add); err != nil {
		return err
	}
	if err := x.flush(); err != nil {
		return err
	}
	return x.write(nil)
}

// exportRow is what is told of a recipient.
type exportRow struct {
	EmailAddress string     `json:"email_address"`
	Outcome      string     `json:"outcome"` // waiting, open, sent, dead, or cancelled for one that is left over
	InvitationID *string    `json:"invitation_id"`
	SettledAt    *time.Time `json:"settled_at"`
	Cause        *string    `json:"cause"`    // the code of a dead one
	Attempts     int        `json:"attempts"` // calls made for it
	// InvitationStatus is what the directory says of the invitation, and SyncedAt as of when.
	InvitationStatus *string    `json:"invitation_status"` // unknown if it has it not
	SyncedAt         *time.Time `json:"synced_at"`
}

// exportChunk is how many recipients are looked up in the directory together.
const exportChunk = 500

// exporter writes recipients a chunk at a time.
type exporter struct {
	app       *app
	campaign  ledger.Campaign
	directory *directory.Directory
	chunk     []exportRow
	write     func([]exportRow) error // nothing: there is no more
}

func (x *exporter) add(e ledger.Entry) error {
	x.chunk = append(x.chunk, x.row(e))
	if len(x.chunk) < exportChunk {
		return nil
	}
	return x.flush()
}

func (x *exporter) row(e ledger.Entry) exportRow {
	row := exportRow{Outcome: string(e.State), InvitationID: pointer(e.InvitationID), Attempts: e.Attempts}
	var recipient struct {
		EmailAddress string `json:"email_address"`
	}
	// A newer version's recipient may have fields that this one does not know, and one that cannot be read is a dead letter: it has a line.
	_ = json.Unmarshal(e.Recipient, &recipient)
	row.EmailAddress = recipient.EmailAddress
	switch {
	case e.State == ledger.RowDead:
		row.Cause = pointer(e.Code)
	case e.State == ledger.RowSent && !e.Foreign:
		row.Attempts++ // the one that made it
	case e.State == ledger.RowWaiting && x.campaign.State == ledger.Cancelled:
		row.Outcome = "cancelled"
	}
	if e.SettledAt > 0 {
		row.SettledAt = pointer(time.Unix(e.SettledAt, 0).UTC())
	}
	return row
}

// flush writes the chunk, with what the directory says.
func (x *exporter) flush() error {
	if len(x.chunk) == 0 {
		return nil
	}
	var ids []string
	for _, row := range x.chunk {
		if row.InvitationID != nil {
			ids = append(ids, *row.InvitationID)
		}
	}
	found, syncedAt, err := x.directory.Get(x.app.ctx, ids)
	if err != nil {
		return err
	}
	for i, row := range x.chunk {
		if row.InvitationID != nil {
			x.chunk[i].InvitationStatus, x.chunk[i].SyncedAt = pointer(found[*row.InvitationID].Status), pointer(syncedAt)
		}
	}
	err = x.write(x.chunk)
	x.chunk = x.chunk[:0]
	return err
}

func jsonWriter(w io.Writer) func([]exportRow) error {
	buffer := bufio.NewWriter(w)
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	return func(rows []exportRow) error {
		for _, row := range rows {
			if err := encoder.Encode(row); err != nil {
				return err
			}
		}
		return buffer.Flush()
	}
}

func csvWriter(into io.Writer) func([]exportRow) error {
	w := csv.NewWriter(into)
	header := []string{"email_address", "outcome", "invitation_id", "settled_at", "cause", "attempts", "invitation_status", "synced_at"}
	return func(rows []exportRow) error {
		if header != nil {
			if err := w.Write(header); err != nil {
				return err
			}
			header = nil
		}
		for _, row := range rows {
			err := w.Write([]string{
				row.EmailAddress, row.Outcome, orEmpty(row.InvitationID), stamp(row.SettledAt), orEmpty(row.Cause), strconv.Itoa(row.Attempts),
				orEmpty(row.InvitationStatus), stamp(row.SyncedAt),
			})
			if err != nil {
				return err
			}
		}
		w.Flush()
		return w.Error()
	}
}

// pointer is nil for a value that is not known.
func pointer[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func stamp(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Format(time.RFC3339)
}
