//! Connections accessed from elsewhere, through their keys.

use std::cell::Cell;
use std::collections::HashSet;
use std::io;
use std::rc::Rc;

use handlers::{BoxedHandler, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions};
use reactor::{Context, Error, PanicPolicy};

use crate::{Bench, Event, Result, World, default, probe, sink};

#[test]
fn a_key_is_stale_once_its_connection_has_ended() -> Result {
    let mut bench = Bench::new()?;
    let (key, far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    drop(far);
    bench.until_closed();
    bench.reactor.defer(move |cx| {
        let result = key.with(cx, |_, _| panic!("nobody is there"));
        assert!(matches!(result, Err(Error::StaleKey(stale)) if stale == key.key()));
        cx.state.log.push("seen".to_owned());
    });
    bench.run_until_idle();
    assert!(bench.world.has("seen"));
    Ok(())
}

#[test]
fn a_connection_whose_handler_runs_cannot_be_accessed() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        let key = connection.key();
        assert!(
            matches!(key.with(cx, |_, _| ()), Err(Error::Running(running)) if running == cx.key())
        );
        Ok(default(&event, connection, cx))
    });
    let (key, _far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    bench.reactor.defer(move |cx| {
        let nested = key.with(cx, |_, cx| key.with(cx, |_, _| ()));
        assert!(matches!(nested, Ok(Err(Error::Running(_)))));
    });
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open"]);
    Ok(())
}

#[test]
fn keys_are_equal_if_they_name_the_same_connection() -> Result {
    let mut bench = Bench::new()?;
    let (one, _far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    let (other, _far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    let own = bench.with(one, |connection| connection.key());
    assert!(own == one && one != other);
    assert_eq!(HashSet::from([one, other, own]).len(), 2);
    assert_eq!(format!("{one:?}"), format!("ConnectionKey({})", one.key()));
    assert_eq!(one.to_string(), one.key().to_string());
    Ok(())
}

#[test]
fn an_access_to_a_connection_that_is_not_open_yet_comes_after_on_open() -> Result {
    let mut bench = Bench::new()?;
    let (near, _far) = std::os::unix::net::UnixStream::pair()?;
    bench.reactor.defer(move |cx| {
        let key = Connection::open(cx.registry, near, &ConnectionOptions::new(), sink()).unwrap();
        key.with(cx, |_, cx| cx.state.log.push("access".to_owned()))
            .unwrap();
    });
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "access"]);
    Ok(())
}

/// A way for a connection to end.
type End = fn(&mut Connection<'_, World>, &mut Context<'_, World>) -> io::Result<()>;

#[test]
fn a_connection_that_ends_when_it_opens_is_not_lent() -> Result {
    let ends: [End; 3] = [
        |connection, _| {
            connection.close();
            Ok(())
        },
        |_, cx| Ok(cx.registry.remove(cx.key())?),
        |_, _| Err(io::ErrorKind::InvalidData.into()),
    ];
    for end in ends {
        let mut bench = Bench::new()?;
        let handler = probe(move |_, connection, cx| end(connection, cx).map(|()| 0));
        let (near, _far) = std::os::unix::net::UnixStream::pair()?;
        bench.reactor.defer(move |cx| {
            let key =
                Connection::open(cx.registry, near, &ConnectionOptions::new(), handler).unwrap();
            let lent = key.with(cx, |_, cx| cx.state.log.push("access".to_owned()));
            assert!(matches!(lent, Err(Error::StaleKey(_))));
        });
        bench.until_closed();
        assert!(!bench.world.has("access"));
    }
    Ok(())
}

#[test]
fn a_connection_outlives_a_panic_in_with_and_sends_what_that_call_wrote() -> Result {
    let mut bench = Bench::with_policy(PanicPolicy::RemoveHandler)?;
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    bench.reactor.defer(move |cx| {
        let _ = key.with(cx, |connection, _| {
            let _ = connection.write(b"before");
            panic!("an access")
        });
    });
    bench.run_until_idle();
    assert!(!bench.world.is_closed());
    assert_eq!(bench.receive(&mut far, 6), b"before");
    Ok(())
}

