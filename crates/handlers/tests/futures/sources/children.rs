//! Children within futures.

use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::futures::{self, Async};
use handlers::signal::Signal;
use reactor::{LoopPool, Reactor};

use super::Result;

#[test]
fn a_task_talks_to_a_child_and_awaits_its_exit() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let (mut child, exit) = futures::spawn_child(&mut reactor, &mut command)?;
    let stdin = child.stdin.take().ok_or("no pipe")?;
    let stdout = child.stdout.take().ok_or("no pipe")?;
    let text = vec![b'x'; 1 << 20];
    let expected = text.clone();
    let (echo, exit) = futures::block_on(&mut reactor, &mut (), async move {
        let writer = futures::spawn_local(async move {
            let mut stdin = Async::new(stdin)?;
            stdin.write_all(&text).await?;
            stdin.close().await // the child sees the end when the pipe is dropped
        });
        let mut echo = Vec::new();
        Async::new(PipeReader::from(OwnedFd::from(stdout)))?
            .read_to_end(&mut echo)
            .await?;
        writer.await.map_err(std::io::Error::other)??;
        std::io::Result::Ok((echo, exit.await?))
    })??;
    assert!(echo == expected && exit.status.success());
    Ok(())
}

#[test]
fn a_child_whose_future_is_dropped_is_reaped_by_the_loop() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let (child, exit) = futures::spawn_child(&mut reactor, &mut Command::new("true"))?;
    drop(exit);
    reactor.run(&mut ())?;
    assert!(
        child.key.pid(&mut reactor).is_err(),
        "it has ended and is reaped"
    );
    Ok(())
}

#[test]
fn a_child_whose_registration_is_removed_has_a_broken_pipe() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let (child, exit) = futures::spawn_child(&mut reactor, Command::new("sleep").arg("100"))?;
    child.key.kill(&mut reactor)?;
    reactor.remove(child.key.key())?;
    let ended = futures::block_on(&mut reactor, &mut (), exit)?;
    let kind = ended.map_err(|error| error.kind()).map(drop);
    assert_eq!(kind, Err(std::io::ErrorKind::BrokenPipe));
    Ok(())
}

#[test]
fn a_child_that_was_killed_or_had_ended_before_the_await_is_reported() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let (_spawned, ended) = futures::spawn_child(&mut reactor, &mut Command::new("true"))?;
    reactor.run(&mut ())?; // until it is reaped
    let (sleeps, killed) = futures::spawn_child(&mut reactor, Command::new("sleep").arg("100"))?;
    let (ended, killed) = futures::block_on(&mut reactor, &mut (), async move {
        let ended = ended.await;
        let key = sleeps.key;
        let kill = move |cx: &mut reactor::Context<'_, ()>| key.signal(cx.registry, Signal::KILL);
        futures::with_context(kill).await?;
        std::io::Result::Ok((ended?, killed.await?))
    })??;
    assert!(ended.status.success());
    assert_eq!(killed.status.signal(), Some(9));
    Ok(())
}

#[test]
fn children_of_several_loops_end_in_the_loop_that_has_started_them() -> Result {
    let pool = LoopPool::<Vec<i32>>::spawn(3, "pool-", |_, _| Ok(Vec::new()))?;
    for number in 0..3 {
        let begin = move |cx: &mut reactor::Context<'_, Vec<i32>>| {
            for code in 0..10 {
                let mut command = Command::new("sh");
                command.args(["-c", &format!("exit {code}")]);
                let (_spawned, exit) = futures::spawn_child(cx.registry, &mut command)?;
                let ends = async move { exit.await.ok().and_then(|exit| exit.status.code()) };
                futures::spawn(cx.registry, ends, |code, cx| cx.state.extend(code))?;
            }
            if number == 1 {
                cx.registry.stop(); // its children are left to the others
            }
            std::io::Result::Ok(())
        };
        pool.get(number).ok_or("no loop")?.call(begin)??;
    }
    for (number, mut codes) in pool.join()?.into_iter().enumerate() {
        codes.sort_unstable();
        assert!(number == 1 || codes == Vec::from_iter(0..10), "{codes:?}");
    }
    Ok(())
}
