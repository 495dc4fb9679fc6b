#!lua
-- Purpose: which assignment a bot's data belongs to; a sign of life besides.
-- KEYS: as in _moves.lua
-- ARGV[1] id         bot id
-- ARGV[2] digest     SHA-256 of the token, 32 bytes
-- ARGV[3] lease      ms from now to the deadline
-- ARGV[4] profile    that the bot names, or empty for the one it is bound to
-- ARGV[5] epoch      that the bot names, or empty for the one it is bound to
-- Replies: {'ok', profile, epoch}
-- Refusals: {'unknown'} token not on the roster; {'none'} nothing named and nothing bound; {'superseded'} the profile
--           has a newer epoch or another owner; {'ahead'} an epoch that was never granted
local id, digest, lease, profile_id, epoch = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local entry = call('HGET', roster, id)
if not entry or sub(entry, 1, DIGEST) ~= digest then return {'unknown'} end
note_lease(lease)
call('ZADD', due, 'GT', digits(now + lease), id)
local bot = parse_bot(entry)
if profile_id == '' then profile_id = bot.profile end
if profile_id == '-' then return {'none'} end
local p = get_profile(profile_id)
if not p then return {'superseded'} end
if epoch == '' then
  if bot.profile ~= profile_id then return {'superseded'} end
  epoch = bot.epoch
end
if tonumber(epoch) > tonumber(p.epoch) then return {'ahead'} end
if tonumber(epoch) < tonumber(p.epoch) or p.bot ~= id then return {'superseded'} end
return {'ok', profile_id, epoch}
