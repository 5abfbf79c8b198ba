//! Signals, children, files, the console, datagrams.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use handlers::child::{self, Output, RestartPolicy, SupervisorEvent};
use handlers::signal::{self, Signal};
use handlers::udp::{self, Datagram, DatagramHandler, Failure, Sending, Udp, UdpSocket};
use handlers::{Backoff, Console, ConsoleInput, Jitter, files};
use reactor::{CloseReason, Context, Interest, Next, Reactor, RequestContext};
use rustix::process::{getpid, kill_process};
use support::{PATIENCE, Result, run_out, turn_until, turn_until_quiet};

use crate::{App, check, note, request, within};

#[test]
fn each_watcher_of_a_signal_is_called_in_its_own_request() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let watch = |reactor: &mut Reactor<App>| {
        signal::watch(reactor, [Signal::USR2], |_, cx| {
            note("signal", cx);
            Ok(Next::Remove)
        })
    };
    let (context, kept) = request(1);
    context.scope(|| watch(&mut reactor))?;
    watch(&mut reactor)?;
    within(2, || watch(&mut reactor))?;
    drop(context);
    kill_process(getpid(), rustix::process::Signal::USR2)?;
    turn_until(&mut reactor, &mut app, |app| app.seen.len() == 3)?;
    app.seen.sort_unstable();
    assert_eq!(
        app.seen,
        [None, Some(1), Some(2)].map(|number| ("signal", number))
    );
    kept.expect_dropped("after the watcher");
    Ok(())
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[test]
fn the_exit_and_the_output_of_a_child_come_in_its_request() {
    check(&["exit", "line", "output ended"], |reactor| {
        // In the order of `check`, whichever comes first.
        let in_order = |what: &'static str, cx: &mut Context<'_, App>| {
            note(what, cx);
            cx.state.seen.sort_unstable();
        };
        let mut command = sh("echo text");
        command.stdout(Stdio::piped());
        let spawned = child::spawn(reactor, &mut command, move |_, cx| {
            in_order("exit", cx);
            Ok(())
        })?;
        let stdout = spawned.stdout.unwrap();
        child::lines(reactor, stdout, 100, move |output, cx| {
            match output {
                Output::Ended(_) => in_order("output ended", cx),
                _ => in_order("line", cx),
            }
            Ok(())
        })?;
        Ok(())
    });
}

#[test]
fn a_child_that_is_only_reaped_keeps_no_request() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let (context, kept) = request(7);
    let mut command = sh("read line");
    command.stdin(Stdio::piped());
    let spawn = || child::spawn(&mut reactor, &mut command, |_, _| Ok(()));
    let spawned = context.scope(spawn)?;
    drop(context);
    let key = spawned.key;
    within(9, || {
        reactor.defer(move |cx| cx.registry.remove(key.key()).unwrap())
    });
    turn_until_quiet(&mut reactor, &mut app)?;
    kept.expect_dropped("although the child runs");
    let name = format!("child {} (sh)", spawned.pid);
    assert!(reactor.registrations().any(|info| info.name == name));
    for info in reactor
        .registrations()
        .map(|info| info.key)
        .collect::<Vec<_>>()
    {
        assert!(reactor.context(info)?.is_none());
    }
    drop(spawned.stdin);
    Ok(())
}

#[test]
fn the_wait_for_the_group_of_a_child_keeps_no_request() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let (context, kept) = request(7);
    let script = "exec 3<&0; trap 'exit 1' TERM; \
        (trap '' TERM; echo ready; exec head -n1 <&3 >/dev/null) & wait";
    let mut command = sh(script);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.process_group(0);
    let spawn = || child::spawn(&mut reactor, &mut command, |_, _| Ok(()));
    let spawned = context.scope(spawn)?;
    drop(context);
    let stdout = spawned.stdout.unwrap();
    child::lines(&mut reactor, stdout, 100, |_, cx| {
        note("line", cx);
        Ok(())
    })?;
    turn_until(&mut reactor, &mut app, |app| !app.seen.is_empty())?;
    let key = spawned.key;
    key.terminate_group(&mut reactor, Duration::from_secs(3600))?;
    let began = Instant::now();
    while reactor.interest(key.key())? != Interest::NONE {
        assert!(began.elapsed() < PATIENCE, "{reactor:?}");
        reactor.turn(&mut app, Some(Duration::from_millis(10)))?;
    }
    reactor.remove(key.key())?;
    turn_until_quiet(&mut reactor, &mut app)?;
    kept.expect_dropped("although the rest of the group is watched");
    drop(spawned.stdin);
    Ok(())
}

