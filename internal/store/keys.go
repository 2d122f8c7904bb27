// Package store holds what everything that stands in Redis shares: the keys, the beginnings of the Lua scripts, the
// ids of addresses and the marks of forgotten ones. Its subpackages keep asynq's queues, the records of tasks, intents,
// campaigns, what became of addresses, dead letters and their retries, the copy of Clerk's list, and uploaded lists.
package store

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/redis/go-redis/v9"
)

// DB is Redis, with the keys of one namespace.
type DB struct {
	redis.UniversalClient
	Key Keys
}

// Open gives the Redis of a namespace.
func Open(rdb redis.UniversalClient, namespace string) DB { return DB{rdb, Keys(namespace)} }

// The hash tags of our keys. In a Redis Cluster a script may touch only keys that live on one node, and keys that
// share a tag do. One settlement writes an intent and a record or a row, perhaps a dead letter, and reads the marks of
// forgotten addresses and of a Redis that lost its memory: these share a tag. Schedules, the directory, kept lists
// and the tally each have scripts of their own. A key without a tag is never touched together with another.
const (
	onceTag      = ":{once}:"
	scheduleTag  = ":{schedule}:"
	directoryTag = ":{directory}:"
	keptTag      = ":{kept}:"
	tallyTag     = ":{tally}:"
)

// Keys makes the keys of one namespace, all but two kinds: asynq makes those of its queues, and package ratelimit,
// which imports nothing of ours, makes those of the limits ({limits} is their hash tag).
type Keys string

func (k Keys) once(key string) string      { return string(k) + onceTag + key }
func (k Keys) schedule(key string) string  { return string(k) + scheduleTag + key }
func (k Keys) directory(key string) string { return string(k) + directoryTag + key }

// Record is the record of a task.
func (k Keys) Record(task string) string { return k.once("t:" + task) }

// Busy is held while one process, and no other, does something that has a name.
func (k Keys) Busy(name string) string { return k.once("busy:" + name) }

// Rehearsal is how a dry run that asks Clerk stands, and what it has found.
func (k Keys) Rehearsal(id string) string { return k.once("dry:" + id) }

// Intents is the hash of the intents of an address. A script that learns ids from a list makes the key itself: the
// Intents of an empty address are what it begins with.
func (k Keys) Intents(address string) string { return k.once("i:" + address) }

// Tombstones is the hash of the marks of addresses that were forgotten on request.
func (k Keys) Tombstones() string { return k.once("forgotten") }

// Request is what a script answered to a request, for a minute: go-redis repeats a request whose answer is late.
func (k Keys) Request(token string) string { return k.once("request:" + token) }

// Run says which Redis it was that a worker saw last.
func (k Keys) Run() string { return k.once("redis") }

// Lost is the instant (ms) at which Redis may have lost its memory last.
func (k Keys) Lost() string { return k.once("lost") }

// Restored says when Redis was restored from a copy, and since when work goes on.
func (k Keys) Restored() string { return k.once("restored") }

// Rights is there while a script tries its commands on it.
func (k Keys) Rights() string { return k.once("rights") }

// Seen is the instant (ms) at which a worker saw Redis last, to a minute.
func (k Keys) Seen() string { return k.once("seen") }

// Count is how often a process has asked Redis whether it has lost its memory. It expires an hour after the last time.
func (k Keys) Count(process string) string { return k.once("w:" + process) }

// Letter is a dead letter. A script that learns ids on its way makes the key itself, as with Intents.
func (k Keys) Letter(id string) string { return k.once("d:e:" + id) }

// Letters is the index of the dead letters, by time.
func (k Keys) Letters() string { return k.once("d:index") }

// LetterFacts is the hash of what a list of letters asks of each: its reason, code and campaign. Scripts that have the
// index make this key themselves.
func (k Keys) LetterFacts() string { return k.Letters() + ":facts" }

// Gone is what became of the dead letters of an id that are there no more, by when each failed.
func (k Keys) Gone(id string) string { return k.once("d:g:" + id) }

// History is what is remembered of an address beside its intents: ended tasks, and dead letters that were retried.
func (k Keys) History(address string) string { return k.once("h:" + address) }

// Ledger is a part of a campaign's ledger. The sweep, which learns names from Running, makes these keys itself.
func (k Keys) Ledger(campaign, part string) string { return k.Ledgers() + campaign + ":" + part }

