// Package redisconn opens the Redis that a URL names: one server, one behind Sentinel, or a cluster.
package redisconn

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/settings"
)

// The settings that errors name.
const (
	urlSetting = "REDIS_URL"
	caSetting  = "REDIS_CA_FILE"
)

// What a worker needs unless the URL says otherwise (dial_timeout, read_timeout, write_timeout, pool_size).
const (
	dialTimeout = 2 * time.Second
	ioTimeout   = 3 * time.Second
	poolSize    = 32 // many lanes ask at once, each for milliseconds; go-redis's 10 per CPU is few on one CPU
	// go-redis would dial five times per attempt of a command, which makes ten seconds of a server that does not answer.
	// Commands are attempted again anyway.
	dialAttempts = 1
)

const maxCABytes = 1 << 20

// Options of Open.
type Options struct {
	// CAFile has certificates in PEM that are trusted besides the system's. It needs a URL with TLS.
	CAFile string
}

// Open gives a client for
//
//	redis://user:password@host:port/0                               also rediss:// for TLS
//	unix://user:password@/path/to/socket?db=0
//	redis+sentinel://user:password@host:port,host:port/master/0     also rediss+sentinel://
//	redis+cluster://user:password@host:port,host:port               also rediss+cluster://
//
// User name and password are those of Redis; the Sentinels' own are sentinel_username and sentinel_password in the query. The
// other parameters of the query are go-redis's, such as dial_timeout. A port may be left out. With TLS every server is verified
// under the name or IP at which it is dialled, which behind Sentinel or in a cluster is the one that it announces.
//
// Nothing is connected yet. Errors are *settings.Error, without any password.
func Open(url string, opts Options) (redis.UniversalClient, error) {
	t, err := parse(url)
	if err != nil {
		return nil, err
	}
	if opts.CAFile != "" {
		if err := t.trust(opts.CAFile, url); err != nil {
			return nil, err
		}
	}
	switch {
	case t.cluster != nil:
		return redis.NewClusterClient(t.cluster), nil
	case t.failover != nil:
		return redis.NewFailoverClient(t.failover), nil
	default:
		return redis.NewClient(t.single), nil
	}
}

// target is what a URL means to go-redis: exactly one is set.
type target struct {
	single   *redis.Options
	failover *redis.FailoverOptions
	cluster  *redis.ClusterOptions
}

// tls is nil without TLS.
func (t target) tls() *tls.Config {
	switch {
	case t.cluster != nil:
		return t.cluster.TLSConfig
	case t.failover != nil:
		return t.failover.TLSConfig
	default:
		return t.single.TLSConfig
	}
}

// trust adds the certificates of the file.
func (t target) trust(path, url string) error {
	config := t.tls()
	if config == nil {
		return &settings.Error{Name: caSetting, Got: settings.Show(path),
			Want: "it only with a rediss:// URL, and " + urlSetting + " is " + settings.Show(settings.MaskURL(url))}
	}
	pem, err := settings.File(caSetting, path, maxCABytes)
	if err != nil {
		return err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a system without certificates of its own, as in an empty image
	}
	if !pool.AppendCertsFromPEM(pem) {
		return &settings.Error{Name: caSetting, Got: settings.Show(path), Want: "a file with certificates in PEM (-----BEGIN CERTIFICATE-----)"}
	}
	config.RootCAs = pool
	return nil
}

// prepare sets what a worker needs and the URL leaves open.
func (t target) prepare() {
	set := func(dial, read, write *time.Duration, pool, dials *int, honourContext *bool) {
		*dial, *read, *write = cmp.Or(*dial, dialTimeout), cmp.Or(*read, ioTimeout), cmp.Or(*write, ioTimeout)
		*pool, *dials = cmp.Or(*pool, poolSize), cmp.Or(*dials, dialAttempts)
		*honourContext = true
	}
	switch {
	case t.cluster != nil:
		o := t.cluster
		set(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolSize, &o.DialerRetries, &o.ContextTimeoutEnabled)
	case t.failover != nil:
		o := t.failover
		set(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolSize, &o.DialerRetries, &o.ContextTimeoutEnabled)
	default:
		o := t.single
		set(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolSize, &o.DialerRetries, &o.ContextTimeoutEnabled)
	}
	if config := t.tls(); config != nil && t.single == nil {
		// go-redis would verify every server under the first one's name: all well until the first fails over.
		config.ServerName = ""
		config.MinVersion = tls.VersionTLS12
	}
}
