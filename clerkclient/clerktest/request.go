package clerktest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxBody is the most bytes of a request body. Clerk does not say its own bound.
const maxBody = 1 << 20

// ask is one invitation that a request asks for.
type ask struct {
	address        string
	metadata       json.RawMessage
	redirectURL    string
	notify         bool
	ignoreExisting bool
	expiresInDays  int
	templateSlug   string
}

func defaultAsk(address string) ask {
	return ask{address: address, metadata: json.RawMessage("{}"), notify: true, expiresInDays: 30}
}

// read reads the request: the addresses in it, as far as they can be read, and the work that it asks for. The work
// of a malformed request is to refuse it.
func (c *call) read() (addresses []string, w work) {
	switch c.endpoint {
	case List:
		return nil, c.listWork()
	case Users, Count:
		return c.r.URL.Query()["email_address"], c.usersWork()
	case Revoke, Delete:
		// That a client leaves shows only after its body.
		_, _ = io.Copy(io.Discard, http.MaxBytesReader(c.w, c.r.Body, maxBody))
		if c.endpoint == Delete {
			return nil, c.deleteWork()
		}
		return nil, c.revokeWork()
	}
	items, refusal := c.items()
	for _, item := range items {
		var address, slug string
		_ = json.Unmarshal(item["email_address"], &address)
		_ = json.Unmarshal(item["template_slug"], &slug)
		addresses, c.slugs = append(addresses, address), append(c.slugs, slug)
	}
	if refusal != nil {
		return addresses, constant(refusal)
	}
	asks := make([]ask, len(items))
	var errs []apiError
	for i, item := range items {
		f := fields{item: item, bulk: c.endpoint == Bulk, max: c.cfg.MetadataMax}
		asks[i] = f.ask()
		errs = append(errs, f.errs...)
	}
	if len(errs) > 0 {
		return addresses, constant(refuse(http.StatusUnprocessableEntity, errs...))
	}
	return addresses, c.inviteWork(asks)
}

func constant(a *answer) work { return func(time.Time) *answer { return a } }

// items reads the JSON objects of a create (one) or a bulk.
func (c *call) items() ([]map[string]json.RawMessage, *answer) {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if kind, _, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type")); kind != "application/json" {
		return nil, errUnsupportedType()
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, errTooLarge()
	} else if err != nil {
		return nil, errBodyInvalid("The request body could not be read.")
	}
	if c.endpoint == Create {
		var item map[string]json.RawMessage
		if json.Unmarshal(body, &item) != nil || item == nil {
			return nil, errBodyInvalid("The request body is not a JSON object.")
		}
		return []map[string]json.RawMessage{item}, nil
	}
	var items []map[string]json.RawMessage
	isNull := func(item map[string]json.RawMessage) bool { return item == nil }
	if json.Unmarshal(body, &items) != nil || items == nil || slices.ContainsFunc(items, isNull) {
		return nil, errBodyInvalid("The request body is not a JSON array of objects.")
	}
	switch {
	case len(items) == 0:
		return nil, refuse(http.StatusUnprocessableEntity, paramMissing("email_address"))
	case len(items) > maxBulk:
		return items, errBulkSize(len(items))
	}
	return items, nil
}

// fields reads the fields of one invitation and gathers their faults.
type fields struct {
	item map[string]json.RawMessage
	bulk bool
	max  int // bytes of metadata; negative: any number
	errs []apiError
}

