//! The functions of the system, in a namespace with files and a name server of its own.

use std::any::type_name;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use handlers::Resolver;
use reactor::{Reactor, Then};
use support::{Result, or_skipped};

use crate::{Told, address, resolve};

/// Set in the process in the namespace.
const ISOLATED: &str = "HANDLERS_TEST_IN_A_NAMESPACE";

const FILES: [(&str, &str); 5] = [
    ("host.conf", "multi on\n"),
    ("hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    (
        "services",
        "sleep 4242/tcp\nsleep 4243/udp\nonly-udp 4244/udp\n",
    ),
    ("nsswitch.conf", "hosts: files dns\nservices: files\n"),
    ("resolv.conf", "nameserver 127.0.0.1\n"),
];

/// Runs `test`, the closure of the test that calls, in a process with a network and an `/etc` of
/// its own.
fn isolated<T: FnOnce() -> Result>(test: T) -> Result {
    if std::env::var_os(ISOLATED).is_some() {
        return test();
    }
    let etc = tempfile::tempdir()?;
    for (file, content) in FILES {
        fs::write(etc.path().join(file), content)?;
    }
    if !can_isolate(etc.path().as_os_str()) {
        return Ok(());
    }
    let name = type_name::<T>().strip_prefix("names::");
    let name = name.and_then(|name| name.strip_suffix("::{{closure}}"));
    let name = name.ok_or("a closure of a test")?;
    let mut command = in_namespace(etc.path().as_os_str());
    command
        .arg(std::env::current_exe()?)
        .args(["--exact", name, "--nocapture"]);
    let status = command.env(ISOLATED, "1").stdin(Stdio::null()).status()?;
    assert!(status.success(), "{status}: see the output above");
    Ok(())
}

/// Returns a command that gives a program a network and an `/etc` of its own.
fn in_namespace(etc: &OsStr) -> Command {
    let script = r#"ip link set lo up && mount --bind "$0" /etc && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["-rmn", "sh", "-c", script]).arg(etc);
    command
}

fn can_isolate(etc: &OsStr) -> bool {
    let output = in_namespace(etc).arg("true").stderr(Stdio::null()).output();
    let is_possible = output.is_ok_and(|output| output.status.success());
    or_skipped(is_possible, "no network in a user namespace (unshare, ip)")
}

/// Serves names until the process ends. The first part of a name says what becomes of it.
fn serve_names() -> Result {
    let socket = UdpSocket::bind("127.0.0.1:53")?;
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            if let Some(answer) = answer(&query[..length]) {
                let _ = socket.send_to(&answer, client);
            }
        }
    });
    Ok(())
}

/// Returns the answer to a query, as in RFC 1035, section 4.1. `None` to stay silent.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    const A: u8 = 1;
    let (header, question) = query.split_at(12);
    let first = question.get(1..=usize::from(question[0]))?;
    let end = question.iter().position(|byte| *byte == 0)?;
    let (question, kind) = (&question[..end + 5], question[end + 2]);
    let (code, addresses): (u8, &[[u8; 4]]) = match first {
        b"silent" => return None,
        b"broken" => (2, &[]),
        b"unknown" => (3, &[]),
        b"two" if kind == A => (0, &[[192, 0, 2, 1], [192, 0, 2, 2]]),
        _ => (0, &[]),
    };
    let mut answer = header[..2].to_vec();
    answer.extend([
        0x81,
        0x80 | code,
        0,
        1,
        0,
        addresses.len() as u8,
        0,
        0,
        0,
        0,
    ]);
    answer.extend(question);
    for address in addresses {
        // A pointer to the name in the question; a type A of the Internet, for a minute.
        answer.extend([0xc0, 12, 0, A, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address);
    }
    Some(answer)
}

/// Returns the sorted addresses of a name.
fn look_up(host: &str, service: &str) -> Result<Vec<SocketAddr>> {
    let mut found = Resolver::system_lookup(host, service)?;
    found.sort_unstable();
    Ok(found)
}

