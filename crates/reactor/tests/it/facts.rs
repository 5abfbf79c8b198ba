//! The facts about a source that a handler gets: ends, errors, hang-ups, urgent data.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use reactor::{Interest, Next, Reactor, Readiness};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::net::SendFlags;
use support::reset;

use crate::{Result, tcp_pair, turn_now, turn_until};

#[test]
fn urgent_data_is_reported_once_to_a_source_with_interest_in_priority() -> Result {
    let (near, far) = tcp_pair()?;
    let mut reactor = Reactor::<Vec<Readiness>>::new()?;
    reactor.add(near, Interest::PRIORITY, |_, cx| {
        cx.state.push(cx.readiness());
        Ok(Next::Keep)
    })?;
    let mut calls = Vec::new();
    rustix::net::send(&far, b"!", SendFlags::OOB)?;
    turn_until(&mut reactor, &mut calls, |calls| !calls.is_empty());
    assert!(calls[0].is_priority() && !calls[0].is_error());
    assert_eq!(
        turn_now(&mut reactor, &mut calls),
        0,
        "no read can show that it is over"
    );
    rustix::net::send(&far, b"!", SendFlags::OOB)?;
    turn_until(&mut reactor, &mut calls, |calls| calls.len() == 2);
    Ok(())
}

/// Returns the facts at the first call for a source that is read and written.
fn first_facts<T: AsFd + 'static>(near: T, interest: Interest) -> Result<Readiness> {
    let mut reactor = Reactor::<Readiness>::new()?;
    reactor.add(near, interest, |_, cx| {
        *cx.state = cx.readiness();
        Ok(Next::Remove)
    })?;
    let mut facts = Readiness::EMPTY;
    reactor.run(&mut facts)?;
    Ok(facts)
}

#[test]
fn a_half_closed_peer_is_read_closed_and_not_write_closed() -> Result {
    let (near, far) = tcp_pair()?;
    far.shutdown(Shutdown::Write)?;
    while near.peek(&mut [0; 1])? > 0 {}
    let facts = first_facts(near, Interest::READABLE | Interest::WRITABLE)?;
    assert_eq!(facts.to_string(), "readable+writable+read-closed");
    Ok(())
}

#[test]
fn a_reset_is_an_error_and_closes_both_directions() -> Result {
    let (near, far) = tcp_pair()?;
    reset(far)?;
    let facts = first_facts(near, Interest::READABLE)?;
    assert!(
        facts.is_error() && facts.is_read_closed() && facts.is_write_closed(),
        "{facts}"
    );
    Ok(())
}

#[test]
fn a_pipe_without_its_reader_is_write_closed() -> Result {
    let (reader, writer) = io::pipe()?;
    drop(reader);
    let facts = first_facts(writer, Interest::WRITABLE)?;
    assert!(
        facts.is_error() && facts.is_write_closed() && !facts.is_read_closed(),
        "{facts}"
    );
    Ok(())
}

#[test]
fn a_fifo_opened_again_after_a_hang_up_is_no_longer_read_closed() -> Result {
    let path = std::env::temp_dir().join(format!("reactor-fifo-{}", std::process::id()));
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let open = || {
        OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open(&path)
    };
    let reader = open()?;
    let mut writer = OpenOptions::new().write(true).open(&path)?;
    writer.write_all(b"x")?;
    drop(writer); // a hang-up
    let mut reactor = Reactor::<Vec<String>>::new()?;
    reactor.add(reader, Interest::READABLE, |reader, cx| {
        cx.state.push(cx.readiness().to_string());
        reader.read(&mut [0; 8]).map(|_| Next::Keep)
    })?;
    let mut facts = Vec::new();
    turn_until(&mut reactor, &mut facts, |facts| facts.len() == 2); // the byte, then the end
    let _writer = OpenOptions::new().write(true).open(&path)?; // and a new stream
    turn_until(&mut reactor, &mut facts, |facts| facts.len() == 3); // a read finds that
    assert_eq!(turn_now(&mut reactor, &mut facts), 0, "{facts:?}");
    std::fs::remove_file(&path)?;
    Ok(())
}
