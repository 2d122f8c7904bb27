package testkit

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Cluster is a Redis Cluster of redis-servers.
type Cluster struct {
	Nodes []*Redis // the masters first, then a replica of each
}

// NodeTimeout is how long a node must be silent before a cluster or a Sentinel of testkit believes it dead.
const NodeTimeout = 2 * time.Second

// RunCluster starts a cluster of masters, each with a replica. It ends with the test.
func RunCluster(t testing.TB, masters int) *Cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "usher-cluster-")
	NoError(t, err)
	t.Cleanup(func() { removeAll(dir) })
	cluster, err := StartCluster(t.Context(), dir, masters)
	NoError(t, err)
	t.Cleanup(cluster.Kill)
	return cluster
}

// StartCluster starts a cluster of masters, each with a replica, and waits until it works and all are replicated.
func StartCluster(ctx context.Context, dir string, masters int) (c *Cluster, err error) {
	c = &Cluster{}
	defer func() {
		if err != nil {
			c.Kill()
		}
	}()
	args := append(Durable(), "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
		"--cluster-node-timeout", strconv.FormatInt(NodeTimeout.Milliseconds(), 10))
	for range 2 * masters {
		node, err := StartRedis(ctx, dir, args...)
		if err != nil {
			return c, err
		}
		c.Nodes = append(c.Nodes, node)
	}
	if err := c.join(ctx, masters); err != nil {
		return c, fmt.Errorf("making a cluster: %w", err)
	}
	return c, nil
}

// join gives each master its slots and its replica.
func (c *Cluster) join(ctx context.Context, masters int) error {
	const slots = 16384
	clients := make([]*redis.Client, len(c.Nodes))
	for i, node := range c.Nodes {
		clients[i] = redis.NewClient(&redis.Options{Addr: node.Addr})
		defer clients[i].Close()
		if err := clients[i].Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			return err
		}
		if i < masters {
			first, last := i*slots/masters, (i+1)*slots/masters-1
			if err := clients[i].ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
				return err
			}
		}
		host, port, _ := net.SplitHostPort(node.Addr)
		if err := clients[0].ClusterMeet(ctx, host, port).Err(); err != nil {
			return err
		}
	}
	const every, limit = 50 * time.Millisecond, time.Minute
	all := func(what string, done func(i int) bool) error {
		return Poll(ctx, every, limit, what, func(context.Context) (bool, error) {
			for i := range clients {
				if !done(i) {
					return false, nil
				}
			}
			return true, nil
		})
	}
	err := all("the nodes know each other", func(i int) bool {
		info := clients[i].ClusterInfo(ctx).Val()
		return strings.Contains(info, "cluster_state:ok") &&
			strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r", len(clients)))
	})
	if err != nil {
		return err
	}
	for i := range masters {
		if err := clients[masters+i].ClusterReplicate(ctx, clients[i].ClusterMyID(ctx).Val()).Err(); err != nil {
			return err
		}
	}
	return all("the replicas have what the masters have, and all know that", func(i int) bool {
		known := strings.Count(clients[i].ClusterNodes(ctx).Val(), "slave")
		return known == len(clients)-masters &&
			(i < masters || strings.Contains(clients[i].Info(ctx, "replication").Val(), "master_link_status:up"))
	})
}

// URL names all nodes of the cluster.
func (c *Cluster) URL() string {
	var addrs []string
	for _, node := range c.Nodes {
		addrs = append(addrs, node.Addr)
	}
	return "redis+cluster://" + strings.Join(addrs, ",")
}

// Client returns a client of the cluster, which is closed with the test.
func (c *Cluster) Client(t testing.TB) *redis.ClusterClient {
	t.Helper()
	o := &redis.ClusterOptions{ClusterStateReloadInterval: 100 * time.Millisecond, DialerRetries: 1}
	for _, node := range c.Nodes {
		o.Addrs = append(o.Addrs, node.Addr)
	}
	rdb := redis.NewClusterClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Master returns the node that has a key.
func (c *Cluster) Master(ctx context.Context, rdb *redis.ClusterClient, key string) (*Redis, error) {
	node, err := rdb.MasterForKey(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("looking for the master of %s: %w", key, err)
	}
	at := slices.IndexFunc(c.Nodes, func(r *Redis) bool { return r.Addr == node.Options().Addr })
	return c.Nodes[at], nil
}

// Kill ends all nodes at once.
func (c *Cluster) Kill() {
	for _, node := range c.Nodes {
		node.Kill()
	}
}
