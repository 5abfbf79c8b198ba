//! The commands, and a client's session: bytes in, replies out, no socket in sight.
//!
//! What goes to other clients is left in [`Server::letters`], for who holds the sockets. A client is known by a key `K` of
//! theirs. A command is checked as a whole before it changes anything.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::Registry;

use super::protocol::{Command, Limits, Parser, Refusal, Replies, integer};
use super::store::{NOT_AN_INTEGER, Store};

/// After so many bytes of replies, messages and letters a session lets them be sent before it goes on.
const BATCH: usize = 64 * 1024;
/// One command has no longer reply: a thousand times the same key is soon asked for.
pub(crate) const REPLY_MAX: usize = 64 << 20;
/// Nothing lives longer: the loop's timers know that many nanoseconds, some 292 years.
const TTL_MAX_MS: i64 = i64::MAX / 1_000_000;
const NAMES: &str = "command config dbsize decr del echo exists expire flushall get incr info mget mset persist ping \
                     publish quit select set subscribe ttl unsubscribe";
const SYNTAX: &str = "syntax error";
const SUBSCRIBED: &str = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context";

/// What all clients share: the state of the loop.
#[derive(Debug)]
pub(crate) struct Server<K> {
    pub(crate) store: Store,
    pub(crate) limits: Limits,
    pub(crate) clients: usize,
    /// To the client whose turn it is.
    pub(crate) replies: Replies,
    /// To other clients, and which of them gets what.
    pub(crate) messages: Replies,
    pub(crate) letters: Vec<(K, Range<usize>)>,
    channels: HashMap<Rc<[u8]>, HashSet<K>>,
    commands: u64,
    started: Instant,
}

type Loop<K> = Registry<Server<K>>;

impl<K> AsMut<Store> for Server<K> {
    fn as_mut(&mut self) -> &mut Store {
        &mut self.store
    }
}

impl<K: Copy + Eq + Hash> Server<K> {
    pub(crate) fn new(limits: Limits) -> Self {
        let (store, replies, messages) = <(Store, Replies, Replies)>::default();
        let (letters, channels, started) = (Vec::new(), HashMap::new(), Instant::now());
        Self { store, limits, clients: 0, replies, messages, letters, channels, commands: 0, started }
    }

    /// How many bytes wait for whoever holds the sockets. A short message to many is many letters.
    fn pending(&self) -> usize {
        self.replies.0.len() + self.messages.0.len() + size_of_val(&*self.letters)
    }

    fn unsubscribe(&mut self, key: K, channel: &[u8]) {
        let Some(subscribers) = self.channels.get_mut(channel) else { return };
        subscribers.remove(&key);
        if subscribers.is_empty() {
            self.channels.remove(channel);
        }
    }
}

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The rest of a command.
    Data,
    /// That what there is to say is sent: it goes on with the same data.
    Room,
    /// That its connection is closed, after the last reply.
    End,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Session<K> {
    /// Once it is open.
    key: Option<K>,
    parser: Parser,
    channels: HashSet<Rc<[u8]>>,
}

impl<K> Default for Session<K> {
    fn default() -> Self {
        Self { key: None, parser: Parser::default(), channels: HashSet::new() }
    }
}

impl<K: Copy + Eq + Hash> Session<K> {
    pub(crate) fn begin(&mut self, key: K, server: &mut Server<K>) {
        self.key = Some(key);
        server.clients += 1;
    }

    /// Does what `data` says; gives how much of it is done with. The rest has to come again, with more behind it.
    pub(crate) fn execute(&mut self, data: &[u8], server: &mut Server<K>, registry: &mut Loop<K>) -> (usize, Next) {
        let (Some(key), mut done) = (self.key, 0) else { return (0, Next::Data) };
        while server.pending() < BATCH {
            match self.parser.parse(&data[done..], &server.limits) {
                Ok(None) => return (done, Next::Data),
                Ok(Some(command)) if command.count() == 0 => done += command.length,
                Ok(Some(command)) => {
                    done += command.length;
                    match (Call { key, command, channels: &mut self.channels, server, registry }).run() {
                        Ok(Next::End) => return (done, Next::End),
                        Ok(_) => {}
                        Err(refusal) => server.replies.error(&refusal),
                    }
                }
                Err(refusal) => {
                    server.replies.error(&format!("Protocol error: {refusal}"));
                    return (done, Next::End);
                }
            }
        }
        (done, Next::Room)
    }

