//! Cases that end a process or concern all of it run in a child: this program started once more,
//! with one of the cases below.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use handlers::signal::{self, Signal};
use reactor::{Next, Reactor};
use rustix::process::{Pid, kill_process};
use signal_hook::low_level::raise;

use crate::storm::storm;
use crate::{PATIENCE, Result, Seen, real_time, watch};

const CASE: &str = "HANDLERS_SIGNAL_CASE";

/// A case in a process of its own, with its output.
struct Case {
    child: Child,
    output: RefCell<io::Lines<BufReader<std::process::ChildStdout>>>,
}

impl Case {
    fn start(name: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--exact", "process::case", "--nocapture"])
            .env(CASE, name)
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("it has no output")?;
        Ok(Self {
            child,
            output: RefCell::new(BufReader::new(output).lines()),
        })
    }

    /// Reads until a line ends with `word`.
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
    let Ok(name) = std::env::var(CASE) else {
        return Ok(());
    };
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
            insisting_after(Duration::ZERO).shutdown_on(
                &mut reactor,
                [Signal::INT, Signal::TERM],
                |arrival, _| println!("\n{}", arrival.signal),
            )?;
            println!("\nready");
            reactor.run(&mut Vec::new())?;
        }
        "at once" => {
            signal::stop_on(&mut reactor, [Signal::INT, Signal::TERM])?;
            two_at_once()?;
            reactor.run(&mut Vec::new())?;
            println!("\ngentle");
        }
        "within an hour" | "never" => {
            let time = if name == "never" {
                Duration::MAX
            } else {
                Duration::from_secs(3600)
            };
            insisting_after(time).stop_on(&mut reactor, [Signal::INT, Signal::TERM])?;
            two_at_once()?;
            thread::sleep(Duration::from_millis(20)); // long enough for a mistake to show
            two_at_once()?;
            reactor.run(&mut Vec::new())?;
            println!("\ngentle");
        }
        "later" => {
            let shutdown = insisting_after(Duration::from_millis(1));
            shutdown.shutdown_on(&mut reactor, [Signal::INT, Signal::TERM], |_, _| {
                println!("\nasked")
            })?;
            reactor.defer(|_| {
                assert!(raise(Signal::INT.as_raw()).is_ok());
                println!("\nhanging");
                let began = Instant::now();
                while began.elapsed() < PATIENCE {
                    assert!(raise(Signal::TERM.as_raw()).is_ok());
                    thread::sleep(Duration::from_millis(1));
                }
                println!("\nalive");
            });
            reactor.run(&mut Vec::new())?;
        }
        "threads" => {
            let before = threads()?;
            let key = insisting_after(Duration::from_secs(3600))
                .stop_on(&mut reactor, [Signal::TERM, Signal::INT])?;
            assert_eq!(threads()?, before + 1);
            raise(Signal::TERM.as_raw())?;
            reactor.remove(key)?;
            let began = Instant::now();
            while threads()? > before {
                assert!(began.elapsed() < PATIENCE, "its thread is left");
                thread::sleep(Duration::from_millis(1));
            }
            println!("\nalive");
        }
        "blocked" => {
            let shutdown = insisting_after(Duration::ZERO);
            shutdown.shutdown_on(&mut reactor, [Signal::INT, Signal::TERM], |_, _| {
                println!("\nasked")
            })?;
            reactor.defer(|_| {
                assert!(raise(Signal::INT.as_raw()).is_ok());
                println!("\nhanging");
                assert!(raise(Signal::TERM.as_raw()).is_ok());
                println!("\nalive");
            });
            reactor.run(&mut Vec::new())?;
        }
        "default" => {
            let (one, other) = (
                watch(&mut reactor, &[Signal::TERM])?,
                watch(&mut reactor, &[Signal::TERM])?,
            );
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
            // The first watch has no effect any more.
            let key = watch(&mut reactor, &[Signal::TERM])?;
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
            assert!(
                caught.swap(false, Ordering::SeqCst),
                "also while it is watched"
            );
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
            // The only child of this process: nothing to coalesce with.
            let mut child = Command::new("true").spawn()?;
            reactor.run(&mut Vec::new())?;
            assert_eq!((told.get(), child.wait()?.code()), (child.id(), Some(0)));
            println!("\nalive");
        }
        "mask" => {
            let before = blocked(&std::fs::read_to_string("/proc/thread-self/status")?);
            let key = watch(&mut reactor, &[Signal::HUP, Signal::TERM, real_time(0)])?;
            let while_watched = Command::new("cat")
                .arg("/proc/self/status")
                .stderr(Stdio::null())
                .output()?;
            assert_eq!(
                blocked(&std::fs::read_to_string("/proc/thread-self/status")?),
                before
            );
            assert_eq!(
                blocked(&String::from_utf8(while_watched.stdout)?),
                before,
                "in a child"
            );
            reactor.remove(key)?;
            println!("\nalive");
        }
        "storm" => storm()?,
        other => return Err(format!("no case {other}").into()),
    }
    Ok(())
}

