//! The handler of an open connection, replaced by another one.

use std::io::Write;
use std::net::Shutdown;
use std::rc::Rc;

use handlers::{BoxedHandler, ConnectionHandler, ConnectionOptions};
use reactor::Error;
use support::reset;

use crate::{Bench, Event, Result, World, default, probe, secs, sink};

fn boxed(handler: impl ConnectionHandler<World>) -> BoxedHandler<World> {
    Box::new(handler)
}

/// A handler that consumes 4 bytes, answers, and is replaced by `next`.
fn upgrades_to(next: impl ConnectionHandler<World>) -> BoxedHandler<World> {
    let mut next = Some(boxed(next));
    boxed(probe(move |event, connection, _cx| {
        if matches!(event, Event::Data(_)) {
            let _ = connection.write(b"switching")?;
            connection.replace_handler(next.take().unwrap())?;
        }
        Ok(4)
    }))
}

#[test]
fn a_new_handler_gets_on_open_and_the_unconsumed_bytes() -> Result {
    let mut bench = Bench::new()?;
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), upgrades_to(sink()))?;
    far.write_all(b"old:new")?;
    assert_eq!(bench.receive(&mut far, 9), b"switching");
    far.shutdown(Shutdown::Write)?;
    assert_eq!(bench.until_closed(), "close Finished");
    assert_eq!(
        bench.world.log,
        [
            "open",
            "data old:new",
            "open",
            "data new",
            "end ",
            "close Finished"
        ]
    );
    Ok(())
}

#[test]
fn a_new_handler_may_write_and_close_as_it_opens() -> Result {
    let mut bench = Bench::new()?;
    let next = probe(|_, connection, _| {
        let _ = connection.write(b", done")?;
        connection.close();
        Ok(0)
    });
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), upgrades_to(next))?;
    far.write_all(b"old:new")?;
    assert_eq!(bench.until_closed(), "close Closed");
    assert_eq!(bench.receive(&mut far, 15), b"switching, done");
    assert_eq!(
        bench.world.log,
        ["open", "data old:new", "open", "close Closed"]
    );
    Ok(())
}

#[test]
fn a_handler_replaced_at_the_end_passes_on_the_rest_and_the_end() -> Result {
    let mut bench = Bench::new()?;
    let old = probe(|event, connection, _| {
        if matches!(event, Event::End(_)) {
            connection.replace_handler(boxed(sink()))?;
        }
        Ok(0)
    });
    let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), boxed(old))?;
    far.write_all(b"rest")?;
    bench.run_until_idle();
    far.shutdown(Shutdown::Write)?;
    assert_eq!(bench.until_closed(), "close Finished");
    let expected = [
        "open",
        "data rest",
        "end rest",
        "open",
        "data rest",
        "end ",
        "close Finished",
    ];
    assert_eq!(bench.world.log, expected);
    Ok(())
}

#[test]
fn an_end_reported_to_the_old_handler_is_reported_to_the_new_one() -> Result {
    let mut bench = Bench::new()?;
    let old = probe(|event, _, _| {
        Ok(if let Event::Data(data) = event {
            data.len()
        } else {
            0
        })
    });
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), boxed(old))?;
    far.write_all(b"x")?;
    far.shutdown(Shutdown::Write)?;
    bench.until(|world| world.has("end "));
    bench.with(key, |connection| {
        connection.replace_handler(boxed(sink())).unwrap()
    });
    assert_eq!(bench.until_closed(), "close Finished");
    assert_eq!(
        bench.world.log,
        ["open", "data x", "end ", "open", "end ", "close Finished"]
    );
    Ok(())
}

#[test]
fn a_handler_is_replaced_through_the_key_of_its_connection() -> Result {
    let mut bench = Bench::new()?;
    let old = probe(|_, _, _| Ok(0));
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), boxed(old))?;
    far.write_all(b"left")?;
    bench.until(|world| world.has("data left"));
    bench.with(key, |connection| {
        connection.replace_handler(boxed(sink())).unwrap()
    });
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "data left", "open", "data left"]);
    bench.with(key, |connection| connection.close()); // the key is unchanged
    assert_eq!(bench.until_closed(), "close Closed");
    Ok(())
}