    /// The client is gone.
    pub(crate) fn end(&mut self, server: &mut Server<K>) {
        if let Some(key) = self.key.take() {
            self.channels.drain().for_each(|channel| server.unsubscribe(key, &channel));
            server.clients -= 1;
        }
    }
}

/// A command, and what it may touch.
struct Call<'a, K> {
    key: K,
    command: Command<'a>,
    channels: &'a mut HashSet<Rc<[u8]>>,
    server: &'a mut Server<K>,
    registry: &'a mut Loop<K>,
}

impl<K: Copy + Eq + Hash> Call<'_, K> {
    /// Replies, unless it refuses. The commands that come often come first.
    fn run(&mut self) -> Result<Next, Refusal> {
        let mut room = [0; 11];
        let name = lowercase(self.command.argument(0), &mut room);
        self.server.commands += 1;
        let (command, key, timers) = (self.command, self.command.argument(1), &mut *self.registry);
        let Server { store, replies, .. } = &mut *self.server;
        match (name, command.count()) {
            (b"quit", _) => {
                replies.simple("OK");
                return Ok(Next::End);
            }
            (b"post" | b"host:", _) => return Ok(Next::End), // a web page that misuses a browser: HTTP
            (b"subscribe", 2..) => self.subscribe()?,
            (b"unsubscribe", _) => self.unsubscribe(),
            (b"ping", 1 | 2) if !self.channels.is_empty() => replies.strings(&[b"pong", key]),
            (name, _) if !self.channels.is_empty() => {
                return Err(format!("Can't execute '{}': {SUBSCRIBED}", name.escape_ascii()).into());
            }
            (b"get", 2) => replies.bulk(store.get(key, timers)),
            (b"set", 3..) => self.set()?,
            (b"incr", 2) => self.add(1)?,
            (b"decr", 2) => self.add(-1)?,
            (b"mget", 2..) => self.mget()?,
            (b"mset", 3..) if command.count() % 2 == 1 => self.mset()?,
            (b"ping", 1) => replies.simple("PONG"),
            (b"ping" | b"echo", 2) => replies.bulk(Some(key)),
            (b"del", 2..) => replies.count(command.words(1).filter(|key| store.remove(key, timers))),
            (b"exists", 2..) => replies.count(command.words(1).filter(|key| store.get(key, timers).is_some())),
            (b"expire", 3..) => self.expire()?,
            (b"persist", 2) => replies.integer(store.persist(key, timers).into()),
            (b"ttl", 2) => replies.integer(match store.ttl(key, timers) {
                None => -2,
                Some(None) => -1,
                Some(Some(ttl)) => ((ttl.as_millis() + 500) / 1000) as i64, // to the nearest, as Redis
            }),
            (b"publish", 3) => self.publish(),
            (b"dbsize", 1) => replies.integer(store.len() as i64),
            (b"flushall", 2) if !is(key, "sync") && !is(key, "async") => return Err(SYNTAX.into()),
            (b"flushall", 1 | 2) => {
                store.clear(timers);
                replies.simple("OK");
            }
            (b"select", 2) if integer(key) == Some(0) => replies.simple("OK"),
            (b"select", 2) => return Err(integer(key).map_or(NOT_AN_INTEGER, |_| "DB index is out of range").into()),
            (b"info", _) => self.info(),
            (b"command", _) => replies.array(0), // there are no help texts
            (b"config", 3..) if is(key, "get") => self.config(),
            _ => return Err(unknown(name, command)),
        }
        Ok(Next::Data)
    }

    /// Whether a key and a value may be stored.
    fn check(&self, key: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let Limits { max_key, max_value, .. } = self.server.limits;
        let fits = key.len() <= max_key && value.len() <= max_value;
        if fits { Ok(()) } else { Err("string exceeds maximum allowed size".into()) }
    }

    fn set(&mut self) -> Result<(), Refusal> {
        let (key, value) = (self.command.argument(1), self.command.argument(2));
        let (mut ttl, mut must_exist) = (None, None);
        let mut options = self.command.words(3);
        while let Some(option) = options.next() {
            match (lowercase(option, &mut [0; 2]), ttl) {
                (b"nx", _) if must_exist != Some(true) => must_exist = Some(false),
                (b"xx", _) if must_exist != Some(false) => must_exist = Some(true),
                (b"ex", None | Some((_, 1000))) => ttl = Some((options.next().ok_or(SYNTAX)?, 1000)),
                (b"px", None | Some((_, 1))) => ttl = Some((options.next().ok_or(SYNTAX)?, 1)),
                _ => return Err(SYNTAX.into()),
            }
        }
        let ttl = ttl.map(|(number, unit_ms)| milliseconds(number, unit_ms, 1, "set")).transpose()?;
        self.check(key, value)?;
        let Server { store, replies, .. } = &mut *self.server;
        if must_exist.is_some_and(|must| must != store.get(key, self.registry).is_some()) {
            replies.bulk(None);
        } else {
            store.set(key, value, ttl.map(|ms| Duration::from_millis(ms.unsigned_abs())), self.registry);
            replies.simple("OK");
        }
        Ok(())
    }

    fn add(&mut self, delta: i64) -> Result<(), Refusal> {
        let key = self.command.argument(1);
        self.check(key, b"")?;
        self.server.replies.integer(self.server.store.add(key, delta, self.registry)?);
        Ok(())
    }

    fn mset(&mut self) -> Result<(), Refusal> {
        let command = self.command;
        let pairs = || (1..command.count()).step_by(2).map(|n| (command.argument(n), command.argument(n + 1)));
        pairs().try_for_each(|(key, value)| self.check(key, value))?;
        pairs().for_each(|(key, value)| self.server.store.set(key, value, None, self.registry));
        self.server.replies.simple("OK");
        Ok(())
    }

    fn mget(&mut self) -> Result<(), Refusal> {
        let Server { store, replies, .. } = &mut *self.server;
        let before = replies.0.len();
        replies.array(self.command.count() - 1);
        for key in self.command.words(1) {
            replies.bulk(store.get(key, self.registry));
            if replies.0.len() - before > REPLY_MAX {
                replies.0.truncate(before);
                return Err("reply exceeds maximum allowed size".into());
            }
        }
        Ok(())
    }

    /// What would have expired before now is removed.
    fn expire(&mut self) -> Result<(), Refusal> {
        if self.command.count() > 3 {
            let option = String::from_utf8_lossy(self.command.argument(3));
            return Err(format!("Unsupported option {option}").into());
        }
        let (key, store) = (self.command.argument(1), &mut self.server.store);
        let found = match u64::try_from(milliseconds(self.command.argument(2), 1000, i64::MIN, "expire")?) {
            Ok(ms @ 1..) => store.expire(key, Duration::from_millis(ms), self.registry),
            _ => store.remove(key, self.registry),
        };
        self.server.replies.integer(found.into());
        Ok(())
    }

    fn publish(&mut self) {
        let Server { channels, replies, messages, letters, .. } = &mut *self.server;
        let Some(subscribers) = channels.get(self.command.argument(1)) else { return replies.integer(0) };
        let start = messages.0.len();
        messages.strings(&[b"message", self.command.argument(1), self.command.argument(2)]);
        letters.extend(subscribers.iter().map(|key| (*key, start..messages.0.len())));
        replies.integer(subscribers.len() as i64);
    }

    fn subscribe(&mut self) -> Result<(), Refusal> {
        self.command.words(1).try_for_each(|channel| self.check(channel, b""))?;
        for channel in self.command.words(1) {
            let known = self.server.channels.get_key_value(channel).map(|(name, _)| Rc::clone(name));
            let name = known.unwrap_or_else(|| channel.into());
            self.channels.insert(Rc::clone(&name));
            self.server.channels.entry(name).or_default().insert(self.key);
            self.confirm("subscribe", Some(channel));
        }
        Ok(())
    }

    /// From all channels, if none is named.
    fn unsubscribe(&mut self) {
        let all = if self.command.count() == 1 { self.channels.iter().cloned().collect() } else { Vec::new() };
        if self.command.count() == 1 && all.is_empty() {
            self.confirm("unsubscribe", None);
        }
        for channel in self.command.words(1).chain(all.iter().map(|name| &**name)) {
            if self.channels.remove(channel) {
                self.server.unsubscribe(self.key, channel);
            }
            self.confirm("unsubscribe", Some(channel));
        }
    }

    fn confirm(&mut self, what: &str, channel: Option<&[u8]>) {
        let replies = &mut self.server.replies;
        replies.array(3);
        replies.bulk(Some(what.as_bytes()));
        replies.bulk(channel);
        replies.integer(self.channels.len() as i64);
    }

    fn info(&mut self) {
        let Server { store, replies, clients, commands, channels, started, .. } = &mut *self.server;
        let uptime = self.registry.now().duration_since(*started).as_secs();
        let text = format!(
            "uptime_in_seconds:{uptime}\r\nconnected_clients:{clients}\r\ntotal_commands_processed:{commands}\r\n\
             pubsub_channels:{}\r\ndb0:keys={}\r\n",
            channels.len(),
            store.len(),
        );
        replies.bulk(Some(text.as_bytes()));
    }

    /// What `redis-benchmark` asks for, and only that.
    fn config(&mut self) {
        let asked = |name| self.command.words(2).any(|pattern| pattern == b"*" || is(pattern, name));
        let known = [("save", ""), ("appendonly", "no")].into_iter().filter(|(name, _)| asked(name));
        let strings: Vec<_> = known.flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]).collect();
        self.server.replies.strings(&strings);
    }
}

