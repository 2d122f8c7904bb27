package store_test

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.com/usher/internal/store"
)

// TestTheTableOfKeysIsWhole compares the keys that Keys makes with the table in ARCHITECTURE.md, both ways.
func TestTheTableOfKeysIsWhole(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "## Keys in Redis")
	var listed []string
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cell := strings.Split(line, "|")[1]
		for _, cell := range regexp.MustCompile("`(usher:[^`]*)`").FindAllStringSubmatch(cell, -1) {
			listed = append(listed, regexp.MustCompile(`[A-Z]+`).ReplaceAllString(cell[1], "X")) // names of variables
		}
	}
	made := map[string]bool{}
	keys := reflect.ValueOf(store.Keys("usher"))
	for i := range keys.NumMethod() {
		method := keys.Method(i)
		key := method.Call(slices.Repeat([]reflect.Value{reflect.ValueOf("X")}, method.Type().NumIn()))[0].String()
		made[key] = true
		fits := func(in string) bool { return in == key || strings.HasSuffix(key, ":") && strings.HasPrefix(in, key) }
		if !slices.ContainsFunc(listed, fits) {
			t.Errorf("%s makes %s, which ARCHITECTURE.md does not list", keys.Type().Method(i).Name, key)
		}
	}
	for _, key := range listed {
		elsewhere := strings.HasPrefix(key, "usher:{limits}:")
		if !made[key] && !elsewhere {
			t.Errorf("ARCHITECTURE.md lists %s, which nothing makes", key)
		}
	}
}
