//! The server: its state, its clients, and its commands.
//!
//! A command is checked completely before it changes anything. Its reply is written to a buffer
//! that all clients share, since they take turns, and then passed to the connection, which sends
//! the data of one call by one system call.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::ControlFlow::{self, Break, Continue};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use handlers::{
    CloseReason, Connection, ConnectionHandler, ConnectionKey, ConnectionLimit, ConnectionOptions,
    Flow, ServerKey,
};
use reactor::{Context, Error, Registry};

use super::handshake::Session;
use super::protocol::{Limits, NOT_AN_INTEGER, Parser, Refusal, Replies, Resp, integer, lowercase};
use super::store::{Store, Timers};

/// The time that a closing client has to read its last reply.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// The maximum length of a reply to one command. A client can easily ask a thousand times for the
/// same key.
pub(crate) const REPLY_MAX: usize = 64 << 20;
/// The maximum time to live: the loop's timers count nanoseconds, up to about 292 years.
const TTL_MAX_MS: i64 = i64::MAX / 1_000_000;
const SYNTAX: &str = "syntax error";

type Cx<'a> = Context<'a, Server>;
type Key = ConnectionKey<Server>;
type Subscribers = HashMap<reactor::Key, Key>;

/// The state of the loop, which all clients share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) store: Store,
    limits: Limits,
    clients: ConnectionLimit,
    /// The server that accepts the clients, and the options of new connections.
    pub(crate) listener: Option<(ServerKey<Self>, ConnectionOptions)>,
    channels: HashMap<Rc<[u8]>, Subscribers>,
    /// The number of clients since the start.
    sessions: u64,
    commands: u64,
    /// The replies to the client that is being called.
    replies: Replies,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    parser: Parser,
    session: Session,
    /// The channels that the client has subscribed to.
    channels: HashSet<Rc<[u8]>>,
}

impl ConnectionHandler<Server> for Client {
    fn on_data(
        &mut self,
        data: &[u8],
        client: &mut Connection<'_, Server>,
        cx: &mut Cx<'_>,
    ) -> io::Result<usize> {
        let (mut words, mut rest, mut flow) = (Vec::with_capacity(8), data, Flow::Open);
        while flow == Flow::Open {
            cx.state.replies.begin(self.session.resp);
            let next = match self.parser.parse(rest, &cx.state.limits, &mut words) {
                Ok(None) => break,
                Ok(Some(length)) => {
                    rest = &rest[length..];
                    self.execute(&words, client.key(), cx)
                        .unwrap_or_else(|refusal| {
                            cx.state.replies.error(&refusal);
                            Continue(())
                        })
                }
                Err(refusal) => {
                    cx.state
                        .replies
                        .error(&format!("Protocol error: {refusal}"));
                    Break(())
                }
            };
            flow = client.write(&cx.state.replies.bytes)?;
            if next == Break(()) {
                client.close_after_flush(GRACE);
                return Ok(data.len());
            }
        }
        // The rest comes again, when the queue has room or more data has arrived.
        Ok(data.len() - rest.len())
    }

    fn on_close(&mut self, _: CloseReason, cx: &mut Cx<'_>) {
        self.channels
            .iter()
            .for_each(|channel| cx.state.unsubscribe(channel, cx.key()));
    }
}

impl Client {
    pub(crate) fn new(server: &mut Server) -> Self {
        server.sessions += 1;
        Self {
            parser: Parser::default(),
            session: Session::new(server.sessions),
            channels: HashSet::new(),
        }
    }

