package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

const (
	apiRuns    = 5
	apiInvites = 6000
)

// apiMeasurement enqueues invitations over HTTP, and beside that with Usher's own client. No worker runs.
func apiMeasurement() measurement {
	return measurement{
		questions: []question{{"invitations enqueued over HTTP", "1/s", "higher"}},
		run: func(ctx context.Context, b *bench) []answer {
			var api, client paces
			for range apiRuns {
				b.addEnqueuePace(ctx, &api, "POST /v1/invitations", overHTTP)
				b.addEnqueuePace(ctx, &client, "the Go client", usherInvites().enqueue)
			}
			note := fmt.Sprintf("median of %d alternating runs of %s by %d callers; the baseline is Usher's Go client",
				apiRuns, number(apiInvites), producers)
			return []answer{{api.median(), figure{err: errNoEarlier}, client.median(), note}}
		},
	}
}

// addEnqueuePace adds how many recipients a second are enqueued in one more run, unless one failed before.
func (b *bench) addEnqueuePace(
	ctx context.Context, to *paces, name string, enqueue func(context.Context, *stage, []tasks.Recipient) error,
) {
	if to.err != nil {
		return
	}
	one := 0.0
	to.err = b.on(ctx, usherInvites(), setup{create: "0", bulk: "0"}, func(s *stage) error {
		if err := enqueue(ctx, s, people("warm", apiInvites/10)); err != nil {
			return err
		}
		began := time.Now()
		err := enqueue(ctx, s, people("person", apiInvites))
		one = apiInvites / time.Since(began).Seconds()
		return err
	})
	b.told(name, to.err, "%.0f recipients/s", one)
	to.each = append(to.each, one)
}

// overHTTP enqueues an invitation for each of some people with a request each, on as many connections as there are
// producers.
func overHTTP(ctx context.Context, s *stage, people []tasks.Recipient) error {
	addr, err := s.serve(ctx)
	if err != nil {
		return err
	}
	idle := make(chan *apiConn, producers)
	defer close(idle)
	for range producers {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		idle <- &apiConn{Conn: conn, answers: bufio.NewReader(conn)}
	}
	return each(people, func(person tasks.Recipient) error {
		conn := <-idle
		defer func() { idle <- conn }()
		return conn.invite(addr, person)
	})
}

// serve starts the server for HTTP, unless it runs, and gives its address.
func (s *stage) serve(ctx context.Context) (string, error) {
	if s.api != "" {
		return s.api, nil
	}
	addr, err := testkit.FreeAddr()
	if err != nil {
		return "", err
	}
	p, err := testkit.Start(testkit.Command{
		Name: "serve", Path: s.bench.enqueue(usherWorker), Dir: s.bench.dir,
		Args: []string{"serve", "--no-auth", "--addr", addr, "--log-level", "warn", "--requests-per-second", "1000000"},
		Env:  []string{"REDIS_URL=" + s.redis.URL()},
	})
	if err != nil {
		return "", err
	}
	s.workers, s.api = append(s.workers, p), addr
	const limit = 10 * time.Second
	return s.api, testkit.Poll(ctx, pollEvery, limit, "it is served over HTTP", func(ctx context.Context) (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
		if err != nil {
			return false, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, nil // it does not listen yet
		}
		return response.StatusCode == http.StatusOK, response.Body.Close()
	})
}

// apiConn is a connection to the server. It does as little for a request as can be, and so leaves the processors to
// what is measured.
type apiConn struct {
	net.Conn
	answers *bufio.Reader
	request []byte
}

// invite sends one request, which must be accepted.
func (c *apiConn) invite(addr string, person tasks.Recipient) error {
	const head = "POST /v1/invitations HTTP/1.1\r\nHost: %s\r\n" +
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
	body := `{"email_address":"` + person.EmailAddress + `"}`
	c.request = append(fmt.Appendf(c.request[:0], head, addr, len(body)), body...)
	if _, err := c.Write(c.request); err != nil {
		return err
	}
	status, length := "", 0
	for {
		line, err := c.answers.ReadSlice('\n')
		if err != nil {
			return err
		}
		switch name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" ")); {
		case len(name) == 0: // the body follows
			said := make([]byte, length)
			if _, err := io.ReadFull(c.answers, said); err != nil {
				return err
			}
			if status != "202 Accepted" {
				return fmt.Errorf("an invitation over HTTP: %s: %s", status, said)
			}
			return nil
		case status == "":
			status = string(value)
		case string(name) == "Content-Length:":
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		}
	}
}