#[test]
fn a_connection_is_reached_from_the_callback_of_another() -> Result {
    let mut bench = Bench::new()?;
    let (to, mut far_to) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    let forward = probe(move |event, _, cx| match event {
        Event::Data(data) => {
            let _ = to.with(cx, |to, _| to.write(data))??;
            Ok(data.len())
        }
        _ => Ok(0),
    });
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), forward)?;
    io::Write::write_all(&mut far, b"by another")?;
    assert_eq!(bench.receive(&mut far_to, 10), b"by another");
    bench
        .reactor
        .defer(move |cx| to.with(cx, |to, _| to.close()).unwrap());
    assert_eq!(bench.until_closed(), "close Closed");
    Ok(())
}

#[test]
fn an_essential_connection_ends_the_run_also_if_it_fails_while_lent() -> Result {
    for accesses in [true, false] {
        let mut reactor = reactor::Reactor::<()>::new()?;
        let (near, far) = std::os::unix::net::UnixStream::pair()?;
        far.shutdown(std::net::Shutdown::Read)?; // the write fails
        let handler =
            handlers::on_data(|_data, _connection, _cx| Err(io::Error::from_raw_os_error(24)));
        let key = Connection::open(&mut reactor, near, &ConnectionOptions::new(), handler)?;
        reactor.set_name(key.key(), "upstream")?;
        reactor.set_essential(key.key())?;
        if accesses {
            reactor.defer(move |cx| {
                drop(key.with(cx, |connection, _| connection.write(&[0; 32_768]).map(drop)))
            });
        } else {
            io::Write::write_all(&mut &far, b"x")?;
        }
        let failed = reactor.run(&mut ()).expect_err("it has failed");
        let Error::Failed(failure) = failed else {
            return Err(failed.into());
        };
        let errno = if accesses {
            rustix::io::Errno::PIPE.raw_os_error()
        } else {
            24
        };
        assert_eq!(
            (failure.name.as_deref(), handlers::errno(&failure.source)),
            (Some("upstream"), Some(errno))
        );
    }
    Ok(())
}

/// A handler with a state.
struct Counting {
    count: u32,
}

impl ConnectionHandler<World> for Counting {
    fn on_data(
        &mut self,
        data: &[u8],
        _: &mut Connection<'_, World>,
        _: &mut Context<'_, World>,
    ) -> io::Result<usize> {
        self.count += 1;
        Ok(data.len())
    }
}

/// Returns the answer of a [`Counting`] handler that is accessed through its key.
fn add_one(key: ConnectionKey<World>, bench: &mut Bench) -> u32 {
    let place = Rc::new(Cell::new(0));
    let result = Rc::clone(&place);
    bench.reactor.defer(move |cx| {
        let count = key.with_handler(cx, |handler: &mut Counting, connection, _| {
            handler.count += 1;
            let _ = connection.write(b"counted").unwrap();
            handler.count
        });
        result.set(count.unwrap());
    });
    bench.run_until_idle();
    place.get()
}

#[test]
fn a_handler_is_reached_through_the_key_of_its_connection() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), Counting { count: 0 })?;
    io::Write::write_all(&mut far, b"x")?;
    bench.run_until_idle();
    assert_eq!(add_one(key, &mut bench), 2);
    assert_eq!(bench.receive(&mut far, 7), b"counted");
    Ok(())
}