fn is(argument: &[u8], name: &str) -> bool {
    argument.eq_ignore_ascii_case(name.as_bytes())
}

/// `text` in small letters; empty if there is too little room.
fn lowercase<'a>(text: &[u8], room: &'a mut [u8]) -> &'a [u8] {
    let Some(small) = room.get_mut(..text.len()) else { return &[] };
    small.copy_from_slice(text);
    small.make_ascii_lowercase();
    small
}

/// A time to live, as a client says it.
fn milliseconds(number: &[u8], unit_ms: i64, least: i64, name: &str) -> Result<i64, Refusal> {
    let ms = integer(number).ok_or(NOT_AN_INTEGER)?.checked_mul(unit_ms);
    let ms = ms.filter(|ms| (least..=TTL_MAX_MS).contains(ms));
    ms.ok_or_else(|| format!("invalid expire time in '{name}' command").into())
}

/// Why nobody knows this command, or not with as many arguments.
fn unknown(name: &[u8], command: Command<'_>) -> Refusal {
    if let Some(name) = NAMES.split(' ').find(|known| known.as_bytes() == name) {
        return format!("wrong number of arguments for '{name}' command").into();
    }
    let mut arguments = String::new();
    for argument in command.words(1) {
        let Some(room @ 1..) = 128_usize.checked_sub(arguments.len()) else { break };
        arguments += &format!("'{:.room$}' ", String::from_utf8_lossy(argument));
    }
    let name = String::from_utf8_lossy(command.argument(0));
    format!("unknown command '{name:.128}', with args beginning with: {arguments}").into()
}
