package api

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net/http"
	"sync"
	"time"

	"example.com/usher/internal/settings"
)

// HTTPServer gives what serves a server's answers, with bounds on whatever a client may take its time for. What takes
// longer by its nature sets bounds of its own.
func HTTPServer(s *Server) *http.Server {
	return &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second,
		WriteTimeout: mostWait + 15*time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
}

// certificate is a certificate and its key, in files that are read again when they change.
type certificate struct {
	certPath, keyPath string
	warn              func(error)

	mu        sync.Mutex
	read      time.Time
	cert, key []byte
	now       *tls.Certificate
	told      string // the last fault that was told
}

const (
	mostPEM   = 1 << 20
	lookAgain = time.Second // how often the files are read at most
)

// TLS gives the settings for a certificate and its key in files. While changed files cannot be used, the certificate
// stays as it was, and warn is told why.
func TLS(certPath, keyPath string, warn func(error)) (*tls.Config, error) {
	c := &certificate{certPath: certPath, keyPath: keyPath, warn: warn}
	if err := c.look(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current(), nil
		},
	}, nil
}

func (c *certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.read) >= lookAgain {
		if err := c.look(); err != nil && err.Error() != c.told {
			c.told = err.Error()
			c.warn(fmt.Errorf("the certificate stays as it was: %w", err))
		}
	}
	return c.now
}

// look reads the files.
func (c *certificate) look() error {
	c.read = time.Now()
	cert, err := settings.File("USHER_API_TLS_CERT", c.certPath, mostPEM)
	if err != nil {
		return err
	}
	key, err := settings.File("USHER_API_TLS_KEY", c.keyPath, mostPEM)
	if err != nil {
		return err
	}
	if c.now != nil && bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		const want = "a certificate in PEM, and its key in USHER_API_TLS_KEY (%v)"
		return settings.Fault("USHER_API_TLS_CERT", c.certPath, want, err)
	}
	c.cert, c.key, c.now, c.told = cert, key, &pair, ""
	return nil
}
