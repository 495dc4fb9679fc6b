#!lua
-- Purpose: a bot says that it has stopped and goes; its profile waits again, or is held back after a crash.
-- KEYS: as in _moves.lua
-- ARGV[1] id         bot id
-- ARGV[2] digest     SHA-256 of the token, its first 16 bytes
-- ARGV[3] reason     shutdown or crash
-- Replies: 'ok'
-- Refusals: 'unknown' where the token is not on the roster
local id, digest, reason = ARGV[1], ARGV[2], ARGV[3]
local entry = call('HGET', roster, id)
if not entry or sub(entry, 1, DIGEST) ~= digest then return 'unknown' end
local bot = parse_bot(entry)
event('left', id, bot.profile ~= '-' and bot.profile or nil, bot.epoch, reason)
local p = bot.phase ~= 'i' and get_profile(bot.profile)
if p then
  if reason == 'crash' then count_crash(p) end
  settle(bot.profile, p, reason)
end
remove_bot(id, bot)
-- After a crash it comes back, and is still to go.
if reason == 'shutdown' then call('SREM', drains, id) end
return 'ok'
