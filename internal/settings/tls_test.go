package settings

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/usher/internal/testkit"
)

const certifiedName = "redis.internal"

// tlsFiles are the arguments of a redis-server with TLS, whose certificate has only a name, and the file of the CA.
func tlsFiles(t *testing.T) (args []string, caFile string) {
	t.Helper()
	pair, caFile := certificate(t, certifiedName)
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	testkit.NoError(t, err)
	keyFile := filepath.Join(t.TempDir(), "key.pem")
	content := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	testkit.NoError(t, os.WriteFile(keyFile, content, 0o600))
	return []string{"--tls-cert-file", caFile, "--tls-key-file", keyFile, "--tls-ca-cert-file", caFile,
		"--tls-auth-clients", "no"}, caFile
}

// runTLS starts a redis-server with a second port, for TLS.
func runTLS(t *testing.T, args ...string) (server *testkit.Redis, tlsAddr string) {
	t.Helper()
	tlsAddr, err := testkit.FreeAddr()
	testkit.NoError(t, err)
	_, port, _ := net.SplitHostPort(tlsAddr)
	return testkit.RunRedis(t, append(args, "--tls-port", port)...), tlsAddr
}

// wantsTheName wants that servers at a URL are taken under the name in their certificates, and under no other.
func wantsTheName(t *testing.T, url, caFile string) {
	t.Helper()
	ping := func(caFile, name string) error {
		settings := Redis{RedisURL: url + "?max_retries=-1", RedisCAFile: caFile, RedisName: name, Namespace: "usher"}
		client, err := settings.Open()
		testkit.NoError(t, err)
		defer client.Close()
		return client.Set(t.Context(), "key", "value", 0).Err()
	}
	testkit.Eventually(t, "it answers under the name of the certificate", func() bool {
		return ping(caFile, certifiedName) == nil
	})
	for _, test := range []struct{ ca, name string }{{caFile, ""}, {caFile, "another.internal"}, {"", certifiedName}} {
		if err := ping(test.ca, test.name); err == nil || !strings.Contains(err.Error(), "x509") {
			t.Errorf("CA %q, name %q: %v", test.ca, test.name, err)
		}
	}
}

func TestTLSUnderAName(t *testing.T) {
	t.Parallel()
	args, caFile := tlsFiles(t)
	_, addr := runTLS(t, args...)
	wantsTheName(t, "rediss://"+addr, caFile)
}

func TestTLSUnderANameInACluster(t *testing.T) {
	t.Parallel()
	args, caFile := tlsFiles(t)
	node, addr := runTLS(t, append(args, "--cluster-enabled", "yes", "--tls-cluster", "yes")...)
	testkit.NoError(t, testkit.Client(t, node.Addr).ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	wantsTheName(t, "rediss+cluster://"+addr, caFile)
}

func TestTLSUnderANameBehindSentinel(t *testing.T) {
	t.Parallel()
	args, caFile := tlsFiles(t)
	_, master := runTLS(t, append(args, "--tls-replication", "yes")...)
	addr, err := testkit.FreeAddr()
	testkit.NoError(t, err)
	host, port, _ := net.SplitHostPort(addr)
	dir := t.TempDir()
	config := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("bind %s\nport 0\ntls-port %s\ntls-replication yes\ndir %s\nsentinel monitor mymaster %s 1\n",
		host, port, dir, strings.ReplaceAll(master, ":", " "))
	for i := 0; i < len(args); i += 2 {
		text += strings.TrimPrefix(args[i], "--") + " " + args[i+1] + "\n"
	}
	testkit.NoError(t, os.WriteFile(config, []byte(text), 0o600))
	p, err := testkit.Start(testkit.Command{Name: "sentinel", Path: "redis-server",
		Args: []string{config, "--sentinel"}, Dir: dir})
	testkit.NoError(t, err)
	t.Cleanup(p.Kill)
	wantsTheName(t, "rediss+sentinel://"+addr+"/mymaster/0", caFile)
}

func TestANameNeedsTLS(t *testing.T) {
	t.Parallel()
	_, err := (&Redis{RedisURL: "redis://h", RedisName: "n", Namespace: "usher"}).Open()
	const want = `REDIS_TLS_SERVER_NAME: got "n", want it only with a rediss:// URL, and REDIS_URL is "redis://h"`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// TestAServerWithoutTLSIsToldOf: Redis takes a handshake for the start of a command, and waits for the rest.
func TestAServerWithoutTLSIsToldOf(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t)
	for _, url := range []string{"rediss://" + server.Addr, "rediss+cluster://" + server.Addr} {
		err := open(t, url+"?dial_timeout=200ms&max_retries=-1", "").Ping(t.Context()).Err()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "without TLS it is redis://") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
