//! HTTP/1: the requests of one connection, and the answers to them.

use std::io::{self, Write};
use std::time::Duration;

use handlers::{Connection, ConnectionHandler, Timeout};
use httparse::{EMPTY_HEADER, Request, Status};
use reactor::Context;

/// The time that connections have to end: to send their queued data, and for the client to read it.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// The maximum length of a request line and its headers.
const HEAD_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

const HELLO: &str = "Hello, world!\n";

/// One connection.
pub(crate) struct Http {
    /// The rest of the body of a request that was answered.
    body_left: u64,
    request_timeout: Duration,
}

/// The fate of a connection after a response, and the header that announces it.
#[derive(Clone, Copy, PartialEq)]
enum Persistence {
    /// The connection stays open, as HTTP/1.1 does by default. No header is needed.
    Default,
    /// A client of HTTP/1.0 has asked to keep the connection open. Without the header it would wait
    /// for the end of the connection.
    Confirmed,
    Close,
}

impl Persistence {
    const fn header(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Confirmed => "Connection: keep-alive\r\n",
            Self::Close => "Connection: close\r\n",
        }
    }
}

/// The parts of a request's head that matter here.
struct Head {
    length: usize,
    body: u64,
    persistence: Persistence,
    status: &'static str,
    /// Set if the request asks only for the head of the response.
    head_only: bool,
}

impl Head {
    /// Parses the head at the beginning of `data`. Returns `None` if it is incomplete, or the
    /// status that refuses it.
    fn parse(data: &[u8]) -> Result<Option<Self>, &'static str> {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut request = Request::new(&mut headers);
        // The limit counts also while the head is incomplete, so a client cannot fill the memory.
        let length = match request.parse(data) {
            Ok(Status::Complete(length)) if length <= HEAD_MAX => length,
            Ok(Status::Partial) if data.len() < HEAD_MAX => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => {
                return Err("431 Request Header Fields Too Large");
            }
            Err(_) => return Err("400 Bad Request"),
        };
        let (mut body, mut says_close, mut says_keep_alive) = (None, false, false);
        for header in request.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                let text = std::str::from_utf8(header.value)
                    .ok()
                    .filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
                let length = text
                    .and_then(|text| text.parse::<u64>().ok())
                    .ok_or("400 Bad Request")?;
                if body
                    .replace(length)
                    .is_some_and(|earlier| earlier != length)
                {
                    return Err("400 Bad Request"); // two lengths allow request smuggling
                }
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                return Err("501 Not Implemented");
            } else if header.name.eq_ignore_ascii_case("connection") {
                let says = |word: &str| {
                    header
                        .value
                        .split(|byte| *byte == b',')
                        .any(|part| part.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
                };
                says_close |= says("close");
                says_keep_alive |= says("keep-alive");
            }
        }
        // RFC 9112, section 9.3: "close" wins, HTTP/1.1 keeps the connection open by default.
        let persistence = match request.version {
            _ if says_close => Persistence::Close,
            Some(1) => Persistence::Default,
            _ if says_keep_alive => Persistence::Confirmed,
            _ => Persistence::Close,
        };
        let is_known = matches!(request.method, Some("GET" | "HEAD"));
        let status = if is_known {
            "200 OK"
        } else {
            "405 Method Not Allowed"
        };
        let head_only = request.method == Some("HEAD");
        Ok(Some(Self {
            length,
            body: body.unwrap_or(0),
            persistence,
            status,
            head_only,
        }))
    }
}

fn answer<S>(
    connection: &mut Connection<'_, S>,
    status: &str,
    persistence: Persistence,
    head_only: bool,
) -> io::Result<()> {
    let body = if status.starts_with("200") {
        HELLO
    } else {
        status
    };
    let allow = if status.starts_with("405") {
        "Allow: GET, HEAD\r\n"
    } else {
        ""
    };
    let mut text = Vec::with_capacity(160); // queued with the other responses of this call
    write!(
        text,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{allow}{}\r\n",
        body.len(),
        persistence.header()
    )?;
    if !head_only {
        text.extend_from_slice(body.as_bytes());
    }
    // While the queue is full, the connection does not read.
    let _ = connection.write(&text)?;
    if persistence == Persistence::Close {
        connection.close_after_flush(GRACE);
    }
    Ok(())
}

impl Http {
    pub(crate) const fn new(request_timeout: Duration) -> Self {
        Self {
            body_left: 0,
            request_timeout,
        }
    }

    /// Answers the requests at the beginning of `data`. Returns the rest of it, and the number of
    /// requests that have ended.
    fn serve<'a, S>(
        &mut self,
        data: &'a [u8],
        connection: &mut Connection<'_, S>,
    ) -> io::Result<(&'a [u8], usize)> {
        let (mut rest, mut ended) = (data, 0);
        while !rest.is_empty() {
            // The body of the last request is still to be skipped, or the rest of it.
            let skipped = rest
                .len()
                .min(usize::try_from(self.body_left).unwrap_or(usize::MAX));
            self.body_left -= skipped as u64;
            rest = &rest[skipped..];
            ended += usize::from(skipped > 0 && self.body_left == 0);
            match Head::parse(rest) {
                Ok(Some(head)) => {
                    rest = &rest[head.length..];
                    self.body_left = head.body;
                    ended += usize::from(head.body == 0);
                    answer(connection, head.status, head.persistence, head.head_only)?;
                    if head.persistence == Persistence::Close {
                        break;
                    }
                }
                Ok(None) => break,
                Err(status) => {
                    answer(connection, status, Persistence::Close, false)?;
                    break;
                }
            }
        }
        Ok((rest, ended))
    }

    /// Sets the deadline of an incomplete request, so that it ends in time even if its bytes arrive
    /// slowly. A request that arrives complete needs none.
    fn watch<S>(&self, ended: usize, is_partial: bool, connection: &mut Connection<'_, S>) {
        if ended > 0 || !is_partial {
            connection.set_deadline(None);
        }
        if is_partial && !connection.has_deadline() {
            connection.set_deadline(self.request_timeout);
        }
    }
}

/// Ends a connection whose request takes too long. If its body is incomplete, its response was sent
/// already.
fn give_up<S>(connection: &mut Connection<'_, S>, is_answered: bool) {
    if is_answered || answer(connection, "408 Request Timeout", Persistence::Close, false).is_err()
    {
        connection.close_after_flush(GRACE);
    }
}

impl<S> ConnectionHandler<S> for Http {
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        _cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        let (rest, ended) = self.serve(data, connection)?;
        let is_partial = self.body_left > 0 || !rest.is_empty();
        self.watch(ended, is_partial, connection);
        Ok(data.len() - rest.len())
    }

    fn on_timeout(
        &mut self,
        timeout: Timeout,
        connection: &mut Connection<'_, S>,
        _cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        match timeout {
            Timeout::Deadline => give_up(connection, self.body_left > 0),
            _ => connection.close(),
        }
        Ok(())
    }
}
