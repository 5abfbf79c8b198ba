//! A program under `strace`, and the clients that it has to serve.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use support::{example, wait_until_readable};
use tempfile::{TempDir, tempdir};

use crate::Result;

/// The time after which a program that does nothing counts as hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The number of clients, one after the other.
pub(crate) const CLIENTS: usize = 4;

/// The service of a program for its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Sends back what it receives.
    Echo,
    /// The same, as `services` does it: at a Unix socket, and for datagrams.
    Services,
    /// Answers `PING`.
    Redis,
    Http,
    /// Does what it is told by its arguments or its input, and ends by itself. Its output then
    /// holds this text.
    Job(&'static str),
}

impl Role {
    const fn request(self) -> &'static [u8] {
        match self {
            Self::Echo | Self::Services | Self::Job(_) => b"hello",
            Self::Redis => b"PING\r\n",
            Self::Http => b"GET / HTTP/1.0\r\n\r\n",
        }
    }

    /// Returns the beginning of the answer.
    const fn answer(self) -> &'static [u8] {
        match self {
            Self::Echo | Self::Services | Self::Job(_) => b"hello",
            Self::Redis => b"+PONG\r\n",
            Self::Http => b"HTTP/1.1 200 OK\r\n",
        }
    }
}

/// A program of the tests.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) arguments: &'static [&'static str],
    pub(crate) role: Role,
    /// The text at its standard input.
    pub(crate) input: &'static str,
}

/// The outcome of the service of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Served {
    Well,
    /// The client got an error, an end or a refusal in words.
    Refused(String),
}

/// A running program.
pub(crate) struct Running {
    child: Child,
    stdout: ChildStdout,
    role: Role,
    /// The addresses that it has written, without "listening on ".
    addresses: Vec<String>,
    folder: TempDir,
}

/// The end of a program.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The system calls that were recorded.
    pub(crate) calls: String,
}

impl Running {
    /// Starts a program below `strace`, which gets `options`. With `-D` the program is our child.
    pub(crate) fn start(program: &Program, options: &[String]) -> Result<Self> {
        Self::start_below(program, |folder| {
            let mut strace = Command::new("strace");
            let calls = folder.join("calls");
            strace
                .args(["-D", "-f", "-qq", "-o"])
                .arg(calls)
                .args(options);
            strace
        })
    }

