//! Errors of system calls, injected by `strace` into the programs.
//!
//! Law: after an error of a call the program either ends with an exit code other than 0 and a line
//! that names the call and the error, or it goes on. Then it refuses at most one client for each
//! error, serves all others, has no more open files than without the error, and ends at a signal.
//! It never panics, hangs, spins or is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Signal;

use crate::program::{CLIENTS, Ended, PATIENCE, Program, Role, Running, Served};
use crate::{Result, is_installed};

/// A call, the errors to inject, and the words of which one names the call in an error text.
type Call = (&'static str, &'static [Errno], &'static [&'static str]);

const INTR: Errno = Errno::INTR;
const IO: Errno = Errno::IO;
const MFILE: Errno = Errno::MFILE;
const NFILE: Errno = Errno::NFILE;
const NOBUFS: Errno = Errno::NOBUFS;
const NOMEM: Errno = Errno::NOMEM;
const NOSPC: Errno = Errno::NOSPC;

/// The errors that the manual page of each call names, out of those for a lack of something, for a
/// broken device and for an interruption.
const CALLS: &[Call] = &[
    (
        "accept4",
        &[
            MFILE,
            NFILE,
            NOBUFS,
            NOMEM,
            INTR,
            Errno::CONNABORTED,
            Errno::PERM,
        ],
        &["accept"],
    ),
    ("bind", &[NOMEM, Errno::ACCESS], &["bind"]),
    ("chmod", &[IO, Errno::ROFS], &["chmod", "bind"]),
    ("clone3", &[Errno::AGAIN], &["clone", "thread"]),
    (
        "connect",
        &[NOBUFS, NOMEM, Errno::ADDRNOTAVAIL],
        &["connect"],
    ),
    (
        "epoll_create1",
        &[MFILE, NFILE, NOMEM],
        &["epoll_create1", "console"],
    ),
    ("epoll_ctl", &[NOMEM, NOSPC], &["epoll_ctl"]),
    ("epoll_pwait", &[INTR, NOMEM], &["epoll_wait"]),
    (
        "eventfd2",
        &[MFILE, NFILE, NOMEM, Errno::NODEV],
        &["eventfd", "console"],
    ),
    ("fchmod", &[IO, Errno::ROFS], &["fchmod", "bind"]),
    ("fcntl", &[MFILE, NOMEM], &["fcntl", "sigaction"]),
    ("fdatasync", &[IO, NOSPC, INTR], &["fdatasync"]),
    ("flock", &[Errno::NOLCK], &["lock"]),
    ("fstat", &[IO, NOMEM], &["fstat", "console"]),
    ("fsync", &[IO, NOSPC, INTR], &["fsync"]),
    ("getpeername", &[NOBUFS], &["getpeername"]),
    ("getsockname", &[NOBUFS], &["getsockname", "bind"]),
    ("inotify_add_watch", &[NOMEM, NOSPC], &["inotify_add_watch"]),
    ("inotify_rm_watch", &[Errno::INVAL], &["inotify_rm_watch"]),
    ("inotify_init1", &[MFILE, NFILE, NOMEM], &["inotify_init1"]),
    ("ioctl", &[IO, NOMEM], &["ioctl"]),
    ("listen", &[Errno::ADDRINUSE, NOBUFS], &["bind"]),
    (
        "openat",
        &[MFILE, NFILE, NOMEM, IO, NOSPC],
        &["open", "lock"],
    ),
    ("pidfd_open", &[MFILE, NFILE, NOMEM], &["pidfd_open"]),
    ("pipe2", &[MFILE, NFILE], &["pipe"]),
    ("ppoll", &[NOMEM, INTR], &["poll"]),
    ("read", &[INTR, IO, NOMEM], &["read", "eventfd"]),
    ("readlink", &[IO, NOMEM], &["realpath"]),
    ("recvfrom", &[INTR, NOMEM, IO], &["recv"]),
    ("recvmmsg", &[INTR, NOMEM], &["recv"]),
    ("rename", &[IO, NOSPC, Errno::ROFS], &["rename"]),
    ("rt_sigaction", &[Errno::INVAL], &["sigaction"]),
    ("sendmsg", &[INTR, NOBUFS, NOMEM], &["send"]),
    ("sendto", &[INTR, NOBUFS, NOMEM], &["send"]),
    ("setsockopt", &[NOBUFS, NOMEM], &["bind"]),
    ("shutdown", &[NOBUFS], &["shutdown"]),
    ("socket", &[MFILE, NFILE, NOBUFS, NOMEM], &["bind"]),
    ("socketpair", &[MFILE, NFILE, NOMEM], &["socketpair"]),
    ("statx", &[IO, NOMEM], &["stat"]),
    (
        "timerfd_create",
        &[MFILE, NFILE, NOMEM, Errno::NODEV],
        &["timerfd_create"],
    ),
    ("timerfd_settime", &[Errno::INVAL], &["timerfd_settime"]),
    ("unlink", &[IO, Errno::ROFS], &["unlink"]),
    ("wait4", &[INTR], &["wait"]),
    ("waitid", &[INTR], &["wait"]),
    (
        "write",
        &[INTR, IO, NOSPC, Errno::FBIG],
        &["standard output", "write"],
    ),
];

