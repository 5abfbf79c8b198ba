//! Every function that makes a future, or something for futures, with too few descriptors.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use handlers::futures::{self, Async, AsyncConnection, Spawner};
use handlers::{ConnectionOptions, ListenOptions, errno};
use reactor::{Capacity, LoopPool, Reactor, notification_queue};
use rustix::io::Errno;

use super::{Limit, Result, count_open, expect_open, run};

#[test]
fn an_error_for_lack_of_descriptors_names_its_call_and_leaks_nothing() -> Result {
    run("constructors")
}

/// Runs `call` with more and more free descriptors, until it succeeds. Before, each error has the
/// errno, and names one of `calls`. Each time `prepare` makes what it needs.
fn expect_errors<T>(
    calls: &[&str],
    prepare: impl Fn() -> Result<T>,
    mut call: impl FnMut(&mut T) -> io::Result<()>,
) -> Result {
    for free in 0..20 {
        let (before, mut prepared) = (count_open(), prepare()?);
        let limit = Limit::leaving(free)?;
        let called = call(&mut prepared);
        drop(limit);
        drop(prepared);
        expect_open(before, calls[0]);
        let Err(error) = called else {
            assert!(free > 0, "{calls:?} needs no descriptor");
            return Ok(());
        };
        let of_process = Some(Errno::MFILE.raw_os_error());
        assert_eq!(errno(&error), of_process, "{calls:?}: {error:?}");
        let text = error.to_string();
        assert!(calls.iter().any(|call| text.contains(call)), "{text}");
    }
    Err(format!("{calls:?} never succeeds").into())
}

/// The same on a new loop, which has an eventfd already if `is_used`.
fn expect_errors_on_loop(
    is_used: bool,
    calls: &[&str],
    call: impl FnMut(&mut Reactor<()>) -> io::Result<()>,
) -> Result {
    let new_loop = || {
        let mut reactor = Reactor::new()?;
        if is_used {
            reactor.remote()?;
        }
        Ok(reactor)
    };
    expect_errors(calls, new_loop, call)
}

pub(super) fn case() -> Result {
    of_tasks()?;
    of_queues()?;
    of_sockets()?;
    of_other_sources()?;
    let make_pool = |(): &mut ()| {
        let task = || futures::sleep(Duration::from_millis(1));
        let pool = LoopPool::<()>::spawn(3, "pool-", move |_, registry| {
            futures::spawn(registry, async move { task().await }, |(), _cx| ())?;
            Ok(())
        })?;
        pool.join().map(drop)
    };
    expect_errors(&["epoll_create1", "eventfd"], || Ok(()), make_pool)
}

fn of_tasks() -> Result {
    expect_errors_on_loop(false, &["eventfd"], |reactor| {
        futures::spawn(reactor, async {}, |(), _cx| ())?;
        reactor.run(&mut ())?;
        Ok(())
    })?;
    expect_errors_on_loop(false, &["eventfd"], |reactor| {
        Ok(futures::block_on(reactor, &mut (), async {})?)
    })?;
    expect_errors_on_loop(false, &["eventfd"], |reactor| {
        let task = futures::spawn_joinable(reactor, async { 1 })?;
        assert_eq!(futures::block_on(reactor, &mut (), task)?, Ok(1));
        Ok(())
    })?;
    expect_errors_on_loop(false, &["eventfd"], |reactor| {
        Spawner::new(reactor)?.spawn(|_cx| async {}, |(), _cx| ())?;
        reactor.run(&mut ())?;
        Ok(())
    })?;
    expect_errors_on_loop(false, &["eventfd"], |reactor| {
        Ok(futures::set_budget(reactor, 1, Duration::ZERO)?)
    })
}

fn of_queues() -> Result {
    expect_errors_on_loop(false, &["eventfd"], |reactor| {
        let (_sender, receiver) = notification_queue::<u32>(Capacity::Unbounded);
        let stream = futures::receive(reactor, receiver).map_err(|refused| refused.error)?;
        drop(stream);
        Ok(())
    })?;
    expect_errors_on_loop(false, &["eventfd"], |reactor| {
        let (sender, _receiver) = notification_queue::<u32>(Capacity::Unbounded);
        drop(futures::sink(reactor, sender)?);
        Ok(())
    })
}