    /// Starts a program as the arguments of another command, which executes it in its place. The
    /// other command gets the folder of the program.
    pub(crate) fn start_below(
        program: &Program,
        command: impl FnOnce(&Path) -> Command,
    ) -> Result<Self> {
        let folder = tempdir()?;
        fs::create_dir(folder.path().join("data"))?;
        File::create(folder.path().join("calls"))?;
        let mut command = command(folder.path());
        command.arg(example(program.name)?);
        for argument in program.arguments {
            match *argument {
                "FOLDER" => command.arg(folder.path()),
                "TARGET" => command.arg(echo_target()?),
                argument => command.arg(argument),
            };
        }
        let input = folder.path().join("input");
        fs::write(&input, program.input)?;
        let mut child = command
            .stdin(File::open(input)?)
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("stderr"))?)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("a piped stdout")?;
        let mut running = Self {
            child,
            stdout,
            role: program.role,
            addresses: Vec::new(),
            folder,
        };
        running.read_addresses()?;
        Ok(running)
    }

    /// Reads the addresses. There are fewer of them if the program has ended.
    fn read_addresses(&mut self) -> Result {
        let expected = match self.role {
            Role::Job(_) => 0,
            Role::Services => 2,
            _ => 1,
        };
        let mut text = String::new();
        while text.lines().count() < expected || !(text.is_empty() || text.ends_with('\n')) {
            if !wait_until_readable(self.stdout.as_fd(), PATIENCE)? {
                return Err("it hangs before it listens".into());
            }
            let mut byte = [0];
            if self.stdout.read(&mut byte)? == 0 {
                break;
            }
            text.push(byte[0].into());
        }
        let addresses = text
            .lines()
            .filter_map(|line| line.strip_prefix("listening on "));
        self.addresses = addresses.map(str::to_owned).collect();
        Ok(())
    }

    pub(crate) fn listens(&self) -> bool {
        !self.addresses.is_empty()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Returns the path of the folder of its files for a process with its mounts.
    pub(crate) fn data_in_its_mounts(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Returns the path of the folder of its files, also if its mounts are its own.
    pub(crate) fn data(&self) -> PathBuf {
        let path = self.data_in_its_mounts();
        let root = PathBuf::from(format!("/proc/{}/root", self.child.id()));
        root.join(path.strip_prefix("/").unwrap_or(&path))
    }

    /// Returns the number of open files.
    pub(crate) fn open_files(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    /// Returns the number of open files once it has noticed the end of its last client.
    pub(crate) fn settled_open_files(&self) -> Result<usize> {
        // The first loop to be idle again has closed what it had to close.
        let (mut files, mut seen) = (self.open_files()?, 0);
        while seen < 20 {
            thread::sleep(Duration::from_millis(2));
            let now = self.open_files()?;
            seen = if now == files { seen + 1 } else { 0 };
            files = now;
        }
        Ok(files)
    }

    pub(crate) fn has_ended_within(&self, timeout: Duration) -> Result<bool> {
        let pidfd = pidfd_open(self.pid(), PidfdFlags::empty())?;
        Ok(wait_until_readable(pidfd, timeout)?)
    }

    /// Waits until `text` has been recorded this often among its calls.
    pub(crate) fn wait_for_calls(&self, text: &str, times: usize) -> Result {
        let began = Instant::now();
        loop {
            let calls = fs::read_to_string(self.folder.path().join("calls"))?;
            if calls.matches(text).count() >= times {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("no {times} times {text}: {calls}").into());
            }
            thread::yield_now();
        }
    }

    /// Connects to its TCP address.
    pub(crate) fn connect(&self) -> Result<TcpStream> {
        let address = self.addresses.first().ok_or("it does not listen")?;
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Sends a request to its TCP address, and does not wait long for the answer.
    pub(crate) fn ask_briefly(&self) -> Result {
        let mut client = self.connect()?;
        client.set_read_timeout(Some(Duration::from_millis(20)))?;
        client.write_all(self.role.request())?;
        client.read_exact(&mut [0])?;
        Ok(())
    }

    /// Waits until it has at most `files` open files.
    pub(crate) fn wait_for_open_files(&self, files: usize) -> Result {
        let began = Instant::now();
        loop {
            match self.open_files() {
                Ok(open) if open <= files => return Ok(()),
                Ok(open) if began.elapsed() > PATIENCE => {
                    return Err(format!("{open} files are open, not {files}").into());
                }
                Ok(_) => thread::yield_now(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Has one client served.
    pub(crate) fn serve_client(&self) -> Result<Served> {
        let (request, answer) = (self.role.request(), self.role.answer());
        let served = self.serve_request(request, answer)?;
        if let (Role::Services, Some(datagrams)) = (self.role, self.addresses.get(1)) {
            self.echo_datagram(datagrams)?;
        }
        Ok(served)
    }

    /// Has one request answered.
    pub(crate) fn serve_request(&self, request: &[u8], answer: &[u8]) -> Result<Served> {
        let address = self.addresses.first().ok_or("it does not listen")?;
        if let Some(path) = address.strip_prefix("unix:") {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            talk(
                stream,
                |stream| stream.shutdown(Shutdown::Write),
                request,
                answer,
            )
        } else {
            talk(
                self.connect()?,
                |stream| stream.shutdown(Shutdown::Write),
                request,
                answer,
            )
        }
    }

    /// Sends a datagram until it comes back: a datagram may be lost.
    fn echo_datagram(&self, to: &str) -> Result {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE && !self.has_ended_within(Duration::ZERO)? {
            socket.send_to(b"hello", to)?;
            match socket.recv(&mut [0; 16]) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err("a datagram does not come back".into())
    }

    /// Asks it to end, if it does not end by itself, and waits for that. A signal that may be
    /// lost is sent again.
    pub(crate) fn end(mut self, signal_may_be_lost: bool) -> Result<Ended> {
        let pidfd = pidfd_open(self.pid(), PidfdFlags::empty())?;
        let is_server = !matches!(self.role, Role::Job(_));
        if is_server && !wait_until_readable(&pidfd, Duration::ZERO)? {
            kill_process(self.pid(), Signal::TERM)?;
            // Each thread may lose one.
            let (began, brief) = (Instant::now(), Duration::from_millis(300));
            while signal_may_be_lost
                && began.elapsed() < PATIENCE
                && !wait_until_readable(&pidfd, brief)?
            {
                kill_process(self.pid(), Signal::TERM)?;
            }
        }
        if !wait_until_readable(&pidfd, PATIENCE)? {
            return Err("it does not end".into());
        }
        let status = self.child.wait()?;
        let mut stdout = String::new();
        self.stdout.read_to_string(&mut stdout)?;
        let read = |name| fs::read(self.folder.path().join(name));
        Ok(Ended {
            status,
            stdout,
            stderr: String::from_utf8_lossy(&read("stderr")?).into_owned(),
            calls: String::from_utf8_lossy(&read("calls")?).into_owned(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, or a test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request and checks the answer, which may be longer than `answer`.
fn talk<T: Read + Write>(
    mut stream: T,
    end: impl FnOnce(&T) -> std::io::Result<()>,
    request: &[u8],
    answer: &[u8],
) -> Result<Served> {
    let mut received = Vec::new();
    let result = (|| {
        stream.write_all(request)?;
        while received.len() < answer.len() {
            let mut bytes = [0; 1024];
            match stream.read(&mut bytes)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => received.extend_from_slice(&bytes[..n]),
            }
        }
        end(&stream)?;
        stream.read_to_end(&mut received)
    })();
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err("a client is not served".into()),
        Err(error) => Ok(Served::Refused(format!(
            "{error}, after {:?}",
            String::from_utf8_lossy(&received)
        ))),
        Ok(_) if received.starts_with(answer) => Ok(Served::Well),
        Ok(_) => Ok(Served::Refused(
            String::from_utf8_lossy(&received).into_owned(),
        )),
    }
}

/// Returns the address of an echo server in this process, the target of a proxy.
fn echo_target() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    // It ends with the process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                // A client that fails affects no other.
                let _ = std::io::copy(&mut &stream, &mut &stream);
            });
        }
    });
    Ok(address)
}
