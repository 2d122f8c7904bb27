// Package api serves HTTP for programs in any language. It does what the command enqueue does, with the same code.
package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/tokens"
)

// Config says what a server needs.
type Config struct {
	Redis     redis.UniversalClient
	Namespace string
	Clerk     settings.Instance // for dry runs that ask Clerk; without a key there are none
	// Tokens say who may do what. Without them everybody may do everything, as one who is called Anybody.
	Tokens *tokens.File
	// Hosts are the names under which the server is asked, without ports. Any other is refused.
	Hosts []string
	// PerSecond is how many requests a second are served to one name.
	PerSecond int
	// ErasureLog is the file to which erasures are added; empty: to none.
	ErasureLog string
	Log        zerolog.Logger
}

// Anybody is the name of who asks where no tokens are.
const Anybody = "anybody"

// Server serves the API.
type Server struct {
	Config
	db      store.DB
	secret  *store.Secret
	api     huma.API
	mux     *http.ServeMux
	origins *http.CrossOriginProtection
	uploads chan struct{} // places for uploads that are read
	life    context.Context
	work    sync.WaitGroup // dry runs that ask Clerk

	underway sync.Map // ids of requests that enqueue one task

	orders desk.Orders // that all share, so that they take little memory

	mu    sync.Mutex
	known map[string]*caller // by name
}

// caller is who asks, by name.
type caller struct {
	name    string
	desk    *desk.Desk
	limit   *rate.Limiter
	uploads chan struct{} // places for uploads of this name
}

const (
	// mostUploads is how many uploads are read at a time: each may take a few hundred megabytes. No name has all places.
	mostUploads     = 4
	mostUploadsEach = 2
	mostBody        = 256 << 10 // of a request that is no upload
)

// New gives a server. life ends what outlives a request: dry runs that ask Clerk.
func New(life context.Context, config Config) *Server {
	s := &Server{
		Config: config, db: store.Open(config.Redis, config.Namespace), mux: http.NewServeMux(),
		origins: http.NewCrossOriginProtection(), uploads: make(chan struct{}, mostUploads), life: life,
		known: map[string]*caller{},
	}
	s.secret = store.NewSecret(s.db)
	s.api = humago.New(s.mux, s.document())
	s.invitations()
	s.campaigns()
	s.tasks()
	s.letters()
	s.readings()
	s.pages()
	return s
}

// Wait returns when nothing is under way any more that outlives its request.
func (s *Server) Wait() { s.work.Wait() }

// document says what huma writes into the OpenAPI document beside the operations.
func (s *Server) document() huma.Config {
	jsonFormat := huma.Format{Marshal: encode, Unmarshal: decode}
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Usher", Version: settings.Version(),
				Description: "Invitations of Clerk, each sent once. What a request creates is a task: ask for its end at " +
					"its Location.",
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "A token of the server's file of tokens."},
				},
			},
			Servers: []*huma.Server{{URL: "/"}},
		},
		Formats:       map[string]huma.Format{"application/json": jsonFormat, problemType: jsonFormat},
		DefaultFormat: "application/json", RejectUnknownQueryParameters: true,
		Transformers: []huma.Transformer{func(_ huma.Context, _ string, v any) (any, error) {
			if e, ok := v.(*huma.ErrorModel); ok {
				return fromHuma(e), nil
			}
			return v, nil
		}},
	}
}

func encode(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// callerOf gives who has a name.
func (s *Server) callerOf(name string) (*caller, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.known[name]; ok {
		return c, nil
	}
	d, err := desk.New(s.Redis, s.Namespace, "http:"+name)
	if err != nil {
		return nil, err
	}
	d.ErasureLog, d.Orders = s.ErasureLog, &s.orders
	c := &caller{
		name: name, desk: d, limit: rate.NewLimiter(rate.Limit(s.PerSecond), s.PerSecond),
		uploads: make(chan struct{}, mostUploadsEach),
	}
	s.known[name] = c
	return c, nil
}

// asker is who asks with one request, and how.
type asker struct {
	*caller
	tokens.Identity
	method, path, query, key string
}

// sees tells whether the asker may see a task.
func (a *asker) sees(owner string) bool { return owner == a.name || a.May(tokens.Operate) }

type askerKey struct{}

func askerOf(ctx context.Context) *asker { return ctx.Value(askerKey{}).(*asker) }

// register adds an operation that needs one of some scopes.
func register[I, O any](
	s *Server, op huma.Operation, scopes []tokens.Scope, do func(context.Context, *asker, *I) (*O, error),
) {
	op.Security = []map[string][]string{{"token": {}}}
	op.Description = joined(op.Description, "Needs a token with the scope "+scopeWords(scopes)+".")
	op.MaxBodyBytes, op.BodyReadTimeout = mostBody, -1 // it was read by then
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	op.Responses["default"] = s.problemResponse()
	op.Middlewares = append(op.Middlewares, s.needs(scopes), s.body)
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		if err := s.mayDo(ctx, op.Method, scopes); err != nil {
			return nil, s.told(ctx, op.OperationID, err)
		}
		out, err := do(ctx, askerOf(ctx), in)
		if err != nil {
			return nil, s.told(ctx, op.OperationID, store.NameRights(ctx, s.db, err))
		}
		return out, nil
	})
}

// mayDo fails if Redis would refuse a step of what an operator asks to change: then nothing was done. What is enqueued
// comes too often to be tried first.
func (s *Server) mayDo(ctx context.Context, method string, scopes []tokens.Scope) error {
	if method == http.MethodGet || !slices.Equal(scopes, []tokens.Scope{tokens.Operate}) {
		return nil
	}
	err := store.CheckRights(ctx, s.db)
	if store.NoRight(err) {
		_, words := desk.Explain(err)
		return problem(http.StatusServiceUnavailable, redisRefuses, "%s; nothing was done", words).after(60)
	}
	return err
}