func (f *fields) ask() ask {
	a := defaultAsk("")
	known := []string{
		"email_address", "public_metadata", "redirect_url", "notify", "ignore_existing", "expires_in_days",
		"template_slug",
	}
	for _, name := range slices.Sorted(maps.Keys(f.item)) {
		if !slices.Contains(known, name) {
			f.errs = append(f.errs, paramUnknown(name))
		}
	}
	if _, given := f.item["email_address"]; !given {
		f.errs = append(f.errs, paramMissing("email_address"))
	} else if f.take("email_address", "string", false, &a.address) && !validAddress(a.address) {
		f.errs = append(f.errs, paramFormat("email_address", "a valid email address"))
	}
	f.metadata(&a)
	if f.take("redirect_url", "string", f.bulk, &a.redirectURL) && !validRedirect(a.redirectURL) {
		f.errs = append(f.errs, paramFormat("redirect_url", "a valid url"))
	}
	f.take("notify", "boolean", true, &a.notify)
	f.take("ignore_existing", "boolean", true, &a.ignoreExisting)
	if f.take("expires_in_days", "integer", true, &a.expiresInDays) && (a.expiresInDays < 1 || a.expiresInDays > 365) {
		f.errs = append(f.errs, paramValue("expires_in_days", "between 1 and 365"))
	}
	slugs := []string{"invitation", "waitlist_invitation"}
	if f.take("template_slug", "string", false, &a.templateSlug) && !slices.Contains(slugs, a.templateSlug) {
		f.errs = append(f.errs, paramValue("template_slug", quoted(slugs)))
	}
	return a
}

// take reads one field. It reports false if the field is absent, null or mistyped.
func (f *fields) take(name, kind string, nullable bool, into any) bool {
	raw, given := f.item[name]
	if !given {
		return false
	}
	if string(raw) == "null" {
		if !nullable {
			f.errs = append(f.errs, paramType(name, kind))
		}
		return false
	}
	if json.Unmarshal(raw, into) != nil {
		f.errs = append(f.errs, paramType(name, kind))
		return false
	}
	return true
}

func (f *fields) metadata(a *ask) {
	var object map[string]json.RawMessage
	if !f.take("public_metadata", "object", f.bulk, &object) {
		return
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, f.item["public_metadata"]); err != nil {
		f.errs = append(f.errs, paramType("public_metadata", "object"))
		return
	}
	if f.max >= 0 && compact.Len() > f.max {
		long := fmt.Sprintf("The given public_metadata exceeds the maximum allowed size of %d bytes.", f.max)
		f.errs = append(f.errs, param("form_param_exceeds_allowed_size", "public_metadata",
			"exceeds the maximum allowed size", long))
		return
	}
	a.metadata = compact.Bytes()
}

// validAddress accepts one address without a display name, at a dotted domain.
func validAddress(address string) bool {
	parsed, err := mail.ParseAddress(address)
	if err != nil || parsed.Address != address || len(address) > 254 {
		return false
	}
	domain := address[strings.LastIndexByte(address, '@')+1:]
	return strings.Contains(domain, ".") && !strings.ContainsAny(domain, "[]")
}

// validRedirect accepts an absolute URL or a path.
func validRedirect(target string) bool {
	u, err := url.Parse(target)
	return err == nil && (u.IsAbs() || strings.HasPrefix(target, "/"))
}

// query reads the parameters that lists share and gathers their faults.
type query struct {
	values url.Values
	errs   []apiError
}

func (q *query) number(name string, otherwise, least, most int) int {
	if !q.values.Has(name) {
		return otherwise
	}
	n, err := strconv.Atoi(q.values.Get(name))
	if err != nil {
		q.errs = append(q.errs, paramType(name, "integer"))
	} else if n < least || n > most {
		q.errs = append(q.errs, paramValue(name, fmt.Sprintf("between %d and %d", least, most)))
	}
	return n
}

func (q *query) flag(name string) bool {
	switch q.values.Get(name) {
	case "true":
		return true
	case "false", "":
	default:
		q.errs = append(q.errs, paramType(name, "boolean"))
	}
	return false
}

// order reads order_by: the property, and whether it descends. A + that was not escaped arrives as a space.
func (q *query) order(properties ...string) (property string, descending bool) {
	by := q.values.Get("order_by")
	if by == "" {
		by = "-created_at"
	}
	property = strings.TrimLeft(by[:1], "+- ") + by[1:]
	if !slices.Contains(properties, property) {
		q.errs = append(q.errs, paramValue("order_by", quoted(properties)))
	}
	return property, by[0] == '-'
}

// refusal is the answer if there were faults, and else nil.
func (q *query) refusal() *answer {
	if len(q.errs) == 0 {
		return nil
	}
	return refuse(http.StatusUnprocessableEntity, q.errs...)
}
