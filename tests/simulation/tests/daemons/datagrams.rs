//! An echo server of datagrams, whose network loses, doubles and swaps them.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use handlers::udp::{self, UdpSocket};
use reactor::{Key, Next, Reactor, Remote};
use simulation::PeerDatagrams;

use crate::laws::Book;
use crate::trial::{World, in_every_world, patiently};

/// A loop that counts datagrams, and the key of its socket.
type Ready = RefCell<Option<(Remote<u64>, Key)>>;

/// Answers every datagram until its socket is removed. Returns how many it has answered.
fn serve(address: SocketAddr, ready: &Ready, book: &Book) -> u64 {
    let mut reactor = patiently(|| Ok(Reactor::<u64>::new()?));
    let socket = patiently(|| UdpSocket::bind(address));
    let faults = book.clone();
    let added = udp::add(&mut reactor, socket, move |datagram, socket, cx| {
        *cx.state += 1;
        let sent = socket.reply(datagram, datagram.bytes);
        faults.expect(sent.is_ok(), || {
            "a queue that is nearly empty is full".to_owned()
        });
        Ok(Next::Keep)
    });
    let key = added.unwrap().key();
    ready.replace(Some((patiently(|| Ok(reactor.remote()?)), key)));
    let mut answered = 0;
    reactor.run(&mut answered).unwrap();
    book.expect_nothing_left(&reactor);
    answered
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
    let ready = Rc::new(Ready::default());
    let (is_ready, faults) = (Rc::clone(&ready), book.clone());
    let server = simulation::process("server", move || serve(address, &is_ready, &faults));
    simulation::wait_until(|| ready.borrow().is_some());
    let clients: Vec<_> = (0..3)
        .map(|number| {
            let book = book.clone();
            let name = format!("client {number}");
            simulation::process(&name, move || ask(address, world, &book))
        })
        .collect();
    let sent: u64 = clients.into_iter().map(simulation::Handle::join).sum();
    simulation::sleep(Duration::from_secs(3600)); // what is on its way arrives
    let (remote, key) = ready.take().unwrap();
    remote
        .post(move |cx| drop(cx.registry.remove(key)))
        .unwrap();
    let answered = server.join();
    book.expect(answered == sent || world == World::Faulty, || {
        format!("{answered} datagrams of {sent} were received")
    });
    book.check(false);
});