#[test]
fn a_supervisor_restarts_and_stops_in_its_request() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let (context, kept) = request(7);
    let policy = RestartPolicy::on_failure()
        .backoff(Backoff::new(Duration::from_secs(60), Duration::MAX).jitter(Jitter::None));
    let command = || {
        let is_in_request = crate::current() == Some(7);
        Ok(sh(if is_in_request { "exit 1" } else { "exit 2" }))
    };
    let on_event = |event, cx: &mut Context<'_, App>| {
        match event {
            SupervisorEvent::Started(_) => note("started", cx),
            SupervisorEvent::Exited { exit, .. } => {
                assert_eq!(
                    exit?.status.code(),
                    Some(1),
                    "the command is made in the request"
                );
                note("exited", cx);
            }
            SupervisorEvent::Stopped => note("stopped", cx),
            _ => note("other", cx),
        }
        Ok(())
    };
    let key = context.scope(|| child::supervise(&mut reactor, policy, command, on_event));
    drop(context);
    turn_until(&mut reactor, &mut app, |app| app.seen.len() == 2)?;
    within(9, || key.start_now(&mut reactor))?;
    turn_until(&mut reactor, &mut app, |app| app.seen.len() == 4)?;
    kept.expect_kept();
    within(9, || key.stop(&mut reactor, Duration::ZERO))?;
    run_out(&mut reactor, &mut app)?;
    let names = ["started", "exited", "started", "exited", "stopped"];
    assert_eq!(app.seen, names.map(|what| (what, Some(7))));
    kept.expect_dropped("after the supervision");
    Ok(())
}

#[test]
fn watchers_of_files_are_called_in_their_request() -> Result {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("file");
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let (context, kept) = request(7);
    context.scope(|| {
        files::watch(&mut reactor, [&path], |_, _, cx| {
            note("file", cx);
            Ok(Next::Remove)
        })?;
        files::watch_folder(&mut reactor, folder.path(), |_, cx| {
            note("folder", cx);
            Ok(Next::Remove)
        })
    })?;
    drop(context);
    within(9, || File::create(&path))?;
    turn_until(&mut reactor, &mut app, |app| app.seen.len() == 2)?;
    app.seen.sort_unstable();
    assert_eq!(app.seen, [("file", Some(7)), ("folder", Some(7))]);
    kept.expect_dropped("after the watchers");
    Ok(())
}

#[test]
fn the_console_reads_in_its_request() {
    check(&["line", "end"], |reactor| {
        let (reader, mut writer) = io::pipe()?;
        writer.write_all(b"text\n")?;
        Console::new().open_on(reactor, reader, |input, cx| {
            match input {
                ConsoleInput::Line(_) => note("line", cx),
                _ => note("end", cx),
            }
            Ok(Next::Keep)
        })?;
        Ok(())
    });
}

/// Notes its callbacks, and ends with its first datagram. Its context becomes request 8 with its
/// first failure.
struct Datagrams;

impl DatagramHandler<App> for Datagrams {
    fn on_datagram(
        &mut self,
        _: &Datagram<'_>,
        _: &mut Sending<'_>,
        cx: &mut Context<'_, App>,
    ) -> io::Result<Next> {
        note("datagram", cx);
        Ok(Next::Remove)
    }

    fn on_failure(&mut self, _: &Failure, cx: &mut Context<'_, App>) {
        note("failure", cx);
        cx.set_context(request(8).0);
        assert_eq!(crate::current(), Some(8));
    }

    fn on_close(&mut self, _: CloseReason, cx: &mut Context<'_, App>) {
        note("close", cx);
    }
}

#[test]
fn a_failure_to_send_a_datagram_is_reported_in_the_socket_s_request() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let socket = UdpSocket::bind(([127, 0, 0, 1], 0).into())?;
    let own = socket.local_addr()?;
    let add = || udp::add_handler(&mut reactor, socket, Udp::new(Datagrams));
    let (context, kept) = request(7);
    let key = context.scope(add)?;
    drop(context);
    within(9, || {
        reactor.defer(move |cx| {
            let send = |sending: &mut Sending<'_>, cx: &mut Context<'_, App>| {
                note("access", cx);
                // Longer than any datagram can be.
                let _ = sending.send_to(&vec![0; 70_000], own);
                let _ = sending.send_to(b"x", own);
            };
            key.with(cx, send).unwrap();
            note("after", cx);
        });
    });
    turn_until(&mut reactor, &mut app, |app| app.seen.len() == 5)?;
    let expected = [
        ("access", Some(9)),
        ("failure", Some(7)),
        ("after", Some(9)),
        ("datagram", Some(8)),
        ("close", Some(8)),
    ];
    assert_eq!(app.seen, expected);
    kept.expect_dropped("after another was set");
    assert!(RequestContext::current().is_none());
    Ok(())
}
