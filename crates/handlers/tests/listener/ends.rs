//! Ends of listeners, and their reports.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use handlers::{Connection, ConnectionOptions, ListenOptions, Peer, on_data, on_listener_end};
use reactor::{CloseReason, Context, Key, Reactor};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use tempfile::tempdir;

use crate::{Result, any_port, run_out};

/// The reasons why listeners have ended.
type Ends = Vec<CloseReason>;

/// Notes the end of the listener `key`.
fn note_end(reactor: &mut Reactor<Ends>, key: Key) -> Result {
    Ok(on_listener_end(
        reactor,
        key,
        |reason, cx: &mut Context<'_, Ends>| cx.state.push(reason),
    )?)
}

#[test]
fn a_listener_that_ends_by_itself_reports_why_before_the_loop_ends() -> Result {
    let folder = tempdir()?;
    for (number, serves) in [(0, true), (1, true), (2, false), (3, false)] {
        let socket: OwnedFd = if number % 2 == 0 {
            TcpListener::bind("127.0.0.1:0")?.into()
        } else {
            UnixListener::bind(folder.path().join(format!("socket {number}")))?.into()
        };
        let (mut reactor, mut ends) = (Reactor::<Ends>::new()?, Ends::new());
        let listener = ListenOptions::new().adopt(socket.try_clone()?)?;
        let key = if serves {
            let echo = |_: &Peer, _: &mut Context<'_, Ends>| {
                Ok(on_data(
                    |data: &[u8], _: &mut Connection<'_, Ends>, _: &mut Context<'_, Ends>| {
                        Ok(data.len())
                    },
                ))
            };
            listener
                .serve(&mut reactor, &ConnectionOptions::new(), echo)?
                .key()
        } else {
            listener
                .accept(&mut reactor, |_accepted, _cx| Ok(()))?
                .key()
        };
        note_end(&mut reactor, key)?;
        note_end(&mut reactor, key)?; // in the slot of the first
        shutdown(&socket, Shutdown::Both)?;
        run_out(&mut reactor, &mut ends)?;
        let [CloseReason::Failed(error)] = &ends[..] else {
            return Err(format!("{ends:?}").into());
        };
        assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
        assert!(reactor.is_empty(), "{reactor:?}");
        assert!(note_end(&mut reactor, key).is_err(), "it has ended");
    }
    Ok(())
}

#[test]
fn removing_a_listener_by_its_key_is_reported_and_keeps_nothing_alive() -> Result {
    let (mut reactor, mut ends) = (Reactor::<Ends>::new()?, Ends::new());
    let key = ListenOptions::new()
        .bind(&any_port())?
        .accept(&mut reactor, |_accepted, _cx| Ok(()))?
        .key();
    note_end(&mut reactor, key)?;
    reactor.set_background(key)?;
    run_out(&mut reactor, &mut ends)?;
    assert!(ends.is_empty(), "it has not ended");
    reactor.remove(key)?;
    run_out(&mut reactor, &mut ends)?;
    assert!(matches!(ends[..], [CloseReason::ByKey]), "{ends:?}");
    Ok(())
}
