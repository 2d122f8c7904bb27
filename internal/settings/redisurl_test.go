package settings

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// summary is what every kind of target has, for comparing.
type summary struct {
	addrs, master, user, password, sentinelUser, sentinelPassword string
	db                                                            int
	tls                                                           bool
}

func summarize(t target) summary {
	s := summary{tls: t.tls != nil}
	switch {
	case t.single != nil:
		s.addrs, s.user, s.password, s.db = t.single.Addr, t.single.Username, t.single.Password, t.single.DB
	case t.failover != nil:
		o := t.failover
		s.addrs, s.master, s.user, s.password, s.db = strings.Join(o.SentinelAddrs, " "), o.MasterName,
			o.Username, o.Password, o.DB
		s.sentinelUser, s.sentinelPassword = o.SentinelUsername, o.SentinelPassword
	case t.cluster != nil:
		s.addrs, s.user, s.password = strings.Join(t.cluster.Addrs, " "), t.cluster.Username, t.cluster.Password
	}
	return s
}

func TestParseRedisURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]summary{
		"redis://127.0.0.1:6379/0":           {addrs: "127.0.0.1:6379"},
		" redis://h ":                        {addrs: "h:6379"},
		"redis://h:1/3":                      {addrs: "h:1", db: 3},
		"redis://h/?db=4":                    {addrs: "h:6379", db: 4},
		"redis://[::1]/2":                    {addrs: "[::1]:6379", db: 2},
		"redis://u:p%40%2F%3A%23%3F%25s@h:1": {addrs: "h:1", user: "u", password: "p@/:#?%s"},
		"redis://u%40x:p@q@h:1":              {addrs: "h:1", user: "u@x", password: "p@q"},
		"redis://:a,b+c@h":                   {addrs: "h:6379", password: "a,b+c"},
		"redis://nopass:@h":                  {addrs: "h:6379", user: "nopass"},
		"rediss://:p@h:1/0":                  {addrs: "h:1", password: "p", tls: true},
		"rediss://h?skip_verify=true":        {addrs: "h:6379", tls: true},
		"unix:///run/redis.sock":             {addrs: "/run/redis.sock"},
		"unix://u:p%40q@/run/my redis.sock?db=5": {addrs: "/run/my redis.sock", user: "u",
			password: "p@q", db: 5},
		"redis+sentinel://a/master":              {addrs: "a:26379", master: "master"},
		"redis+sentinel://a:1,b:2,[::1]:3/m.1/7": {addrs: "a:1 b:2 [::1]:3", master: "m.1", db: 7},
		"redis+sentinel://u:p%40q%26@a,b/m%26x=/0": {addrs: "a:26379 b:26379", master: "m&x=",
			user: "u", password: "p@q&"},
		"redis+sentinel://:p@a/m/0?sentinel_password=s%40%2B%26x": {addrs: "a:26379", master: "m", password: "p",
			sentinelPassword: "s@+&x"},
		"rediss+sentinel://a/m/0?sentinel_username=su&sentinel_password=sp": {addrs: "a:26379", master: "m",
			sentinelUser: "su", sentinelPassword: "sp", tls: true},
		"redis+cluster://a,b:2":                 {addrs: "a:6379 b:2"},
		"redis+cluster://u:p%40q@a:1,b:2,c:3/0": {addrs: "a:1 b:2 c:3", user: "u", password: "p@q"},
		"rediss+cluster://:p@[::1]:1,[::2]:2/":  {addrs: "[::1]:1 [::2]:2", password: "p", tls: true},
	} {
		got, err := parseRedisURL(url)
		if err != nil {
			t.Errorf("parseRedisURL(%q): %v", url, err)
			continue
		}
		if s := summarize(got); s != want {
			t.Errorf("parseRedisURL(%q)\n got %+v\nwant %+v", url, s, want)
		}
	}
}

