//! Signals, sent to this process for real; each test has signals of its own, or a process of its own.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use handlers::signal::{self, Signal};
use handlers::{Connection, ConnectionHandler, ConnectionOptions};
use reactor::{Context, Key, Next, Reactor};
use rustix::process::{Pid, kill_process};
use signal_hook::low_level::raise;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What the handlers of a test note: signals by number.
type Seen = Vec<i32>;

const PATIENCE: Duration = Duration::from_secs(20);

fn real_time(offset: u8) -> Signal {
    Signal::real_time(offset).expect("there are 30 of them")
}

/// Watches `signals`, and notes their numbers.
fn watch(reactor: &mut Reactor<Seen>, signals: &[Signal]) -> Result<Key> {
    Ok(signal::watch(reactor, signals.iter().copied(), |arrival, cx| {
        cx.state.push(arrival.signal.as_raw());
        Ok(Next::Keep)
    })?)
}

/// Turns until `done`.
#[track_caller]
fn turn_until(reactor: &mut Reactor<Seen>, seen: &mut Seen, done: impl Fn(&Seen) -> bool) -> Result {
    let began = Instant::now();
    while !done(seen) {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {seen:?}");
        reactor.turn(seen, Some(Duration::from_millis(100)))?;
    }
    Ok(())
}

#[test]
fn all_watchers_of_all_loops_are_told() -> Result {
    let (mut one, mut other) = (Reactor::new()?, Reactor::new()?);
    watch(&mut one, &[Signal::USR1])?;
    watch(&mut one, &[Signal::USR1])?;
    watch(&mut other, &[Signal::USR1])?;
    kill_process(rustix::process::getpid(), rustix::process::Signal::USR1)?; // to any thread
    let (mut seen_by_one, mut seen_by_other) = (Vec::new(), Vec::new());
    turn_until(&mut one, &mut seen_by_one, |seen| seen.len() == 2)?;
    turn_until(&mut other, &mut seen_by_other, |seen| seen.len() == 1)?;
    assert_eq!(one.turn(&mut seen_by_one, Some(Duration::ZERO))?, 0, "once each");
    Ok(())
}

#[test]
fn the_sender_is_told() -> Result {
    let mut reactor = Reactor::<Vec<signal::Arrival>>::new()?;
    signal::watch(&mut reactor, [Signal::USR2], |arrival, cx| {
        cx.state.push(*arrival);
        Ok(Next::Keep)
    })?;
    let mut sender = Command::new("sh").args(["-c", "kill -USR2 $PPID"]).spawn()?;
    assert!(sender.wait()?.success());
    let mut arrivals = Vec::new();
    reactor.turn(&mut arrivals, Some(PATIENCE))?;
    let told = arrivals.first().and_then(|arrival| arrival.sender).ok_or("no sender")?;
    assert_eq!((told.pid, told.uid), (sender.id(), rustix::process::getuid().as_raw()));
    Ok(())
}

#[test]
fn arrivals_are_told_by_number_and_coalesce_while_the_loop_is_busy() -> Result {
    let (low, high) = (real_time(1), real_time(2));
    let mut reactor = Reactor::new()?;
    watch(&mut reactor, &[high, low])?;
    for _ in 0..100 {
        raise(high.as_raw())?;
        raise(low.as_raw())?;
    }
    let mut seen = Vec::new();
    reactor.turn(&mut seen, Some(Duration::ZERO))?;
    assert_eq!(seen, [[low.as_raw(); 5], [high.as_raw(); 5]].concat());
    raise(low.as_raw())?;
    reactor.turn(&mut seen, Some(Duration::ZERO))?;
    assert_eq!(seen[10..], [low.as_raw()], "one that comes after is told after");
    Ok(())
}

#[test]
fn more_arrivals_than_a_call_may_tell_are_told_next_turn() -> Result {
    let signals: Vec<_> = (5..20).map(real_time).collect();
    let mut reactor = Reactor::new()?;
    watch(&mut reactor, &signals)?;
    for signal in &signals {
        for _ in 0..5 {
            raise(signal.as_raw())?;
        }
    }
    let mut seen = Vec::new();
    reactor.turn(&mut seen, Some(Duration::ZERO))?;
    assert_eq!(seen.len(), 64);
    reactor.turn(&mut seen, Some(Duration::ZERO))?;
    assert_eq!(seen.len(), 75);
    assert_eq!(reactor.turn(&mut seen, Some(Duration::ZERO))?, 0, "and then it rests");
    assert!(seen.is_sorted());
    Ok(())
}