#[test]
fn a_new_handler_that_pauses_gets_the_rest_when_it_resumes() -> Result {
    let mut bench = Bench::new()?;
    let next = probe(|event, connection, cx| {
        if matches!(event, Event::Open) {
            connection.pause_reading();
        }
        Ok(default(&event, connection, cx))
    });
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), upgrades_to(next))?;
    far.write_all(b"old:new")?;
    far.shutdown(Shutdown::Write)?;
    bench.until(|world| world.count("open") == 2);
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "data old:new", "open"]);
    bench.with(key, |connection| connection.resume_reading());
    assert_eq!(bench.until_closed(), "close Finished");
    assert_eq!(bench.world.log[3..], ["data new", "end ", "close Finished"]);
    Ok(())
}

#[test]
fn the_limit_of_unconsumed_bytes_counts_for_the_new_handler() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().max_buffered_input(2);
    let (_, mut far) = bench.open_unix(&options, upgrades_to(sink()))?;
    far.write_all(b"old:and more than that")?;
    bench.until(|world| world.has("data and more than that"));
    bench.run_until_idle();
    assert!(!bench.world.is_closed());
    Ok(())
}

#[test]
fn the_last_of_several_new_handlers_is_used_and_all_are_dropped() -> Result {
    let mut bench = Bench::new()?;
    let token = Rc::new(());
    let holds = |name: &'static str| {
        let token = Rc::clone(&token);
        boxed(probe(move |event, connection, cx| {
            let _ = &token;
            cx.state.log.push(name.to_owned());
            Ok(default(&event, connection, cx))
        }))
    };
    let (key, _far) = bench.open_unix(&ConnectionOptions::new(), holds("first"))?;
    bench.run_until_idle();
    let (second, third) = (holds("second"), holds("third"));
    bench.with(key, |connection| {
        connection.replace_handler(second).unwrap();
        connection.replace_handler(third).unwrap();
    });
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "first", "open", "third"]);
    assert_eq!(Rc::strong_count(&token), 2);
    bench.with(key, |connection| connection.close());
    assert_eq!(bench.until_closed(), "close Closed");
    assert_eq!(Rc::strong_count(&token), 1);
    Ok(())
}

#[test]
fn a_new_handler_is_notified_of_a_graceful_close() -> Result {
    let mut bench = Bench::new()?;
    let old = probe(|event, connection, _| {
        if matches!(event, Event::Finish) {
            connection.replace_handler(boxed(sink()))?;
        }
        Ok(0)
    });
    let (key, far) = bench.open_unix(&ConnectionOptions::new(), boxed(old))?;
    bench.with(key, |connection| connection.close_gracefully(secs(5)));
    bench.run_until_idle();
    drop(far);
    assert_eq!(bench.until_closed(), "close Finished");
    assert_eq!(
        bench.world.log,
        ["open", "finish", "open", "finish", "close Finished"]
    );
    Ok(())
}

#[test]
fn a_new_handler_of_a_paused_connection_is_notified_of_its_failure() -> Result {
    let mut bench = Bench::new()?;
    let old = probe(|_, connection, _| {
        connection.pause_reading();
        Ok(0)
    });
    let (key, mut far) = bench.open_tcp(&ConnectionOptions::new(), boxed(old))?;
    bench.run_until_idle();
    far.write_all(b"last words")?;
    reset(far)?;
    bench.until(|world| world.has("failure ConnectionReset"));
    bench.with(key, |connection| {
        connection.replace_handler(boxed(sink())).unwrap()
    });
    bench.run_until_idle();
    let expected = [
        "open",
        "failure ConnectionReset",
        "open",
        "failure ConnectionReset",
    ];
    assert_eq!(bench.world.log, expected);
    bench.with(key, |connection| connection.resume_reading());
    assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)");
    assert_eq!(bench.world.received, b"last words");
    Ok(())
}

#[test]
fn a_handler_that_is_not_boxed_is_not_replaced() -> Result {
    let mut bench = Bench::new()?;
    let (key, _far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    let refused = bench.with(key, |connection| connection.replace_handler(boxed(sink())));
    assert!(matches!(refused, Err(Error::OtherType(other)) if other == key.key()));
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open"]);
    Ok(())
}
