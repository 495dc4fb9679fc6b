#!lua
-- Purpose: removes bots whose deadline has passed, in bounded steps; nobody while rota is deaf.
-- KEYS: as in _moves.lua
-- ARGV[1] limit      how many at most
-- Replies: {number removed, 1 if more are overdue else 0}
-- Refusals: {-1, 0} while deaf
local limit = tonumber(ARGV[1])
local known = call('HMGET', pulse, 'heard', 'deaf', 'lease')
local gap = deaf_gap(tonumber(known[3] or 0))
if now - tonumber(known[1] or 0) > gap or now < tonumber(known[2] or 0) then return {-1, 0} end

local overdue = call('ZRANGEBYSCORE', due, '-inf', digits(now), 'LIMIT', 0, limit)
for _, id in ipairs(overdue) do
  local entry = call('HGET', roster, id)
  if entry then
    local bot = parse_bot(entry)
    event('died', id, bot.profile ~= '-' and bot.profile or nil, bot.epoch, 'silent')
    unbind(bot, 'died')
    remove_bot(id, bot)
  else
    call('ZREM', due, id)
  end
end
return {#overdue, #overdue == limit and 1 or 0}
