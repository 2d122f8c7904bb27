package settings

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/testkit"
)

func open(t *testing.T, url string, caFile string) redis.UniversalClient {
	t.Helper()
	client, err := OpenRedis(url, caFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func TestOpenRedisWithUserAndPassword(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	server.RequireUserAuth("us@er", "p/a:s#s?%")
	for _, url := range []string{
		"redis://us%40er:p%2Fa%3As%23s%3F%25@" + server.Addr() + "/3",
		"redis+cluster://us%40er:p%2Fa%3As%23s%3F%25@" + server.Addr(),
	} {
		if err := open(t, url, "").Set(t.Context(), "key", "value", 0).Err(); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	if got, _ := server.DB(3).Get("key"); got != "value" {
		t.Errorf("database 3 has %q", got)
	}
	if got, _ := server.DB(0).Get("key"); got != "value" {
		t.Errorf("database 0 has %q from the cluster client", got)
	}
	if err := open(t, "redis://us%40er:wrong@"+server.Addr(), "").Ping(t.Context()).Err(); err == nil {
		t.Error("a wrong password is accepted")
	}
}

// Open must not wait for a server that is not there.
func TestOpenRedisConnectsNothing(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	address := listener.Addr().String()
	for _, url := range []string{"redis://" + address, "redis+sentinel://" + address + "/m/0",
		"redis+cluster://" + address} {
		open(t, url, "")
	}
	// Whoever had connected before would be accepted before.
	ours, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	first, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if first.RemoteAddr().String() != ours.LocalAddr().String() {
		t.Errorf("Open has connected from %s", first.RemoteAddr())
	}
}

// A command ends with its context, long before the read timeout.
func TestOpenRedisHonoursContext(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client := open(t, "redis://"+listener.Addr().String()+"?read_timeout=1h&max_retries=-1", "")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- client.Ping(ctx).Err() }()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a server that never answers has answered")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the command has outlived its context")
	}
}

// certificate makes one that signs itself, for some names, or else for 127.0.0.1.
func certificate(t *testing.T, names ...string) (pair tls.Certificate, caFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter:    time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if len(names) > 0 {
		template.IPAddresses, template.DNSNames = nil, names
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, caFile
}

func TestOpenRedisTLS(t *testing.T) {
	t.Parallel()
	pair, caFile := certificate(t)
	server, err := miniredis.RunTLS(&tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	server.RequireAuth("pass")
	for _, url := range []string{"rediss://:pass@" + server.Addr(), "rediss+cluster://:pass@" + server.Addr()} {
		if err := open(t, url, caFile).Ping(t.Context()).Err(); err != nil {
			t.Errorf("%s with the CA: %v", url, err)
		}
		url += "?max_retries=-1"
		if err := open(t, url, "").Ping(t.Context()).Err(); err == nil ||
			!strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s without the CA: %v", url, err)
		}
	}
	_, port, _ := net.SplitHostPort(server.Addr())
	url := "rediss://:pass@localhost:" + port + "?max_retries=-1" // the certificate is for 127.0.0.1
	if err := open(t, url, caFile).Ping(t.Context()).Err(); err == nil ||
		!strings.Contains(err.Error(), "certificate") {
		t.Errorf("under another name: %v", err)
	}
}

func TestOpenRedisCAFaults(t *testing.T) {
	t.Parallel()
	_, caFile := certificate(t)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ url, file, want string }{
		{"redis://:hunter2@h", caFile, `it only with a rediss:// URL, and REDIS_URL is "redis://:…@h"`},
		{"unix:///s", caFile, `it only with a rediss:// URL, and REDIS_URL is "unix:///s"`},
		{"redis+sentinel://a/m/0", caFile, `it only with a rediss:// URL, and REDIS_URL is "redis+sentinel://a/m/0"`},
		{"rediss://h", "/nowhere/ca.pem", "a file that can be read (no such file or directory)"},
		{"rediss+cluster://h", empty, "a file with certificates in PEM (-----BEGIN CERTIFICATE-----)"},
	} {
		_, err := OpenRedis(test.url, test.file)
		if want := fmt.Sprintf("REDIS_CA_FILE: got %q, want %s", test.file, test.want); err == nil ||
			err.Error() != want {
			t.Errorf("OpenRedis(%q)\n got %v\nwant %s", test.url, err, want)
		}
	}
}

// sentinel starts a Sentinel that watches a master with a password, and gives its address.
func sentinel(t *testing.T, master string) string {
	t.Helper()
	addr, err := testkit.FreeAddr()
	testkit.NoError(t, err)
	host, port, _ := net.SplitHostPort(addr)
	dir := t.TempDir()
	config := filepath.Join(dir, "sentinel.conf") // which it rewrites
	testkit.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "bind %s\nport %s\ndir %s\nrequirepass s+p&x\n"+
		"sentinel monitor mymaster %s 1\nsentinel auth-pass mymaster master-pass\n",
		host, port, dir, strings.ReplaceAll(master, ":", " ")), 0o600))
	p, err := testkit.Start(testkit.Command{Name: "sentinel", Path: "redis-server",
		Args: []string{config, "--sentinel"}, Dir: dir})
	testkit.NoError(t, err)
	t.Cleanup(p.Kill)
	testkit.Eventually(t, "the Sentinel answers", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return addr
}

func TestOpenRedisSentinel(t *testing.T) {
	t.Parallel()
	master := testkit.RunRedis(t, "--requirepass", "master-pass", "--user", "worker", "on", ">p@ss", "~*",
		"&*", "+@all").Addr
	// The first Sentinel does not answer: the second is asked.
	url := "redis+sentinel://worker:p%40ss@127.0.0.1:1," + sentinel(t, master) + "/mymaster/2?sentinel_password="
	client := open(t, url+"s%2Bp%26x", "")
	if err := client.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	direct := open(t, "redis://worker:p%40ss@"+master+"/2", "")
	if got, err := direct.Get(t.Context(), "key").Result(); got != "value" || err != nil {
		t.Errorf("database 2 of the master has %q, %v", got, err)
	}
	if err := open(t, url+"wrong&max_retries=-1", "").Ping(t.Context()).Err(); err == nil {
		t.Error("a wrong password of the Sentinel is accepted")
	}
}

func TestOpenRedisUnixSocket(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "r.sock")
	testkit.RunRedis(t, "--requirepass", "pa:ss", "--unixsocket", socket)
	if err := open(t, "unix://:pa%3Ass@"+socket+"?db=1", "").Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
}
