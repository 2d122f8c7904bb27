package clerktest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxBulk is how many invitations a bulk may have. (Documented)
const maxBulk = 10

// Invitation is Clerk's invitation object. At Clerk, anybody with the ticket in its URL can sign up as the address.
type Invitation struct {
	Object         string          `json:"object"`
	ID             string          `json:"id"`
	EmailAddress   string          `json:"email_address"`
	PublicMetadata json.RawMessage `json:"public_metadata"`
	Revoked        bool            `json:"revoked,omitempty"` // only shown when true
	Status         string          `json:"status"`            // pending, accepted, revoked or expired
	URL            string          `json:"url"`
	ExpiresAt      int64           `json:"expires_at"` // all three in milliseconds since 1970
	CreatedAt      int64           `json:"created_at"`
	UpdatedAt      int64           `json:"updated_at"`
}

// invitation is what the sandbox keeps of an invitation.
type invitation struct {
	Invitation
	folded  string
	expires time.Time
	shown   time.Time // when lists begin to show it
	counted time.Time // when it begins to count as a duplicate
	bulk    bool
}

// view is the invitation as it is at an instant: a pending one that is past its expiry is expired.
func (v *invitation) view(now time.Time) Invitation {
	view := v.Invitation
	view.Status = v.status(now)
	return view
}

func (v *invitation) status(now time.Time) string {
	if v.Status == "pending" && !now.Before(v.expires) {
		return "expired"
	}
	return v.Status
}

// inviteWork is a create or a bulk whose fields are all valid.
func (c *call) inviteWork(asks []ask) work {
	bulk := c.endpoint == Bulk
	return func(now time.Time) *answer {
		s := c.s
		good, refusal := s.judge(now, asks, bulk, c.cfg)
		if refusal != nil && !(bulk && c.cfg.BulkPartial) {
			return refusal
		}
		made := make([]Invitation, len(good))
		for i, a := range good {
			made[i] = s.invite(now, a, c)
		}
		if refusal != nil {
			return refusal
		}
		if !bulk {
			return ok(made[0])
		}
		slices.Reverse(made) // the order is not promised
		return ok(made)
	}
}

// judge returns the invitations that can be made, and the answer about the others. If there are several reasons, the
// answer has the first one in the order of this function.
func (s *Sandbox) judge(now time.Time, asks []ask, bulk bool, cfg Config) (good []ask, refusal *answer) {
	if s.quota >= 0 && len(asks) > s.quota {
		return nil, errQuota()
	}
	blocked, subaddressed, rejected, taken, duplicate := []string{}, 0, []string{}, []string{}, []string{}
	for i, a := range asks {
		_, domain, _ := strings.Cut(fold(a.address), "@")
		_, refused := s.rejected[fold(a.address)]
		coversUsers := cfg.IgnoreExistingCoversUsers
		if bulk {
			coversUsers = cfg.BulkIgnoreExistingCoversUsers
		}
		switch {
		case s.blocked[fold(a.address)] || s.blocked["@"+domain]:
			blocked = append(blocked, a.address)
		case cfg.RefuseSubaddresses && strings.Contains(a.address, "+"):
			subaddressed++
		case refused:
			rejected = append(rejected, a.address)
		case s.isUser(a.address) && !(a.ignoreExisting && coversUsers):
			taken = append(taken, a.address)
		case !a.ignoreExisting && (s.stands(now, a.address, cfg) || s.among(asks[:i], a.address)):
			duplicate = append(duplicate, a.address)
		default:
			good = append(good, a)
		}
	}
	switch {
	case len(blocked) > 0:
		refusal = errNotAllowed(blocked)
	case subaddressed > 0:
		refusal = errNotAllowed(nil)
	case len(rejected) > 0:
		why := s.rejected[fold(rejected[0])]
		refusal = errRejected(why.status, why.code)
	case len(taken) > 0:
		refusal = errUserExists(taken, cfg.UserErrorNamesAddresses)
	case len(duplicate) > 0:
		refusal = errDuplicate(duplicate, cfg.DuplicatesNamed)
	case cfg.DevMonthlyCap > 0 && !cfg.DevCapSilent && s.emails[month(now)]+emailsOf(good) > cfg.DevMonthlyCap:
		return nil, errDevCap()
	}
	return good, refusal
}

// identity is equal for two addresses that are one to Clerk.
func (s *Sandbox) identity(address string) string {
	if s.cfg.CaseSensitive {
		return address
	}
	return fold(address)
}

