#!lua
-- Purpose: removes bots whose deadline has passed, in bounded steps; nobody while rota is deaf.
-- KEYS: as in _moves.lua
-- ARGV[1] limit      how many at most
-- Replies: {number removed, 1 if more are overdue else 0}
-- Refusals: {-1, 0} while deaf
local limit = tonumber(ARGV[1])
if not hears() or now < deaf then return {-1, 0} end

-- Given while the clock ran ahead, before it was set back: no lease is longer than the longest.
local ahead = call('ZRANGEBYSCORE', due, digits(now + longest + SPREAD_MS), '+inf', 'LIMIT', 0, limit)
for _, id in ipairs(ahead) do call('ZADD', due, digits(now + longest), id) end

local overdue = call('ZRANGEBYSCORE', due, '-inf', digits(now), 'WITHSCORES', 'LIMIT', 0, limit)
for i = 1, #overdue, 2 do
  local id = overdue[i]
  local entry = call('HGET', roster, id)
  if entry then
    local bot = parse_bot(entry)
    event('died', id, bot.profile ~= '-' and bot.profile or nil, bot.epoch, 'silent')
    if bot.phase ~= 'i' then
      local p = get_profile(bot.profile)
      count_early_death(p, tonumber(overdue[i + 1]) - longest)
      settle(bot.profile, p, 'died')
    end
    remove_bot(id, bot)
  else
    call('ZREM', due, id)
  end
end
return {#overdue / 2, (#overdue / 2 == limit or #ahead == limit) and 1 or 0}
