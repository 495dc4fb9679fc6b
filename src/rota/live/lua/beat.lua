#!lua
-- Purpose: signs of life of many bots at once, and what each is to do next.
-- KEYS: as in _moves.lua
-- ARGV[1] beats      msgpack array: bot id, its roster entry AS IT WOULD BE IF NOTHING HAD CHANGED, bot id, …
-- ARGV[2] lease      ms from now to the deadlines
-- Replies: flat array of index (from 1), code, profile, epoch, revision; only for beats that are answered otherwise
--          than by `continue` (they reported work) or `wait` (they did not)
--          codes: start, reconfigure, stop, exit, wait, continue
-- Refusals: code `unknown` in the place of a bot whose token is not on the roster
local beats, lease = cmsgpack.unpack(ARGV[1]), tonumber(ARGV[2])
-- A binding costs some 75 µs in a fleet of a million; nobody waits longer than 5 ms for the store.
local BINDINGS_A_CALL = 12
local bindings = 0
note_lease(lease)

local function grant(id, bot)
  if bindings >= BINDINGS_A_CALL or not may_grant() then return nil end
  local profile_id = first_waiting(id)
  if not profile_id then return nil end
  bindings = bindings + 1
  local p = get_profile(profile_id)
  bind(id, bot, profile_id, p, next_epoch(p), 's')
  event('granted', id, profile_id, p.epoch, 'queue')
  return 'start'
end

local function unbound(id, bot, reports_work)
  if reports_work then return 'stop' end
  if bot.flag == 'd' then return 'exit' end
  return (bot.flag == '1' or bot.flag == 'a') and grant(id, bot) or 'wait'
end

local function release(id, bot)
  event('released', id, bot.profile, bot.epoch, 'stopped')
  unbind(bot, 'released')
  make_idle(bot)
end

local function bound(id, bot, said)
  if said.phase == 'i' then
    if bot.phase ~= 'x' then return 'start' end
    -- An idle beat may be older than the work: held up on its way, or repeated. Who tells what it ended is released
    -- by just that, and who does not is taken at its word.
    local tells = said.flag == 'a' or said.flag == 'q'
    if tells and (said.profile ~= bot.profile or said.epoch ~= bot.epoch) then return 'stop' end
    release(id, bot)
    return unbound(id, bot, false)
  end
  if said.profile ~= bot.profile or said.epoch ~= bot.epoch or bot.phase == 'x' then return 'stop' end
  if bot.phase == 's' then
    move_profile(bot.profile, get_profile(bot.profile), 'w')
    event('working', id, bot.profile, bot.epoch)
    bot.phase = 'w'
  end
  return tonumber(said.revision) < tonumber(bot.revision) and 'reconfigure' or 'continue'
end

-- The table of docs/protocol.md, one transition.
local function transition(id, expected)
  local entry = call('HGET', roster, id)
  if not entry or sub(entry, 1, DIGEST) ~= sub(expected, 1, DIGEST) then return 'unknown', {} end
  local bot, said = parse_bot(entry), parse_bot(expected)
  local was = bot.phase
  bot.status = said.status
  if bot.flag ~= 'd' then bot.flag = said.flag end
  local code
  if was == 'i' then
    code = unbound(id, bot, said.phase ~= 'i')
  else
    code = bound(id, bot, said)
  end
  put_bot(id, bot, was)
  return code, bot, said.phase == 'i' and 'wait' or 'continue'
end

-- From here on `beats` becomes what ZADD takes, in place: every value that is made costs more than most commands do.
local ids, expected = {}, {}
for i = 1, #beats / 2 do ids[i], expected[i] = beats[2 * i - 1], beats[2 * i] end
if #ids == 0 then return {} end
local recorded = call('HMGET', roster, unpack(ids))
local somebody_waits = tonumber(call('HGET', counts, 'pq') or 0) > 0

local replies, changed, alive = {}, {}, 0
for i = 1, #ids do
  local id, entry = ids[i], expected[i]
  local same = recorded[i] == entry
  if same and somebody_waits then
    local head = sub(entry, DIGEST + 1, DIGEST + 2)
    same = head ~= 'i1' and head ~= 'ia'
  end
  local code, bot, default
  -- `changed`: the same bot may stand twice in one batch, and what was read before the first is stale for the second.
  if not same or changed[id] then
    code, bot, default = transition(id, entry)
    changed[id] = true
    if code ~= default then
      local n = #replies
      replies[n + 1], replies[n + 2], replies[n + 3] = i, code, bot.profile or '-'
      replies[n + 4], replies[n + 5] = bot.epoch or '0', bot.revision or '0'
    end
  end
  if code ~= 'unknown' then
    -- The fraction keeps scores apart: equal ones made ZADD three times slower. A number, not its text: that would be a
    -- new string for each beat.
    alive = alive + 1
    beats[2 * alive - 1], beats[2 * alive] = now + lease + i / 1000, id
  end
end
-- GT: a shorter ttl must not end a longer lease that was granted before, since the reply to this beat may get lost.
if alive > 0 then call('ZADD', due, 'GT', unpack(beats, 1, 2 * alive)) end
return replies