    /// Executes a command and writes its reply. Returns `Break` if no other command may follow.
    fn execute(
        &mut self,
        words: &[&[u8]],
        key: Key,
        cx: &mut Cx<'_>,
    ) -> Result<ControlFlow<()>, Refusal> {
        let [name, arguments @ ..] = words else {
            return Ok(Continue(()));
        };
        let mut room = [0; 32];
        let name = lowercase(name, &mut room);
        // In RESP3 a message is distinct from a reply, so a subscriber may use all commands.
        let is_subscriber = !self.channels.is_empty() && self.session.resp == Resp::V2;
        cx.state.commands += 1;
        match (name, arguments) {
            (b"quit", _) => {
                cx.state.replies.simple("OK");
                return Ok(Break(()));
            }
            // An HTTP request, sent by a web page that misuses a browser.
            (b"post" | b"host:", _) => return Ok(Break(())),
            (b"subscribe", [_, ..]) => self.subscribe(arguments, key, cx.state)?,
            (b"unsubscribe", _) => self.unsubscribe(arguments, key, cx.state),
            (b"ping", []) if is_subscriber => cx.state.replies.strings(&[b"pong", b""]),
            (b"ping", [text]) if is_subscriber => cx.state.replies.strings(&[b"pong", text]),
            _ if is_subscriber => {
                return Err(
                    "only SUBSCRIBE, UNSUBSCRIBE, PING and QUIT are for subscribers".into(),
                );
            }
            (b"publish", [channel, message]) => self.publish(channel, message, cx),
            (b"hello", _) => {
                self.session
                    .hello(arguments, &cx.state.limits, &mut cx.state.replies)?
            }
            (b"auth", [_] | [_, _]) => Session::auth(arguments, &mut cx.state.replies)?,
            (b"client", _) => {
                self.session
                    .client(arguments, &cx.state.limits, &mut cx.state.replies)?
            }
            _ => cx.state.execute(name, arguments, cx.registry)?,
        }
        Ok(Continue(()))
    }

    fn subscribe(
        &mut self,
        channels: &[&[u8]],
        key: Key,
        server: &mut Server,
    ) -> Result<(), Refusal> {
        channels
            .iter()
            .try_for_each(|channel| server.limits.check(channel, b""))?;
        for channel in channels {
            let entry = server.channels.entry(Rc::from(*channel));
            self.channels.insert(Rc::clone(entry.key()));
            entry.or_default().insert(key.key(), key);
            self.confirm("subscribe", Some(channel), server);
        }
        Ok(())
    }

    /// Unsubscribes from `channels`, or from all channels if it is empty.
    fn unsubscribe(&mut self, channels: &[&[u8]], key: Key, server: &mut Server) {
        let all: Vec<_> = if channels.is_empty() {
            self.channels.iter().cloned().collect()
        } else {
            Vec::new()
        };
        for channel in channels
            .iter()
            .copied()
            .chain(all.iter().map(|channel| &**channel))
        {
            self.channels.remove(channel);
            server.unsubscribe(channel, key.key());
            self.confirm("unsubscribe", Some(channel), server);
        }
        if channels.is_empty() && all.is_empty() {
            self.confirm("unsubscribe", None, server);
        }
    }

    /// Sends a message to all subscribers, and replies with their number. A publisher that has
    /// subscribed reads the reply first, as in Redis from 7.2 on. A subscriber that does not read,
    /// and whose queue is full, is closed.
    fn publish(&self, channel: &[u8], text: &[u8], cx: &mut Cx<'_>) {
        let subscribers: Vec<Key> = cx
            .state
            .channels
            .get(channel)
            .into_iter()
            .flatten()
            .map(|(_, key)| *key)
            .collect();
        let mut message = Message {
            channel,
            text,
            encoded: [None, None],
        };
        let mut reached = 0;
        for key in subscribers {
            let sent = key.with_handler(cx, |client: &mut Self, connection, _cx| {
                connection
                    .write_bytes(message.encoded(client.session.resp))
                    .inspect_err(|_| connection.abort())
            });
            let sent = match sent {
                // The subscriber is the publisher itself.
                Err(Error::Running(_)) => key.write_bytes(cx, message.encoded(self.session.resp)),
                sent => sent.unwrap_or_else(|gone| Err(gone.into())),
            };
            reached += usize::from(sent.is_ok());
        }
        cx.state.replies.integer(reached);
    }

    fn confirm(&self, what: &str, channel: Option<&[u8]>, server: &mut Server) {
        server.replies.push(3);
        server.replies.bulk(Some(what.as_bytes()));
        server.replies.bulk(channel);
        server.replies.integer(self.channels.len());
    }
}

