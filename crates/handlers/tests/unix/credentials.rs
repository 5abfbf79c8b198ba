//! The credentials of peers: those of the process that has connected, or that listens.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::{Command, id};
use std::sync::mpsc::channel;

use handlers::{Connection, ListenOptions, Listener, PeerCredentials, errno, on_data};
use reactor::Reactor;
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use support::{Result, listen, run_out, turn_until};

use crate::{Greets, Seen, at_name, options, still};

/// The variable with the abstract name that a child of a test connects to.
const NAME: &str = "HANDLERS_TEST_NAME";

#[track_caller]
fn expect_process(credentials: PeerCredentials, pid: u32) {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    assert_eq!(
        (credentials.pid, credentials.uid, credentials.gid),
        (Some(pid), uid, gid)
    );
}

/// Accepts one connection. Returns the credentials of its peer.
fn of_accepted(listener: Listener) -> Result<std::io::Result<PeerCredentials>> {
    let (tell, told) = channel();
    let mut reactor = Reactor::<()>::new()?;
    listener.accept(&mut reactor, move |accepted, cx| {
        let _ = tell.send(accepted.peer_credentials());
        cx.registry.stop();
        Ok(())
    })?;
    reactor.run(&mut ())?;
    Ok(told.recv()?)
}

/// Not a test by itself: the part of the child.
#[test]
fn a_child_connects_if_it_is_asked_to() -> Result {
    if let Some(name) = std::env::var_os(NAME) {
        UnixStream::connect_addr(&SocketAddr::from_abstract_name(name.as_encoded_bytes())?)?;
    }
    Ok(())
}

#[test]
fn an_accepted_peer_is_the_process_that_has_connected() -> Result {
    let name = format!("handlers-{}-credentials", id());
    let listener = ListenOptions::new().bind(&format!("unix:@{name}").parse()?)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "credentials::a_child_connects_if_it_is_asked_to"])
        .env(NAME, name)
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let pid = child.id();
    assert!(child.wait()?.success()); // its credentials stay
    expect_process(of_accepted(listener)??, pid);
    Ok(())
}

#[test]
fn a_connected_peer_is_the_process_that_listens() -> Result {
    let (_listener, address) = at_name("listens")?;
    let (mut reactor, mut seen) = (still()?, Seen::default());
    Connection::connect_to(&mut reactor, &address, &options(), Greets);
    turn_until(&mut reactor, &mut seen, |seen| seen.opened == 1)?;
    expect_process(seen.peer.ok_or("no credentials")?, id());
    Ok(())
}

#[test]
fn a_peer_of_tcp_has_no_credentials() -> Result {
    let listener = ListenOptions::new().bind(&"127.0.0.1:0".parse()?)?;
    let handlers::Address::Tcp(address) = listener.local_addr()? else {
        return Err("it is bound to an address of TCP".into());
    };
    let _peer = std::net::TcpStream::connect(address)?;
    let error = of_accepted(listener)?.expect_err("TCP");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(
        error.to_string().contains("is not a Unix socket"),
        "{error}"
    );
    let (_listener, address) = listen("127.0.0.1:0")?;
    let (mut reactor, mut seen) = (still()?, Seen::default());
    Connection::connect_to(&mut reactor, address, &options(), Greets);
    turn_until(&mut reactor, &mut seen, |seen| seen.no_peer.is_some())?;
    assert_eq!(seen.no_peer.ok_or("none")?.kind(), ErrorKind::InvalidInput);
    Ok(())
}

#[test]
fn a_pipe_has_no_peer_with_credentials() -> Result {
    let mut reactor = Reactor::<Option<std::io::Error>>::new()?;
    let (reader, mut writer) = std::io::pipe()?;
    let asks = on_data(|data, connection: &mut Connection<'_, _>, cx| {
        *cx.state = connection.peer_credentials().err();
        Ok(data.len())
    });
    Connection::open(&mut reactor, reader, &options(), asks)?;
    std::io::Write::write_all(&mut writer, b"x")?;
    drop(writer);
    let mut error = None;
    run_out(&mut reactor, &mut error)?;
    let error = error.ok_or("a pipe is no socket")?;
    assert_eq!(errno(&error), Some(Errno::NOTSOCK.raw_os_error()));
    Ok(())
}