/// Calls that are not injected.
const LEFT_OUT: &[&str] = &[
    // `strace` does not execute the call, so the file would stay open. Its errors are ignored.
    "close",
    // They cannot fail for a lack of anything.
    "clock_gettime",
    "exit",
    "exit_group",
    "getpid",
    "getrandom",
    "getsockopt",
    "gettid",
    "lseek",
    "prctl",
    "prlimit64",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "uname",
    // Of the allocator, of Rust's threads and of the start of a child. `memory` has tests for them.
    "brk",
    "clock_nanosleep",
    "execve",
    "futex",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "restart_syscall",
    "rt_sigprocmask",
    "rseq",
    "set_robust_list",
    "sigaltstack",
];

/// Returns the name by which `strace` knows an errno.
fn name(errno: Errno) -> &'static str {
    const NAMES: &[(Errno, &str)] = &[
        (Errno::ACCESS, "EACCES"),
        (Errno::ADDRINUSE, "EADDRINUSE"),
        (Errno::ADDRNOTAVAIL, "EADDRNOTAVAIL"),
        (Errno::AGAIN, "EAGAIN"),
        (Errno::CONNABORTED, "ECONNABORTED"),
        (Errno::FBIG, "EFBIG"),
        (INTR, "EINTR"),
        (Errno::INVAL, "EINVAL"),
        (IO, "EIO"),
        (MFILE, "EMFILE"),
        (NFILE, "ENFILE"),
        (NOBUFS, "ENOBUFS"),
        (Errno::NODEV, "ENODEV"),
        (Errno::NOLCK, "ENOLCK"),
        (NOMEM, "ENOMEM"),
        (NOSPC, "ENOSPC"),
        (Errno::PERM, "EPERM"),
        (Errno::ROFS, "EROFS"),
    ];
    let named = NAMES.iter().find(|(known, _)| *known == errno);
    named.map_or("unknown", |(_, name)| name)
}

/// The calls of a program without an error.
struct Undisturbed {
    /// The number of times that the main thread makes a call before the first one of ours.
    startup: BTreeMap<String, usize>,
    /// The number of times that the thread makes a call that makes it most often.
    most: BTreeMap<String, usize>,
    open_files: usize,
}

impl Undisturbed {
    fn of(program: &Program) -> Result<Self> {
        let running = Running::start(program, &[])?;
        let mut open_files = 0;
        if running.listens() {
            for number in 0..CLIENTS {
                let served = running.serve_client()?;
                if served != Served::Well {
                    return Err(format!("client {number}: {served:?}").into());
                }
            }
            open_files = running.settled_open_files()?;
        }
        let main = running.pid().as_raw_nonzero().to_string();
        let ended = running.end(false)?;
        if !ended.status.success() {
            return Err(ended.stderr.into());
        }
        let (startup, most) = count(&ended.calls, &main);
        Ok(Self {
            startup,
            most,
            open_files,
        })
    }

    fn startup(&self, call: &str) -> usize {
        self.startup.get(call).copied().unwrap_or(0)
    }

    /// Returns how often a thread makes a call after its start.
    fn calls(&self, call: &str) -> usize {
        let most = self.most.get(call).copied().unwrap_or(0);
        most.saturating_sub(self.startup(call))
    }

    /// Returns the first occurrence of a call after the start, the second, one in the middle and
    /// the last.
    fn occurrences(&self, call: &str) -> BTreeSet<usize> {
        let calls = self.calls(call);
        [1, 2, calls / 2 + 1, calls]
            .into_iter()
            .filter(|occurrence| (1..=calls).contains(occurrence))
            .collect()
    }
}

