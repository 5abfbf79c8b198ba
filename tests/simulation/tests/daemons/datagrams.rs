//! An echo server of datagrams, whose network loses, doubles and swaps them.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use handlers::udp::{self, UdpSocket};
use reactor::{Key, Next, Registry};
use simulation::{Daemon, PeerDatagrams};

use crate::laws::Book;
use crate::trial::{World, in_every_world, patiently};

/// Answers every datagram until the socket is removed, and counts the answers in the state.
fn serve(registry: &mut Registry<u64>, address: SocketAddr, faults: Book) -> Key {
    let socket = patiently(|| UdpSocket::bind(address));
    let added = udp::add(registry, socket, move |datagram, socket, cx| {
        *cx.state += 1;
        let sent = socket.reply(datagram, datagram.bytes);
        faults.expect(sent.is_ok(), || {
            "a queue that is nearly empty is full".to_owned()
        });
        Ok(Next::Keep)
    });
    added.unwrap().key()
}

/// Sends numbers, each until it is answered. Returns the number of datagrams that it has sent.
fn ask(server: SocketAddr, world: World, book: &Book) -> u64 {
    let socket = patiently(|| PeerDatagrams::bind(([127, 0, 0, 1], 0).into()));
    let (mut sent, mut buf) = (0, [0; 2000]);
    for number in 0..simulation::random(20) as u32 {
        let mut question = number.to_be_bytes().to_vec();
        question.resize(4 + simulation::random(1500) as usize, number as u8);
        let mut is_answered = false;
        while !is_answered {
            socket.send_to(&question, server).unwrap();
            sent += 1;
            match socket.receive_from(&mut buf, Some(Duration::from_secs(600))) {
                Ok((length, from)) => {
                    let answer = &buf[..length];
                    let of = u32::from_be_bytes(answer[..4].try_into().unwrap());
                    let is_whole = from == server
                        && of <= number
                        && answer[4..].iter().all(|byte| *byte == of as u8);
                    book.expect(is_whole, || format!("{length} bytes of {of} from {from}"));
                    // An earlier one may arrive twice.
                    is_answered = answer == question;
                    book.expect(is_answered || world == World::Faulty, || {
                        format!("{of} is answered twice")
                    });
                }
                Err(error) => book.expect(
                    error.kind() == ErrorKind::TimedOut && world == World::Faulty,
                    || format!("{number} is not answered: {error}"),
                ),
            }
        }
    }
    sent
}

in_every_world!(every_datagram_that_arrives_is_answered_once, 60, |world| {
    let book = Book::default();
    let address = ([127, 0, 0, 1], 5353).into();
    let faults = book.clone();
    let server = Daemon::start("server", move |reactor| {
        Ok((0, serve(reactor, address, faults)))
    });
    let clients: Vec<_> = (0..3)
        .map(|number| {
            let book = book.clone();
            let name = format!("client {number}");
            simulation::process(&name, move || ask(address, world, &book))
        })
        .collect();
    let sent: u64 = clients.into_iter().map(simulation::Handle::join).sum();
    simulation::sleep(Duration::from_secs(3600)); // what is on its way arrives
    let (answered, reactor) = server.end(|key, cx| drop(cx.registry.remove(key)));
    book.expect_nothing_left(&reactor);
    book.expect(answered == sent || world == World::Faulty, || {
        format!("{answered} datagrams of {sent} were received")
    });
    book.check(false);
});
