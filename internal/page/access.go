package page

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"example.com/usher/internal/tokens"
)

// keyring is the tokens with which one logs in.
type keyring struct {
	file  *tokens.File
	admin *tokens.Identity
}

func newKeyring(file *tokens.File, admin string) keyring {
	k := keyring{file: file}
	if admin != "" {
		k.admin = &tokens.Identity{
			Name: "admin", Scopes: []tokens.Scope{tokens.Read, tokens.Operate}, Hash: sha256.Sum256([]byte(admin)),
		}
	}
	return k
}

func (k keyring) empty() bool { return k.file == nil && k.admin == nil }

// lookup tells who a token stands for.
func (k keyring) lookup(token string) (tokens.Identity, bool) {
	sum := sha256.Sum256([]byte(token))
	if k.admin != nil && hmac.Equal(sum[:], k.admin.Hash[:]) {
		return *k.admin, true
	}
	if k.file == nil {
		return tokens.Identity{}, false
	}
	return k.file.Lookup(token)
}

// named gives the tokens of a name.
func (k keyring) named(name string) (found []tokens.Identity) {
	if k.admin != nil && k.admin.Name == name {
		found = append(found, *k.admin)
	}
	if k.file != nil {
		found = append(found, k.file.Named(name)...)
	}
	return found
}

const (
	sessionCookie = "usher_session"
	sessionTime   = 12 * time.Hour
)

// sign gives the proof of a session: only who has the token, or its hash, can make it. So every replica accepts it, and
// it ends with the token.
func sign(i tokens.Identity, until int64) string {
	mac := hmac.New(sha256.New, i.Hash[:])
	mac.Write([]byte("usher session " + i.Name + " " + strconv.FormatInt(until, 10)))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// session is the value of the cookie of somebody who has logged in.
func session(i tokens.Identity, now time.Time) string {
	until := now.Add(sessionTime).Unix()
	return i.Name + "|" + strconv.FormatInt(until, 10) + "|" + sign(i, until)
}

// resumed tells whose session a cookie is, if it is one.
func (k keyring) resumed(value string, now time.Time) (tokens.Identity, bool) {
	parts := strings.Split(value, "|")
	if len(parts) != 3 {
		return tokens.Identity{}, false
	}
	until, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || until < now.Unix() || until > now.Add(sessionTime).Unix() {
		return tokens.Identity{}, false
	}
	for _, one := range k.named(parts[0]) {
		if hmac.Equal([]byte(parts[2]), []byte(sign(one, until))) {
			return one, true
		}
	}
	return tokens.Identity{}, false
}

// person is who looks at a page.
type person struct {
	Name   string // empty without a token
	Access Access
	bearer bool
}

// who tells who asks: by a bearer token, by a session, or without either.
func (s *Server) who(r *http.Request) person {
	asked, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if isBearer {
		if i, ok := s.keys.lookup(asked); ok {
			return person{i.Name, accessOf(i), true}
		}
		return person{}
	}
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		if i, ok := s.keys.resumed(cookie.Value, time.Now()); ok {
			return person{Name: i.Name, Access: accessOf(i)}
		}
	}
	return person{Access: s.Anonymous}
}

func accessOf(i tokens.Identity) Access {
	switch {
	case i.May(tokens.Operate):
		return Operator
	case i.May(tokens.Read):
		return Viewer
	}
	return Nobody
}

// loginSheet is the form in which one logs in.
type loginSheet struct {
	None  bool   // there are no tokens
	Fault string // of the token that was tried
}

func loginForm(v *visit) (any, error) {
	return loginSheet{None: v.server.keys.empty()}, nil
}

func login(v *visit) error {
	if !v.server.logins.Allow() {
		v.w.Header().Set("Retry-After", "1")
		return &problem{http.StatusTooManyRequests, "Too many log-ins at once", "Wait a moment and try again."}
	}
	i, ok := v.server.keys.lookup(strings.TrimSpace(v.r.PostFormValue("token")))
	if !ok || accessOf(i) == Nobody {
		v.render(http.StatusUnauthorized, "login", false, loginSheet{
			None: v.server.keys.empty(),
			Fault: "This token opens nothing here. A token needs the scope read or operate; see USHER_API_TOKENS_FILE " +
				"and USHER_ADMIN_TOKEN.",
		})
		return nil
	}
	v.cookie(sessionCookie, session(i, time.Now()), sessionTime)
	return v.gone("/")
}

func logout(v *visit) error {
	if list, had := v.kept(); had {
		if _, err := list.Drop(v.ctx); err != nil {
			return err
		}
		v.cookie(listCookie, "", -1)
	}
	v.cookie(sessionCookie, "", -1)
	return v.gone("/login")
}

// cookie sets a cookie of this site alone; a time below 0 removes it.
func (v *visit) cookie(name, value string, keep time.Duration) {
	http.SetCookie(v.w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(keep.Seconds()), HttpOnly: true, Secure: v.server.Secure,
		SameSite: http.SameSiteStrictMode,
	})
}