#[test]
fn a_watcher_keeps_no_loop_alive_and_costs_no_call_until_there_is_a_signal() -> Result {
    let mut reactor = Reactor::new()?;
    watch(&mut reactor, &[real_time(3)])?;
    let mut seen = Vec::new();
    reactor.run(&mut seen)?;
    assert_eq!((seen.len(), reactor.metrics().calls), (0, 0));
    Ok(())
}

#[test]
fn after_its_removal_nothing_is_told_and_nothing_is_left() -> Result {
    let mut reactor = Reactor::new()?;
    let open = std::fs::read_dir("/proc/self/fd")?.count();
    let key = watch(&mut reactor, &[Signal::WINCH])?;
    raise(Signal::WINCH.as_raw())?;
    reactor.remove(key)?;
    assert!(reactor.is_empty());
    raise(Signal::WINCH.as_raw())?;
    let mut seen = Vec::new();
    assert_eq!(reactor.turn(&mut seen, Some(Duration::ZERO))?, 0);
    // Other tests open and close theirs meanwhile, so this is about those that a hundred watchers would leave.
    for _ in 0..100 {
        let key = watch(&mut reactor, &[Signal::WINCH])?;
        reactor.remove(key)?;
    }
    assert!(std::fs::read_dir("/proc/self/fd")?.count() < open + 100);
    Ok(())
}

#[test]
fn a_watcher_that_is_removed_in_its_callback_is_told_no_more_of_what_has_come() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let (by_key, by_outcome, by_error) = (real_time(20), real_time(21), real_time(22));
    signal::watch(&mut reactor, [by_key], |arrival, cx| {
        cx.state.push(arrival.signal.as_raw());
        cx.registry.remove(cx.key())?;
        Ok(Next::Keep)
    })?;
    signal::watch(&mut reactor, [by_outcome], |arrival, cx| {
        cx.state.push(arrival.signal.as_raw());
        Ok(Next::Remove)
    })?;
    signal::watch(&mut reactor, [by_error], |arrival, cx| {
        cx.state.push(arrival.signal.as_raw());
        Err(io::Error::other("enough"))
    })?;
    watch(&mut reactor, &[by_key, by_outcome, by_error])?; // so that their default is not taken
    for signal in [by_key, by_outcome, by_error] {
        raise(signal.as_raw())?;
        raise(signal.as_raw())?;
    }
    let mut seen = Vec::new();
    reactor.turn(&mut seen, Some(Duration::ZERO))?;
    seen.sort_unstable();
    assert_eq!(seen, [[by_key.as_raw(); 3], [by_outcome.as_raw(); 3], [by_error.as_raw(); 3]].concat());
    assert_eq!(reactor.len(), 1);
    Ok(())
}

#[test]
fn would_block_and_interrupted_end_nothing() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    signal::watch(&mut reactor, [real_time(4)], |arrival, cx| {
        cx.state.push(arrival.signal.as_raw());
        Err(if cx.state.len() % 2 == 0 { ErrorKind::WouldBlock } else { ErrorKind::Interrupted }.into())
    })?;
    let mut seen = Vec::new();
    for number in 1..4 {
        raise(real_time(4).as_raw())?;
        raise(real_time(4).as_raw())?;
        reactor.turn(&mut seen, Some(Duration::ZERO))?;
        assert_eq!(seen.len(), 2 * number);
    }
    assert_eq!((reactor.len(), reactor.metrics().kernel_updates), (1, 1));
    Ok(())
}

#[test]
fn a_signal_that_cannot_be_watched_is_an_error_that_names_it_and_nothing_is_watched() -> Result {
    let mut reactor = Reactor::new()?;
    for (number, named) in [
        (9, "SIGKILL cannot be watched: the kernel lets nobody catch it"),
        (19, "SIGSTOP cannot be watched: the kernel lets nobody catch it"),
        (11, "SIGSEGV cannot be watched: it tells of a fault of the running thread"),
        (0, "signal 0 cannot be watched: there is no such signal"),
        (-3, "signal -3 cannot be watched"),
        (65, "signal 65 cannot be watched"),
        (i32::MAX, "signal 2147483647 cannot be watched"),
        (32, "sigaction(signal 32): Invalid argument"), // the C library's own
    ] {
        let error = signal::watch(&mut reactor, [Signal::CONT, Signal::from_raw(number)], |_, _| Ok(Next::Keep))
            .expect_err("it cannot be caught");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{number}");
        assert!(error.to_string().contains(named), "{error}");
    }
    assert!(reactor.is_empty());
    let mut seen = Seen::new();
    watch(&mut reactor, &[Signal::CONT])?; // the one that was good is none the worse
    raise(Signal::CONT.as_raw())?;
    reactor.turn(&mut seen, Some(Duration::ZERO))?;
    assert_eq!(seen, [Signal::CONT.as_raw()]);
    Ok(())
}

