package httpd

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"example.com/usher/internal/settings"
)

// certificate is a certificate and its key, in files that are read again when they change.
type certificate struct {
	prefix            string // of the settings that name the files
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

// TLS gives the settings for a certificate and its key in files, which PREFIX_TLS_CERT and PREFIX_TLS_KEY name; nil if
// they name none. While changed files cannot be used, the certificate stays as it was, and warn is told why.
func TLS(prefix, certPath, keyPath string, warn func(error)) (*tls.Config, error) {
	c := &certificate{prefix: prefix, certPath: certPath, keyPath: keyPath, warn: warn}
	switch {
	case certPath == "" && keyPath == "":
		return nil, nil
	case certPath == "" || keyPath == "":
		return nil, settings.Fault(c.certName(), certPath, "both it and %s, or neither", c.keyName())
	}
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

func (c *certificate) certName() string { return c.prefix + "_TLS_CERT" }
func (c *certificate) keyName() string  { return c.prefix + "_TLS_KEY" }

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
	cert, err := settings.File(c.certName(), c.certPath, mostPEM)
	if err != nil {
		return err
	}
	key, err := settings.File(c.keyName(), c.keyPath, mostPEM)
	if err != nil {
		return err
	}
	if c.now != nil && bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		const want = "a certificate in PEM, and its key in %s (%v)"
		return settings.Fault(c.certName(), c.certPath, want, c.keyName(), err)
	}
	c.cert, c.key, c.now, c.told = cert, key, &pair, ""
	return nil
}
