package testkit

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Sentinel is a master, its replica and a Sentinel that lets the replica take over. They end with the test.
type Sentinel struct {
	Master, Replica *Redis
	addr            string // of the Sentinel
}

// SentinelMaster is the name of the master.
const SentinelMaster = "mymaster"

// RunSentinel starts a master, a replica and a Sentinel, and waits until the replica can take over.
func RunSentinel(t testing.TB) *Sentinel {
	t.Helper()
	s := &Sentinel{Master: RunRedis(t, Durable()...)}
	host, port, _ := net.SplitHostPort(s.Master.Addr)
	s.Replica = RunRedis(t, append(Durable(), "--replicaof", host+" "+port, "--repl-diskless-sync-delay", "0")...)
	s.startSentinel(t, host, port)
	asked := redis.NewSentinelClient(&redis.Options{Addr: s.addr})
	defer asked.Close()
	Eventually(t, "the Sentinel knows the replica", func() bool {
		replicas, err := asked.Replicas(t.Context(), SentinelMaster).Result()
		return err == nil && len(replicas) == 1 && replicas[0]["master-link-status"] == "ok"
	})
	return s
}

// startSentinel starts the Sentinel, with a configuration that it rewrites.
func (s *Sentinel) startSentinel(t testing.TB, masterHost, masterPort string) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "sentinel.conf")
	NoError(t, onFreePort(func(addr string) error {
		s.addr = addr
		host, port, _ := net.SplitHostPort(addr)
		text := fmt.Sprintf("bind %s\nport %s\ndir %s\nsentinel monitor %s %s %s 1\n"+
			"sentinel down-after-milliseconds %s %d\n",
			host, port, dir, SentinelMaster, masterHost, masterPort, SentinelMaster, NodeTimeout.Milliseconds())
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return err
		}
		p, err := Start(Command{
			Name: "sentinel", Path: "redis-server", Args: []string{config, "--sentinel"}, Dir: dir,
		})
		if err != nil {
			return err
		}
		t.Cleanup(p.Kill)
		return untilUp(t.Context(), p, "the Sentinel answers", func(context.Context) bool {
			conn, err := net.Dial("tcp", addr)
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		})
	}))
}

// URL names the master by way of the Sentinel.
func (s *Sentinel) URL() string { return "redis+sentinel://" + s.addr + "/" + SentinelMaster + "/0" }

// Client returns a client of whichever is the master, which is closed with the test.
func (s *Sentinel) Client(t testing.TB) *redis.Client {
	t.Helper()
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: SentinelMaster, SentinelAddrs: []string{s.addr},
	})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}
