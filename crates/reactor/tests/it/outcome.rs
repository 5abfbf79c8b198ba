//! The results of a handler: `?` works, and affects no other handler.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;

use reactor::{Interest, Next, Reactor, Readiness};

use crate::{Result, add_counting_reader, read_all, readable, turn_now, turn_until};

#[test]
fn would_block_from_a_handler_waits_for_more() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut reactor = Reactor::<u32>::new()?;
    reactor.add(listener, Interest::READABLE, |listener, cx| {
        loop {
            listener.try_io(Interest::READABLE, |listener| listener.accept())?;
            *cx.state += 1;
        }
    })?;
    let mut accepted = 0;
    for expected in 1..=3 {
        let _client = TcpStream::connect(address)?;
        turn_until(&mut reactor, &mut accepted, |accepted| {
            *accepted == expected
        });
        assert_eq!(turn_now(&mut reactor, &mut accepted), 0, "it waits");
    }
    assert_eq!(reactor.metrics().kernel_updates, 1, "the registration");
    Ok(())
}

#[test]
fn would_block_that_went_past_the_io_waits_too() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let _client = TcpStream::connect(address)?;
    let mut reactor = Reactor::<u32>::new()?;
    reactor.add(listener, Interest::READABLE, |listener, cx| {
        *cx.state += 1;
        listener.get_ref().accept()?;
        Ok(Next::Keep)
    })?;
    let mut calls = 0;
    turn_until(&mut reactor, &mut calls, |calls| *calls == 2); // a connection, then WouldBlock
    assert_eq!(turn_now(&mut reactor, &mut calls), 0);
    let _another = TcpStream::connect(address)?;
    turn_until(&mut reactor, &mut calls, |calls| *calls == 3);
    Ok(())
}

#[test]
fn would_block_outside_the_io_makes_the_loop_probe_readiness() -> Result {
    let (near, mut far) = readable()?;
    let mut reactor = Reactor::<Vec<Readiness>>::new()?;
    let key = reactor.add(near, Interest::READABLE | Interest::WRITABLE, |near, cx| {
        cx.state.push(cx.readiness());
        match cx.state.len() {
            1 => {
                // Writable, but without interest now.
                cx.registry.set_interest(cx.key(), Interest::READABLE)?;
                Ok(Next::Keep)
            }
            // The WouldBlock of another source has no meaning for this one, which has a byte to
            // read.
            2 => Err(ErrorKind::WouldBlock.into()),
            _ => read_all(near).map(|_| Next::Keep),
        }
    })?;
    let mut calls = Vec::new();
    turn_until(&mut reactor, &mut calls, |calls| calls.len() == 3);
    assert!(calls[2].is_readable(), "the byte is not forgotten");
    far.write_all(b"y")?;
    reactor.set_interest(key, Interest::READABLE | Interest::WRITABLE)?;
    turn_until(&mut reactor, &mut calls, |calls| calls.len() == 4);
    assert!(calls[3].is_writable(), "nor is the room to write");
    Ok(())
}

#[test]
fn would_block_for_both_directions_keeps_the_source_writable() -> Result {
    let (near, mut far) = UnixStream::pair()?;
    let mut reactor = Reactor::<u32>::new()?;
    reactor.add(near, Interest::READABLE | Interest::WRITABLE, |near, cx| {
        *cx.state += 1;
        // A handshake that waits for the peer although there is room to write.
        near.try_io(Interest::READABLE | Interest::WRITABLE, |near| {
            near.read(&mut [0; 8])
        })?;
        Ok(Next::Remove)
    })?;
    let mut calls = 0;
    turn_until(&mut reactor, &mut calls, |calls| *calls == 3); // the source stays writable
    far.write_all(b"x")?;
    reactor.run(&mut calls)?;
    Ok(())
}

#[test]
fn would_block_in_one_direction_does_not_end_the_other() -> Result {
    let (near, mut far) = UnixStream::pair()?;
    let mut reactor = Reactor::<u32>::new()?;
    reactor.add(near, Interest::READABLE | Interest::WRITABLE, |near, cx| {
        *cx.state += 1;
        read_all(near)?; // meets WouldBlock: no longer readable, but still writable
        Err(ErrorKind::WouldBlock.into())
    })?;
    far.write_all(b"x")?;
    let mut calls = 0;
    for turn in 1..=3 {
        reactor.turn(&mut calls, None)?;
        assert_eq!(calls, turn);
    }
    Ok(())
}

#[test]
fn interrupted_calls_again_next_turn() -> Result {
    let (near, _far) = readable()?;
    let mut reactor = Reactor::<u32>::new()?;
    reactor.add(near, Interest::READABLE, |near, cx| {
        *cx.state += 1;
        if *cx.state < 3 {
            read_all(near)?; // also after the readiness was consumed
            return Err(ErrorKind::Interrupted.into());
        }
        Ok(Next::Remove)
    })?;
    let mut calls = 0;
    reactor.run(&mut calls)?;
    assert_eq!(calls, 3);
    Ok(())
}

#[test]
fn another_error_ends_its_registration_and_no_neighbour_loses_an_event() -> Result {
    let mut reactor = Reactor::new()?;
    let mut peers = Vec::new();
    for place in 0..10 {
        let (_, mut far) = add_counting_reader(&mut reactor, place)?;
        far.write_all(b"x")?;
        peers.push(far);
        let (near, far) = readable()?;
        peers.push(far);
        reactor.add(near, Interest::READABLE, |_, _| {
            Err(io::Error::other("broken"))
        })?;
    }
    let mut calls = vec![0; 10];
    assert_eq!(turn_now(&mut reactor, &mut calls), 20);
    assert_eq!(calls, [1; 10]);
    assert_eq!((reactor.len(), reactor.metrics().failures), (10, 10));
    Ok(())
}

#[test]
fn an_error_of_the_registry_can_be_passed_on_by_the_question_mark() -> Result {
    let (near, _far) = readable()?;
    let mut reactor = Reactor::<()>::new()?;
    reactor.add(near, Interest::READABLE, |_, cx| {
        cx.registry.remove(reactor::Key::NULL)?;
        Ok(Next::Keep)
    })?;
    reactor.run(&mut ())?;
    assert_eq!(reactor.metrics().failures, 1);
    Ok(())
}

#[test]
fn a_datagram_socket_survives_the_refusal_of_a_datagram() -> Result {
    let refusing = UdpSocket::bind("127.0.0.1:0")?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(refusing.local_addr()?)?;
    drop(refusing);
    socket.send(b"anyone?")?;
    let mut reactor = Reactor::<Vec<ErrorKind>>::new()?;
    reactor.add(socket, Interest::READABLE, |socket, cx| {
        assert!(cx.readiness().is_error() && !cx.readiness().is_write_closed());
        let error = socket
            .try_io(Interest::READABLE, |socket| socket.recv(&mut [0; 16]))
            .unwrap_err();
        cx.state.push(error.kind());
        Ok(Next::Keep)
    })?;
    let mut errors = Vec::new();
    turn_until(&mut reactor, &mut errors, |errors| !errors.is_empty());
    assert_eq!(
        turn_now(&mut reactor, &mut errors),
        0,
        "an error is announced once: no spin"
    );
    assert_eq!(errors, [ErrorKind::ConnectionRefused]);
    Ok(())
}
