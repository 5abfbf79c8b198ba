//! Services: a daemon for the tests of faults, which makes the system calls that no example makes.
//! It answers each client once the request is on disk and a timer has expired. Next to that it
//! echoes datagrams, and it watches a file, the wall clock, and an event with a pipe.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use handlers::signal::{self, Signal};
use handlers::udp::{self, UdpSocket};
use handlers::{
    Address, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, ListenOptions,
    PoolHandle, WorkerPool, files,
};
use reactor::{Context, Event, Next, PanicPolicy, Reactor, Registry, Then};
use tracing_subscriber::EnvFilter;

const GRACE: Duration = Duration::from_secs(5);

struct State {
    pool: PoolHandle<Self>,
    /// The folder of the files, which the tests fill, lock and move away.
    data: PathBuf,
    /// Set together with a byte in the pipe, at each request.
    asked: Event,
    pipe: PipeWriter,
}

type Cx<'a> = Context<'a, State>;

struct Client;

impl ConnectionHandler<State> for Client {
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, State>,
        cx: &mut Cx<'_>,
    ) -> io::Result<usize> {
        let (client, request) = (connection.key(), data.to_vec());
        let _ = cx.state.pipe.write(b"x"); // its reader may have ended by an error
        cx.state.asked.set();
        let journal = cx.state.data.join("journal");
        files::append(&cx.state.pool, journal, request.clone(), move |done, cx| {
            let next = done.and_then(|()| replace(client, request, cx));
            or_refuse(next, client, cx);
        })
        .map_err(io::Error::other)?;
        Ok(data.len())
    }
}

fn replace(client: ConnectionKey<State>, request: Vec<u8>, cx: &mut Cx<'_>) -> io::Result<()> {
    let latest = cx.state.data.join("latest");
    files::write_atomically(&cx.state.pool, latest, request, move |done, cx| {
        let next = done.and_then(|()| read_back(client, cx));
        or_refuse(next, client, cx);
    })
    .map_err(io::Error::other)?;
    Ok(())
}

fn read_back(client: ConnectionKey<State>, cx: &mut Cx<'_>) -> io::Result<()> {
    let latest = cx.state.data.join("latest");
    files::read(
        &cx.state.pool,
        latest,
        1 << 20,
        move |done, cx| match done {
            Ok(bytes) => {
                let mut bytes = Some(bytes);
                cx.registry.after(Duration::from_millis(1), move |cx| {
                    answer(client, &bytes.take().unwrap_or_default(), cx);
                    Ok(Then::Done)
                });
            }
            Err(error) => or_refuse(Err(error), client, cx),
        },
    )
    .map_err(io::Error::other)?;
    Ok(())
}

/// Answers a failed request by the text of its error, and closes.
fn or_refuse(result: io::Result<()>, client: ConnectionKey<State>, cx: &mut Cx<'_>) {
    if let Err(error) = result {
        answer(client, error.to_string().as_bytes(), cx);
        // A client that has gone is closed already.
        let _ = client.with(cx, |connection, _| connection.close_after_flush(GRACE));
    }
}

fn answer(client: ConnectionKey<State>, bytes: &[u8], cx: &mut Cx<'_>) {
    // A client that has gone needs no answer.
    let _ = client.with(cx, |connection, _| connection.write(bytes).map(drop));
}

/// Takes the byte of a request from the pipe.
fn watch_pipe(
    registry: &mut Registry<State>,
    asked: &Event,
    mut pipe: PipeReader,
) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("fcntl: {error}"));
    let fd = pipe.try_clone().map_err(named)?;
    let key = registry.on_all_and_readable(&[asked], &[fd.as_fd()], move |_| {
        pipe.read_exact(&mut [0])?;
        Ok(Next::Keep)
    })?;
    Ok(registry.set_background(key)?)
}

fn watch_clock_and_file(registry: &mut Registry<State>, data: &Path) -> io::Result<()> {
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let timer = registry.at_wall(tomorrow, |_| Ok(Then::Done))?;
    registry.set_timer_background(timer)?;
    files::watch(registry, [data.join("latest")], |_, _, _| Ok(Next::Keep))?;
    Ok(())
}

fn echo_datagrams(registry: &mut Registry<State>) -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = socket.local_addr()?;
    let key = udp::add(registry, socket, |datagram, socket, _| {
        let _ = socket.reply(datagram, datagram.bytes); // its sender asks again
        Ok(Next::Keep)
    })
    .map_err(|refused| refused.error)?;
    registry.set_background(key.key())?;
    Ok(address)
}

fn run(folder: &Path) -> io::Result<()> {
    let data = folder.join("data");
    let mut reactor = Reactor::<State>::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .high_resolution()
        .build()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    let named = |error: io::Error| io::Error::new(error.kind(), format!("pipe: {error}"));
    let (reader, writer) = io::pipe().map_err(named)?;
    let asked = Event::auto_reset();
    watch_pipe(&mut reactor, &asked, reader)?;
    watch_clock_and_file(&mut reactor, &data)?;
    let datagrams = echo_datagrams(&mut reactor)?;
    let listener = ListenOptions::new()
        .mode(0o600)
        .bind(&Address::Unix(folder.join("socket")))?;
    let address = listener.local_addr()?;
    let server = listener.serve(&mut reactor, &ConnectionOptions::new(), |_, _| Ok(Client))?;
    signal::shutdown_on(&mut reactor, [Signal::TERM], move |_, cx| {
        server.stop(cx.registry, GRACE)
    })?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {address}\nlistening on {datagrams}")?;
    stdout.flush()?;
    drop(stdout);
    reactor.run(&mut State {
        pool: pool.handle(),
        data,
        asked,
        pipe: writer,
    })?;
    Ok(())
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .log_internal_errors(false) // else a panic when standard error is on a full disk
        .init();
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("services: the argument is the folder of its socket, with a folder named data");
        return ExitCode::from(2);
    };
    match run(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("services: {error}");
            ExitCode::FAILURE
        }
    }
}
