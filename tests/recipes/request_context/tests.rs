//! "From request to log line": each line of the log has the id of its request.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use handlers::ListenOptions;
use reactor::Reactor;
use support::Result;
use tracing_subscriber::util::SubscriberInitExt;

use super::serve;

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `daemon`, and returns the lines of its log without their times.
fn log_of(daemon: impl FnOnce() -> Result) -> Result<Vec<String>> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let installed = subscriber.set_default();
    daemon()?;
    drop(installed);
    let lines = String::from_utf8(log.0.lock().unwrap().clone())?;
    Ok(lines.lines().map(|line| line.trim().to_owned()).collect())
}

#[test]
fn the_log_of_a_keep_alive_connection_names_each_request() -> Result {
    let log = log_of(|| {
        let mut reactor = Reactor::new()?;
        let listener = ListenOptions::new().bind(&"127.0.0.1:0".parse()?)?;
        let address = listener.local_addr()?.to_string();
        let server = serve(&mut reactor, listener)?;
        let remote = reactor.remote()?;
        let client = thread::spawn(move || -> io::Result<String> {
            let mut client = TcpStream::connect(address)?;
            client.write_all(b"one\nthree\n")?;
            client.shutdown(Shutdown::Write)?;
            let mut answers = String::new();
            client.read_to_string(&mut answers)?;
            let _ = remote.post(move |cx| server.stop(cx.registry, std::time::Duration::ZERO));
            Ok(answers)
        });
        reactor.run(&mut 0)?;
        let answers = client.join().map_err(|_| "it panicked")??;
        assert_eq!(answers, "done\ndone\n");
        Ok(())
    })?;
    let expected = [
        "INFO request{id=1}: received bytes=3",
        "INFO request{id=2}: received bytes=5",
        "INFO request{id=1}: answered",
        "INFO request{id=2}: answered",
    ];
    assert_eq!(log, expected);
    Ok(())
}
