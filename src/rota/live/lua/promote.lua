#!lua
-- Purpose: lets held profiles wait again whose time has come, in bounded steps.
-- KEYS: as in _moves.lua
-- ARGV[1] limit      how many at most
-- Replies: {number promoted, 1 if more are ready else 0}
-- Refusals: none
local limit = tonumber(ARGV[1])
local ready = call('ZRANGEBYSCORE', held, '-inf', digits(now), 'LIMIT', 0, limit)
for _, id in ipairs(ready) do
  local p = get_profile(id)
  if p then settle(id, p, 'promoted') else call('ZREM', held, id) end
end
return {#ready, #ready == limit and 1 or 0}