/// Returns the counts of an undisturbed run: before the first call of ours, and by the thread with
/// the most.
fn count(calls: &str, main: &str) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let (mut startup, mut children) = (None, BTreeSet::new());
    for line in calls.lines() {
        let parts = line.split_once(' ');
        let parts = parts.and_then(|(thread, rest)| Some((thread, rest.trim().split_once('(')?)));
        let Some((thread, (name, _))) = parts else {
            continue; // the end of a call that was interrupted by another thread, or of a thread
        };
        if name.contains([' ', '-', '+', '<']) {
            continue;
        }
        if matches!(name, "socket" | "epoll_create1" | "clone3") {
            startup.get_or_insert_with(|| {
                let of_main = counts.iter().filter(|((thread, _), _)| *thread == main);
                of_main
                    .map(|((_, name), count)| ((*name).to_owned(), *count))
                    .collect()
            });
        }
        if name == "execve" && thread != main {
            children.insert(thread);
        }
        *counts.entry((thread, name)).or_default() += 1;
    }
    let mut most = BTreeMap::new();
    for ((thread, name), count) in counts {
        if !children.contains(thread) {
            let most: &mut usize = most.entry(name.to_owned()).or_default();
            *most = count.max(*most);
        }
    }
    (startup.unwrap_or_default(), most)
}

/// Runs a program with an error at one occurrence of a call. Returns the law that is broken.
fn judge(
    program: &Program,
    undisturbed: &Undisturbed,
    (call, error, names): (&str, Errno, &[&str]),
    occurrence: usize,
) -> Result {
    let at = undisturbed.startup(call) + occurrence;
    let options = [
        "--seccomp-bpf".to_owned(),
        "-e".to_owned(),
        format!("trace={call},epoll_pwait"),
        "-e".to_owned(),
        format!("inject={call}:error={}:when={at}", name(error)),
    ];
    let running = Running::start(program, &options)?;
    let refused = serve_clients(&running)?;
    if running.listens() && !running.has_ended_within(Duration::ZERO)? {
        running.wait_for_open_files(undisturbed.open_files)?;
    }
    // The handler of a signal tells the loop by a send, whose error loses the signal.
    let ended = running.end(call == "sendto")?;
    let injected = ended.calls.matches("(INJECTED)").count();
    if ended.status.success() && refused.len() > injected {
        return Err(format!("{} clients are refused: {refused:?}", refused.len()).into());
    }
    // A Unix socket has no reset.
    let is_cut = |why: &String| why.contains("unexpected end of file");
    if call == "sendto" && program.role != Role::Services && refused.iter().any(is_cut) {
        return Err("an answer that was cut ends like a whole one".into());
    }
    let waits = ended.calls.matches("epoll_pwait(").count();
    if waits > 3 * undisturbed.calls("epoll_pwait") + 50 {
        return Err(format!("it spins: {waits} waits").into());
    }
    // A loop that has failed is dropped with its watchers, and the signal meets the default action.
    if call == "epoll_pwait" && ended.status.signal() == Some(Signal::TERM.as_raw()) {
        return Ok(());
    }
    judge_end(program, &ended, names, error)
}

/// Has clients served, while the program lives. Returns why some of them were refused.
fn serve_clients(running: &Running) -> Result<Vec<String>> {
    let mut refused = Vec::new();
    for _ in 0..CLIENTS {
        if !running.listens() || running.has_ended_within(Duration::ZERO)? {
            break;
        }
        match running.serve_client() {
            Ok(Served::Well) => {}
            Ok(Served::Refused(why)) => refused.push(why),
            Err(_) if running.has_ended_within(PATIENCE)? => break,
            Err(error) => return Err(error),
        }
    }
    Ok(refused)
}

fn judge_end(program: &Program, ended: &Ended, names: &[&str], error: Errno) -> Result {
    let stderr = &ended.stderr;
    if stderr.contains("panicked") {
        return Err(format!("a panic: {stderr}").into());
    }
    match (ended.status.code(), program.role) {
        (None, _) => Err(format!("{}: {stderr}", ended.status).into()),
        (Some(0), Role::Job(text)) if !ended.stdout.contains(text) => {
            Err(format!("no {text:?} in {:?}", ended.stdout).into())
        }
        (Some(0), _) => Ok(()),
        // A later signal has ended it at once.
        (Some(143), _) => Ok(()),
        _ => {
            let number = format!("(os error {})", error.raw_os_error());
            let says =
                |line: &str| line.contains(&number) && names.iter().any(|name| line.contains(name));
            if stderr.lines().any(says) {
                Ok(())
            } else {
                Err(format!("no line with {number} and one of {names:?}: {stderr}").into())
            }
        }
    }
}

