//! Streams that are read in parts, with timeouts and priorities.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Interest, Io, Next, Priority, Registry};
use simulation::{Peer, random};

use super::acts::{act_and_stay, pause};
use super::model::{Cx, LONGEST_DELAY, Model, SOURCES, Source};
use crate::draw::{duration, once_in, size};

/// Registers streams, and returns their other ends.
pub(super) fn add_sources(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) -> Vec<Peer> {
    let peers = (0..1 + random(SOURCES)).map(|number| {
        let (stream, peer) = Peer::pair().unwrap();
        let key = registry
            .add(stream, Interest::READABLE, move |stream, cx| {
                read_source(number as usize, stream, cx)
            })
            .unwrap();
        registry.set_background(key).unwrap();
        model.sources.borrow_mut().push(Source {
            key,
            deadline: None,
            served: registry.now(),
        });
        peer
    });
    let peers = peers.collect();
    for _ in 0..random(SOURCES) {
        set_timeout(registry, model);
        set_priority(registry, model);
    }
    peers
}

/// Reads a part of what has come. A timeout comes behind what had come before.
pub(super) fn read_source(
    number: usize,
    stream: &mut Io<TcpStream>,
    cx: &mut Cx<'_>,
) -> io::Result<Next> {
    let model = Rc::clone(cx.state);
    model.ran.set(model.ran.get() + 1);
    let readiness = cx.readiness();
    if readiness.is_timeout() {
        let mut sources = model.sources.borrow_mut();
        let deadline = sources[number].deadline.take();
        let deadline = deadline.expect("a timeout that has ended is not told");
        assert!(cx.now() >= deadline, "a timeout is early");
        assert!(
            !readiness.is_readable() || sources[number].served >= deadline,
            "a timeout is told before what had come"
        );
    }
    if readiness.is_readable() {
        model.sources.borrow_mut()[number].served = cx.now();
        let mut buf = [0; 64];
        let room = 1 + size(64);
        let _ = stream.read(&mut buf[..room])?;
    }
    pause();
    act_and_stay(cx);
    if once_in(2) {
        set_timeout_of(number, cx.registry, &model);
    }
    Ok(Next::Keep)
}

pub(super) fn set_timeout(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let sources = model.sources.borrow().len();
    if sources > 0 {
        set_timeout_of(random(sources as u64) as usize, registry, model);
    }
}

pub(super) fn set_timeout_of(number: usize, registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let timeout = (!once_in(8)).then(|| duration(LONGEST_DELAY));
    let source = &mut model.sources.borrow_mut()[number];
    source.deadline = timeout.map(|timeout| registry.now() + timeout);
    registry.set_timeout(source.key, timeout).unwrap();
}

pub(super) fn set_priority(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let sources = model.sources.borrow();
    if let Some(source) = sources.get(random(SOURCES) as usize) {
        let priorities = [Priority::Low, Priority::Normal, Priority::High];
        let priority = priorities[random(3) as usize];
        registry.set_priority(source.key, priority).unwrap();
    }
}

/// The other side of the streams: writes to some of them at a time.
pub(super) fn write_to_sources(model: &Rc<Model>, mut peers: Vec<Peer>) {
    for _ in 0..8 {
        simulation::sleep(duration(Duration::from_secs(20)));
        if model.is_over.get() {
            return;
        }
        let written = 1 + random(peers.len() as u64) as usize;
        for peer in &mut peers[..written] {
            let _ = peer.write_all(&vec![0; 1 + size(200)]); // the loop may be gone
        }
    }
    // A stream that has ended would stay readable, and keep idle callbacks from running.
    simulation::wait_until(|| model.is_over.get());
}
