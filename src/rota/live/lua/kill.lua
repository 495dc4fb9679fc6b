#!lua
-- Purpose: removes a bot at once; its profile is held until the bot's lease must be over, and no lease of it counts.
-- KEYS: as in _moves.lua
-- ARGV[1] id         bot id
-- ARGV[2] reason     operator, or drain: it has not ended by its deadline
-- Replies: 'ok'
-- Refusals: 'unknown' where the bot is not on the roster
local id, reason = ARGV[1], ARGV[2]
local entry = call('HGET', roster, id)
if not entry then return 'unknown' end
local bot = parse_bot(entry)
event('killed', id, bot.profile ~= '-' and bot.profile or nil, bot.epoch, reason)
if bot.phase ~= 'i' then
  local p = get_profile(bot.profile)
  take_away(id, bot.profile, p, next_epoch(p), 'killed')
end
remove_bot(id, bot)
return 'ok'