func (s *Sandbox) same(a, b string) bool { return s.identity(a) == s.identity(b) }

// stands reports whether an invitation stands in the way of another one to the address.
func (s *Sandbox) stands(now time.Time, address string, cfg Config) bool {
	return slices.ContainsFunc(s.byAddress[fold(address)], func(v *invitation) bool {
		status := v.status(now)
		counts := status == "pending" || status == "revoked" && cfg.RevokedCountsAsDuplicate
		counts = counts && !now.Before(v.counted)
		return counts && s.same(v.EmailAddress, address)
	})
}

func (s *Sandbox) among(asks []ask, address string) bool {
	return slices.ContainsFunc(asks, func(a ask) bool { return s.same(a.address, address) })
}

// invite makes an invitation and writes it into the ledger.
func (s *Sandbox) invite(now time.Time, a ask, c *call) Invitation {
	bulk := c.endpoint == Bulk
	if s.quota > 0 {
		s.quota--
	}
	emailed := a.notify
	if counts(a) {
		emailed = c.cfg.DevMonthlyCap == 0 || s.emails[month(now)] < c.cfg.DevMonthlyCap
		if emailed {
			s.emails[month(now)]++
		}
	}
	v := s.add(now, a, bulk)
	s.counts[c.endpoint].Created++
	s.sent = append(s.sent, Sent{
		InvitationID: v.ID, Address: a.address, Folded: fold(a.address), At: now, Request: c.number, Bulk: bulk,
		Late: c.late, Emailed: emailed, Notify: a.notify, IgnoreExisting: a.ignoreExisting, PublicMetadata: a.metadata,
		RedirectURL: a.redirectURL, ExpiresInDays: a.expiresInDays, TemplateSlug: a.templateSlug,
	})
	return v.view(now)
}

// add makes an invitation that is not in the ledger.
func (s *Sandbox) add(now time.Time, a ask, bulk bool) *invitation {
	address := a.address
	if s.cfg.FoldAddresses {
		address = fold(address)
	}
	expires := now.AddDate(0, 0, a.expiresInDays)
	v := &invitation{
		Invitation: Invitation{
			Object: "invitation", ID: "inv_" + randomText(s.rng, 27), EmailAddress: address,
			PublicMetadata: a.metadata, Status: "pending", URL: ticketURL(s.rng),
			ExpiresAt: millis(expires), CreatedAt: millis(now), UpdatedAt: millis(now),
		},
		folded: fold(address), expires: expires, shown: now.Add(s.cfg.ListLag),
		counted: now.Add(s.cfg.DuplicateLag), bulk: bulk,
	}
	s.invitations = append(s.invitations, v)
	s.byID[v.ID] = v
	s.byAddress[v.folded] = append(s.byAddress[v.folded], v)
	return v
}

// ticketURL looks like Clerk's: a JSON web token in the query.
func ticketURL(rng *rand.Rand) string {
	const accept = "https://clerk.sandbox.example/v1/tickets/accept?ticket=eyJhbGciOiJSUzI1NiJ9."
	return accept + randomText(rng, 48) + "." + randomText(rng, 43)
}

// counts reports whether the e-mail of an invitation counts towards the monthly cap of a development instance.
func counts(a ask) bool { return a.notify && !strings.Contains(a.address, "+clerk_test") }

func emailsOf(asks []ask) (n int) {
	for _, a := range asks {
		if counts(a) {
			n++
		}
	}
	return n
}

func month(t time.Time) string { return t.UTC().Format("2006-01") }

// revokeWork ends an invitation.
func (c *call) revokeWork() work {
	return func(now time.Time) *answer {
		v := c.s.byID[c.id]
		if v == nil {
			return errNotFound("No invitation was found with id " + c.id + ".")
		}
		switch status := v.status(now); {
		case status == "revoked":
			return errRevoke("invitation_already_revoked", "it is already revoked")
		case status == "accepted":
			return errRevoke("invitation_already_accepted", "it is already accepted")
		case status == "expired" && !c.cfg.ExpiredRevocable:
			return errRevoke("invitation_not_pending", "it is expired")
		}
		v.Status, v.Revoked, v.UpdatedAt = "revoked", true, millis(now)
		return ok(v.view(now))
	}
}

