package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/redis/go-redis/v9"
)

// rightsProbe has each command of our scripts and of asynq's, but those that a script can do without, and two more that
// only our own code asks. They are tried in this order on a key that is there for no longer than the script runs.
const rightsProbe = `TIME
SET k 1|GET k|MGET k|SETEX k 9 1|INCR k|EXISTS k|EXPIRE k 9|EXPIREAT k 9999999999|PEXPIRE k 9000|PTTL k|PERSIST k|DEL k
HSET k f 1|HSETNX k f 1|HINCRBY k f 1|HGET k f|HMGET k f|HGETALL k|HKEYS k|HVALS k|HLEN k|HEXISTS k f|HSCAN k 0|HDEL k f
UNLINK k|SADD k m|SISMEMBER k m|SRANDMEMBER k|SREM k m|SPOP k|UNLINK k
ZADD k 1 m|ZSCORE k m|ZMSCORE k m|ZCARD k|ZCOUNT k 0 0|ZRANGE k 0 0|ZRANGEBYSCORE k 0 0|ZSCAN k 0|ZREM k m
ZREMRANGEBYSCORE k 0 0|UNLINK k|RPUSH k m|LPUSH k m|LLEN k|LRANGE k 0 0|LINDEX k 0|LPOS k m|LSET k 0 m|LREM k 1 m
RPOPLPUSH k k|LPOP k|UNLINK k|GETRANGE k 0 0|ZREVRANGE k 0 0`

// rightsScript carries the commands out. What else is wrong with them, such as that Redis is full, does not matter.
//
// KEYS[1] -> usher:{once}:rights
// --
// ARGV[1], [2] … -> the commands
// --
// Returns 1, or an error that names the commands that Redis does not know, or else those that it refuses.
var rightsScript = redis.NewScript(`
local unknown, refused, named = {}, {}, {}
for _, line in ipairs(ARGV) do
  local command = {}
  for word in string.gmatch(line, '%S+') do command[#command + 1] = word == 'k' and KEYS[1] or word end
  local answer = redis.pcall(unpack(command))
  local err = type(answer) == 'table' and answer.err or ''
  local function says(words) return string.find(err, words, 1, true) end
  local to = says('nknown') and unknown or (says("` + noRight70 + `") or says('` + noRight72 + `')) and refused
  if to and not named[command[1]] then
    to[#to + 1], named[command[1]] = command[1], true
  end
end
if #unknown > 0 then return redis.error_reply('ERR unknown command ' .. table.concat(unknown, ', ')) end
if #refused > 0 then return redis.error_reply('NOPERM Redis refuses ' .. table.concat(refused, ', ')) end
return 1
`)

// RightsError means that Redis refuses commands to its user.
type RightsError struct {
	Commands []string // such as SREM
	User     string   // whom it refuses them
	Err      error    // what Redis has said
}

func (e *RightsError) Error() string {
	all, rules := strings.Join(e.Commands, ", "), ""
	for _, command := range e.Commands {
		rules += " +" + strings.ToLower(command)
	}
	return fmt.Sprintf("Redis refuses %s; ACL SETUSER %s%s gives its user the right", all, e.User, rules)
}

func (e *RightsError) Unwrap() error { return e.Err }

// NoRight tells that Redis has refused a command because its user has no right to it. asynq tells it only in words.
func NoRight(err error) bool {
	return err != nil && refusesRight.MatchString(err.Error())
}

var (
	refusesRight   = regexp.MustCompile("NOPERM |Redis refuses [A-Z]{2}|" + noRight70 + "|" + noRight72)
	refusedCommand = regexp.MustCompile("'([a-z|]+)' command|Redis refuses ([A-Z][A-Z, ]+)")
)

// NameRights makes a [RightsError] of an error about a right. Redis 7.0 does not say which command of a script it has
// refused: then the commands of scripts are tried. Any other error is given back.
func NameRights(ctx context.Context, db DB, err error) error {
	if _, named := errors.AsType[*RightsError](err); named || !NoRight(err) {
		return err
	}
	if found := refusedCommand.FindStringSubmatch(err.Error()); found != nil {
		named := strings.ToUpper(strings.ReplaceAll(found[1], "|", " ")) + found[2]
		return &RightsError{Commands: strings.Split(named, ", "), User: userOf(db), Err: err}
	}
	if rights, named := errors.AsType[*RightsError](CheckRights(ctx, db)); named {
		return &RightsError{Commands: rights.Commands, User: rights.User, Err: err}
	}
	return err
}

// userOf names the user with whom the connections of a client log in; USER if that cannot be told: it may change.
func userOf(db DB) string {
	user, changes := "", true
	switch client := db.UniversalClient.(type) {
	case interface{ Options() *redis.Options }:
		of := client.Options()
		user, changes = of.Username, of.CredentialsProvider != nil || of.CredentialsProviderContext != nil ||
			of.StreamingCredentialsProvider != nil
	case interface{ Options() *redis.ClusterOptions }:
		of := client.Options()
		user, changes = of.Username, of.CredentialsProvider != nil || of.CredentialsProviderContext != nil ||
			of.StreamingCredentialsProvider != nil
	}
	if changes {
		return "USER"
	}
	return cmp.Or(user, "default")
}

// CheckRights returns an error if Redis refuses a command that scripts need: a [RightsError] if its user has no right
// to it, and one that [Lacks] tells if Redis does not know it. One that is refused in the middle of a script would
// leave half of it done: a recipient would be in no list any more.
func CheckRights(ctx context.Context, db DB) error {
	var args []any
	for command := range strings.FieldsFuncSeq(rightsProbe, func(r rune) bool { return r == '|' || r == '\n' }) {
		args = append(args, command)
	}
	err := rightsScript.Run(ctx, db, []string{db.Key.Rights()}, args...).Err()
	switch {
	case err == nil:
		return nil
	case refusedCommand.MatchString(err.Error()):
		return NameRights(ctx, db, err)
	}
	return fmt.Errorf("trying the commands of scripts: %w", err)
}
