package settings

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// parts of a URL with a list of hosts, which net/url does not know.
type parts struct {
	user  *url.Userinfo
	hosts []string // host:port
	path  string
	query url.Values
}

const (
	redisPort    = "6379"
	sentinelPort = "26379"
	// Counts beyond these are slips of the pen, and go-redis panics on some of them.
	leastCount, mostCount = -1, 1 << 20
)

var redisHostPattern = regexp.MustCompile(`^[A-Za-z0-9._:-]+$`)

// notOurs are parameters of go-redis that the rest of the URL sets, or that read from replicas, where what was just
// written may be missing.
var notOurs = []string{
	"addr", "master_name", "username", "password",
	"read_only", "replica_only", "route_by_latency", "route_by_latency_tolerance", "route_randomly",
	"use_disconnected_replicas",
}

// parseRedisURL never repeats an error of net/url or go-redis: they quote what they were given, and with a slip in
// the URL that can be a piece of the password.
func parseRedisURL(text string) (target, error) {
	text = strings.TrimSpace(text)
	t, want := parseTarget(text)
	if want == "" {
		if t.single == nil && t.tls != nil {
			// go-redis would verify every server under the first one's name, which fails as soon as that one fails
			// over.
			t.tls.ServerName, t.tls.MinVersion = "", tls.VersionTLS12
		}
		return t, nil
	}
	got := "nothing"
	if text != "" {
		got = Show(MaskURL(text))
	}
	if text != "" && !strings.Contains(text, "://") {
		got = schemeless(text)
	}
	return target{}, &Error{Name: urlSetting, Got: got, Want: want}
}

// schemeless tells of a text that is no URL. It is shown if it is a server and a port, and nothing secret.
func schemeless(text string) string {
	const without = " without a scheme"
	host, port, err := net.SplitHostPort(text)
	if _, badPort := strconv.ParseUint(port, 10, 16); err != nil || badPort != nil ||
		host != "localhost" && net.ParseIP(host) == nil {
		return Show(hidden) + without
	}
	return Show(text) + without
}

// parseTarget reads a URL; want is what a bad one should have been.
func parseTarget(text string) (t target, want string) {
	scheme, rest, _ := strings.Cut(text, "://")
	plain, kind, _ := strings.Cut(scheme, "+")
	if plain != "redis" && plain != "rediss" && scheme != "unix" {
		return t, "redis://host:port/0, rediss:// for TLS, redis+sentinel://host:port,host:port/master/0, " +
			"redis+cluster://host:port,host:port or unix:///path"
	}
	defaultPort := redisPort
	if kind == "sentinel" {
		defaultPort = sentinelPort
	}
	p, want := split(rest, defaultPort, scheme == "unix")
	switch {
	case want != "":
		return t, want
	case scheme == plain:
		return p.single(plain)
	case kind == "sentinel":
		return p.sentinel(plain)
	case kind == "cluster":
		return p.cluster(plain)
	}
	return t, "redis+sentinel:// or redis+cluster:// (rediss+… for TLS)"
}

// split takes a URL apart; want is what a bad one should have been.
func split(rest, defaultPort string, socket bool) (p parts, want string) {
	end := strings.IndexAny(rest+"/", "/?#")
	authority, tail := rest[:end], rest[end:]
	at := strings.LastIndexByte(authority, '@') + 1
	userinfo, hosts := authority[:at], authority[at:]
	parsed, err := url.Parse("redis://" + userinfo + "host" + tail)
	if err != nil || parsed.Fragment != "" || strings.HasSuffix(tail, "#") {
		return p, "a URL in which @ / ? # % and other special characters of user name and password are escaped " +
			"(@ is %40)"
	}
	p.user, p.path = parsed.User, parsed.Path
	if _, ok := p.user.Password(); p.user != nil && !ok {
		return p, "user:password@, or :password@ without a user name"
	}
	if p.query, err = url.ParseQuery(parsed.RawQuery); err != nil {
		return p, "a query of name=value&name=value in which special characters are escaped (; is %3B)"
	}
	for name, values := range p.query {
		n, err := strconv.Atoi(values[len(values)-1])
		switch {
		case slices.Contains(notOurs, name):
			const why = " (servers and password stand before the path, and replicas are not read)"
			return p, "no parameter " + name + why
		case err == nil && (n < leastCount || n > mostCount):
			return p, fmt.Sprintf("numbers from %d to %d", leastCount, mostCount)
		case name == "db" && err == nil && n < 0:
			return p, "a database number from 0"
		case name == "pool_size" && err == nil && n < 0:
			return p, wantParameters
		}
	}
	for name, value := range defaults {
		if p.query.Get(name) == "" {
			p.query.Set(name, value)
		}
	}
	if socket {
		if hosts != "" {
			return p, "unix:///path with three slashes, or unix://user:password@/path"
		}
		return p, ""
	}
	for host := range strings.SplitSeq(hosts, ",") {
		address, ok := hostPort(host, defaultPort)
		if !ok {
			return p, "host:port (several with commas between them only for redis+sentinel:// and redis+cluster://)"
		}
		p.hosts = append(p.hosts, address)
	}
	return p, ""
}

