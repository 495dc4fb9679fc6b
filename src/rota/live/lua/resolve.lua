#!lua
-- Purpose: which assignments the data of many bots belongs to; a sign of life of each besides.
-- KEYS: as in _moves.lua
-- ARGV[1] claims     msgpack array: bot id, SHA-256 of its token (its first 16 bytes), profile and epoch that it names,
--                    or empty texts for what it is bound to; bot id, …
-- ARGV[2] lease      ms from now to the deadlines
-- Replies: flat array of code, profile, epoch for each claim, in their order; code 'ok', or 'unproven': no grant of it
--          or of a newer epoch is known here, but the one that was may have been lost, and the ledger knows
-- Refusals: other codes: 'unknown' token not on the roster; 'none' nothing named and nothing bound; 'superseded' the
--           profile has a newer epoch or another owner
local claims, lease = cmsgpack.unpack(ARGV[1]), tonumber(ARGV[2])
note_lease(lease)

local deadlines = {}

local function resolve(id, digest, profile_id, epoch)
  local entry = call('HGET', roster, id)
  if not entry or sub(entry, 1, DIGEST) ~= digest then return 'unknown' end
  deadlines[#deadlines + 1] = digits(now + lease)
  deadlines[#deadlines + 1] = id
  local bot = parse_bot(entry)
  if profile_id == '' then profile_id = bot.profile end
  if profile_id == '-' then return 'none' end
  local p = get_profile(profile_id)
  if epoch == '' then
    if bot.profile ~= profile_id then return 'superseded' end
    epoch = bot.epoch
  end
  local ahead = not p and 1 or tonumber(epoch) - tonumber(p.epoch)
  if ahead > 0 or (ahead == 0 and p.bot == '-') then return 'unproven', profile_id, epoch end
  if ahead < 0 or p.bot ~= id then return 'superseded' end
  return 'ok', profile_id, epoch
end

local replies = {}
for i = 1, #claims, 4 do
  local code, profile, epoch = resolve(claims[i], claims[i + 1], claims[i + 2], claims[i + 3])
  local n = #replies
  replies[n + 1], replies[n + 2], replies[n + 3] = code, profile or '-', epoch or '0'
end
if #deadlines > 0 then call('ZADD', due, 'GT', unpack(deadlines)) end
return replies