/// A message to subscribers, encoded once for each protocol version. The queues of all subscribers
/// share the bytes.
struct Message<'a> {
    channel: &'a [u8],
    text: &'a [u8],
    encoded: [Option<Bytes>; 2],
}

impl Message<'_> {
    fn encoded(&mut self, resp: Resp) -> Bytes {
        let encode = || {
            let mut message = Replies {
                resp,
                ..Replies::default()
            };
            message.push(3);
            [b"message", self.channel, self.text]
                .iter()
                .for_each(|part| message.bulk(Some(part)));
            Bytes::from(message.bytes)
        };
        self.encoded[usize::from(resp == Resp::V3)]
            .get_or_insert_with(encode)
            .clone()
    }
}

impl Server {
    pub(crate) fn new(limits: Limits, clients: ConnectionLimit) -> Self {
        let (store, channels, replies) = Default::default();
        Self {
            store,
            limits,
            clients,
            listener: None,
            channels,
            sessions: 0,
            commands: 0,
            replies,
        }
    }

    fn unsubscribe(&mut self, channel: &[u8], client: reactor::Key) {
        let Some(subscribers) = self.channels.get_mut(channel) else {
            return;
        };
        subscribers.remove(&client);
        if subscribers.is_empty() {
            self.channels.remove(channel);
        }
    }

    /// Executes a command that any client may use. Frequent commands come first.
    fn execute(
        &mut self,
        name: &[u8],
        arguments: &[&[u8]],
        timers: &mut Timers,
    ) -> Result<(), Refusal> {
        let Self {
            store,
            replies,
            limits,
            ..
        } = self;
        match (name, arguments) {
            (b"get", [key]) => replies.bulk(store.get(key, timers)),
            (b"set", [key, value, options @ ..]) => self.set(key, value, options, timers)?,
            (b"incr" | b"decr", [key]) => {
                limits.check(key, b"")?;
                replies.integer(store.add(key, if name == b"incr" { 1 } else { -1 }, timers)?);
            }
            (b"incrby" | b"decrby", [key, number]) => {
                limits.check(key, b"")?;
                let number = integer(number).ok_or(NOT_AN_INTEGER)?;
                let sum = if name == b"incrby" {
                    Some(number)
                } else {
                    number.checked_neg()
                };
                replies.integer(store.add(key, sum.ok_or("decrement would overflow")?, timers)?);
            }
            (b"mget", [_, ..]) => {
                replies.array(arguments.len());
                for key in arguments {
                    replies.bulk(store.get(key, timers));
                    if replies.bytes.len() > REPLY_MAX {
                        return Err("reply exceeds maximum allowed size".into());
                    }
                }
            }
            (b"mset", [_, ..]) if arguments.len().is_multiple_of(2) => {
                let (pairs, _) = arguments.as_chunks();
                pairs
                    .iter()
                    .try_for_each(|[key, value]| limits.check(key, value))?;
                pairs
                    .iter()
                    .for_each(|[key, value]| store.set(key, value, None, timers));
                replies.simple("OK");
            }
            (b"ping", []) => replies.simple("PONG"),
            (b"ping" | b"echo", [text]) => replies.bulk(Some(text)),
            (b"del", [_, ..]) => replies.integer(
                arguments
                    .iter()
                    .filter(|key| store.remove(key, timers))
                    .count(),
            ),
            (b"exists", [_, ..]) => {
                replies.integer(
                    arguments
                        .iter()
                        .filter(|key| store.get(key, timers).is_some())
                        .count(),
                );
            }
            (b"expire", [key, seconds]) => {
                let found = match u64::try_from(milliseconds(seconds, 1000, i64::MIN, "expire")?) {
                    Ok(ms @ 1..) => store.expire(key, Duration::from_millis(ms), timers),
                    _ => store.remove(key, timers), // the key would have expired before now
                };
                replies.integer(u8::from(found));
            }
            (b"persist", [key]) => replies.integer(u8::from(store.persist(key, timers))),
            (b"ttl", [key]) => replies.integer(match store.ttl(key, timers) {
                None => -2,
                Some(None) => -1,
                // Rounded to the nearest, as in Redis.
                Some(Some(ttl)) => ((ttl.as_millis() + 500) / 1000) as i64,
            }),
            (b"dbsize", []) => replies.integer(store.len()),
            (b"flushall", []) => {
                store.clear(timers);
                replies.simple("OK");
            }
            (b"select", [b"0"]) => replies.simple("OK"),
            (b"select", [_]) => return Err("DB index is out of range".into()),
            (b"info", _) => self.info(),
            (b"command", [b"DOCS" | b"docs", ..]) => replies.map(0), // there are no help texts
            (b"command", _) => replies.array(0),
            (b"config", [b"SET" | b"set", b"timeout", seconds]) => {
                self.set_timeout(seconds, timers)?
            }
            // Only the options that `redis-benchmark` asks for.
            (b"config", [b"GET" | b"get", option]) => match *option {
                b"save" => replies.pair(option, b""),
                b"appendonly" => replies.pair(option, b"no"),
                _ => replies.map(0),
            },
            _ => {
                return Err(format!(
                    "unknown command '{}', or wrong number of arguments",
                    name.escape_ascii()
                )
                .into());
            }
        }
        Ok(())
    }

