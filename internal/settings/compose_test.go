package settings

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// TestComposeKeepsTheErasureLog on a volume, wherever something is forgotten. The folder belongs to who writes it.
func TestComposeKeepsTheErasureLog(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Entrypoint, Volumes []string
			Environment         map[string]string
		}
	}
	overridden := yaml.AllowDuplicateMapKey() // a service names what it merges and changes
	if err := yaml.UnmarshalWithOptions(text, &file, overridden); err != nil {
		t.Fatal(err)
	}
	forget := 0
	for name, service := range file.Services {
		if !slices.Contains(service.Entrypoint, "/usr/local/bin/enqueue") {
			continue
		}
		forget++
		log := service.Environment["USHER_ERASURE_LOG"]
		if !strings.Contains(log, ":-/erasures/${USHER_NAMESPACE") ||
			!slices.Contains(service.Volumes, "erasures:/erasures") {
			t.Errorf("%s: %q, %v", name, log, service.Volumes)
		}
		var variables []string
		for variable := range service.Environment {
			variables = append(variables, variable+"=x")
		}
		if unknown := UnknownVariables(variables); len(unknown) > 0 {
			t.Errorf("%s: %v", name, unknown)
		}
	}
	image, err := os.ReadFile("../../Dockerfile")
	if err != nil || forget != 2 || !strings.Contains(string(image), "--chown=nonroot:nonroot /erasures /erasures") {
		t.Errorf("%d services forget, %v\n%s", forget, err, image)
	}
}
