package deadletter

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
)

// Filter chooses letters: those that match all that is given. A zero one chooses all.
type Filter struct {
	Code, Campaign, Reason string
	// Other is called with the code of each letter that is left out for nothing but its code.
	Other func(code string)
}

// siftScript tells of letters what a filter wants to know, so that only few are read. It reads their text as it is
// written: what it does not understand is read.
//
// KEYS[1], [2] … -> usher:{once}:d:e:ID
// --
// ARGV[1] -> what stands in the text of a letter of the campaign, or empty for any
// ARGV[2] -> reason, or empty for any
// --
// Returns for each letter its code, ? if the letter must be read to know, or an empty text if it is not chosen.
var siftScript = redis.NewScript(`
local find, match, answer = string.find, string.match, {}
local campaign, wanted = ARGV[1], ARGV[2]
for i, key in ipairs(KEYS) do
  local text, said = redis.pcall('HGET', key, 'entry'), '?' -- garbage may be of another type
  local _, at = find(type(text) == 'string' and text or '', '"failure":{"reason":"', 1, true)
  if at and campaign ~= '' and not find(text, campaign, 1, true) then
    said = ''
  elseif at then
    local reason, after = match(text, '^(%a+)",()', at + 1)
    local code = after and (match(text, '^"http_status":%d+,"code":"([%w_.-]+)"', after) or
      match(text, '^"code":"([%w_.-]+)"', after))
    if code then said = (wanted == '' or wanted == reason) and code or '' end
  end
  answer[i] = said
end
return answer
`)

// sift gives those of some ids whose letters a filter may choose.
func (s *Store) sift(ctx context.Context, f Filter, ids []string) (likely []string, err error) {
	if f.Code == "" && f.Campaign == "" && f.Reason == "" {
		return ids, nil
	}
	defer store.Wrap(&err, "choosing dead letters")
	campaign := ""
	if f.Campaign != "" {
		name, err := json.Marshal(f.Campaign)
		if err != nil {
			return nil, err
		}
		campaign = `"campaign":` + string(name)
	}
	for chunk := range slices.Chunk(ids, scanCount) {
		keys := make([]string, len(chunk))
		for i, id := range chunk {
			keys[i] = s.db.Key.Letter(id)
		}
		said, err := siftScript.Run(ctx, s.db, keys, campaign, f.Reason).StringSlice()
		if err == nil && len(said) != len(chunk) {
			err = store.ErrGarbage
		}
		if err != nil {
			return nil, err
		}
		for i, code := range said {
			switch {
			case code == "":
			case code == "?", f.Code == "", f.Code == code:
				likely = append(likely, chunk[i])
			case f.Other != nil:
				f.Other(code)
			}
		}
	}
	return likely, nil
}
