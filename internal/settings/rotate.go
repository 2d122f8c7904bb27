package settings

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// rotateCheck is how often the file is looked at.
	rotateCheck = time.Second
	// rotatePatience is how long a command waits for a password that Redis takes.
	rotatePatience = 4 * time.Second
	// rotatePause is the wait before a refused command is tried again.
	rotatePause = 100 * time.Millisecond
	// rotateTry is the longest time for trying a new password.
	rotateTry = 2 * time.Second
)

// RefusedLogin tells whether Redis refuses the user or the password.
func RefusedLogin(err error) bool {
	return redis.HasErrorPrefix(err, "WRONGPASS") || redis.HasErrorPrefix(err, "AUTH") || notLoggedIn(err)
}

// notLoggedIn tells whether Redis refuses what a client asks that is not logged in. Where a command has more than ten
// arguments, or a large one, it says so as a breach of the protocol.
func notLoggedIn(err error) bool {
	return redis.HasErrorPrefix(err, "NOAUTH") || redis.HasErrorPrefix(err, "Protocol error: unauthenticated")
}

// rotation keeps the user and the password of a client those of a file with its URL. A new password is first tried on
// a connection of its own. Once Redis takes it, connections that are not in use are closed, and others when they are
// given back: go-redis opens new ones, with the new password. It is a hook of the client.
type rotation struct {
	path string
	try  func(ctx context.Context, url string) error

	mu       sync.Mutex // of a look at the file
	url      string
	login    atomic.Pointer[login]
	now      atomic.Int64 // connections that were opened before it last changed retire
	accepted atomic.Bool  // Redis has taken a login
	looked   atomic.Int64 // when the file was last looked at (ns)
}

// login is what Redis is told about who asks.
type login struct{ user, password string }

// credentials are for go-redis, which asks for them for each new connection.
func (r *rotation) credentials(context.Context) (user, password string, err error) {
	now := r.login.Load()
	return now.user, now.password, nil
}

// withoutLogin is a URL without user and password.
func withoutLogin(url string) string {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(url), "://")
	end := strings.IndexAny(rest+"/", "/?#")
	return scheme + "://" + rest[strings.LastIndexByte(rest[:end], '@')+1:]
}

// look takes over what is new in the file, if it is only user and password, and Redis takes them.
func (r *rotation) look(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked.Store(time.Now().UnixNano())
	url, err := Secret(urlSetting, "", r.path)
	if err != nil || url == r.url || withoutLogin(url) != withoutLogin(r.url) {
		return
	}
	t, err := parseRedisURL(url)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, rotateTry)
	defer cancel()
	if r.try(ctx, url) != nil {
		return
	}
	r.url = url
	r.login.Store(t.login())
	r.now.Add(1)
}

// withLogin carries out what needs a login. While Redis refuses it the file is looked at again.
func (r *rotation) withLogin(ctx context.Context, do func() error) error {
	if last := r.looked.Load(); time.Now().UnixNano()-last > int64(rotateCheck) &&
		r.looked.CompareAndSwap(last, time.Now().UnixNano()) {
		go r.look(context.WithoutCancel(ctx))
	}
	for began := time.Now(); ; {
		err := do()
		switch {
		case !RefusedLogin(err):
			if err == nil {
				r.accepted.Store(true)
			}
			return err
		case !r.accepted.Load() || time.Since(began) > rotatePatience:
			return err
		case notLoggedIn(err): // of a connection that was logged in
			r.now.Add(1)
		}
		r.look(ctx)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(rotatePause):
		}
	}
}

// ProcessHook is for [redis.Hook].
func (r *rotation) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "hello" || cmd.Name() == "auth" {
			return next(ctx, cmd) // of a new connection; the command that waits for it is tried again
		}
		return r.withLogin(ctx, func() error {
			cmd.SetErr(nil)
			return next(ctx, cmd)
		})
	}
}

// ProcessPipelineHook is for [redis.Hook].
func (r *rotation) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return r.withLogin(ctx, func() error {
			for _, cmd := range cmds {
				cmd.SetErr(nil)
			}
			return next(ctx, cmds)
		})
	}
}

// DialHook is for [redis.Hook].
func (r *rotation) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		opened := r.now.Load()
		conn, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &retiring{conn, r, opened}, nil
	}
}

// nodeRotation lets the connections to a node of a cluster retire. The client of the cluster does the rest.
type nodeRotation struct{ *rotation }

// ProcessHook is for [redis.Hook].
func (nodeRotation) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook is for [redis.Hook].
func (nodeRotation) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// retiring is a connection that counts as broken once there is a newer login.
type retiring struct {
	net.Conn
	of     *rotation
	opened int64
}

// SyscallConn is what go-redis asks for before it uses a connection again, to see whether it is broken.
func (c *retiring) SyscallConn() (syscall.RawConn, error) {
	if c.opened < c.of.now.Load() {
		return nil, io.EOF
	}
	if socket, ok := c.Conn.(syscall.Conn); ok {
		return socket.SyscallConn()
	}
	return unseen{}, nil
}

// unseen is a connection whose socket tells nothing, as that of one with TLS.
type unseen struct{}

func (unseen) Control(func(uintptr)) error    { return nil }
func (unseen) Read(func(uintptr) bool) error  { return nil }
func (unseen) Write(func(uintptr) bool) error { return nil }
