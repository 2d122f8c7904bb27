#!/bin/sh
# After a server has closed idle connections, go-redis fails commands with TLS, and none without.
#
# Expected: a client whose idle connections were closed, by a proxy with an idle timeout or by a server that was started
# anew, opens a new one. It does so without TLS; and a command that fails all the same is attempted four times.
# Seen (go-redis 9.23.0, a pool of 20 connections, all closed while they were idle): without TLS no command fails. With
# TLS five commands fail in a row, one after the other, each after four attempts, though the server takes every new
# connection. go-redis looks at the socket of a connection before it uses it again, but not where it is under TLS. And
# each further attempt takes another connection of the pool, as dead as the one before, so that 20 are four attempts of
# five commands. A larger pool fails more.
#
# Needs go. Output seen with Go 1.26.8:
#   without TLS: 0 of 20 commands failed
#   with TLS: 5 of 20 commands failed
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >go.mod <<'MOD'
module finding

go 1.25
MOD
cat >main.go <<'GO'
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// before listens before a Redis, and gives what closes all connections that are open.
func before(listener net.Listener, redisAddr string) (closeAll func()) {
	var mu sync.Mutex
	var open []net.Conn
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			plain, err := net.Dial("tcp", redisAddr)
			if err != nil {
				panic(err)
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			go func() { io.Copy(conn, plain) }()
			go func() { io.Copy(plain, conn); plain.Close() }()
		}
	}()
	return func() {
		mu.Lock()
		defer mu.Unlock()
		for _, conn := range open {
			conn.Close()
		}
	}
}

// fails tells how many commands fail, one after the other, after 20 idle connections were closed.
func fails(options *redis.Options, closeAll func()) (failed int) {
	ctx := context.Background()
	options.PoolSize = 20
	rdb := redis.NewClient(options)
	defer rdb.Close()
	var busy, done sync.WaitGroup
	busy.Add(20)
	for range 20 {
		done.Go(func() { // each with a connection of its own
			rdb.Watch(ctx, func(*redis.Tx) error { busy.Done(); busy.Wait(); return nil }, "key")
		})
	}
	done.Wait()
	closeAll()
	time.Sleep(time.Second)
	for range 20 {
		if err := rdb.Ping(ctx).Err(); err != nil {
			failed++
		}
	}
	return failed
}

func tell(name string, options *redis.Options, listener net.Listener, redisAddr string) {
	options.Addr = listener.Addr().String()
	fmt.Println(name+":", fails(options, before(listener, redisAddr)), "of 20 commands failed")
}

func main() {
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		panic(err)
	}
	defer server.Close()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	tell("without TLS", &redis.Options{}, plain, server.Addr())

	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	of := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	secure, err := tls.Listen("tcp", "127.0.0.1:0",
		&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		panic(err)
	}
	cert, _ := x509.ParseCertificate(der)
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	tell("with TLS", &redis.Options{TLSConfig: &tls.Config{RootCAs: roots}}, secure, server.Addr())
}
GO
go get github.com/redis/go-redis/v9@v9.23.0 github.com/alicebob/miniredis/v2@v2.40.0 >/dev/null 2>&1
go run . 2>/dev/null | tee seen
cat >wanted <<'TEXT'
without TLS: 0 of 20 commands failed
with TLS: 5 of 20 commands failed
TEXT
cmp seen wanted