    fn set(
        &mut self,
        key: &[u8],
        value: &[u8],
        options: &[&[u8]],
        timers: &mut Timers,
    ) -> Result<(), Refusal> {
        let (mut ttl, mut must_exist) = (None, None);
        let mut options = options.iter();
        while let Some(option) = options.next() {
            match lowercase(option, &mut [0; 2]) {
                b"nx" if must_exist != Some(true) => must_exist = Some(false),
                b"xx" if must_exist != Some(false) => must_exist = Some(true),
                unit @ (b"ex" | b"px") if ttl.is_none() => {
                    let number = options.next().ok_or(SYNTAX)?;
                    let ms = milliseconds(number, if unit == b"ex" { 1000 } else { 1 }, 1, "set")?;
                    ttl = Some(Duration::from_millis(ms.unsigned_abs()));
                }
                _ => return Err(SYNTAX.into()),
            }
        }
        self.limits.check(key, value)?;
        if must_exist.is_some_and(|must| must != self.store.get(key, timers).is_some()) {
            self.replies.bulk(None);
        } else {
            self.store.set(key, value, ttl, timers);
            self.replies.simple("OK");
        }
        Ok(())
    }

    /// Sets the idle timeout of future connections; 0 disables it.
    fn set_timeout(
        &mut self,
        seconds: &[u8],
        registry: &mut Registry<Self>,
    ) -> Result<(), Refusal> {
        let seconds = integer(seconds)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .ok_or(NOT_AN_INTEGER)?;
        let (listener, options) = self.listener.as_mut().ok_or("there is no listener")?;
        let timeout = (seconds > 0).then(|| Duration::from_secs(seconds));
        *options = options.clone().idle_timeout(timeout);
        listener
            .set_options(registry, options)
            .map_err(|error| error.to_string())?;
        self.replies.simple("OK");
        Ok(())
    }

    fn info(&mut self) {
        let text = format!(
            "connected_clients:{}\r\ntotal_commands_processed:{}\r\npubsub_channels:{}\r\ndb0:keys={}\r\n",
            self.clients.open(),
            self.commands,
            self.channels.len(),
            self.store.len(),
        );
        self.replies.text(&text);
    }
}

/// Parses a time to live from a command.
fn milliseconds(number: &[u8], unit_ms: i64, least: i64, name: &str) -> Result<i64, Refusal> {
    let ms = integer(number).ok_or(NOT_AN_INTEGER)?.checked_mul(unit_ms);
    let ms = ms.filter(|ms| (least..=TTL_MAX_MS).contains(ms));
    ms.ok_or_else(|| format!("invalid expire time in '{name}' command").into())
}
