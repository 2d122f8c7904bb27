package ratelimit

import (
	_ "embed"

	"github.com/redis/go-redis/v9"
)

// common.lua has the layout of the keys and what the scripts share. Each script says what it takes and returns.
var (
	//go:embed common.lua
	commonLua string
	//go:embed acquire.lua
	acquireLua string
	//go:embed spend.lua
	spendLua string
	//go:embed release.lua
	releaseLua string
	//go:embed announce.lua
	announceLua string
	//go:embed usage.lua
	usageLua string
	//go:embed resume.lua
	resumeLua string

	acquireScript  = redis.NewScript(commonLua + acquireLua)
	spendScript    = redis.NewScript(commonLua + spendLua)
	releaseScript  = redis.NewScript(commonLua + releaseLua)
	announceScript = redis.NewScript(commonLua + announceLua)
	usageScript    = redis.NewScript(commonLua + usageLua)
	resumeScript   = redis.NewScript(commonLua + resumeLua)
)