fn insisting_after(time: Duration) -> signal::ShutdownOptions {
    signal::ShutdownOptions::new().insist_after(time)
}

/// Sends signals as `timeout` of coreutils does: to its child, and to the group that the child is
/// in.
fn two_at_once() -> Result {
    raise(Signal::TERM.as_raw())?;
    raise(Signal::INT.as_raw())?;
    Ok(raise(Signal::TERM.as_raw())?)
}

fn threads() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Returns the line of the signals that a process blocks.
fn blocked(status: &str) -> String {
    status
        .lines()
        .find(|line| line.starts_with("SigBlk:"))
        .expect("every status has it")
        .to_owned()
}

#[test]
fn the_first_signal_ends_a_program_gracefully() -> Result {
    let case = Case::start("gentle")?;
    case.expect("ready")?;
    case.send(rustix::process::Signal::INT)?;
    case.expect("gentle")?;
    assert_eq!(case.end()?.code(), Some(0));
    Ok(())
}

#[test]
fn simultaneous_signals_count_as_one_and_end_a_program_gracefully() -> Result {
    for name in ["at once", "within an hour", "never"] {
        let case = Case::start(name)?;
        case.expect("gentle")?;
        assert_eq!(case.end()?.code(), Some(0), "{name}");
    }
    Ok(())
}

#[test]
fn a_later_repeat_of_a_signal_insists_also_while_the_loop_is_held_up() -> Result {
    let case = Case::start("later")?;
    case.expect("hanging")?;
    assert!(case.expect("alive").is_err() && case.expect("asked").is_err());
    assert_eq!(case.end()?.code(), Some(128 + 15));
    Ok(())
}

#[test]
fn the_thread_that_measures_the_time_to_insist_ends_with_the_registration() -> Result {
    survive("threads")
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
    assert_eq!(
        case.end()?.code(),
        Some(128 + real_time(0).as_raw()),
        "as far as it can be had"
    );
    let case = Case::start("ended shutdown")?;
    case.expect("alive")?;
    assert_eq!(case.end()?.signal(), Some(15));
    Ok(())
}

#[test]
fn signals_ignored_or_caught_by_other_code_before_stay_so() -> Result {
    survive("ignored")?;
    survive("caught")
}

#[test]
fn no_signal_is_blocked_in_this_process_or_its_children() -> Result {
    survive("mask")
}

/// Connections are served meanwhile.
#[test]
fn in_a_storm_of_signals_the_last_of_each_kind_is_reported() -> Result {
    survive("storm")
}

#[test]
fn a_sigchld_comes_with_the_pid_of_its_child() -> Result {
    survive("child")
}

/// Runs a case that reports its success at its end.
fn survive(name: &str) -> Result {
    let case = Case::start(name)?;
    case.expect("alive")?;
    assert_eq!(case.end()?.code(), Some(0), "{name}");
    Ok(())
}
