//! A request reaches the handler of another registration without its types.

use std::any::Any;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use reactor::{
    CloseReason, Context, Error, Handler, Interest, Io, Key, Next, PanicPolicy, Reactor,
};

use crate::{Result, readable, turn_now};

/// A request: says something, and asks how often that was done.
struct Say {
    text: &'static str,
    said: u32,
}

impl Say {
    const fn new(text: &'static str) -> Self {
        Self { text, said: 0 }
    }
}

/// Sends what it is asked to say. Panics if that is nothing, and ends if that is "bye".
#[derive(Default)]
struct Speaker {
    said: u32,
}

impl<T: AsFdWrite> Handler<Vec<String>, T> for Speaker {
    fn ready(&mut self, io: &mut Io<T>, cx: &mut Context<'_, Vec<String>>) -> io::Result<Next> {
        let mut byte = [0];
        io.get_mut().read_exact(&mut byte)?;
        cx.state
            .push(format!("{} after {}", byte[0] as char, self.said));
        Ok(Next::Keep)
    }

    fn request(
        &mut self,
        io: &mut Io<T>,
        request: &mut dyn Any,
        cx: &mut Context<'_, Vec<String>>,
    ) {
        let Some(say) = request.downcast_mut::<Say>() else {
            return;
        };
        assert!(!say.text.is_empty(), "nothing to say");
        assert!(cx.readiness().is_empty());
        io.get_mut().write_all(say.text.as_bytes()).unwrap();
        self.said += 1;
        say.said = self.said;
        if say.text == "bye" {
            cx.registry.remove(cx.key()).unwrap();
        }
    }

    fn closed(&mut self, reason: CloseReason, cx: &mut Context<'_, Vec<String>>) {
        cx.state.push(format!("{reason:?}"));
    }
}

trait AsFdWrite: Read + Write {}
impl<T: Read + Write> AsFdWrite for T {}

/// Returns a reactor with a registration whose peer has sent `bytes`.
fn with_speaker(bytes: &[u8]) -> Result<(Reactor<Vec<String>>, Key, UnixStream)> {
    let mut reactor = Reactor::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    let (near, mut far) = UnixStream::pair()?;
    far.write_all(bytes)?;
    let key = reactor.add_handler(near, Interest::READABLE, Speaker::default())?;
    Ok((reactor, key, far))
}

#[test]
fn a_request_reaches_handlers_of_all_types_and_brings_an_answer() -> Result {
    let (mut reactor, unix, mut far) = with_speaker(b"")?;
    let (near, mut peer) = support::tcp_pair()?;
    let tcp = reactor.add_handler(near, Interest::READABLE, Speaker::default())?;
    reactor.defer(move |cx| {
        for (key, times) in [(unix, 1), (tcp, 1), (unix, 2)] {
            let mut say = Say::new("hello");
            cx.request(key, &mut say).unwrap();
            assert_eq!(say.said, times);
        }
    });
    turn_now(&mut reactor, &mut Vec::new());
    let mut received = [0; 10];
    far.read_exact(&mut received)?;
    assert_eq!(&received, b"hellohello");
    peer.read_exact(&mut received[..5])?;
    Ok(())
}

#[test]
fn a_request_is_ignored_by_handlers_that_do_not_know_it_and_by_queues() -> Result {
    let (mut reactor, speaker, _far) = with_speaker(b"")?;
    let (near, _other) = UnixStream::pair()?;
    let closure = reactor.add(near, Interest::READABLE, |_, _| Ok(Next::Keep))?;
    let (sender, receiver) = reactor::notification_queue(reactor::Capacity::Unbounded);
    let queue = reactor.consume(receiver, |value: Option<u8>, cx| {
        cx.state.push(format!("{value:?}"));
        Ok(Next::Remove)
    })?;
    sender.try_send(7)?;
    reactor.defer(move |cx| {
        let mut say = Say::new("hello");
        for key in [closure, queue] {
            cx.request(key, &mut say).unwrap();
        }
        cx.request(speaker, &mut 7_u32).unwrap();
        assert_eq!(say.said, 0);
    });
    let mut log = Vec::new();
    turn_now(&mut reactor, &mut log);
    turn_now(&mut reactor, &mut log);
    assert_eq!(log, ["Some(7)"], "a request takes no value from a queue");
    Ok(())
}

#[test]
fn a_request_takes_no_event_from_the_handler() -> Result {
    let (mut reactor, key, _far) = with_speaker(b"ab")?;
    reactor.set_interest(key, Interest::NONE)?;
    let mut log = Vec::new();
    turn_now(&mut reactor, &mut log); // the source is known to be readable now
    reactor.defer(move |cx| {
        cx.request(key, &mut Say::new("hello")).unwrap();
        cx.registry.set_interest(key, Interest::READABLE).unwrap();
    });
    turn_now(&mut reactor, &mut log);
    turn_now(&mut reactor, &mut log);
    assert_eq!(log, ["a after 1"]);
    Ok(())
}

#[test]
fn a_request_to_a_running_handler_or_by_a_stale_key_is_refused() -> Result {
    let (mut reactor, key, _far) = with_speaker(b"")?;
    let (near, _other) = readable()?;
    reactor.add(near, Interest::READABLE, move |_, cx| {
        let own = cx.key();
        let mut say = Say::new("hello");
        assert!(matches!(cx.request(own, &mut say), Err(Error::Running(at)) if at == own));
        cx.registry.remove(key).unwrap();
        assert!(matches!(cx.request(key, &mut say), Err(Error::StaleKey(at)) if at == key));
        assert_eq!(say.said, 0);
        Ok(Next::Remove)
    })?;
    turn_now(&mut reactor, &mut Vec::new());
    assert_eq!(reactor.metrics().calls, 1);
    Ok(())
}

#[test]
fn a_registration_that_its_request_removes_ends_with_the_request() -> Result {
    let (mut reactor, key, mut far) = with_speaker(b"")?;
    reactor.defer(move |cx| {
        cx.request(key, &mut Say::new("bye")).unwrap();
        assert!(!cx.registry.contains(key));
    });
    let mut log = Vec::new();
    reactor.run(&mut log)?;
    let mut received = String::new();
    far.read_to_string(&mut received)?; // to the end: the stream is closed
    assert_eq!((received.as_str(), log), ("bye", vec!["ByKey".to_owned()]));
    Ok(())
}

#[test]
fn a_panic_of_a_requested_handler_leaves_its_registration_in_place() -> Result {
    let (mut reactor, key, mut far) = with_speaker(b"")?;
    reactor.defer(move |cx| {
        cx.request(key, &mut Say::new("")).unwrap();
        cx.state.push("it returned".to_owned());
    });
    let mut log = Vec::new();
    turn_now(&mut reactor, &mut log);
    far.write_all(b"x")?;
    turn_now(&mut reactor, &mut log);
    assert_eq!(log, ["x after 0"]);
    Ok(())
}
