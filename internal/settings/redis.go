package settings

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// The settings that errors name.
const (
	urlSetting = "REDIS_URL"
	caSetting  = "REDIS_CA_FILE"

	serverNameSetting = "REDIS_TLS_SERVER_NAME"
)

// DefaultRedisURL is the Redis of a program that is told no other.
const DefaultRedisURL = "redis://127.0.0.1:6379/0"

// defaults are the parameters of a URL that does not set them itself.
var defaults = map[string]string{
	"dial_timeout": "2s", "read_timeout": "3s", "write_timeout": "3s",
	"pool_size": "32", // many lanes ask at once, each for milliseconds; go-redis's 10 per CPU is few on one CPU
	// A proxy that sends new connections to another Redis, or a name that means another one, is followed. Firewalls and
	// load balancers that forget an idle connection without a word keep one for longer: Azure's for 4 minutes.
	"conn_max_lifetime": "3m",
}

// go-redis would dial five times for each attempt of a command, which takes ten seconds if a server does not answer.
// Commands are attempted again anyway.
const dialAttempts = 1

// noIdentity keeps go-redis from telling its name and version (CLIENT SETINFO) on each connection. Redis 7.0 does not
// know that, so the documented user cannot have the right to it, and Redis 7.2 would log each refusal.
const noIdentity = true

// go-redis reads only once a minute which nodes of a cluster are masters, unless a node tells it. A master that has
// died tells nothing, so that nobody would turn to its successor.
const clusterReload = time.Second

const maxCABytes = 1 << 20

// OpenRedis returns a client for
//
//	redis://user:password@host:port/0                               also rediss:// for TLS
//	unix://user:password@/path/to/socket?db=0
//	redis+sentinel://user:password@host:port,host:port/master/0     also rediss+sentinel://
//	redis+cluster://user:password@host:port,host:port               also rediss+cluster://
//
// User name and password are those of Redis; the Sentinels' own are sentinel_username and sentinel_password in the
// query. The other parameters of the query are go-redis's, such as dial_timeout. A port may be left out. With TLS
// every server is verified under the name or IP at which it is dialled, which behind Sentinel or in a cluster is the
// one that it announces. caFile, if it is not empty, has certificates in PEM that are trusted besides the system's.
//
// Nothing is connected yet. Errors are *Error, without any password.
func OpenRedis(url, caFile string) (redis.UniversalClient, error) {
	t, err := openTarget(url, trust{caFile: caFile})
	if err != nil {
		return nil, err
	}
	return t.client(), nil
}

// NoDatabase tells whether Redis has no database of the number that the URL ends with.
func NoDatabase(err error) bool { return redis.HasErrorPrefix(err, "DB index is out of range") }

// Odd says what is odd about how a connection to Redis ended, and what a person should ask. It is empty for an error
// that says it by itself.
func Odd(err error) (fault, ask string) {
	switch {
	case NoDatabase(err):
		return "Redis has no database of this number", "which does REDIS_URL end with?"
	case errors.Is(err, io.EOF):
		return "Redis closes the connection without an answer",
			"has a proxy no Redis behind it, or does it not know HELLO, or does the server want TLS (rediss://)?"
	case err != nil && strings.Contains(err.Error(), "redis: can't parse"): // go-redis tells it only in words
		return "Something else than Redis answers",
			"is it another server, or a proxy for HTTP, or one that sends a line of its own (send-proxy)?"
	}
	return "", ""
}

// openRotating is OpenRedis for a URL that stands in a file: the client follows user and password there.
func openRotating(
	url, path string, of trust, open func(url string, of trust) (target, error),
) (redis.UniversalClient, error) {
	t, err := open(url, of)
	if err != nil {
		return nil, err
	}
	r := &rotation{path: path, url: url, try: func(ctx context.Context, url string) error {
		t, err := openTarget(url, of)
		if err != nil {
			return err
		}
		client := t.client()
		defer client.Close()
		return client.Ping(ctx).Err()
	}}
	r.login.Store(t.login())
	switch {
	case t.cluster != nil:
		t.cluster.CredentialsProviderContext = r.credentials
	case t.failover != nil:
		t.failover.CredentialsProviderContext = r.credentials
	default:
		t.single.CredentialsProviderContext = r.credentials
	}
	client := t.client()
	client.AddHook(r)
	if cluster, ok := client.(*redis.ClusterClient); ok {
		cluster.OnNewNode(func(node *redis.Client) { node.AddHook(nodeRotation{r}) })
	}
	return client, nil
}

