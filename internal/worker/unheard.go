package worker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// unheard is a Redis in which asynq subscribes to nothing. asynq listens for tasks that are to be cancelled, and
// nobody cancels one in that way. So Redis need not allow it: asynq would open a new connection every 5 seconds where
// it is refused, and wait for ever for one that hangs.
type unheard struct{ redis.UniversalClient }

// Subscribe gives a subscription that never hears anything. It has no connection to Redis.
func (unheard) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	silent := redis.NewClient(&redis.Options{
		Protocol: 2, DisableIdentity: true, // it knows no command but those that a subscription sends
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go confirm(theirs)
			return ours, nil
		},
	})
	return silent.Subscribe(ctx, channels...)
}

// confirm answers one subscription, and each ping, as Redis does, until the connection is closed.
func confirm(conn net.Conn) {
	defer conn.Close()
	bulk := func(text string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text) }
	var last string
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "$") { // the length of what follows
			continue
		}
		var answer string
		switch {
		case last == "hello":
			answer = "-ERR unknown command\r\n" // as an old Redis says, and go-redis does without it
		case last == "subscribe":
			answer = "*3\r\n" + bulk("subscribe") + bulk(line) + ":1\r\n"
		case line == "ping":
			answer = "*2\r\n" + bulk("pong") + bulk("")
		}
		if last = line; answer == "" {
			continue
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
}