/// Injects the errors of all calls that a program makes, except `without`.
fn inject_all(program: &Program, without: &[&str]) -> Result {
    if !is_installed("strace") {
        return Ok(());
    }
    let undisturbed = Undisturbed::of(program)?;
    let (mut cases, mut failed) = (0, Vec::new());
    for call in undisturbed.most.keys() {
        if undisturbed.calls(call) == 0 || LEFT_OUT.iter().chain(without).any(|left| left == call) {
            continue;
        }
        let Some((call, errors, names)) = CALLS.iter().find(|(known, ..)| known == call) else {
            failed.push(format!("{call}: neither in CALLS nor in LEFT_OUT"));
            continue;
        };
        for error in *errors {
            for occurrence in undisturbed.occurrences(call) {
                cases += 1;
                let fault = (*call, *error, *names);
                if let Err(law) = judge(program, &undisturbed, fault, occurrence) {
                    let of = undisturbed.calls(call);
                    failed.push(format!(
                        "{call:18} {:12} {occurrence:>3} of {of:<3} {law}",
                        name(*error)
                    ));
                }
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{} {:?}: {} of {cases} cases\ncall               error        occurrence\n{}",
        program.name,
        program.arguments,
        failed.len(),
        failed.join("\n")
    );
    Ok(())
}

/// Runs a program with a call that fails from an occurrence on. Returns the law that is broken.
/// Clients may be refused or wait.
fn judge_lasting(
    program: &Program,
    undisturbed: &Undisturbed,
    (call, error, names): (&str, Errno, &[&str]),
) -> Result {
    let first = undisturbed.startup(call) + undisturbed.calls(call) / 2 + 1;
    let options = [
        "--seccomp-bpf".to_owned(),
        "-e".to_owned(),
        format!("trace={call},epoll_pwait"),
        "-e".to_owned(),
        format!("inject={call}:error={}:when={first}+", name(error)),
    ];
    let running = Running::start(program, &options)?;
    for _ in 0..CLIENTS {
        let _ = running.ask_briefly(); // refused, or not answered
    }
    let ended = running.end(false)?;
    let waits = ended.calls.matches("epoll_pwait(").count();
    if waits > 3 * undisturbed.calls("epoll_pwait") + 50 {
        return Err(format!("it spins: {waits} waits").into());
    }
    judge_end(program, &ended, names, error)
}

/// Interrupts every second call, also those that are made again after an interruption.
fn interrupt_all(program: &Program, calls: &[&str]) -> Result {
    if !is_installed("strace") {
        return Ok(());
    }
    let undisturbed = Undisturbed::of(program)?;
    let injections = calls.iter().flat_map(|call| {
        let first = undisturbed.startup(call) + 1;
        let inject = format!("inject={call}:error=EINTR:when={first}+2");
        ["-e".to_owned(), inject]
    });
    let traced = ["-e".to_owned(), format!("trace={}", calls.join(","))];
    let options: Vec<_> = traced.into_iter().chain(injections).collect();
    let running = Running::start(program, &options)?;
    let refused = serve_clients(&running)?;
    let ended = running.end(false)?;
    assert_eq!(refused, [""; 0]);
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    assert!(ended.calls.matches("(INJECTED)").count() > 2 * CLIENTS);
    judge_end(program, &ended, &[], INTR)
}

pub(crate) const ECHO_SERVER: Program = Program {
    name: "echo_server",
    arguments: &["--listen", "127.0.0.1:0"],
    role: Role::Echo,
    input: "",
};

const PROXY: Program = Program {
    name: "proxy",
    arguments: &["--listen", "127.0.0.1:0", "--to", "TARGET"],
    role: Role::Echo,
    input: "",
};

pub(crate) const SERVICES: Program = Program {
    name: "services",
    arguments: &["FOLDER"],
    role: Role::Services,
    input: "",
};

#[test]
fn errors_of_the_calls_of_echo_server() -> Result {
    inject_all(&ECHO_SERVER, &[])
}

/// The loops wake each other by writes to eventfds, which cannot fail.
#[test]
fn errors_of_the_calls_of_echo_server_with_two_loops() -> Result {
    let program = Program {
        arguments: &["--listen", "127.0.0.1:0", "--threads", "2"],
        ..ECHO_SERVER
    };
    inject_all(&program, &["write"])
}

#[test]
fn errors_of_the_calls_of_kv_server() -> Result {
    let program = Program {
        name: "kv_server",
        arguments: &["--listen", "127.0.0.1:0", "--spin", "0"],
        role: Role::Redis,
        input: "",
    };
    inject_all(&program, &[])
}

#[test]
fn errors_of_the_calls_of_http_hello() -> Result {
    let program = Program {
        name: "http_hello",
        arguments: &["--listen", "127.0.0.1:0"],
        role: Role::Http,
        input: "",
    };
    inject_all(&program, &[])
}

#[test]
fn errors_of_the_calls_of_proxy() -> Result {
    inject_all(&PROXY, &[])
}

#[test]
fn errors_of_the_calls_of_services() -> Result {
    inject_all(&SERVICES, &["write"])
}

#[test]
fn errors_of_the_calls_of_console_loop() -> Result {
    let program = Program {
        name: "console_loop",
        arguments: &[],
        role: Role::Job("last"),
        input: "after 0.01 x\nwork 1\npost this\nrun printf that\nafter 0.05 last\n",
    };
    inject_all(&program, &[])
}

/// The threads wake each other by writes to eventfds, which cannot fail.
#[test]
fn errors_of_the_calls_of_worker_pool() -> Result {
    for arguments in [
        &["--workers", "1", "--producers", "2", "--spike", "10"][..],
        &[
            "--workers=1",
            "--producers=2",
            "--spike=10",
            "--method",
            "eventfd",
        ],
    ] {
        let program = Program {
            name: "worker_pool",
            arguments,
            role: Role::Job("10 tasks by"),
            input: "",
        };
        inject_all(&program, &["read", "write"])?;
    }
    Ok(())
}

/// A `sendto` that fails for ever loses each signal. A wait that fails ends the program.
#[test]
fn a_lasting_error_of_any_call_neither_spins_nor_hangs() -> Result {
    if !is_installed("strace") {
        return Ok(());
    }
    for program in [&ECHO_SERVER, &PROXY] {
        let undisturbed = Undisturbed::of(program)?;
        let mut failed = Vec::new();
        for (call, errors, names) in CALLS {
            let error = errors.iter().find(|error| **error != INTR);
            let Some(error) = error.filter(|_| undisturbed.calls(call) > 0) else {
                continue;
            };
            if !matches!(*call, "epoll_pwait" | "sendto")
                && let Err(law) = judge_lasting(program, &undisturbed, (call, *error, names))
            {
                failed.push(format!("{call}: {law}"));
            }
        }
        assert!(failed.is_empty(), "{}: {}", program.name, failed.join("\n"));
    }
    Ok(())
}

#[test]
fn a_storm_of_interruptions_costs_no_client_its_answer() -> Result {
    let calls = ["accept4", "epoll_pwait", "read", "recvfrom", "write"];
    interrupt_all(&ECHO_SERVER, &calls)?;
    interrupt_all(&PROXY, &calls)?;
    let files = ["fdatasync", "fsync", "openat", "recvmmsg", "sendmsg"];
    interrupt_all(&SERVICES, &[&calls[..4], &files].concat())
}

#[test]
fn a_lasting_lack_of_resources_is_waited_for_and_does_not_spin() -> Result {
    if !is_installed("strace") {
        return Ok(());
    }
    for error in [NFILE, NOBUFS, NOMEM] {
        let options = [
            "-e".to_owned(),
            "trace=accept4,epoll_pwait".to_owned(),
            "-e".to_owned(),
            format!("inject=accept4:error={}:when=1+", name(error)),
        ];
        let running = Running::start(&ECHO_SERVER, &options)?;
        let _client = running.connect()?;
        running.wait_for_calls("(INJECTED)", 4)?;
        let ended = running.end(false)?;
        assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
        let (tries, calls) = (
            ended.calls.matches("(INJECTED)").count(),
            ended.calls.lines().count(),
        );
        assert!(calls <= 4 * tries + 10, "{tries} tries: {}", ended.calls);
    }
    Ok(())
}
