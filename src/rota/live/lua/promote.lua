#!lua
-- Purpose: lets held profiles wait again whose time has come, in bounded steps.
-- KEYS: as in _moves.lua
-- ARGV[1] limit      how many at most
-- Replies: {number promoted, 1 if more are ready else 0}
-- Refusals: {0, 0} while rota does not hear, because its clock may just have been set
local limit = tonumber(ARGV[1])
if not hears() then return {0, 0} end

-- Held while the clock ran ahead, before it was set back: nothing is held for longer than this.
local ahead = call('ZRANGEBYSCORE', held, digits(now + CRASH_MOST_MS + longest), '+inf', 'LIMIT', 0, limit)
for _, id in ipairs(ahead) do
  local p = get_profile(id)
  p.after = digits(math.min(tonumber(p.after), now + CRASH_MOST_MS))
  p.lease = digits(math.min(tonumber(p.lease), now + longest))
  move_profile(id, p, 'h')
end

local ready = call('ZRANGEBYSCORE', held, '-inf', digits(now), 'LIMIT', 0, limit)
for _, id in ipairs(ready) do
  local p = get_profile(id)
  if p then settle(id, p, 'promoted') else call('ZREM', held, id) end
end
return {#ready, #ready == limit and 1 or 0}