#[test]
fn names_of_hosts_and_services_are_found() -> Result {
    isolated(|| {
        serve_names()?;
        let both = ["127.0.0.1:4242", "[::1]:4242"].map(address);
        assert_eq!(look_up("localhost", "4242")?, both);
        assert_eq!(look_up("localhost", "sleep")?, both);
        assert_eq!(look_up("127.0.0.1", "sleep")?, [address("127.0.0.1:4242")]);
        assert_eq!(look_up("::1", "sleep")?, [address("[::1]:4242")]);
        assert_eq!(look_up("::1", "65535")?, [address("[::1]:65535")]);
        let two = ["192.0.2.1:0", "192.0.2.2:0"].map(address);
        assert_eq!(look_up("two.example", "0")?, two);

        let scoped = look_up("fe80::1%lo", "4242")?;
        assert_eq!(scoped[0].to_string(), "[fe80::1%1]:4242");
        let mut reactor = Reactor::<Told>::new()?;
        resolve(&Resolver::default(), &mut reactor, "[fe80::1%lo]:sleep");
        let mut told = Told::default();
        reactor.run(&mut told)?;
        assert_eq!(told.0, [("[fe80::1%lo]:sleep".to_owned(), Ok(scoped))]);
        Ok(())
    })
}

#[test]
fn a_name_that_is_not_found_is_an_error_that_says_why() -> Result {
    isolated(|| {
        serve_names()?;
        for (host, service, kind, text) in [
            (
                "unknown.example",
                "80",
                ErrorKind::NotFound,
                "Name or service not known: neither /etc/hosts nor the name servers have this name",
            ),
            (
                "empty.example",
                "80",
                ErrorKind::AddrNotAvailable,
                "No address associated with hostname",
            ),
            (
                "broken.example",
                "80",
                ErrorKind::HostUnreachable,
                "Temporary failure in name resolution: the name servers of /etc/resolv.conf do \
                 not answer, or cannot find out",
            ),
            (
                "localhost",
                "none",
                ErrorKind::InvalidInput,
                "Servname not supported for ai_socktype: /etc/services has no TCP service of \
                 this name",
            ),
            (
                "localhost",
                "only-udp",
                ErrorKind::InvalidInput,
                "Servname not supported for ai_socktype: /etc/services has no TCP service of \
                 this name",
            ),
            (
                "a\0b",
                "80",
                ErrorKind::InvalidInput,
                "data provided contains a nul byte",
            ),
        ] {
            let error = Resolver::system_lookup(host, service).unwrap_err();
            assert_eq!((error.kind(), &error.to_string()[..]), (kind, text));
        }
        Ok(())
    })
}

#[test]
fn a_name_server_that_never_answers_holds_up_its_lookups_alone() -> Result {
    let began = Instant::now();
    isolated(|| {
        serve_names()?;
        let began = Instant::now();
        let resolver = Resolver::builder().timeout(Duration::from_secs(2)).build();
        let mut reactor = Reactor::<Told>::new()?;
        let mut told = Told::default();
        for number in 0..3 {
            resolve(
                &resolver,
                &mut reactor,
                &format!("silent.example{number}:80"),
            );
        }
        // The loop takes its turns, and another lookup is answered, before the first is given up.
        reactor.after(Duration::from_millis(100), move |cx| {
            assert_eq!(cx.state.0, []);
            resolve(&resolver, cx.registry, "two.example:80");
            Ok(Then::Done)
        });
        let mut ticks = 0;
        reactor.after(Duration::from_millis(10), move |cx| {
            ticks += 1;
            let others = cx.state.names().iter().filter(|(_, found)| !found).count();
            if others > 0 {
                assert!(ticks > 2, "the loop was held up");
                return Ok(Then::Done);
            }
            Ok(Then::After(Duration::from_millis(10)))
        });
        reactor.run(&mut told)?;
        drop(reactor);
        let elapsed = began.elapsed();
        let names = told.names();
        assert_eq!(names[0], ("two.example:80", true));
        assert_eq!(names[1..].iter().filter(|(_, found)| !found).count(), 3);
        for (name, answer) in &told.0[1..] {
            let error = answer.as_ref().unwrap_err();
            let expected = format!(
                "resolve {name}: no answer within 2s: check the name servers of /etc/resolv.conf"
            );
            assert_eq!(*error, expected);
        }
        assert!(elapsed >= Duration::from_secs(2), "{elapsed:?}");
        Ok(())
    })?;
    // The threads of its lookups were still waiting when the process ended: resolv.conf(5) has two
    // attempts of 5 s.
    assert!(began.elapsed() < Duration::from_secs(9), "it has waited");
    Ok(())
}
