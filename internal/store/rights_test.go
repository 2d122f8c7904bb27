package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
)

// ofScripts finds the commands that scripts name, in our sources.
func ofScripts(t *testing.T) []string {
	t.Helper()
	names := map[string]bool{}
	call := regexp.MustCompile(`redis\.p?call\('([A-Z]+)'`)
	for _, root := range []string{"../../internal", "../../ratelimit", "../../tasks"} {
		testkit.NoError(t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
			script := strings.HasSuffix(path, ".lua") || strings.HasSuffix(path, ".go")
			if err != nil || !script || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, found := range call.FindAllSubmatch(text, -1) {
				names[string(found[1])] = true
			}
			return err
		}))
	}
	delete(names, "INFO") // optional
	delete(names, "SCAN") // without it, no stranded tasks are looked for; a warning says so
	var all []string
	for name := range names {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// TestEachRefusedCommandOfAScriptIsNamed: every command of our scripts is tried, and its refusal alone is told.
func TestEachRefusedCommandOfAScriptIsNamed(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	ctx := t.Context()
	names := append(ofScripts(t), "INCR", "EXPIREAT", "LPUSH", "GETRANGE", "ZREVRANGE") // asynq's, and of our code
	rules := []any{"ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all"}
	testkit.NoError(t, rdb.Do(ctx, rules...).Err())
	app := redis.NewClient(&redis.Options{Addr: rdb.Options().Addr, Username: "app", Password: "secret"})
	t.Cleanup(func() { _ = app.Close() })
	db := store.Open(app, "usher")
	if err := store.CheckRights(ctx, db); err != nil || rdb.DBSize(ctx).Val() != 0 {
		t.Errorf("with all rights: %v, %d keys", err, rdb.DBSize(ctx).Val())
	}
	for _, name := range names {
		testkit.NoError(t, rdb.Do(ctx, append(rules, "-"+name)...).Err())
		err := store.CheckRights(ctx, db)
		rights, missing := errors.AsType[*store.RightsError](err)
		if !missing || !slices.Equal(rights.Commands, []string{name}) || !store.Refused(err) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	testkit.NoError(t, rdb.Do(ctx, append(rules, "-hset", "-srem")...).Err())
	met := redis.NewScript("return redis.call('HSET', KEYS[1], 'f', 1)").Run(ctx, app, []string{"key"}).Err()
	rights, named := errors.AsType[*store.RightsError](store.NameRights(ctx, db, met))
	if !named || !slices.Contains(rights.Commands, "HSET") {
		t.Errorf("what a script has met is %v", store.NameRights(ctx, db, met))
	}
	met = app.SRem(ctx, "key", "m").Err()
	if rights, named = errors.AsType[*store.RightsError](store.NameRights(ctx, db, met)); !named ||
		!slices.Equal(rights.Commands, []string{"SREM"}) {
		t.Errorf("%v is %v", met, store.NameRights(ctx, db, met))
	}
	testkit.NoError(t, rdb.Do(ctx, rules...).Err())
	testkit.NoError(t, rdb.ConfigSet(ctx, "maxmemory", "1").Err())
	if err := store.CheckRights(ctx, db); err != nil {
		t.Errorf("when Redis is full: %v", err)
	}
}

// TestEachUnknownCommandIsNamed: of a server that has not all commands of Redis.
func TestEachUnknownCommandIsNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ lacks, says string }{
		{"LPOS ZMSCORE", "ERR unknown command ZMSCORE, LPOS"}, {"EVALSHA", "ERR unknown command 'evalsha'"},
	} {
		var args []string
		for name := range strings.FieldsSeq(c.lacks) {
			args = append(args, "--rename-command", name, "")
		}
		rdb := testkit.Client(t, testkit.RunRedis(t, args...).Addr)
		err := store.CheckRights(t.Context(), store.Open(rdb, "usher"))
		if !store.Lacks(err) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("without %s: %v", c.lacks, err)
		}
	}
	for _, other := range []error{nil, errors.New("EOF"), errors.New("NOPERM Redis refuses LPOS")} {
		if store.Lacks(other) {
			t.Errorf("%v: a command is lacking", other)
		}
	}
}
