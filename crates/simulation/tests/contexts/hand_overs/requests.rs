//! Connections that serve one request after the other. Each request has a context of its own, in
//! which it is answered, whatever way the answer takes.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use handlers::{
    CloseReason, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, ListenOptions,
    ServerKey, Timeout,
};
use reactor::{Registry, Remote, RequestContext, Then};
use simulation::{Peer, random};

use super::acts::{act, arrive, replace_own};
use super::{Cx, Here, Kept, Loop, kept};
use crate::draw::{duration, once_in};
use crate::mark::{context_of, expect_current};

/// The ways in which callbacks of this file are reached.
pub(super) const WAYS: &[&str] = &[
    "the opening of a connection",
    "a request",
    "the end of the input",
    "a mark",
    "a timeout",
    "the end of a connection",
    "an answer by a timer",
    "an answer by another loop",
    "an answer by a job",
];

/// The bytes of a request, and of its answer: a number.
const LENGTH: usize = 8;

fn address(number: usize) -> SocketAddr {
    ([127, 0, 0, 1], 7000 + number as u16).into()
}

/// Listens on behalf of nobody.
pub(super) fn serve(number: usize, registry: &mut Registry<Loop>) -> io::Result<ServerKey<Loop>> {
    let listener = ListenOptions::new().bind(&address(number).into())?;
    let options = ConnectionOptions::new().idle_timeout(Duration::from_millis(500));
    listener.serve(registry, &options, |_peer, _cx| {
        Ok(Requests(kept(&RequestContext::NONE)))
    })
}

/// The handler of a connection, with the context that it must have.
struct Requests(Kept);

impl ConnectionHandler<Loop> for Requests {
    fn on_open(&mut self, _: &mut Connection<'_, Loop>, cx: &mut Cx<'_>) -> io::Result<()> {
        let kept = Rc::clone(&self.0);
        cx.state.registrations.insert(cx.key(), kept);
        arrive("the opening of a connection", &mut Here::of(&self.0), cx);
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Loop>,
        cx: &mut Cx<'_>,
    ) -> io::Result<usize> {
        let mut here = Here::of(&self.0);
        expect_current(&here.current, "a call with requests");
        let mut taken = 0;
        for request in data.chunks_exact(LENGTH) {
            taken += LENGTH;
            let number = u64::from_be_bytes(request.try_into().expect("the length of a chunk"));
            self.begin(number, &mut here, connection, cx);
            if once_in(4) {
                connection.pause_reading();
                resume_later(&here.current, connection.key(), cx);
                break;
            }
        }
        Ok(taken)
    }

    fn on_sent(&mut self, _: u64, _: &mut Connection<'_, Loop>, cx: &mut Cx<'_>) -> io::Result<()> {
        arrive("a mark", &mut Here::of(&self.0), cx);
        Ok(())
    }

    fn on_timeout(
        &mut self,
        _: Timeout,
        _: &mut Connection<'_, Loop>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        arrive("a timeout", &mut Here::of(&self.0), cx);
        Ok(())
    }

    fn on_end(
        &mut self,
        _: &[u8],
        connection: &mut Connection<'_, Loop>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        connection.shutdown_after_responses();
        arrive("the end of the input", &mut Here::of(&self.0), cx);
        Ok(())
    }

    fn on_close(&mut self, _: CloseReason, cx: &mut Cx<'_>) {
        cx.state.registrations.remove(&cx.key());
        arrive("the end of a connection", &mut Here::unkept(&self.0), cx);
    }
}

impl Requests {
    /// Begins a request: its context replaces that of the one before.
    fn begin(
        &self,
        number: u64,
        here: &mut Here,
        connection: &mut Connection<'_, Loop>,
        cx: &mut Cx<'_>,
    ) {
        let context = context_of(number);
        cx.set_context(context.clone());
        self.0.replace(context.clone());
        here.current = context;
        connection.begin_response();
        answer_somehow(number, &here.current, connection.key(), cx);
        arrive("a request", here, cx);
        // Leaves another context for the next request.
        if once_in(4) {
            replace_own(cx, here);
        }
    }
}

/// Lets a connection continue. Its unconsumed bytes are passed again, but not by the kernel.
fn resume_later(expected: &RequestContext, client: ConnectionKey<Loop>, cx: &mut Cx<'_>) {
    let expected = expected.clone();
    cx.registry
        .after(duration(Duration::from_secs(1)), move |cx| {
            expect_current(&expected, "a timer that resumes");
            // An error means that the client has gone.
            let _ = client.with(cx, |connection, _cx| connection.resume_reading());
            expect_current(&expected, "a timer that resumes");
            Ok(Then::Done)
        });
}

/// Answers later: by a timer, by another loop, or by a job.
fn answer_somehow(
    number: u64,
    expected: &RequestContext,
    client: ConnectionKey<Loop>,
    cx: &mut Cx<'_>,
) {
    let (here, there) = (expected.clone(), expected.clone());
    match random(3) {
        0 => {
            let delay = duration(Duration::from_secs(2));
            cx.registry.after(delay, move |cx| {
                answer("an answer by a timer", number, &here, client, cx);
                Ok(Then::Done)
            });
        }
        1 => {
            let home: Remote<Loop> = cx.state.remote.clone();
            let home = move |cx: &mut Cx<'_>| {
                expect_current(&there, "another loop");
                let _ = home.post(move |cx| {
                    answer("an answer by another loop", number, &here, client, cx);
                });
                act(cx, &mut Here::once(&there));
            };
            let _ = cx.state.shared.draw_remote().post(home);
        }
        _ => {
            let job = move || expect_current(&there, "a job");
            let _ = cx.state.pool.submit(job, move |_, cx| {
                answer("an answer by a job", number, &here, client, cx);
            });
        }
    }
}

fn answer(
    way: &'static str,
    number: u64,
    expected: &RequestContext,
    client: ConnectionKey<Loop>,
    cx: &mut Cx<'_>,
) {
    let mut here = Here::once(expected);
    expect_current(&here.current, way);
    // An error means that the client has gone.
    let _ = client.with(cx, |connection, cx| {
        expect_current(expected, "an access to a connection");
        connection.end_response();
        let _ = connection.write(&number.to_be_bytes());
        connection.notify_sent();
        if once_in(4) {
            // The connection gets it. What is current stays.
            let fresh = cx.state.shared.fresh();
            cx.set_context(fresh.clone());
            if let Some(kept) = cx.state.registrations.get(&cx.key()) {
                kept.replace(fresh);
            }
            expect_current(expected, "an access to a connection");
        }
    });
    arrive(way, &mut here, cx);
}

/// A client: sends requests, and reads answers until the server ends the connection.
pub(super) fn ask(first: u64, servers: usize) {
    // Its errors are those of a server that has panicked.
    let _ = try_to_ask(first, servers);
}

fn try_to_ask(first: u64, servers: usize) -> io::Result<()> {
    simulation::sleep(duration(Duration::from_secs(5)));
    let mut peer = Peer::connect(address(random(servers as u64) as usize))?;
    for number in first..first + random(8) {
        peer.write_all(&number.to_be_bytes())?;
        if once_in(2) {
            simulation::sleep(duration(Duration::from_secs(2)));
        }
    }
    peer.shutdown_write()?;
    peer.read_to_end(&mut Vec::new())?;
    Ok(())
}
