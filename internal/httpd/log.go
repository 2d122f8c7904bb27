package httpd

import (
	"log"
	"strings"

	"github.com/rs/zerolog"
)

// ErrorLog gives a log for [net/http.Server.ErrorLog] that writes into ours. What net/http complains of may quote a
// client, so only how it begins is written down.
func ErrorLog(to zerolog.Logger) *log.Logger { return log.New(netLog{to}, "", 0) }

type netLog struct{ log zerolog.Logger }

// Write is for [log.New].
func (n netLog) Write(p []byte) (int, error) {
	line, _, _ := strings.Cut(strings.TrimSpace(string(p)), ":")
	n.log.Debug().Str("cause", line).Msg("connection failed")
	return len(p), nil
}