#[test]
fn the_callback_of_a_shutdown_runs_once_with_the_first_signal() -> Result {
    let asked = Rc::new(Cell::new(None));
    let noted = Rc::clone(&asked);
    let mut reactor = Reactor::<()>::new()?;
    signal::shutdown_on(&mut reactor, [real_time(23), real_time(24)], move |arrival, cx| {
        noted.set(Some(arrival.signal));
        cx.registry.stop();
    })?;
    raise(real_time(24).as_raw())?;
    reactor.after(PATIENCE, |_| Ok(reactor::Then::Done)); // something to be stopped
    reactor.run(&mut ())?;
    assert_eq!(asked.get(), Some(real_time(24)));
    assert_eq!(reactor.len(), 1, "it stays, for the second one");
    Ok(())
}

// What ends a process, or is about all of it, happens in a child: this program once more, with one of the cases below.

const CASE: &str = "HANDLERS_SIGNAL_CASE";

/// A case in a process of its own, with its output.
struct Case {
    child: Child,
    output: RefCell<io::Lines<BufReader<std::process::ChildStdout>>>,
}

impl Case {
    fn start(name: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--exact", "case", "--nocapture"])
            .env(CASE, name)
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("it has no output")?;
        Ok(Self { child, output: RefCell::new(BufReader::new(output).lines()) })
    }

    /// Reads on until it says `word`.
    fn expect(&self, word: &str) -> Result {
        for line in self.output.borrow_mut().by_ref() {
            if line?.ends_with(word) {
                return Ok(());
            }
        }
        Err(format!("it has ended and not said {word:?}").into())
    }

