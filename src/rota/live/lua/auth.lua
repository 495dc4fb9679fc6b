#!lua
-- Purpose: a bot enters the roster; it replaces whoever held its slot, and keeps or gets back what it proves to own.
-- KEYS: as in _moves.lua
-- ARGV[1] id         <hostname>/<instance>
-- ARGV[2] digest     SHA-256 of the token, its first 16 bytes
-- ARGV[3] details    JSON array for people: version, joined, address, labels where there are any
-- ARGV[4] lease      ms from now to the deadline
-- ARGV[5] profile    what it still works on, proven by a lease, or empty
-- ARGV[6] epoch      of that assignment, or empty
-- Replies: {'ok', profile, epoch, revision}; the last three are '-', '0', '0' where nothing is restored
-- Refusals: {'unbuilt'} while live state is not rebuilt from the ledger; {'contested'} where several processes fight
--           for the slot
local id, digest, lease = ARGV[1], ARGV[2], tonumber(ARGV[4])
local REPLACED_MOST = 3
local profile_id, epoch = ARGV[5], ARGV[6]
if not built then return {'unbuilt'} end
note_lease(lease)

-- When the slot's process was replaced by another within the last lease, as text, and one moment more if it is now.
-- A token that nobody has used yet went to nobody: this is the same process, which never heard the answer.
local function replaced_at()
  local moments, given = match(call('HGET', details, id) or '', ',"([%d ]*)","([%d.]+)"%]$')
  local lately, number = '', 0
  for at in string.gmatch(moments or '', '%d+') do
    if now - at < lease then lately, number = lately .. at .. ' ', number + 1 end
  end
  if given and tonumber(call('ZSCORE', due, id) or 0) <= tonumber(given) then return lately, number end
  return lately .. digits(now), number + 1
end

-- Two processes replace each other for ever, or one is started again and again: whoever holds the slot keeps it until
-- it falls silent, or until nobody else has asked for it for one lease.
local function contest()
  if not call('ZSCORE', contested, id) then event('contested', id) end
  call('ZADD', contested, digits(now + lease), id)
  return {'contested'}
end

local server, instance = match(id, '^([^/]+)/(.+)$')
local drained = call('SISMEMBER', drains, id) == 1 or call('SISMEMBER', drains, server) == 1
local bot = {digest = digest, flag = drained and 'd' or '1', status = ''}
make_idle(bot)
local restored = {'ok', '-', '0', '0'}
local was, replaced

local function stop(reason)
  if bot.phase == 'x' then return end
  bot.phase = 'x'
  move_profile(bot.profile, get_profile(bot.profile), 'x')
  event('stopping', id, bot.profile, bot.epoch, reason)
end

local entry = call('HGET', roster, id)
if entry then
  local old = parse_bot(entry)
  was = old.phase
  if old.flag == 'd' then bot.flag = 'd' end
  if old.phase == 'i' or old.profile ~= profile_id or old.epoch ~= epoch then
    local number
    replaced, number = replaced_at()
    if number > REPLACED_MOST or tonumber(call('ZSCORE', contested, id) or 0) > now then return contest() end
    call('ZREM', contested, id)
  end
  if old.phase ~= 'i' then
    if old.profile == profile_id and old.epoch == epoch then
      -- The same process under a new token. A stop that is on its way still has to be confirmed by it.
      bot.phase, bot.profile, bot.epoch, bot.revision = old.phase, old.profile, old.epoch, old.revision
      if bot.flag == 'd' then stop('drain') end
      if bot.phase ~= 'x' then restored = {'ok', old.profile, old.epoch, old.revision} end
    elseif old.profile == profile_id and tonumber(old.epoch) > tonumber(epoch) then
      -- This slot's process still works on it, under an older epoch: a repeated auth of its own was taken for another
      -- process. It is told to stop, and until it has said so nobody else may have the profile.
      bot.phase, bot.profile, bot.epoch, bot.revision = old.phase, old.profile, old.epoch, old.revision
      stop('repeated')
    elseif old.phase == 'x' or profile_id ~= '' or bot.flag == 'd' or not may_grant() then
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
  call('SADD', server_prefix .. server, instance)
  call('HINCRBY', servers, server, 1)
end

if bot.phase == 'i' and profile_id ~= '' then
  local p = get_profile(profile_id)
  local free = p and p.want == '1' and (p.phase == 'q' or p.phase == 'h')
  if free and tonumber(p.epoch) <= tonumber(epoch) then
    -- A draining bot is bound all the same, until it says that it has stopped: it is still at work.
    bind(id, bot, profile_id, p, epoch, bot.flag == 'd' and 'x' or 'w')
    if p.phase == 'w' then
      -- It has worked since the grant, whose moment is the epoch, as far as nobody set the clock meanwhile.
      p.since = digits(math.min(now, math.floor(tonumber(epoch) / 1000)))
      put_profile(profile_id, p)
    end
    event('resumed', id, profile_id, epoch, 'lease')
    if bot.flag == 'd' then
      event('stopping', id, profile_id, epoch, 'drain')
    else
      restored = {'ok', profile_id, epoch, p.revision}
    end
  end
end

call('ZADD', due, 'GT', digits(now + lease), id)
if replaced then
  local noted = ',"' .. replaced .. '","' .. call('ZSCORE', due, id) .. '"]'
  call('HSET', details, id, sub(ARGV[3], 1, -2) .. noted)
else
  call('HSET', details, id, ARGV[3])
end
put_bot(id, bot, was)
event('auth', id, nil, nil, was and 'replaced' or 'new')
return restored
