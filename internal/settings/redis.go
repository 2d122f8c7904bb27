package settings

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/redis/go-redis/v9"
)

// The settings that errors name.
const (
	urlSetting = "REDIS_URL"
	caSetting  = "REDIS_CA_FILE"
)

// DefaultRedisURL is the Redis of a program that is told no other.
const DefaultRedisURL = "redis://127.0.0.1:6379/0"

// What a worker needs unless the URL says otherwise (dial_timeout, read_timeout, write_timeout, pool_size).
const (
	dialTimeout = 2 * time.Second
	ioTimeout   = 3 * time.Second
	poolSize    = 32 // many lanes ask at once, each for milliseconds; go-redis's 10 per CPU is few on one CPU
	// go-redis would dial five times for each attempt of a command, which takes ten seconds if a server does not
	// answer. Commands are attempted again anyway.
	dialAttempts = 1
)

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
	t, err := parseRedisURL(url)
	if err == nil && caFile != "" {
		err = t.trust(caFile, url)
	}
	switch {
	case err != nil:
		return nil, err
	case t.cluster != nil:
		return redis.NewClusterClient(t.cluster), nil
	case t.failover != nil:
		return redis.NewFailoverClient(t.failover), nil
	}
	return redis.NewClient(t.single), nil
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
	}
	return t.single.TLSConfig
}

// trust adds the certificates of the file.
func (t target) trust(path, url string) error {
	config := t.tls()
	if config == nil {
		return fault(caSetting, path, "it only with a rediss:// URL, and %s is %s", urlSetting, Show(MaskURL(url)))
	}
	pem, err := File(caSetting, path, maxCABytes)
	if err != nil {
		return err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a system without certificates of its own, as in an empty image
	}
	if !pool.AppendCertsFromPEM(pem) {
		return fault(caSetting, path, "a file with certificates in PEM (-----BEGIN CERTIFICATE-----)")
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
	if o := t.single; o != nil {
		set(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolSize, &o.DialerRetries, &o.ContextTimeoutEnabled)
		return
	}
	if o := t.failover; o != nil {
		set(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolSize, &o.DialerRetries, &o.ContextTimeoutEnabled)
	}
	if o := t.cluster; o != nil {
		set(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolSize, &o.DialerRetries, &o.ContextTimeoutEnabled)
	}
	if config := t.tls(); config != nil {
		// go-redis would verify every server under the first one's name, which fails as soon as that one fails over.
		config.ServerName = ""
		config.MinVersion = tls.VersionTLS12
	}
}
