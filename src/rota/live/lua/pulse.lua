#!lua
-- Purpose: notes that rota hears (web), that a steward is at work (steward, built), begins a new incarnation where
--          there is none (steward), marks it as rebuilt from the ledger (built), and notes that the store is about to
--          be stopped in order (seal).
--          The web also tells what it makes of the store's clock, which somebody may set.
-- KEYS: as in _moves.lua
-- ARGV[1] who        web, steward, built or seal
-- ARGV[2] lease      ms that the fleet's policy gives from a beat to its deadline
-- ARGV[3] candidate  name for a new incarnation (steward), or the one that was rebuilt (built)
-- ARGV[4] ledgers    the incarnation that the ledger knows, or empty on a fresh installation
-- ARGV[5] seen       number of steps that were known when the web looked at the clock, or empty where it has not
-- ARGV[6] step       ms by which it found the clock to have been set; 0 where it was not, and time has really passed
-- Replies: {incarnation or '', built 1 or 0, deaf until ms, quiet until ms, now ms, number of steps of the clock that
--          were made good, 1 where a gap is to be explained by the web before anything is noted, else 0,
--          number of bots}
-- Refusals: none
local who, lease, candidate, ledgers, seen, step = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local SLEW, SMALL_STEP_MS = 0.01, 250

-- A shorter policy counts only when every lease under the longer one is over.
local kept = tonumber(known[8] or 0)
if lease >= longest or now > kept then longest, kept = lease, now + lease end
kept = math.min(kept, now + longest)

-- The clock goes on where it stood. What was noted by the wrong time ends within one lease: until then nobody is held
-- to be dead, and nothing is given away.
local steps = tonumber(call('HGET', pulse, 'steps') or 0)
local function make_good(by)
  offset, now, steps = offset - by, now - by, steps + 1
  deaf, quiet = now + longest, now + longest
  event('clock', nil, nil, nil, digits(by))
end

local gap = 0
if who == 'web' and math.abs(now - heard) > deaf_gap(longest) and seen == '' and call('ZCARD', due) > 0 then
  gap = 1
elseif who == 'web' then
  if seen == digits(steps) and step ~= '0' then
    make_good(tonumber(step))
  elseif heard - now > SMALL_STEP_MS then
    make_good(now - heard)
  elseif now - heard > deaf_gap(longest) and call('ZCARD', due) > 0 then
    deaf = now + longest
  else
    -- Back to the store's own time, so slowly that no lease notices.
    local most = math.max(0, math.floor((now - heard) * SLEW))
    local slewed = offset > 0 and math.max(0, offset - most) or math.min(0, offset + most)
    offset, now = slewed, now + slewed - offset
  end
  heard = now
elseif who == 'steward' and not incarnation then
  incarnation, built = candidate, false
  quiet = ledgers ~= '' and now + longest or 0
  call('HSET', pulse, 'incarnation', candidate, 'form', FORM, 'run', match(call('INFO', 'server'), 'run_id:(%x+)'))
  event('incarnation', nil, nil, nil, candidate)
elseif who == 'built' and incarnation == candidate then
  built = true
  call('HSET', pulse, 'built', '1')
elseif who == 'seal' and incarnation then
  -- Written last before an orderly end: where this survived, everything before it did, and the next run is trusted.
  call('HSET', pulse, 'run', 'sealed')
end
if who == 'steward' or who == 'built' and built then
  call('HSET', pulse, 'led', digits(now))
end
if incarnation then
  call('HSET', pulse, 'heard', digits(heard), 'deaf', digits(deaf), 'quiet', digits(quiet), 'lease', digits(longest),
    'kept', digits(kept), 'offset', digits(offset), 'steps', digits(steps))
end
return {incarnation or '', built and 1 or 0, digits(deaf), digits(quiet), digits(now), digits(steps), gap,
  call('ZCARD', due)}
