#!lua
-- Purpose: a server or a bot is to finish its work, take nothing new and exit; or it may take work again. Whoever
--          enters later finds the order in `drains`; those that are there already are named, in bounded steps.
-- KEYS: as in _moves.lua
-- ARGV[1] subject    hostname, or bot id
-- ARGV[2] draining   1 or 0
-- ARGV[3] bots       msgpack array: ids of the bots concerned, at most 100
-- Replies: number of bots whose flag has changed
-- Refusals: -1 where the subject is a bot that is not on the roster; one that did not say that it goes finds the order
--           when it comes back, and so does everybody after a loss
local subject, draining, bots = ARGV[1], ARGV[2] == '1', cmsgpack.unpack(ARGV[3])
local on_roster = not match(subject, '/') or call('HEXISTS', roster, subject) == 1
if not draining then
  call('SREM', drains, subject)
elseif on_roster or not built or now < quiet then
  call('SADD', drains, subject)
end
if not on_roster then return -1 end

local function set_flag(id, bot)
  local was = bot.phase
  bot.flag = draining and 'd' or '1'
  event(draining and 'draining' or 'undrained', id)
  if draining and (was == 's' or was == 'w') then
    bot.phase = 'x'
    move_profile(bot.profile, get_profile(bot.profile), 'x')
    event('stopping', id, bot.profile, bot.epoch, 'drain')
  end
  put_bot(id, bot, was)
end

local changed = 0
for _, id in ipairs(bots) do
  local entry = call('HGET', roster, id)
  local server = match(id, '^([^/]+)/')
  local drained = call('SISMEMBER', drains, id) == 1 or call('SISMEMBER', drains, server) == 1
  if entry then
    local bot = parse_bot(entry)
    if drained == draining and draining ~= (bot.flag == 'd') then
      set_flag(id, bot)
      changed = changed + 1
    end
  end
end
return changed
