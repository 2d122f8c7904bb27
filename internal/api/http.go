package api

import (
	"net/http"
	"time"
)

// HTTPServer gives what serves a server's answers, with bounds on whatever a client may take its time for. What takes
// longer by its nature sets bounds of its own.
func HTTPServer(s *Server) *http.Server {
	return &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second,
		WriteTimeout: mostWait + 15*time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
}
