package settings

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/testkit"
)

// rotating opens a client of a URL in a file, with a user whose password changes, on servers that have that user.
type rotating struct {
	t      *testing.T
	file   string
	url    string // with %s for the password
	admins []*redis.Client
	client redis.UniversalClient
}

func startRotating(t *testing.T, of Redis, url string, servers ...*testkit.Redis) *rotating {
	t.Helper()
	r := &rotating{t: t, url: url, file: filepath.Join(t.TempDir(), "url")}
	for _, server := range servers {
		r.admins = append(r.admins, testkit.Client(t, server.Addr))
	}
	r.password("p0")
	r.write("p0")
	of.RedisURLFile, of.Namespace = r.file, "usher"
	var err error
	r.client, err = of.Open()
	testkit.NoError(t, err)
	t.Cleanup(func() { _ = r.client.Close() })
	testkit.NoError(t, r.client.Set(t.Context(), "key", "value", 0).Err())
	return r
}

// password changes the password at the servers, and nothing else does.
func (r *rotating) password(new string) {
	r.t.Helper()
	for _, admin := range r.admins {
		err := admin.Do(r.t.Context(), "ACL", "SETUSER", "app", "on", "resetpass", ">"+new, "~*", "&*", "+@all").Err()
		testkit.NoError(r.t, err)
	}
}

func (r *rotating) write(password string) {
	r.t.Helper()
	testkit.NoError(r.t, os.WriteFile(r.file, fmt.Appendf(nil, r.url+"\n", password), 0o600))
}

// kill ends all connections of the user.
func (r *rotating) kill() {
	r.t.Helper()
	for _, admin := range r.admins {
		testkit.NoError(r.t, admin.Do(r.t.Context(), "CLIENT", "KILL", "USER", "app").Err())
	}
}

// each calls then for the number of each connection of the user that was used within the last second.
func (r *rotating) each(then func(at *redis.Client, id int64)) {
	r.t.Helper()
	for _, admin := range r.admins {
		list, err := admin.ClientList(r.t.Context()).Result()
		testkit.NoError(r.t, err)
		for line := range strings.Lines(list) {
			var id int64
			_, _ = fmt.Sscanf(line, "id=%d", &id)
			if strings.Contains(line, " user=app ") && strings.Contains(line, " idle=0 ") {
				then(admin, id)
			}
		}
	}
}

// outlives changes the password three times while commands run, of which none may fail.
func (r *rotating) outlives() {
	t := r.t
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	for i := range 8 {
		working.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprint("key", i)
				if err := r.client.Set(ctx, key, n, 0).Err(); err != nil && ctx.Err() == nil {
					t.Errorf("a command fails: %v", err)
					return
				}
				_, err := r.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
					pipe.Get(ctx, key)
					return pipe.Get(ctx, key).Err()
				})
				if err != nil && ctx.Err() == nil {
					t.Errorf("a pipeline fails: %v", err)
					return
				}
			}
		})
	}
	for i, order := range []func(new string){
		func(new string) { r.password(new); r.write(new) },
		func(new string) { r.write(new); r.password(new) },
		func(new string) { r.password(new); r.kill(); r.write(new) },
	} {
		last := map[*redis.Client]int64{}
		r.each(func(at *redis.Client, id int64) { last[at] = max(last[at], id) })
		order(fmt.Sprint("p", i+1))
		const every, soon = 20 * time.Millisecond, 15 * rotateCheck
		fresh := func(context.Context) (bool, error) {
			old := 0
			r.each(func(at *redis.Client, id int64) {
				if id <= last[at] {
					old++
				}
			})
			return old == 0, nil
		}
		testkit.NoError(t, testkit.Poll(t.Context(), every, soon, "all connections in use have logged in anew", fresh))
	}
	stop()
	working.Wait()
}

func TestAPasswordRotates(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t)
	startRotating(t, Redis{}, "redis://app:%s@"+server.Addr+"?pool_size=2", server).outlives() // all are in use
}

func TestAPasswordRotatesWithTLS(t *testing.T) {
	t.Parallel()
	args, caFile := tlsFiles(t)
	server, addr := runTLS(t, args...)
	startRotating(t, Redis{RedisCAFile: caFile, RedisName: certifiedName}, "rediss://app:%s@"+addr, server).outlives()
}

func TestAPasswordRotatesBehindSentinel(t *testing.T) {
	t.Parallel()
	sentinel := testkit.RunSentinel(t)
	_, rest, _ := strings.Cut(sentinel.URL(), "://")
	startRotating(t, Redis{}, "redis+sentinel://app:%s@"+rest, sentinel.Master).outlives()
}

func TestAPasswordRotatesInACluster(t *testing.T) {
	t.Parallel()
	cluster := testkit.RunCluster(t, 3)
	_, rest, _ := strings.Cut(cluster.URL(), "://")
	startRotating(t, Redis{}, "redis+cluster://app:%s@"+rest, cluster.Nodes...).outlives()
}

// TestOnlyTheLoginOfAFileIsFollowed: another server, garbage and a password that Redis does not take are not.
func TestOnlyTheLoginOfAFileIsFollowed(t *testing.T) {
	t.Parallel()
	server, other := testkit.RunRedis(t), testkit.RunRedis(t)
	r := startRotating(t, Redis{}, "redis://app:%s@"+server.Addr, server, other)
	for _, content := range []string{
		"redis://app:p0@" + other.Addr, "", "garbage", "redis://app:wrong@" + server.Addr,
	} {
		testkit.NoError(t, os.WriteFile(r.file, []byte(content), 0o600))
		for began := time.Now(); time.Since(began) < 2*rotateCheck; {
			testkit.NoError(t, r.client.Incr(t.Context(), "count").Err())
		}
		r.kill()
	}
	if n := r.admins[1].DBSize(t.Context()).Val(); n > 0 {
		t.Errorf("another server has %d keys", n)
	}
}

// TestAWrongPasswordIsToldAtOnce: before Redis has ever taken one.
func TestAWrongPasswordIsToldAtOnce(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t)
	r := startRotating(t, Redis{}, "redis://app:%s@"+server.Addr, server)
	r.write("wrong")
	client, err := (&Redis{RedisURLFile: r.file, Namespace: "usher"}).Open()
	testkit.NoError(t, err)
	defer client.Close()
	began := time.Now()
	if err := client.Ping(t.Context()).Err(); !RefusedLogin(err) || time.Since(began) > rotatePatience/2 {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}