    fn send(&self, signal: rustix::process::Signal) -> Result {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    fn end(mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }
}

/// The child's side. Started as any other test, it does nothing.
#[test]
fn case() -> Result {
    let Ok(name) = std::env::var(CASE) else { return Ok(()) };
    let mut reactor = Reactor::<Seen>::new()?;
    reactor.after(PATIENCE, |_| Ok(reactor::Then::Done));
    match name.as_str() {
        "gentle" => {
            signal::stop_on(&mut reactor, [Signal::INT, Signal::TERM])?;
            println!("\nready");
            reactor.run(&mut Vec::new())?;
            println!("\ngentle");
        }
        "insists" => {
            signal::shutdown_on(&mut reactor, [Signal::INT, Signal::TERM], |arrival, _| {
                println!("\n{}", arrival.signal)
            })?;
            println!("\nready");
            reactor.run(&mut Vec::new())?;
        }
        "blocked" => {
            signal::shutdown_on(&mut reactor, [Signal::INT, Signal::TERM], |_, _| println!("\nasked"))?;
            reactor.defer(|_| {
                assert!(raise(Signal::INT.as_raw()).is_ok());
                println!("\nhanging");
                assert!(raise(Signal::TERM.as_raw()).is_ok());
                println!("\nalive");
            });
            reactor.run(&mut Vec::new())?;
        }
        "default" => {
            let (one, other) = (watch(&mut reactor, &[Signal::TERM])?, watch(&mut reactor, &[Signal::TERM])?);
            raise(Signal::TERM.as_raw())?;
            reactor.remove(one)?;
            raise(Signal::TERM.as_raw())?;
            reactor.remove(other)?;
            println!("\nunwatched");
            raise(Signal::TERM.as_raw())?;
        }
        "default of real-time" => {
            let key = watch(&mut reactor, &[real_time(0)])?;
            raise(real_time(0).as_raw())?;
            reactor.remove(key)?;
            println!("\nunwatched");
            raise(real_time(0).as_raw())?;
        }
        "ended shutdown" => {
            let key = signal::stop_on(&mut reactor, [Signal::TERM])?;
            raise(Signal::TERM.as_raw())?;
            reactor.remove(key)?;
            let key = watch(&mut reactor, &[Signal::TERM])?; // its reflexes are gone
            raise(Signal::TERM.as_raw())?;
            println!("\nalive");
            reactor.remove(key)?;
            raise(Signal::TERM.as_raw())?;
        }
        "ignored" => {
            let key = watch(&mut reactor, &[Signal::PIPE])?;
            reactor.remove(key)?;
            raise(Signal::PIPE.as_raw())?;
            println!("\nalive");
        }
        "caught" => {
            let caught = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(Signal::TERM.as_raw(), Arc::clone(&caught))?;
            let key = watch(&mut reactor, &[Signal::TERM])?;
            raise(Signal::TERM.as_raw())?;
            assert!(caught.swap(false, Ordering::SeqCst), "also while it is watched");
            reactor.remove(key)?;
            raise(Signal::TERM.as_raw())?;
            assert!(caught.load(Ordering::SeqCst), "and after");
            println!("\nalive");
        }
        "child" => {
            let told = Rc::new(Cell::new(0));
            let noted = Rc::clone(&told);
            signal::watch(&mut reactor, [Signal::CHLD], move |arrival, cx| {
                noted.set(arrival.sender.map_or(0, |child| child.pid));
                cx.registry.stop();
                Ok(Next::Keep)
            })?;
            let mut child = Command::new("true").spawn()?; // the only one of this process: nothing to coalesce with
            reactor.run(&mut Vec::new())?;
            assert_eq!((told.get(), child.wait()?.code()), (child.id(), Some(0)));
            println!("\nalive");
        }
        "mask" => {
            let before = blocked(&std::fs::read_to_string("/proc/thread-self/status")?);
            let key = watch(&mut reactor, &[Signal::HUP, Signal::TERM, real_time(0)])?;
            let while_watched = Command::new("cat").arg("/proc/self/status").stderr(Stdio::null()).output()?;
            assert_eq!(blocked(&std::fs::read_to_string("/proc/thread-self/status")?), before);
            assert_eq!(blocked(&String::from_utf8(while_watched.stdout)?), before, "in a child");
            reactor.remove(key)?;
            println!("\nalive");
        }
        "storm" => storm()?,
        other => return Err(format!("no case {other}").into()),
    }
    Ok(())
}

/// What is sent in a storm, 2500 times each; the real-time ones are queued by the kernel, each of them.
const KINDS: [fn() -> Signal; 4] = [|| Signal::USR1, || Signal::USR2, || real_time(0), || real_time(1)];

/// Signals of the storm between two echoes of the client.
const GUST: u64 = 100;

/// How many of each kind have been sent; one is counted before it is.
type SentOfKind = [AtomicU64; KINDS.len()];

/// Sends 10 000 signals, and waits for an echo now and then, so that the connection is served all the while.
fn send_storm(sent: &SentOfKind, echoed: &Receiver<()>) -> io::Result<()> {
    for number in 0..10_000_u64 {
        let kind = (number % 4) as usize;
        sent[kind].fetch_add(1, Ordering::SeqCst);
        match rustix::process::Signal::from_named_raw(KINDS[kind]().as_raw()) {
            Some(named) => kill_process(rustix::process::getpid(), named)?,
            None => raise(KINDS[kind]().as_raw())?, // to this thread: safe code can send it no further
        }
        if number % GUST == 0 {
            echoed.recv().map_err(io::Error::other)?;
        }
    }
    Ok(())
}

/// Sends and receives as long as the storm lasts; gives how many echoes were right.
fn talk(mut stream: UnixStream, echoed: &SyncSender<()>) -> io::Result<u64> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut echoes = 0_u64;
    loop {
        let said: Vec<u8> = (0..1000).flat_map(|word: u64| (echoes * 1000 + word).to_ne_bytes()).collect();
        let mut heard = vec![0; said.len()];
        stream.write_all(&said)?;
        stream.read_exact(&mut heard)?;
        assert!(heard == said, "echo {echoes}");
        echoes += 1;
        if echoed.send(()).is_err() {
            stream.shutdown(std::net::Shutdown::Write)?;
            assert_eq!(stream.read(&mut heard)?, 0, "nothing more than was said");
            return Ok(echoes);
        }
    }
}

struct Echo;

