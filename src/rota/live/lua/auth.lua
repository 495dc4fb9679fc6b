#!lua
-- Purpose: a bot enters the roster; it replaces whoever held its slot, and keeps or gets back what it proves to own.
-- KEYS: as in _moves.lua
-- ARGV[1] id         <hostname>/<instance>
-- ARGV[2] digest     SHA-256 of the token, 32 bytes
-- ARGV[3] details    JSON for people: version, labels, joined, address
-- ARGV[4] lease      ms from now to the deadline
-- ARGV[5] profile    what it still works on, proven by a lease, or empty
-- ARGV[6] epoch      of that assignment, or empty
-- Replies: {'ok', profile, epoch, revision}; the last three are '-', '0', '0' where nothing is restored
-- Refusals: {'unbuilt'} while live state is not rebuilt from the ledger
local id, digest, lease = ARGV[1], ARGV[2], tonumber(ARGV[4])
local profile_id, epoch = ARGV[5], ARGV[6]
if call('HGET', pulse, 'built') ~= '1' then return {'unbuilt'} end

local bot = {digest = digest, flag = '1', status = ''}
make_idle(bot)
local restored = {'ok', '-', '0', '0'}
local was
local entry = call('HGET', roster, id)
if entry then
  local old = parse_bot(entry)
  was = old.phase
  if old.flag == 'd' then bot.flag = 'd' end
  if old.phase ~= 'i' then
    if old.profile == profile_id and old.epoch == epoch then
      -- The same process under a new token. A stop that is on its way still has to be confirmed by it.
      bot.phase, bot.profile, bot.epoch, bot.revision = old.phase, old.profile, old.epoch, old.revision
      if old.phase ~= 'x' then restored = {'ok', old.profile, old.epoch, old.revision} end
    elseif old.profile == profile_id and tonumber(old.epoch) > tonumber(epoch) then
      -- This slot's process still works on it, under an older epoch: a repeated auth of its own was taken for another
      -- process. It is told to stop, and until it has said so nobody else may have the profile.
      bot.phase, bot.profile, bot.epoch, bot.revision = 'x', old.profile, old.epoch, old.revision
      if old.phase ~= 'x' then
        move_profile(old.profile, get_profile(old.profile), 'x')
        event('stopping', id, old.profile, old.epoch, 'repeated')
      end
    elseif old.phase == 'x' or profile_id ~= '' or old.flag == 'd' or not may_grant() then
      -- Whether the process that held the slot is gone nobody knows: this may be a repeated auth of its own.
      event('replaced', id, old.profile, old.epoch, 'takeover')
      local p = get_profile(old.profile)
      hold_while_leased(id, p)
      settle(old.profile, p, 'takeover')
    else
      local p = get_profile(old.profile)
      event('replaced', id, old.profile, old.epoch, 'takeover')
      if count_early_death(p, now) then
        -- It kills its processes as fast as they are started again.
        hold_while_leased(id, p)
        settle(old.profile, p, 'takeover')
      else
        bind(id, bot, old.profile, p, next_epoch(p), 's')
        event('granted', id, old.profile, p.epoch, 'takeover')
      end
    end
  end
else
  local server = match(id, '^([^/]+)/')
  call('SADD', server_prefix .. server, id)
  call('HINCRBY', servers, server, 1)
end

if bot.phase == 'i' and profile_id ~= '' then
  local p = get_profile(profile_id)
  local free = p and p.want == '1' and (p.phase == 'q' or p.phase == 'h')
  if free and tonumber(p.epoch) <= tonumber(epoch) then
    -- A draining bot is bound all the same, until it says that it has stopped: it is still at work.
    bind(id, bot, profile_id, p, epoch, bot.flag == 'd' and 'x' or 'w')
    event('resumed', id, profile_id, epoch, 'lease')
    if bot.flag == 'd' then
      event('stopping', id, profile_id, epoch, 'drain')
    else
      restored = {'ok', profile_id, epoch, p.revision}
    end
  end
end

call('HSET', details, id, ARGV[3])
call('ZADD', due, 'GT', digits(now + lease), id)
put_bot(id, bot, was)
event('auth', id, nil, nil, was and 'replaced' or 'new')
return restored
