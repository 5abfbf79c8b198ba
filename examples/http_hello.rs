//! HTTP/1 server that says hello. Shows: a protocol on a buffered connection, keep-alive, pipelining, limits on what a client
//! may send, an answer to what is wrong. Leaves out: bodies (they are skipped), chunked ones (refused), TLS.
//!
//! Run: cargo run --release --example http_hello -- --listen 127.0.0.1:8080     Try: curl -v http://127.0.0.1:8080/

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use handlers::signal::{self, Signal};
use handlers::{Address, Connection, ConnectionHandler, ConnectionLimit, ConnectionOptions, ListenOptions};
use httparse::{EMPTY_HEADER, Request, Status};
use reactor::{Context, PanicPolicy, Reactor};
use tracing_subscriber::EnvFilter;

/// Time for connections to end: to send what is queued, and to read it.
const GRACE: Duration = Duration::from_secs(5);
/// What a request line and its headers may take.
const HEAD_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

const HELLO: &str = "Hello, world!\n";

/// Answers every GET and HEAD with a greeting. SIGINT or SIGTERM ends it in order, a second one at once.
#[derive(Parser)]
struct Options {
    /// Where to listen: IP:PORT (port 0: any that is free), unix:PATH or unix:@NAME
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: Address,
    /// How many connections may be open at once; more wait in the kernel's queue
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
    /// Close connections that have been silent for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout: u64,
}

/// One connection.
#[derive(Default)]
struct Http {
    /// What is still to come of the body of a request that has been answered.
    body_left: u64,
}

/// What there is to know of a request.
struct Head {
    length: usize,
    body: u64,
    keep_alive: bool,
    status: &'static str,
    /// Whether only the head of the answer is asked for.
    head_only: bool,
}

impl Head {
    /// Of what is at the beginning of `data`: `None` if it is not there in full, or the status that refuses it.
    fn parse(data: &[u8]) -> Result<Option<Self>, &'static str> {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut request = Request::new(&mut headers);
        let length = match request.parse(data) {
            Ok(Status::Complete(length)) if length <= HEAD_MAX => length,
            Ok(Status::Partial) if data.len() < HEAD_MAX => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err("431 Request Header Fields Too Large"),
            Err(_) => return Err("400 Bad Request"),
        };
        let (mut body, mut keep_alive) = (None, request.version == Some(1));
        for header in request.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                let text =
                    std::str::from_utf8(header.value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
                let length = text.and_then(|text| text.parse::<u64>().ok()).ok_or("400 Bad Request")?;
                if body.replace(length).is_some_and(|earlier| earlier != length) {
                    return Err("400 Bad Request"); // two lengths are how requests are smuggled
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
                keep_alive = if says("close") { false } else { keep_alive || says("keep-alive") };
            }
        }
        let is_known = matches!(request.method, Some("GET" | "HEAD"));
        let status = if is_known { "200 OK" } else { "405 Method Not Allowed" };
        let head_only = request.method == Some("HEAD");
        Ok(Some(Self { length, body: body.unwrap_or(0), keep_alive, status, head_only }))
    }
}

fn answer<S>(connection: &mut Connection<'_, S>, status: &str, keep_alive: bool, head_only: bool) -> io::Result<()> {
    let body = if status.starts_with("200") { HELLO } else { status };
    let (allow, ending) = (
        if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" },
        if keep_alive { "" } else { "Connection: close\r\n" },
    );
    let mut text = Vec::with_capacity(160); // gathered with the other answers of this call
    write!(
        text,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{allow}{ending}\r\n",
        body.len()
    )?;
    if !head_only {
        text.extend_from_slice(body.as_bytes());
    }
    let _ = connection.write(&text)?; // where the queue is full, the connection does not read
    if !keep_alive {
        connection.close_after_flush(GRACE);
    }
    Ok(())
}

impl<S> ConnectionHandler<S> for Http {
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        _cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        let mut rest = data;
        while !rest.is_empty() {
            let skipped = rest.len().min(usize::try_from(self.body_left).unwrap_or(usize::MAX));
            self.body_left -= skipped as u64;
            rest = &rest[skipped..];
            match Head::parse(rest) {
                Ok(Some(head)) => {
                    rest = &rest[head.length..];
                    self.body_left = head.body;
                    answer(connection, head.status, head.keep_alive, head.head_only)?;
                    if !head.keep_alive {
                        break;
                    }
                }
                Ok(None) => break,
                Err(status) => {
                    answer(connection, status, false, false)?;
                    break;
                }
            }
        }
        Ok(data.len() - rest.len())
    }
}

fn run(options: &Options) -> io::Result<()> {
    let mut reactor = Reactor::<()>::builder().on_panic(PanicPolicy::RemoveHandler).build()?;
    let listener =
        ListenOptions::new().limit(options.max_connections.map(ConnectionLimit::new)).bind(&options.listen)?;
    let address = listener.local_address()?;
    let connections = ConnectionOptions::new().idle_timeout(Duration::from_secs(options.idle_timeout));
    let server = listener.serve(&mut reactor, &connections, |_peer, _cx| Ok(Http::default()))?;
    signal::shutdown_on(&mut reactor, [Signal::INT, Signal::TERM], move |_arrival, cx| server.stop(cx, GRACE))?;

    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {address}").and_then(|()| stdout.flush())?;
    reactor.run(&mut ())?; // until a signal has ended the listener, and it its connections
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse(); // exits with 2 on bad arguments, and names them
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http_hello: {error}");
            ExitCode::FAILURE
        }
    }
}
