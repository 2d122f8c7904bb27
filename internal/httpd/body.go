// Package httpd is what every server of ours needs beside net/http: bodies that come slowly are given up, and a
// certificate is read again when its file changes.
package httpd

import (
	"io"
	"net/http"
	"time"
)

const (
	// pieceTime is how long the next piece of a body may be awaited, and bodyTime all of it.
	pieceTime = 10 * time.Second
	bodyTime  = 5 * time.Minute
)

// paced reads a body of which each piece must come in time.
type paced struct {
	io.Reader
	control *http.ResponseController
	end     time.Time
}

// Body gives a body of at most so many bytes, each piece of which must come in time. All of it may take longer. The
// error of a larger one is an *[http.MaxBytesError], that of a slow one os.ErrDeadlineExceeded.
func Body(w http.ResponseWriter, r *http.Request, most int64) io.ReadCloser {
	body := http.MaxBytesReader(w, r.Body, most)
	return struct {
		io.Reader
		io.Closer
	}{&paced{body, http.NewResponseController(w), time.Now().Add(bodyTime)}, body}
}

// Read is for [io.Reader].
func (p *paced) Read(b []byte) (int, error) {
	next := time.Now().Add(pieceTime)
	if next.After(p.end) {
		next = p.end
	}
	_ = p.control.SetReadDeadline(next)
	return p.Reader.Read(b)
}
