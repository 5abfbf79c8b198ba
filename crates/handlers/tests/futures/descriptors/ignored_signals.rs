//! The action of a signal whose first watch comes when no descriptor is left.

use std::io;
use std::process::Command;

use handlers::errno;
use handlers::futures;
use handlers::signal::Signal;
use reactor::Reactor;
use rustix::io::Errno;
use rustix::process::{getpid, kill_process};

use super::{Limit, Result, run_by};

#[test]
fn an_ignored_signal_stays_so_if_its_first_watch_lacks_descriptors() -> Result {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' USR1; exec \"$0\" \"$@\""]);
    shell.arg(std::env::current_exe()?);
    run_by(shell, "ignored signal")
}

/// `SIGUSR1` is ignored.
pub(super) fn case() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    reactor.remote()?; // makes the eventfd
    for free in 0..10 {
        let limit = Limit::leaving(free)?;
        let watched: io::Result<_> = futures::signals(&mut reactor, [Signal::USR1]);
        drop(limit);
        let has_failed = watched.is_err();
        if let Err(error) = watched {
            assert_eq!(errno(&error), Some(Errno::MFILE.raw_os_error()));
        }
        reactor.run(&mut ())?; // ends a watch
        kill_process(getpid(), rustix::process::Signal::USR1)?; // ignored again
        if !has_failed {
            return Ok(());
        }
    }
    Err("it was never watched".into())
}