// openTarget reads a URL and what is trusted.
func openTarget(url string, of trust) (target, error) {
	t, err := parseRedisURL(url)
	if err == nil {
		err = t.trust(of, url)
	}
	if err == nil && t.tls != nil {
		t.dialTLS()
	}
	if t.single != nil {
		t.single.OnConnect = refuseCluster(url)
	}
	return t, err
}

// dialTLS lets a target with TLS see which of its connections were closed while they were idle. To a server without TLS
// the start of a connection is the start of a command, of which Redis awaits the rest: an error says so.
func (t target) dialTLS() {
	of := redis.Options{TLSConfig: t.tls}
	var dialer *func(ctx context.Context, network, addr string) (net.Conn, error)
	switch {
	case t.cluster != nil:
		of.DialTimeout, dialer = t.cluster.DialTimeout, &t.cluster.Dialer
	case t.failover != nil:
		of.DialTimeout, dialer = t.failover.DialTimeout, &t.failover.Dialer
	default:
		of.DialTimeout, dialer = t.single.DialTimeout, &t.single.Dialer
	}
	dial := redis.NewDialer(&of)
	*dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		_, unconnected := errors.AsType[*net.OpError](err)
		switch {
		case err == nil:
			return watchIdle(conn), nil
		case !unconnected && errors.Is(err, context.DeadlineExceeded):
			const silent = "%s takes connections, and does not answer as a server with TLS (without TLS it is redis://): %w"
			return nil, fmt.Errorf(silent, addr, err)
		}
		return nil, err
	}
}

// client gives a client of the target.
func (t target) client() redis.UniversalClient {
	switch {
	case t.cluster != nil:
		return redis.NewClusterClient(t.cluster)
	case t.failover != nil:
		return redis.NewFailoverClient(t.failover)
	}
	return redis.NewClient(t.single)
}

// once lets a client attempt each command once, and end it when its context ends.
func (t target) once() {
	switch {
	case t.cluster != nil:
		t.cluster.MaxRedirects, t.cluster.ContextTimeoutEnabled = -1, true
	case t.failover != nil:
		t.failover.MaxRetries, t.failover.ContextTimeoutEnabled = -1, true
	default:
		t.single.MaxRetries, t.single.ContextTimeoutEnabled = -1, true
	}
}

// login is the user and the password of the target.
func (t target) login() *login {
	switch {
	case t.cluster != nil:
		return &login{t.cluster.Username, t.cluster.Password}
	case t.failover != nil:
		return &login{t.failover.Username, t.failover.Password}
	}
	return &login{t.single.Username, t.single.Password}
}

// refuseCluster gives what lets no command reach a node of a cluster through a client for one server: it would carry
// out those whose keys it happens to have, and refuse the others.
func refuseCluster(url string) func(context.Context, *redis.Conn) error {
	return func(ctx context.Context, conn *redis.Conn) error {
		hello := redis.NewMapStringInterfaceCmd(ctx, "hello")
		if err := conn.Process(ctx, hello); err != nil || hello.Val()["mode"] != "cluster" {
			return nil // it is none, or does not say
		}
		const want = "redis+cluster://host:port,host:port: this Redis is a node of a cluster"
		return Fault(urlSetting, MaskURL(url), want)
	}
}

// target is what a URL means to go-redis: exactly one of the options is set.
type target struct {
	single   *redis.Options
	failover *redis.FailoverOptions
	cluster  *redis.ClusterOptions
	tls      *tls.Config // of the options; nil without TLS
}

// trust says by what a server with TLS is known.
type trust struct{ caFile, serverName string }

// trust adds the certificates of the file, and sets the name that every certificate must have.
func (t target) trust(of trust, url string) error {
	for _, given := range []struct{ setting, value string }{
		{caSetting, of.caFile}, {serverNameSetting, of.serverName},
	} {
		if given.value != "" && t.tls == nil {
			const want = "it only with a rediss:// URL, and %s is %s"
			return Fault(given.setting, given.value, want, urlSetting, Show(MaskURL(url)))
		}
	}
	if of.serverName != "" {
		t.tls.ServerName = of.serverName
	}
	if of.caFile == "" {
		return nil
	}
	pem, err := File(caSetting, of.caFile, maxCABytes)
	if err != nil {
		return err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a system without certificates of its own, as in an empty image
	}
	if !pool.AppendCertsFromPEM(pem) {
		return Fault(caSetting, of.caFile, "a file with certificates in PEM (-----BEGIN CERTIFICATE-----)")
	}
	t.tls.RootCAs = pool
	return nil
}
