//! The introduction of a client before its work: its protocol version, its name, its credentials.
//!
//! Nothing here needs the store. There is one user, `default`, and no password, as in an
//! unconfigured Redis. Source: `helloCommand`, `authCommand` and `clientCommand` of Redis 7.0 for
//! order and texts of the errors; `CLIENT SETINFO` of 7.2.

use super::protocol::{Limits, Refusal, Replies, Resp, integer, lowercase};

/// The version that clients see: the Redis version with these replies.
const VERSION: &str = "7.0.0";
const WRONG_PASSWORD: &str = "invalid username-password pair or user is disabled.";

/// The data that one client has given about itself.
#[derive(Debug)]
pub(crate) struct Session {
    id: u64,
    pub(crate) resp: Resp,
    name: Vec<u8>,
}

impl Session {
    pub(crate) const fn new(id: u64) -> Self {
        Self {
            id,
            resp: Resp::V2,
            name: Vec::new(),
        }
    }

    /// Executes `HELLO [version [AUTH user password] [SETNAME name]]`. The version takes effect
    /// with its own reply, and only if nothing is refused.
    pub(crate) fn hello(
        &mut self,
        arguments: &[&[u8]],
        limits: &Limits,
        replies: &mut Replies,
    ) -> Result<(), Refusal> {
        let (mut resp, mut name) = (self.resp, None);
        if let [version, options @ ..] = arguments {
            resp = match integer(version)
                .ok_or("Protocol version is not an integer or out of range")?
            {
                2 => Resp::V2,
                3 => Resp::V3,
                _ => {
                    replies.error_of("NOPROTO", "unsupported protocol version");
                    return Ok(());
                }
            };
            let (is_known, wanted) = Self::options(options)?;
            if !is_known {
                replies.error_of("WRONGPASS", WRONG_PASSWORD);
                return Ok(());
            }
            name = wanted;
        }
        if let Some(name) = name {
            self.set_name(name, limits)?;
        }
        // Nothing is refused any more: the version takes effect with this reply.
        (self.resp, replies.resp) = (resp, resp);
        replies.map(7);
        let text = |replies: &mut Replies, text: &str| replies.bulk(Some(text.as_bytes()));
        for (key, value) in [("server", "redis"), ("version", VERSION)] {
            text(replies, key);
            text(replies, value);
        }
        text(replies, "proto");
        replies.integer(if resp == Resp::V3 { 3 } else { 2 });
        text(replies, "id");
        replies.integer(self.id);
        for (key, value) in [("mode", "standalone"), ("role", "master")] {
            text(replies, key);
            text(replies, value);
        }
        text(replies, "modules");
        replies.array(0);
        Ok(())
    }

    /// Parses the options of `HELLO`. Returns `false` if a user is named and unknown, and the name
    /// of the client.
    fn options<'a>(mut options: &[&'a [u8]]) -> Result<(bool, Option<&'a [u8]>), Refusal> {
        let (mut is_known, mut name) = (true, None);
        while let [option, rest @ ..] = options {
            options = match (lowercase(option, &mut [0; 8]), rest) {
                (b"auth", [user, _password, rest @ ..]) => {
                    is_known = *user == b"default";
                    rest
                }
                (b"setname", [wanted, rest @ ..]) => {
                    name = Some(*wanted);
                    rest
                }
                _ => {
                    return Err(format!(
                        "Syntax error in HELLO option '{}'",
                        option.escape_ascii()
                    )
                    .into());
                }
            };
        }
        Ok((is_known, name))
    }

    /// Executes `AUTH [user] password`.
    pub(crate) fn auth(arguments: &[&[u8]], replies: &mut Replies) -> Result<(), Refusal> {
        match arguments {
            [_password] => {
                return Err(
                    "AUTH <password> called without any password configured for the default user. \
                    Are you sure your configuration is correct?"
                        .into(),
                );
            }
            [b"default", _password] => replies.simple("OK"),
            _ => replies.error_of("WRONGPASS", WRONG_PASSWORD),
        }
        Ok(())
    }

    /// Executes the parts of `CLIENT` that concern the calling client.
    pub(crate) fn client(
        &mut self,
        words: &[&[u8]],
        limits: &Limits,
        replies: &mut Replies,
    ) -> Result<(), Refusal> {
        let [subcommand, arguments @ ..] = words else {
            return Err("wrong number of arguments for 'client' command".into());
        };
        match (lowercase(subcommand, &mut [0; 16]), arguments) {
            (b"id", []) => replies.integer(self.id),
            (b"getname", []) => replies.bulk((!self.name.is_empty()).then_some(&self.name)),
            (b"setname", [name]) => {
                self.set_name(name, limits)?;
                replies.simple("OK");
            }
            (b"setinfo", [option, _value]) => match lowercase(option, &mut [0; 8]) {
                // There is no list of clients to show it in.
                b"lib-name" | b"lib-ver" => replies.simple("OK"),
                _ => return Err(format!("Unrecognized option '{}'", option.escape_ascii()).into()),
            },
            _ => {
                return Err(format!(
                    "unknown subcommand '{}'. Try CLIENT HELP.",
                    subcommand.escape_ascii()
                )
                .into());
            }
        }
        Ok(())
    }

    fn set_name(&mut self, name: &[u8], limits: &Limits) -> Result<(), Refusal> {
        limits.check(name, b"")?;
        if !name.iter().all(u8::is_ascii_graphic) {
            return Err(
                "Client names cannot contain spaces, newlines or special characters.".into(),
            );
        }
        name.clone_into(&mut self.name);
        Ok(())
    }
}
