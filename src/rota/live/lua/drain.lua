#!lua
-- Purpose: a bot is to finish its work, take nothing new and exit; or it may take work again.
-- KEYS: as in _moves.lua
-- ARGV[1] id         bot id
-- ARGV[2] draining   1 or 0
-- Replies: 'ok'
-- Refusals: 'unknown' where the bot is not on the roster
local id, draining = ARGV[1], ARGV[2] == '1'
local entry = call('HGET', roster, id)
if not entry then return 'unknown' end
local bot = parse_bot(entry)
local was = bot.phase
if draining == (bot.flag == 'd') then return 'ok' end
bot.flag = draining and 'd' or '1'
event(draining and 'draining' or 'undrained', id)
if draining and (was == 's' or was == 'w') then
  bot.phase = 'x'
  move_profile(bot.profile, get_profile(bot.profile), 'x')
  event('stopping', id, bot.profile, bot.epoch, 'drain')
end
put_bot(id, bot, was)
return 'ok'