impl<S> ConnectionHandler<S> for Echo {
    fn on_data(&mut self, data: &[u8], to: &mut Connection<'_, S>, _: &mut Context<'_, S>) -> io::Result<usize> {
        let _ = to.write(data)?; // the client reads before it says more
        Ok(data.len())
    }
}

/// In a process of its own, where nobody else waits for these signals.
fn storm() -> Result {
    let mut reactor = Reactor::<Vec<u64>>::new()?; // what had been sent of each kind when it was told last
    let sent = Arc::new(SentOfKind::default());
    let counted = Arc::clone(&sent);
    signal::watch(&mut reactor, KINDS.map(|kind| kind()), move |arrival, cx| {
        let kind = KINDS.iter().position(|kind| kind() == arrival.signal).ok_or(ErrorKind::InvalidData)?;
        cx.state[kind] = counted[kind].load(Ordering::SeqCst);
        Ok(Next::Keep)
    })?;
    let (server, client) = UnixStream::pair()?;
    handlers::open(&mut reactor, server, &ConnectionOptions::new(), Echo)?;
    let (echoed, echoes) = mpsc::sync_channel(0);
    let talker = thread::spawn(move || talk(client, &echoed));
    let sender = thread::spawn(move || send_storm(&sent, &echoes));
    let mut told = vec![0; KINDS.len()];
    let began = Instant::now();
    while told != [2500; KINDS.len()] || reactor.len() > 1 {
        assert!(began.elapsed() < PATIENCE, "told of {told:?}, {} registrations", reactor.len());
        reactor.turn(&mut told, Some(Duration::from_millis(100)))?;
    }
    reactor.run(&mut told)?; // ends: the connection is closed, and the watcher keeps nothing alive
    sender.join().map_err(|_| "the sender panicked")??;
    let right = talker.join().map_err(|_| "the client panicked")??;
    assert!(right >= 10_000 / GUST, "{right} echoes");
    println!("\nalive");
    Ok(())
}

/// The line of the signals that a process blocks.
fn blocked(status: &str) -> String {
    status.lines().find(|line| line.starts_with("SigBlk:")).expect("every status has it").to_owned()
}

#[test]
fn the_first_signal_ends_a_program_gently() -> Result {
    let case = Case::start("gentle")?;
    case.expect("ready")?;
    case.send(rustix::process::Signal::INT)?;
    case.expect("gentle")?;
    assert_eq!(case.end()?.code(), Some(0));
    Ok(())
}

#[test]
fn a_second_signal_ends_a_program_at_once_with_its_number() -> Result {
    let case = Case::start("insists")?;
    case.expect("ready")?;
    case.send(rustix::process::Signal::INT)?;
    case.expect("SIGINT")?;
    case.send(rustix::process::Signal::TERM)?;
    assert_eq!(case.end()?.code(), Some(128 + 15));
    Ok(())
}

#[test]
fn a_second_signal_ends_a_program_also_while_its_loop_is_held_up() -> Result {
    let case = Case::start("blocked")?;
    case.expect("hanging")?;
    assert!(case.expect("alive").is_err() && case.expect("asked").is_err());
    assert_eq!(case.end()?.code(), Some(128 + 15));
    Ok(())
}

#[test]
fn the_default_action_comes_back_with_the_end_of_the_last_watcher() -> Result {
    let case = Case::start("default")?;
    case.expect("unwatched")?;
    assert_eq!(case.end()?.signal(), Some(15));
    let case = Case::start("default of real-time")?;
    case.expect("unwatched")?;
    assert_eq!(case.end()?.code(), Some(128 + real_time(0).as_raw()), "as far as it can be had");
    let case = Case::start("ended shutdown")?;
    case.expect("alive")?;
    assert_eq!(case.end()?.signal(), Some(15));
    Ok(())
}

#[test]
fn what_was_ignored_or_caught_by_others_before_stays_so() -> Result {
    survive("ignored")?;
    survive("caught")
}

#[test]
fn no_signal_is_blocked_in_this_process_or_its_children() -> Result {
    survive("mask")
}

#[test]
fn in_a_storm_of_signals_the_last_of_each_kind_is_told_of_and_connections_are_served() -> Result {
    survive("storm")
}

#[test]
fn with_sigchld_comes_the_child_it_is_about() -> Result {
    survive("child")
}

/// Runs a case that says so at its end.
fn survive(name: &str) -> Result {
    let case = Case::start(name)?;
    case.expect("alive")?;
    assert_eq!(case.end()?.code(), Some(0), "{name}");
    Ok(())
}