#[test]
fn a_handler_in_a_box_is_reached_by_its_own_type_and_by_that_of_the_box() -> Result {
    let mut bench = Bench::new()?;
    let handler: BoxedHandler<World> = Box::new(Counting { count: 6 });
    let (key, _far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    assert_eq!(add_one(key, &mut bench), 7);
    bench.reactor.defer(move |cx| {
        let reached = key.with_handler(cx, |handler: &mut BoxedHandler<World>, _, _| {
            *handler = Box::new(Counting { count: 40 });
        });
        reached.unwrap();
    });
    bench.run_until_idle();
    assert_eq!(add_one(key, &mut bench), 41);
    Ok(())
}

#[test]
fn a_running_handler_or_one_of_another_type_is_not_reached() -> Result {
    let mut bench = Bench::new()?;
    let (key, far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.reactor.defer(move |cx| {
        let other = key.with_handler(cx, |_: &mut Counting, _, _| ());
        assert!(matches!(other, Err(Error::OtherType(other)) if other == key.key()));
        let nested = key.with(cx, |_, cx| {
            key.with_handler(cx, |_: &mut Counting, _, _| ())
        });
        assert!(matches!(nested, Ok(Err(Error::Running(running))) if running == key.key()));
    });
    bench.run_until_idle();
    drop(far);
    bench.until_closed();
    bench.reactor.defer(move |cx| {
        let gone = key.with_handler(cx, |_: &mut Counting, _, _| ());
        assert!(matches!(gone, Err(Error::StaleKey(stale)) if stale == key.key()));
        cx.state.log.push("asked".to_owned());
    });
    bench.run_until_idle();
    assert!(bench.world.has("asked"));
    Ok(())
}

/// A handler that closes its connection as it opens.
struct Closing;

impl ConnectionHandler<World> for Closing {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, World>,
        _: &mut Context<'_, World>,
    ) -> io::Result<()> {
        connection.close();
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _: &mut Connection<'_, World>,
        _: &mut Context<'_, World>,
    ) -> io::Result<usize> {
        Ok(data.len())
    }
}

#[test]
fn the_handler_of_a_connection_that_ends_when_it_opens_is_not_reached() -> Result {
    let mut bench = Bench::new()?;
    let (key, _far) = bench.open_unix(&ConnectionOptions::new(), Closing)?;
    let reached = bench.reactor.enter(&mut bench.world, |cx| {
        key.with_handler(cx, |_: &mut Closing, _, _| ())
    });
    assert!(
        matches!(reached, Err(Error::StaleKey(stale)) if stale == key.key()),
        "{reached:?}"
    );
    Ok(())
}

/// A handler that panics as its connection opens.
fn panics_on_open() -> impl ConnectionHandler<World> {
    probe(|event, connection, cx| {
        assert!(!matches!(event, Event::Open), "as the test wants");
        Ok(default(&event, connection, cx))
    })
}

#[test]
fn the_policy_of_a_connection_holds_for_its_deferred_callbacks_too() -> Result {
    for reached in [false, true] {
        let mut bench = Bench::new()?;
        let (key, _far) = bench.open_unix(&ConnectionOptions::new(), panics_on_open())?;
        bench
            .reactor
            .set_panic_policy(key.key(), PanicPolicy::RemoveHandler)?;
        bench.reactor.set_essential(key.key())?;
        if reached {
            let with = bench
                .reactor
                .enter(&mut bench.world, |cx| key.with(cx, |_, _| ()));
            assert!(matches!(with, Err(Error::StaleKey(stale)) if stale == key.key()));
        }
        let failed = bench
            .reactor
            .run(&mut bench.world)
            .expect_err("it is essential")
            .to_string();
        assert!(failed.contains("panicked: as the test wants"), "{failed}");
        assert_eq!(bench.reactor.metrics().panics, 1);
        assert_eq!(
            bench.until_closed(),
            "close Panicked(\"as the test wants\")"
        );
    }
    Ok(())
}

#[test]
fn a_connection_that_panics_when_reached_by_its_key_spares_its_caller() -> Result {
    let mut bench = Bench::with_policy(PanicPolicy::RemoveHandler)?;
    let (key, _far) = bench.open_unix(&ConnectionOptions::new(), panics_on_open())?;
    bench.reactor.enter(&mut bench.world, |cx| {
        assert!(matches!(key.with(cx, |_, _| ()), Err(Error::StaleKey(_))));
        cx.state.log.push("caller".to_owned());
    });
    assert_eq!(
        (bench.until_closed().as_str(), bench.world.has("caller")),
        ("close Panicked(\"as the test wants\")", true)
    );
    assert_eq!(bench.reactor.metrics().panics, 1);
    Ok(())
}
