//! The errors of lookups: their kind, their errno, their text.

use std::io::{self, ErrorKind};

use handlers::{Resolver, SystemError, errno};
use reactor::Reactor;
use support::{Result, run_out};

use crate::{address, target};

/// Looks up a name, and returns the error.
fn error_of(
    resolver: &Resolver,
    reactor: &mut Reactor<Vec<io::Error>>,
    name: &str,
) -> Result<io::Error> {
    resolver.resolve(reactor, &target(name), |answer, cx| {
        cx.state.extend(answer.err());
    });
    let mut errors = Vec::new();
    run_out(reactor, &mut errors)?;
    Ok(errors.pop().ok_or("an error")?)
}

#[test]
fn an_error_of_the_lookup_function_keeps_its_kind_and_errno() -> Result {
    let resolver = Resolver::builder()
        .lookup(|host, _service| match host {
            "errno.example" => Err(io::Error::from_raw_os_error(113)), // EHOSTUNREACH
            "kind.example" => Err(io::Error::new(ErrorKind::NotFound, "not in the table")),
            _ => Ok(Vec::new()),
        })
        .build();
    let mut reactor = Reactor::new()?;
    for (name, kind, number, text) in [
        (
            "errno.example:80",
            ErrorKind::HostUnreachable,
            Some(113),
            "resolve errno.example:80: No route to host (os error 113)",
        ),
        (
            "kind.example:80",
            ErrorKind::NotFound,
            None,
            "resolve kind.example:80: not in the table",
        ),
        (
            "empty.example:80",
            ErrorKind::AddrNotAvailable,
            None,
            "resolve empty.example:80: the function that looks up returned no address",
        ),
    ] {
        let error = error_of(&resolver, &mut reactor, name)?;
        assert_eq!((error.kind(), errno(&error)), (kind, number));
        assert_eq!(error.to_string(), text);
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let failed: &SystemError = inner.ok_or("it names the call")?;
        assert_eq!(failed.call(), format!("resolve {name}"));
    }
    Ok(())
}

#[test]
fn a_target_without_an_ip_address_is_an_error() -> Result {
    let mut reactor = Reactor::new()?;
    let error = error_of(&Resolver::default(), &mut reactor, "unix:/run/app.sock")?;
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(
        error.to_string(),
        "resolve unix:/run/app.sock: a Unix socket has no IP address"
    );
    let error = error_of(&Resolver::default(), &mut reactor, "[fe80::1%none]:80")?;
    assert_eq!(errno(&error), Some(19)); // ENODEV
    assert_eq!(
        error.to_string(),
        "resolve [fe80::1%none]:80: network interface none: No such device (os error 19)"
    );
    Ok(())
}

#[test]
fn a_full_loop_refuses_a_lookup_and_not_an_address() -> Result {
    let resolver = Resolver::builder()
        .lookup(|_host, _service| Ok(vec![address("192.0.2.1:80")]))
        .build();
    let mut reactor = Reactor::<Vec<io::Error>>::builder()
        .max_registrations(0)
        .build()?;
    let error = error_of(&resolver, &mut reactor, "db.example:80")?;
    let text = error.to_string();
    assert!(text.starts_with("resolve db.example:80: "), "{text}");
    assert!(text.contains("registrations"), "{text}");
    assert!(error_of(&resolver, &mut reactor, "192.0.2.1:80").is_err());
    assert_eq!(reactor.timers().count(), 0);
    Ok(())
}
