#!lua
-- Purpose: parts a bot and a profile that do not name each other in the same way, as no script leaves them: somebody
--          wrote to the store, or it lost a part. Whoever works is told to stop, and nobody else gets the profile
--          before the lease must be over.
-- KEYS: as in _moves.lua
-- ARGV[1] id         bot id
-- ARGV[2] profile    profile id
-- Replies: 1 where something was mended, 0 where all is sound
-- Refusals: none
local id, profile_id = ARGV[1], ARGV[2]
local entry, p = call('HGET', roster, id), get_profile(profile_id)
local bot = entry and parse_bot(entry)
local bot_says = bot and bot.phase ~= 'i' and bot.profile == profile_id
local profile_says = p and p.bot == id and (p.phase == 's' or p.phase == 'w' or p.phase == 'x')
if not bot_says and not profile_says then return 0 end
if bot_says and profile_says and bot.epoch == p.epoch and bot.phase == p.phase then return 0 end

local was = bot_says and bot.phase or p.phase
event('released', id, profile_id, bot_says and bot.epoch or p.epoch, 'mended')
if profile_says or (p and (p.phase == 'q' or p.phase == 'h')) then
  local newest = math.max(tonumber(bot_says and bot.epoch or 0), tonumber(p.epoch))
  p.epoch = digits(newest)
  take_away(id, profile_id, p, next_epoch(p), 'mended')
end
if bot_says then
  make_idle(bot)
  put_bot(id, bot, was)
elseif not bot and call('HEXISTS', details, id) == 1 then
  remove_bot(id, {phase = was})
end
return 1
