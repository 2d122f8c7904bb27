package settings

import (
	"cmp"
	"errors"
	"runtime/debug"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Exit codes of both commands; enqueue has more.
const (
	ExitDone   = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// SandboxRedisAddr is where the sandbox's Redis listens, and SandboxClerkAddr its Clerk.
const (
	SandboxRedisAddr = "127.0.0.1:6399"
	SandboxClerkAddr = "127.0.0.1:6398"
)

// Version is the program's version: that of its module, or the commit it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && info.Main.Version == "(devel)" {
			return "devel-" + setting.Value[:min(12, len(setting.Value))]
		}
	}
	return strings.Trim(info.Main.Version, "()")
}

// Redis says where Redis is and which part of it is ours.
type Redis struct {
	RedisURL     string `env:"REDIS_URL" placeholder:"URL" help:"Redis: redis://, rediss://, redis+sentinel:// or redis+cluster://. Default: redis://127.0.0.1:6379/0."`
	RedisURLFile string `env:"REDIS_URL_FILE" placeholder:"PATH" help:"File that holds the Redis URL. A new user or password there is used at once."`
	RedisCAFile  string `env:"REDIS_CA_FILE" placeholder:"PATH" help:"File of certificates to trust, for TLS."`
	RedisName    string `name:"redis-tls-server-name" env:"REDIS_TLS_SERVER_NAME" placeholder:"NAME" help:"Name in the certificates of all servers. Default: the host that is dialled."`
	Namespace    string `env:"USHER_NAMESPACE" default:"usher" help:"Prefix of queues and keys."`
}

// UseSandbox points at the sandbox's Redis, whatever was set.
func (r *Redis) UseSandbox() {
	r.RedisURL, r.RedisURLFile, r.RedisCAFile, r.RedisName = "redis://"+SandboxRedisAddr+"/0", "", "", ""
}

// Open checks the settings and gives a connection that is not made yet. Errors are for people, without secrets.
func (r *Redis) Open() (redis.UniversalClient, error) { return r.open(openTarget) }

// OpenOnce is Open for a client that attempts each command once, and ends it when its context ends.
func (r *Redis) OpenOnce() (redis.UniversalClient, error) {
	return r.open(func(url string, of trust) (target, error) {
		t, err := openTarget(url, of)
		if err == nil {
			t.once()
		}
		return t, err
	})
}

func (r *Redis) open(open func(url string, of trust) (target, error)) (redis.UniversalClient, error) {
	if err := Namespace("USHER_NAMESPACE", r.Namespace); err != nil {
		return nil, err
	}
	url, err := Secret("REDIS_URL", r.RedisURL, r.RedisURLFile)
	if err != nil {
		return nil, err
	}
	of := trust{caFile: r.RedisCAFile, serverName: r.RedisName}
	if r.RedisURLFile != "" {
		return openRotating(url, r.RedisURLFile, of, open)
	}
	t, err := open(cmp.Or(url, DefaultRedisURL), of)
	if err != nil {
		return nil, err
	}
	return t.client(), nil
}

// Clerk says which Clerk instance is served.
type Clerk struct {
	ClerkSecretKey     string `env:"CLERK_SECRET_KEY" placeholder:"KEY" help:"The Clerk instance's secret key, sk_test_… or sk_live_…. ${clerk_key}"`
	ClerkSecretKeyFile string `env:"CLERK_SECRET_KEY_FILE" placeholder:"PATH" help:"File that holds the secret key."`
	ClerkAPIURL        string `name:"clerk-api-url" env:"CLERK_API_URL" default:"https://api.clerk.com/v1" help:"Base of Clerk's API."`
}

// SandboxKey is accepted by the sandbox Clerk only.
const SandboxKey = "sk_test_sandbox"

// UseSandbox points at the sandbox Clerk, whatever was set.
func (c *Clerk) UseSandbox() {
	c.ClerkSecretKey, c.ClerkSecretKeyFile, c.ClerkAPIURL = SandboxKey, "", "http://"+SandboxClerkAddr+"/v1"
}

// HasKey tells whether a secret key is set, or a file of it.
func (c *Clerk) HasKey() bool { return c.ClerkSecretKey != "" || c.ClerkSecretKeyFile != "" }

// Instance is a Clerk instance and the key to it.
type Instance struct {
	Key  string
	Kind string // of the key, test or live
	URL  string // the base of Clerk's API
}

// Instance checks the settings. Errors never show the key.
func (c *Clerk) Instance() (i Instance, err error) {
	if i.Key, err = Secret("CLERK_SECRET_KEY", c.ClerkSecretKey, c.ClerkSecretKeyFile); err == nil {
		i.Kind, err = ClerkKey("CLERK_SECRET_KEY", i.Key)
	}
	var urlErr error
	i.URL, urlErr = HTTPURL("CLERK_API_URL", c.ClerkAPIURL)
	return i, errors.Join(err, urlErr)
}