func TestParseRedisURLRefuses(t *testing.T) {
	t.Parallel()
	const (
		schemes = "redis://host:port/0, rediss:// for TLS, redis+sentinel://host:port,host:port/master/0, " +
			"redis+cluster://host:port,host:port or unix:///path"
		escape = "a URL in which @ / ? # % and other special characters of user name and password are escaped " +
			"(@ is %40)"
		hosts   = "host:port (several with commas between them only for redis+sentinel:// and redis+cluster://)"
		master  = "the name of the master and a database number after the hosts, such as /master/0"
		number  = "a database number after the host, such as /0"
		replica = " (servers and password stand before the path, and replicas are not read)"
	)
	for _, test := range []struct{ url, got, want string }{
		{"", "nothing", schemes},
		{"hunter2", `"…" without a scheme`, schemes},
		{"redis:hunter2@h", `"…" without a scheme`, schemes},
		{"hunter2:6379", `"…" without a scheme`, schemes},
		{"u:hunter2@127.0.0.1:6379", `"…" without a scheme`, schemes},
		{"127.0.0.1:6379", `"127.0.0.1:6379" without a scheme`, schemes},
		{"localhost:6379", `"localhost:6379" without a scheme`, schemes},
		{"localhost:hunter2", `"…" without a scheme`, schemes},
		{"http://u:hunter2@h", `"http://u:…@h"`, schemes},
		{"valkey://h", `"valkey://h"`, schemes},
		{"redis+http://u:hunter2@h", `"redis+http://u:…@h"`,
			"redis+sentinel:// or redis+cluster:// (rediss+… for TLS)"},
		{"redis+://h", `"redis+://h"`, "redis+sentinel:// or redis+cluster:// (rediss+… for TLS)"},
		{"unix+sentinel:///x", `"unix+sentinel:///x"`, schemes},
		{"redis://", `"redis://"`, hosts},
		{"redis:///0", `"redis:///0"`, hosts},
		{"redis://u:hunter2@/0", `"redis://u:…@/0"`, hosts},
		{"redis://h:port", `"redis://…"`, hosts},
		{"redis://h:99999", `"redis://h:99999"`, hosts},
		{"redis://h:0", `"redis://h:0"`, hosts},
		{"redis://::1", `"redis://…"`, hosts},
		{"redis://u:hunter2", `"redis://…"`, hosts},
		{"redis://u:hunter2/x@h", `"redis://…"`, hosts},
		{"redis://u:12/hunter2@h", `"redis://…"`, number},
		{"redis://u:12?hunter2@h", `"redis://…"`, wantParameters},
		{"redis://u:12#hunter2@h", `"redis://…"`, escape},
		{"redis://u:hunter2%@h", `"redis://u:…@h"`, escape},
		{"redis://u:hunter 2@h", `"redis://u:…@h"`, escape},
		{"redis://h/0#hunter2", `"redis://h/0#…"`, escape},
		{"redis://hunter2@h", `"redis://…@h"`, "user:password@, or :password@ without a user name"},
		{"redis://:hunter2@a,b", `"redis://:…@a,b"`, "one host; for several redis+sentinel:// or redis+cluster://"},
		{"redis://h/one", `"redis://h/one"`, number},
		{"redis://h/-1", `"redis://h/-1"`, number},
		{"redis://h/0/1", `"redis://h/0/1"`, number},
		{"redis://h?db=-1", `"redis://h?db=…"`, "a database number from 0"},
		{"redis://h?db=hunter2", `"redis://h?db=…"`, wantParameters},
		{"redis://h?pasword=hunter2", `"redis://h?pasword=…"`, wantParameters},
		{"redis://h?password=hunter2", `"redis://h?password=…"`, "no parameter password" + replica},
		{"redis://h?dial_timeout=soon", `"redis://h?dial_timeout=…"`, wantParameters},
		{"redis://h?pool_size=-1", `"redis://h?pool_size=…"`, wantParameters},
		{"redis://h?pool_size=9999999999", `"redis://h?pool_size=…"`, "numbers from -1 to 1048576"},
		{"redis://h?client_name=a;hunter2", `"redis://h?client_name=…"`,
			"a query of name=value&name=value in which special characters are escaped (; is %3B)"},
		{"unix://run/redis.sock", `"unix://run/redis.sock"`,
			"unix:///path with three slashes, or unix://user:password@/path"},
		{"unix://", `"unix://"`, "the path of a socket, such as unix:///run/redis.sock"},
		{"redis+sentinel://:hunter2@a,b", `"redis+sentinel://:…@a,b"`, master},
		{"redis+sentinel://a//0", `"redis+sentinel://a//0"`, master},
		{"redis+sentinel://a/m/x", `"redis+sentinel://a/m/x"`, master},
		{"redis+sentinel://a/m/0/1", `"redis+sentinel://a/m/0/1"`, master},
		{"redis+sentinel://a,,b/m/0", `"redis+sentinel://a,,b/m/0"`, hosts},
		{"redis+sentinel://a/m/0?sentinel_pasword=hunter2", `"redis+sentinel://a/m/0?sentinel_pasword=…"`,
			wantParameters},
		{"redis+sentinel://a/m/0?sentinel_username=u", `"redis+sentinel://a/m/0?sentinel_username=…"`,
			"sentinel_username only together with sentinel_password"},
		{"redis+sentinel://a/m/0?master_name=n", `"redis+sentinel://a/m/0?master_name=…"`,
			"no parameter master_name" + replica},
		{"redis+sentinel://a/m/0?route_randomly=true", `"redis+sentinel://a/m/0?route_randomly=…"`,
			"no parameter route_randomly" + replica},
		{"redis+cluster://a,b/1", `"redis+cluster://a,b/1"`, "no database number: a cluster has database 0 only"},
		{"redis+cluster://a?addr=b:1", `"redis+cluster://a?addr=…"`, "no parameter addr" + replica},
		{"redis+cluster://a?read_only=true", `"redis+cluster://a?read_only=…"`, "no parameter read_only" + replica},
		{"redis+cluster://a?sentinel_password=hunter2", `"redis+cluster://a?sentinel_password=…"`, wantParameters},
	} {
		client, err := OpenRedis(test.url, "")
		if client != nil || err == nil {
			t.Errorf("OpenRedis(%q) is accepted", test.url)
			continue
		}
		if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("OpenRedis(%q): error of type %T", test.url, err)
		}
		if want := "REDIS_URL: got " + test.got + ", want " + test.want; err.Error() != want {
			t.Errorf("OpenRedis(%q)\n got %v\nwant %s", test.url, err, want)
		}
		if strings.Contains(err.Error(), "hunter") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func TestParseRedisURLTimeouts(t *testing.T) {
	t.Parallel()
	type timing struct {
		dial, read, write, life time.Duration
		pool, dials             int
		honour                  bool
	}
	of := func(url string) timing {
		parsed, err := parseRedisURL(url)
		if err != nil {
			t.Fatal(err)
		}
		var o *redis.Options
		switch {
		case parsed.single != nil:
			o = parsed.single
		case parsed.failover != nil:
			f := parsed.failover
			o = &redis.Options{DialTimeout: f.DialTimeout, ReadTimeout: f.ReadTimeout, WriteTimeout: f.WriteTimeout,
				ConnMaxLifetime: f.ConnMaxLifetime, PoolSize: f.PoolSize, DialerRetries: f.DialerRetries,
				ContextTimeoutEnabled: f.ContextTimeoutEnabled}
		default:
			c := parsed.cluster
			o = &redis.Options{DialTimeout: c.DialTimeout, ReadTimeout: c.ReadTimeout, WriteTimeout: c.WriteTimeout,
				ConnMaxLifetime: c.ConnMaxLifetime, PoolSize: c.PoolSize, DialerRetries: c.DialerRetries,
				ContextTimeoutEnabled: c.ContextTimeoutEnabled}
		}
		return timing{o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.ConnMaxLifetime, o.PoolSize, o.DialerRetries,
			o.ContextTimeoutEnabled}
	}
	for _, base := range []string{"redis://h/0", "unix:///s", "redis+sentinel://a/m/0", "redis+cluster://a"} {
		if got, want := of(base),
			(timing{2 * time.Second, 3 * time.Second, 3 * time.Second, 3 * time.Minute, 32, 1, true}); got != want {
			t.Errorf("%s: got %+v, want %+v", base, got, want)
		}
		url := base + "?dial_timeout=7&read_timeout=8s&write_timeout=9s&pool_size=5&conn_max_lifetime=1h"
		if got, want := of(url),
			(timing{7 * time.Second, 8 * time.Second, 9 * time.Second, time.Hour, 5, 1, true}); got != want {
			t.Errorf("%s: got %+v, want %+v", url, got, want)
		}
	}
}

// Every server has to be verified under its own name, also the second one.
func TestParseRedisURLServerName(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"rediss://a:1": "a", "rediss+sentinel://a:1,b:2/m/0": "", "rediss+cluster://a:1,b:2": "",
	} {
		parsed, err := parseRedisURL(url)
		if err != nil {
			t.Fatal(err)
		}
		if got := parsed.tls.ServerName; got != want {
			t.Errorf("%s is verified under %q, want %q", url, got, want)
		}
	}
}

// FuzzOpenRedis: no URL makes go-redis panic, and no password gets into an error.
func FuzzOpenRedis(f *testing.F) {
	for _, seed := range []string{"redis://h:1/0", "rediss+sentinel://u:p@a,b/m/0?sentinel_password=x",
		"redis+cluster://a?pool_size=-1",
		"unix:///s?db=1", "redis://u:hunter2/x@h",
		"redis://h?max_concurrent_dials=-1&pipeline_pool_size=-1&pool_timeout=-1&max_active_conns=1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, url string) {
		if strings.Contains(url, "idle") {
			return // min_idle_conns dials at once, as asked
		}
		client, err := OpenRedis(url, "")
		if err == nil {
			client.Close()
			return
		}
		if strings.ContainsAny(err.Error(), "\r\n") || strings.Contains(err.Error(), "hunter2/x") {
			t.Errorf("error %q", err)
		}
	})
}
