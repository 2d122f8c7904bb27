package clerktest

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxUserAddresses is how many addresses one look-up may name. (Documented)
const maxUserAddresses = 100

// user is what the sandbox keeps of a user.
type user struct {
	id, emailID string
	address     string
	metadata    json.RawMessage
	created     int64
}

// AddUser makes a user with the address, unless there is one. Pending invitations stay as they are.
func (s *Sandbox) AddUser(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isUser(address) {
		s.addUser(s.now(), address, json.RawMessage("{}"))
	}
}

func (s *Sandbox) addUser(now time.Time, address string, metadata json.RawMessage) {
	u := &user{
		id: "user_" + randomText(s.rng, 27), emailID: "idn_" + randomText(s.rng, 27), address: address,
		metadata: metadata, created: millis(now),
	}
	s.users = append(s.users, u)
	s.usersBy[fold(address)] = append(s.usersBy[fold(address)], u)
}

func (s *Sandbox) isUser(address string) bool {
	return slices.ContainsFunc(s.usersBy[fold(address)], func(u *user) bool { return s.same(u.address, address) })
}

// userOrders are the orders that Clerk documents. The users of a sandbox differ only in age and address.
var userOrders = []string{
	"created_at", "updated_at", "email_address", "web3wallet", "first_name", "last_name", "phone_number", "username",
	"last_active_at", "last_sign_in_at",
}

// emptyUserFilters are about what no user of the sandbox has, so they find nobody.
var emptyUserFilters = []string{
	"phone_number", "external_id", "username", "web3_wallet", "organization_id", "phone_number_query",
	"username_query", "name_query", "provider", "provider_user_id",
}

func (c *call) usersWork() work {
	q := query{values: c.r.URL.Query()}
	limit, offset := q.number("limit", 10, 1, 500), q.number("offset", 0, 0, math.MaxInt)
	property, descending := q.order(userOrders...)
	addresses := q.values["email_address"]
	if len(addresses) > maxUserAddresses {
		q.errs = append(q.errs, param("form_param_array_size_exceeded", "email_address", "exceeds maximum size",
			fmt.Sprintf("email_address should not exceed %d items.", maxUserAddresses)))
	}
	if q.values.Has("starting_after") {
		q.errs = append(q.errs, paramUnknown("starting_after")) // better refused than ignored
	}
	if refusal := q.refusal(); refusal != nil {
		return constant(refusal)
	}
	return func(time.Time) *answer {
		wanted := map[string]bool{}
		for _, a := range addresses {
			wanted[c.s.identity(a)] = true
		}
		found := slices.DeleteFunc(slices.Clone(c.s.users), func(u *user) bool {
			return len(wanted) > 0 && !wanted[c.s.identity(u.address)] || !matchesUser(u, q.values)
		})
		if c.endpoint == Count {
			return ok(map[string]any{"object": "total_count", "total_count": len(found)})
		}
		if property == "email_address" {
			byAddress := func(a, b *user) int { return strings.Compare(fold(a.address), fold(b.address)) }
			slices.SortStableFunc(found, byAddress)
		}
		if descending {
			slices.Reverse(found)
		}
		start := min(offset, len(found))
		shown := []map[string]any{}
		for _, u := range found[start:min(start+limit, len(found))] {
			shown = append(shown, u.object())
		}
		return &answer{status: http.StatusOK, body: shown}
	}
}

// matchesUser applies all filters but email_address.
func matchesUser(u *user, values map[string][]string) bool {
	for _, name := range emptyUserFilters {
		if len(values[name]) > 0 {
			return false
		}
	}
	if ids := values["user_id"]; len(ids) > 0 && !slices.Contains(ids, u.id) {
		return false
	}
	contains := func(name string, in ...string) bool {
		has := func(v string) bool { return strings.Contains(fold(v), fold(values[name][0])) }
		return len(values[name]) == 0 || slices.ContainsFunc(in, has)
	}
	return contains("email_address_query", u.address) && contains("query", u.address, u.id)
}

// object is Clerk's user object, with every required field.
func (u *user) object() map[string]any {
	none := []any{}
	return map[string]any{
		"object": "user", "id": u.id, "username": nil, "first_name": nil, "last_name": nil, "external_id": nil,
		"image_url": "https://img.sandbox.example/" + u.id, "has_image": false,
		"primary_email_address_id": u.emailID, "primary_phone_number_id": nil, "primary_web3_wallet_id": nil,
		"email_addresses": []any{map[string]any{
			"object": "email_address", "id": u.emailID, "email_address": u.address, "reserved": false,
			"linked_to": none, "matches_sso_connection": false,
			"verification": map[string]any{
				"object": "verification_otp", "status": "verified", "strategy": "email_code", "attempts": 1,
				"expire_at": u.created + 600_000,
			},
			"created_at": u.created, "updated_at": u.created,
		}},
		"phone_numbers": none, "web3_wallets": none, "passkeys": none, "external_accounts": none,
		"saml_accounts": none, "enterprise_accounts": none,
		"public_metadata": u.metadata, "private_metadata": map[string]any{}, "unsafe_metadata": map[string]any{},
		"password_enabled": false, "two_factor_enabled": false, "totp_enabled": false, "backup_code_enabled": false,
		"mfa_enabled_at": nil, "mfa_disabled_at": nil, "legal_accepted_at": nil,
		"last_sign_in_at": nil, "last_active_at": nil, "banned": false, "locked": false,
		"lockout_expires_in_seconds": nil, "verification_attempts_remaining": 100,
		"delete_self_enabled": true, "create_organization_enabled": true,
		"created_at": u.created, "updated_at": u.created,
	}
}