// Ledgers is what the keys of all ledgers begin with.
func (k Keys) Ledgers() string { return k.once("c:") }

// Stage is recipients on their way into a campaign. Stage("*", "*") is the pattern of all of them. Earlier versions
// keep a whole upload in one; now a chunk is in each, its number behind the upload's name, and the campaign's name is
// left out: it may not be known yet.
func (k Keys) Stage(campaign, upload string) string { return k.Ledger(campaign, "stage:"+upload) }

// Upload is the head of an upload. A script that learns uploads on its way makes this key itself, and those of Stage.
func (k Keys) Upload(upload string) string { return k.once("u:" + upload) }

// Moving is the set of the campaigns in which something moves slice by slice: recipients into it, or out of a
// cancelled one.
func (k Keys) Moving() string { return k.once("moving") }

// Running is the set of the campaigns that must have a driver.
func (k Keys) Running() string { return k.once("running") }

// Deleting is the set of the campaigns that are being deleted.
func (k Keys) Deleting() string { return k.once("deleting") }

// Deleted is a part of what stays of deleted campaigns, a hash by name.
func (k Keys) Deleted(part string) string { return k.once("deleted:" + part) }

// DeletedPart is the part that a campaign is in. There are 256, so that each is small and Redis keeps it packed.
func DeletedPart(campaign string) string {
	sum := sha256.Sum256([]byte(campaign))
	return hex.EncodeToString(sum[:1])
}

// Keeping is whose turn it is to delete campaigns that were kept for long enough.
func (k Keys) Keeping() string { return k.once("keeping") }

// KeepingSince is when a worker first started that deletes them.
func (k Keys) KeepingSince() string { return k.once("keeping:since") }

// Campaigns is the index of the campaigns, by time.
func (k Keys) Campaigns() string { return string(k) + ":campaigns" }

// Audit is the list of what people did on the pages.
func (k Keys) Audit() string { return string(k) + ":audit" }

// Kept is a part of a list that was uploaded on the pages and is kept until somebody confirms it. A script that learns
// ids on its way makes the key itself.
func (k Keys) Kept(id, part string) string { return string(k) + keptTag + id + ":" + part }

// KeptLists is the hash of the lists that are kept: until when, and how large they are.
func (k Keys) KeptLists() string { return string(k) + keptTag + "lists" }

// Tally is how many were sent, refused and dead in each hour, a hash by day.
func (k Keys) Tally() string { return string(k) + tallyTag + "days" }

// TallyRequest is there for a minute after a request has been added to the tally.
func (k Keys) TallyRequest(token string) string { return string(k) + tallyTag + "request:" + token }

// Schedule is how a schedule stands.
func (k Keys) Schedule(name string) string { return k.schedule("s:" + name) }

// Schedules is the index of the schedules, by when a worker last had them in its file.
func (k Keys) Schedules() string { return k.schedule("names") }

// Directory is the head of the copy of Clerk's list.
func (k Keys) Directory() string { return k.directory("meta") }

// Copies is the index of the copies and drafts of Clerk's list.
func (k Keys) Copies() string { return k.directory("copies") }

// Copy is the rows of a copy of Clerk's list. A script that learns names on its way makes the key itself.
func (k Keys) Copy(name string) string { return k.directory("copy:" + name) }

// CopyOrder is the order of a copy's rows.
func (k Keys) CopyOrder(name string) string { return k.Copy(name) + ":order" }

// CopyAddresses is the index of a copy's addresses.
func (k Keys) CopyAddresses(name string) string { return k.Copy(name) + ":addresses" }

// CopyRevoked is the revoked rows of a draft.
func (k Keys) CopyRevoked(name string) string { return k.Copy(name) + ":revoked" }

// Workers is a hash of what the workers say of themselves, by their ids.
func (k Keys) Workers() string { return string(k) + ":workers" }

// Policy is what the workers announce of their policy.
func (k Keys) Policy() string { return string(k) + ":policy" }

// Bases is a hash of the bases of Clerk's API that have given a good answer, by BaseID.
func (k Keys) Bases() string { return string(k) + ":bases" }

// BaseID stands for the base of an API.
func BaseID(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:8])
}

// KeyKind is the kind of Clerk key, test or live, that the namespace belongs to.
func (k Keys) KeyKind() string { return string(k) + ":key-kind" }

// Secret is the secret of the namespace, by which ids and names that leave it tell nothing.
func (k Keys) Secret() string { return string(k) + ":secret" }