func hostPort(text, defaultPort string) (string, bool) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		// No port, perhaps: with one added it has to be right.
		if host, port, err = net.SplitHostPort(text + ":" + defaultPort); err != nil {
			return "", false
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return net.JoinHostPort(host, port), err == nil && n > 0 && redisHostPattern.MatchString(host)
}

// url writes what go-redis parses, about the first host.
func (p parts) url(scheme, path string) string {
	u := url.URL{Scheme: scheme, User: p.user, Path: path, RawQuery: p.query.Encode()}
	if len(p.hosts) > 0 {
		u.Host = p.hosts[0]
	}
	return u.String()
}

const wantParameters = "parameters that go-redis knows, with values that suit them, " +
	"such as ?dial_timeout=3s&pool_size=20"

func (p parts) single(scheme string) (t target, want string) {
	_, numbered := database(p.path)
	switch {
	case len(p.hosts) > 1:
		return t, "one host; for several redis+sentinel:// or redis+cluster://"
	case scheme != "unix" && !numbered:
		return t, "a database number after the host, such as /0"
	case scheme == "unix" && strings.Trim(p.path, "/") == "":
		return t, "the path of a socket, such as unix:///run/redis.sock"
	}
	o, err := redis.ParseURL(p.url(scheme, p.path))
	if err != nil {
		return t, wantParameters
	}
	o.ContextTimeoutEnabled, o.DialerRetries, o.DisableIdentity = true, dialAttempts, noIdentity
	return target{single: o, tls: o.TLSConfig}, ""
}

func (p parts) sentinel(scheme string) (t target, want string) {
	master, number, _ := strings.Cut(strings.TrimPrefix(p.path, "/"), "/")
	db, ok := database(number)
	if master == "" || !ok {
		return t, "the name of the master and a database number after the hosts, such as /master/0"
	}
	// go-redis has it the other way round: Sentinel's user before the host, Redis's in the query.
	user, password := p.query.Get("sentinel_username"), p.query.Get("sentinel_password")
	if user != "" && password == "" {
		return t, "sentinel_username only together with sentinel_password"
	}
	p.query.Del("sentinel_username")
	p.query.Del("sentinel_password")
	if p.user != nil {
		own, _ := p.user.Password()
		p.query.Set("username", p.user.Username())
		p.query.Set("password", own)
	}
	if p.user = nil; password != "" {
		p.user = url.UserPassword(user, password)
	}
	p.query.Set("master_name", master)
	p.query["addr"] = p.hosts[1:]
	o, err := redis.ParseFailoverURL(p.url(scheme, "/"+strconv.Itoa(db)))
	if err != nil {
		return t, wantParameters
	}
	o.ContextTimeoutEnabled, o.DialerRetries, o.DisableIdentity = true, cmp.Or(o.DialerRetries, dialAttempts), noIdentity
	return target{failover: o, tls: o.TLSConfig}, ""
}

func (p parts) cluster(scheme string) (t target, want string) {
	if db, ok := database(p.path); !ok || db != 0 {
		return t, "no database number: a cluster has database 0 only"
	}
	p.query["addr"] = p.hosts[1:]
	o, err := redis.ParseClusterURL(p.url(scheme, ""))
	if err != nil {
		return t, wantParameters
	}
	o.ContextTimeoutEnabled, o.DialerRetries, o.DisableIdentity = true, cmp.Or(o.DialerRetries, dialAttempts), noIdentity
	o.ClusterStateReloadInterval = clusterReload
	return target{cluster: o, tls: o.TLSConfig}, ""
}

// database reads the path after the host; without one it is 0.
func database(path string) (int, bool) {
	path = strings.Trim(path, "/")
	if path == "" {
		return 0, true
	}
	n, err := strconv.ParseUint(path, 10, 31)
	return int(n), err == nil
}