// deleteWork removes an invitation, whatever its status.
func (c *call) deleteWork() work {
	return func(time.Time) *answer {
		s, v := c.s, c.s.byID[c.id]
		if v == nil && !(s.deleted[c.id] && c.cfg.DeletedAgain) {
			return errNotFound("No invitation was found with id " + c.id + ".")
		}
		if v != nil {
			gone := func(other *invitation) bool { return other == v }
			s.invitations = slices.DeleteFunc(s.invitations, gone)
			s.byAddress[v.folded] = slices.DeleteFunc(s.byAddress[v.folded], gone)
			delete(s.byID, c.id)
			s.deleted[c.id] = true
		}
		return ok(map[string]any{"object": "invitation", "id": c.id, "deleted": true})
	}
}

// AddInvitation makes a pending invitation with Clerk's defaults. No limit and no check applies, and the ledger does
// not have it.
func (s *Sandbox) AddInvitation(address string) Invitation {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	return s.add(now, defaultAsk(address), false).view(now)
}

// Restore adds invitations as another sandbox has shown them, the oldest first. No limit and no check applies, and the
// ledger does not have them. A missing updated_at means that the invitation has not changed since it was made, and a
// missing expires_at means Clerk's default.
func (s *Sandbox) Restore(invitations ...Invitation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, shown := range invitations {
		v := s.add(time.UnixMilli(shown.CreatedAt), defaultAsk(shown.EmailAddress), false)
		delete(s.byID, v.ID)
		v.ID, v.Status, v.Revoked = shown.ID, shown.Status, shown.Status == "revoked"
		v.UpdatedAt = cmp.Or(shown.UpdatedAt, v.UpdatedAt)
		if shown.PublicMetadata != nil {
			v.PublicMetadata = shown.PublicMetadata
		}
		if shown.ExpiresAt != 0 {
			v.expires, v.ExpiresAt = time.UnixMilli(shown.ExpiresAt), shown.ExpiresAt
		}
		s.byID[v.ID] = v
	}
}

// Invitation returns an invitation as it is now. It reports false if none has this id.
func (s *Sandbox) Invitation(id string) (Invitation, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.byID[id]
	if v == nil {
		return Invitation{}, false
	}
	return v.view(s.now()), true
}

// Invitations returns all invitations as they are now, the oldest first. A lag of lists does not count.
func (s *Sandbox) Invitations() []Invitation {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	shown := make([]Invitation, len(s.invitations))
	for i, v := range s.invitations {
		shown[i] = v.view(now)
	}
	return shown
}

// Accept accepts a pending invitation: its address becomes a user with its metadata. It fails for any other
// invitation.
func (s *Sandbox) Accept(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	v, err := s.pending(id, now)
	if err != nil {
		return err
	}
	v.Status, v.UpdatedAt = "accepted", millis(now)
	metadata := v.PublicMetadata
	if v.bulk && s.cfg.BulkDropsMetadata {
		metadata = json.RawMessage("{}")
	}
	if !s.isUser(v.EmailAddress) {
		s.addUser(now, v.EmailAddress, metadata)
	}
	return nil
}

// Expire makes a pending invitation expire now. It fails for any other invitation.
func (s *Sandbox) Expire(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	v, err := s.pending(id, now)
	if err != nil {
		return err
	}
	v.expires, v.ExpiresAt, v.UpdatedAt = now, millis(now), millis(now)
	return nil
}

func (s *Sandbox) pending(id string, now time.Time) (*invitation, error) {
	v := s.byID[id]
	if v == nil {
		return nil, fmt.Errorf("invitation %q: there is none of this id", id)
	}
	if status := v.status(now); status != "pending" {
		return nil, fmt.Errorf("invitation %s is %s, not pending", id, status)
	}
	return v, nil
}

// BlockAddress refuses creates for the address with 403 not_allowed_access.
func (s *Sandbox) BlockAddress(address string) { s.block(fold(address)) }

// BlockDomain refuses creates for all addresses at this very domain with 403 not_allowed_access.
func (s *Sandbox) BlockDomain(domain string) { s.block("@" + fold(domain)) }

func (s *Sandbox) block(entry string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked[entry] = true
}

// RejectAddress refuses creates for the address with a status and a code, as Clerk may refuse an address that looks
// valid. Status 0 means 422, and an empty code form_param_format_invalid.
func (s *Sandbox) RejectAddress(address string, status int, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if status == 0 {
		status = http.StatusUnprocessableEntity
	}
	if code == "" {
		code = "form_param_format_invalid"
	}
	s.rejected[fold(address)] = rejection{status: status, code: code}
}

// SetQuota is how many more invitations can be made before 403 quota_exceeded; negative means any number.
func (s *Sandbox) SetQuota(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quota = max(n, -1)
}
