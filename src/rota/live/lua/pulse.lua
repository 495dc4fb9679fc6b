#!lua
-- Purpose: notes that rota hears (web), begins a new incarnation where there is none (steward), marks it as rebuilt
--          from the ledger (built), and notes that the store is about to be stopped in order (seal).
-- KEYS: as in _moves.lua
-- ARGV[1] who        web, steward, built or seal
-- ARGV[2] lease      ms that the fleet's policy gives from a beat to its deadline
-- ARGV[3] candidate  name for a new incarnation (steward), or the one that was rebuilt (built)
-- ARGV[4] known      the incarnation that the ledger knows, or empty on a fresh installation
-- Replies: {incarnation or '', built 1 or 0, deaf until ms, quiet until ms}
-- Refusals: none
local who, lease, candidate, known = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local p = call('HMGET', pulse, 'incarnation', 'built', 'heard', 'deaf', 'quiet', 'lease', 'kept')
local incarnation, built, heard, deaf, quiet = p[1], p[2], tonumber(p[3] or 0), tonumber(p[4] or 0), tonumber(p[5] or 0)

-- A shorter policy counts only when every lease under the longer one is over.
local longest, kept = tonumber(p[6] or 0), tonumber(p[7] or 0)
if lease >= longest or now > kept then longest, kept = lease, now + lease end

if who == 'steward' and not incarnation then
  incarnation, built = candidate, false
  quiet = known ~= '' and now + longest or 0
  call('HSET', pulse, 'incarnation', candidate, 'run', match(call('INFO', 'server'), 'run_id:(%x+)'))
  event('incarnation', nil, nil, nil, candidate)
elseif who == 'built' and incarnation == candidate then
  built = '1'
  call('HSET', pulse, 'built', built)
elseif who == 'seal' and incarnation then
  -- Written last before an orderly end: where this survived, everything before it did, and the next run is trusted.
  call('HSET', pulse, 'run', 'sealed')
end
if who == 'web' then
  -- Silence is held against nobody; where nobody is there, as on a fresh installation, nothing needs to wait.
  if now - heard > deaf_gap(longest) and call('ZCARD', due) > 0 then deaf = now + longest end
  heard = now
end
if incarnation then
  call('HSET', pulse, 'heard', digits(heard), 'deaf', digits(deaf), 'quiet', digits(quiet), 'lease', digits(longest),
    'kept', digits(kept))
end
return {incarnation or '', built == '1' and 1 or 0, digits(deaf), digits(quiet)}