fn of_sockets() -> Result {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let (tcp, unix) = (
        TcpListener::bind("127.0.0.1:0")?,
        UnixListener::bind(&path)?,
    );
    let address = tcp.local_addr()?;
    let _waits = (TcpStream::connect(address)?, UnixStream::connect(&path)?);
    let (tcp, unix) = (Rc::new(Async::new(tcp)?), Rc::new(Async::new(unix)?));
    let accepts = ["accept on fd", "eventfd"];
    expect_errors_on_loop(true, &accepts, |reactor| {
        let tcp = Rc::clone(&tcp);
        futures::block_on(
            reactor,
            &mut (),
            async move { tcp.accept().await.map(drop) },
        )?
    })?;
    expect_errors_on_loop(true, &accepts, |reactor| {
        let unix = Rc::clone(&unix);
        futures::block_on(
            reactor,
            &mut (),
            async move { unix.accept().await.map(drop) },
        )?
    })?;
    connecting(address, &path)?;
    expect_errors_on_loop(true, &["bind", "127.0.0.1:0"], |reactor| {
        let listener = ListenOptions::new().bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        let serve = |_stream,
                     _: &mut handlers::Connection<'_, ()>,
                     _: &mut reactor::Context<'_, ()>| { async { Ok(()) } };
        listener
            .serve_async(reactor, &ConnectionOptions::new(), serve)
            .map(drop)
    })
}

fn connecting(address: SocketAddr, path: &Path) -> Result {
    let named = [&*format!("connect to {address}")];
    expect_errors_on_loop(true, &named, |reactor| {
        let connects = Async::<TcpStream>::connect(address);
        futures::block_on(reactor, &mut (), async move { connects.await.map(drop) })?
    })?;
    expect_errors_on_loop(true, &named, |reactor| {
        let connects = Async::<TcpStream>::connect_from(([127, 0, 0, 1], 0).into(), address);
        futures::block_on(reactor, &mut (), async move { connects.await.map(drop) })?
    })?;
    expect_errors_on_loop(true, &named, |reactor| {
        let connects = AsyncConnection::connect::<()>(address, &ConnectionOptions::new());
        futures::block_on(reactor, &mut (), async move { connects.await.map(drop) })?
    })?;
    expect_errors_on_loop(
        true,
        &[&*format!("connect to {}", path.display())],
        |reactor| {
            let path = path.to_path_buf();
            let connects = async move { Async::<UnixStream>::connect(path).await.map(drop) };
            futures::block_on(reactor, &mut (), connects)?
        },
    )
}

#[cfg(all(
    feature = "names",
    feature = "signal",
    feature = "child",
    feature = "pool"
))]
fn of_other_sources() -> Result {
    use handlers::signal::Signal;
    expect_errors_on_loop(true, &["resolve localhost:1"], |reactor| {
        let target = "localhost:1".parse().map_err(io::Error::other)?;
        let looks_up = futures::resolve(&handlers::Resolver::default(), target);
        futures::block_on(reactor, &mut (), looks_up)?.map(drop)
    })?;
    let signal = Signal::real_time(6).ok_or("no signal")?;
    expect_errors_on_loop(true, &["socketpair", "/proc/self/status"], |reactor| {
        futures::signals(reactor, [signal]).map(drop)
    })?;
    of_a_child()?;
    expect_errors_on_loop(false, &["eventfd"], |reactor| {
        let pool = handlers::WorkerPool::builder().workers(1).build(reactor)?;
        assert_eq!(
            futures::block_on(reactor, &mut (), futures::submit(&pool, || 1))?,
            Ok(1)
        );
        Ok(())
    })
}

#[cfg(not(all(
    feature = "names",
    feature = "signal",
    feature = "child",
    feature = "pool"
)))]
fn of_other_sources() -> Result {
    Ok(())
}

/// A child that cannot be watched is killed. A later spawn reaps it.
#[cfg(feature = "child")]
fn of_a_child() -> Result {
    let (mut reactor, mut command) = (Reactor::<()>::new()?, std::process::Command::new("true"));
    futures::block_on(&mut reactor, &mut (), async {})?; // makes the eventfd
    let (before, limit) = (count_open(), Limit::leaving(0)?);
    let refused = futures::spawn_child(&mut reactor, &mut command);
    drop(limit);
    let error = refused.err().ok_or("it was watched")?;
    assert_eq!(errno(&error), Some(Errno::MFILE.raw_os_error()));
    assert!(error.to_string().contains("pidfd_open of child"), "{error}");
    let (_spawned, exit) = futures::spawn_child(&mut reactor, &mut command)?;
    let exit = futures::block_on(&mut reactor, &mut (), exit)??;
    assert!(exit.status.success());
    while reactor.len() > 1 {
        reactor.turn(&mut (), None)?; // until the first one is reaped
    }
    expect_open(before, "children");
    Ok(())
}
