//! `AsyncConnection` at both ends: a server and clients whose protocols are futures that do at
//! random what a connection offers, and end in every way.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use handlers::futures::{self, AsyncConnection};
use handlers::{ConnectionOptions, ListenOptions, ServerKey};
use reactor::{PanicPolicy, Reactor, Registry};
use simulation::{Faults, Handle, Seeds, process, random, sleep};

use crate::draw::{forget_failures, has_failed, hide_wanted_panics};

const ADDRESS: &str = "127.0.0.1:7777";
const CLIENTS: u64 = 3;
/// Longer than all else takes in a calm world.
const PATIENCE: Duration = Duration::from_secs(600);

/// One end of a connection.
#[derive(Debug, Default)]
struct Side {
    written: Cell<usize>,
    read: Cell<usize>,
    /// The end of the other side was read.
    saw_end: Cell<bool>,
    /// Our write side may come to a clean end.
    is_clean: Cell<bool>,
    has_waited: Cell<bool>,
}

/// Both ends of a connection: that of the client, and that of the server.
type Sides = [Rc<Side>; 2];

#[derive(Default)]
struct Book(RefCell<BTreeMap<u64, Sides>>);

impl Book {
    fn sides(&self, id: u64) -> Sides {
        self.0.borrow_mut().entry(id).or_default().clone()
    }

    /// Checks what each side has received of the other.
    fn check(&self, is_unharmed: bool) {
        for (id, sides) in &*self.0.borrow() {
            for (from, to) in [(&sides[0], &sides[1]), (&sides[1], &sides[0])] {
                let context = || format!("connection {id}: {from:?} to {to:?}");
                assert!(to.read.get() <= from.written.get(), "{}", context());
                if to.saw_end.get() {
                    assert!(from.is_clean.get(), "a cut looks whole: {}", context());
                    assert_eq!(to.read, from.written, "{}", context());
                }
                if is_unharmed && from.is_clean.get() && from.saw_end.get() && to.has_waited.get() {
                    assert!(to.saw_end.get(), "an end is missing: {}", context());
                }
            }
        }
    }
}

/// Returns the byte at a position of a stream.
fn byte(position: usize) -> u8 {
    (position * 7 + position / 251) as u8
}

fn bytes(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(byte).collect()
}

impl Side {
    fn reads(&self, data: &[u8]) {
        let from = self.read.get();
        assert!(
            *data == bytes(from, data.len()),
            "other bytes than were written"
        );
        self.read.set(from + data.len());
    }

    async fn read(&self, stream: &mut AsyncConnection) -> io::Result<usize> {
        let count = 1 + random(1 << random(13)) as usize;
        let mut buf = vec![0; count];
        let read = match random(3) {
            0 => stream.read(&mut buf).await?,
            1 => {
                let (one, two) = buf.split_at_mut(count / 2);
                let mut both = [IoSliceMut::new(one), IoSliceMut::new(two)];
                stream.read_vectored(&mut both).await?
            }
            _ => {
                let input = stream.fill_buf().await?;
                let count = count.min(input.len());
                buf[..count].copy_from_slice(&input[..count]);
                stream.consume(count);
                count
            }
        };
        self.reads(&buf[..read]);
        let is_end = read == 0;
        self.saw_end.set(self.saw_end.get() || is_end);
        assert!(!self.saw_end.get() || is_end, "bytes after the end");
        if read > 0 && random(8) == 0 {
            let back = random(read as u64) as usize;
            stream.unread(&buf[read - back..read]);
            self.read.set(self.read.get() - back);
        }
        Ok(read)
    }

    async fn write(&self, stream: &mut AsyncConnection) -> io::Result<()> {
        let piece = bytes(self.written.get(), 1 + random(1 << random(14)) as usize);
        let written = match random(2) {
            0 => stream.write(&piece).await,
            _ => {
                let (one, two) = piece.split_at(piece.len() / 2);
                let both = [IoSlice::new(one), IoSlice::new(two)];
                stream.write_vectored(&both).await
            }
        };
        let has_closed = self.is_clean.get();
        assert!(!(has_closed && written.is_ok()), "a write after the close");
        self.written.set(self.written.get() + written?);
        Ok(())
    }

    async fn close(&self, stream: &mut AsyncConnection) -> io::Result<()> {
        self.is_clean.set(true);
        stream.close().await
    }

    /// Does one thing. It may take too long, and is given up then.
    async fn act(&self, stream: &mut AsyncConnection) -> io::Result<()> {
        let limit = Duration::from_micros(random(1 << random(24)));
        let acting = async {
            match random(12) {
                0..=3 if !self.is_clean.get() => self.write(stream).await,
                4..=7 => self.read(stream).await.map(drop),
                8 => stream.flush().await,
                9 => {
                    futures::sleep(limit / 2).await;
                    Ok(())
                }
                10 if random(6) == 0 => self.close(stream).await,
                _ => {
                    futures::yield_now().await;
                    Ok(())
                }
            }
        };
        futures::timeout(limit, acting).await.unwrap_or(Ok(()))
    }

    /// Does this and that, and sometimes reads up to the end.
    async fn talk(&self, stream: &mut AsyncConnection) -> io::Result<()> {
        let stopping = stream.stopping();
        for _ in 0..random(30) {
            self.act(stream).await?;
            if stopping.is_stopping() && random(2) == 0 {
                return Ok(());
            }
        }
        if random(2) == 0 {
            self.close(stream).await?;
        }
        if random(2) == 0 {
            let all = async {
                while self.read(stream).await? > 0 {}
                io::Result::Ok(())
            };
            if let Ok(ended) = futures::timeout(PATIENCE, all).await {
                self.has_waited.set(true);
                ended?;
            }
        }
        Ok(())
    }
}

/// The protocol of the server. It ends in every way.
async fn serve(mut stream: AsyncConnection, book: Rc<Book>) -> io::Result<()> {
    let mut id = [0; 8];
    stream.read_exact(&mut id).await?;
    let [_, side] = book.sides(u64::from_le_bytes(id));
    side.talk(&mut stream).await?;
    match random(6) {
        0 => return Err(io::Error::other("as the seed wants")),
        1 => std::panic::resume_unwind(Box::new("as the seed wants")),
        2 => {
            // The connection is in the hands of another task from now on.
            let lives_on = async move { side.talk(&mut stream).await };
            drop(futures::spawn_local(lives_on));
        }
        _ => side.is_clean.set(true),
    }
    Ok(())
}

async fn ask(id: u64, book: Rc<Book>) -> io::Result<()> {
    let options = draw_options();
    let connecting =
        AsyncConnection::connect::<()>(ADDRESS.parse::<std::net::SocketAddr>().unwrap(), &options);
    let patience = Duration::from_micros(random(1 << random(28)));
    let connected = futures::timeout(patience, connecting).await;
    let mut stream = connected.map_err(|_elapsed| ErrorKind::TimedOut)??;
    stream.write_all(&id.to_le_bytes()).await?;
    let [side, _] = book.sides(id);
    side.talk(&mut stream).await
}

fn draw_options() -> ConnectionOptions {
    let high = 1 + random(1 << random(16)) as usize;
    ConnectionOptions::new()
        .watermarks(random(high as u64) as usize, high)
        .max_bytes_per_turn(100 + random(1 << random(16)) as usize)
}

fn new_loop() -> Reactor<()> {
    let builder = Reactor::<()>::builder().on_panic(PanicPolicy::RemoveHandler);
    builder.build().unwrap()
}

/// A task whose connection was cut does not keep its loop alive, so tasks may be left.
fn expect_no_source(reactor: &Reactor<()>) {
    assert!(
        reactor.registrations().all(|it| it.fd < 0),
        "a source is left"
    );
}

fn listen(registry: &mut Registry<()>, book: &Rc<Book>) -> ServerKey<()> {
    let listener = loop {
        match ListenOptions::new().bind(&ADDRESS.parse().unwrap()) {
            Ok(listener) => break listener,
            Err(error) => simulation::note(&format!("{:?}", error.kind())),
        }
    };
    let book = Rc::clone(book);
    let options = draw_options();
    let served = listener.serve_async(registry, &options, move |stream, _connection, _cx| {
        serve(stream, Rc::clone(&book))
    });
    served.unwrap()
}

fn start_client(number: u64, book: &Rc<Book>) -> Handle<()> {
    let book = Rc::clone(book);
    process(&format!("client {number}"), move || {
        let mut reactor = new_loop();
        for task in 0..1 + random(2) {
            let asking = ask(number * 10 + task, Rc::clone(&book));
            let spawned = futures::spawn(&mut reactor, asking, |asked, _cx| {
                simulation::note(&format!("{:?}", asked.map_err(|error| error.kind())));
            });
            spawned.unwrap();
        }
        reactor.run(&mut ()).unwrap();
        expect_no_source(&reactor);
    })
}

fn conversations(is_calm: bool) {
    hide_wanted_panics();
    forget_failures();
    let book = Rc::<Book>::default();
    let (served, slot) = (Rc::clone(&book), Rc::new(Cell::new(None)));
    let ready = Rc::clone(&slot);
    let server = process("server", move || {
        let mut reactor = new_loop();
        let key = listen(&mut reactor, &served);
        ready.set(Some((key, reactor.remote().unwrap())));
        reactor.run(&mut ()).unwrap();
        expect_no_source(&reactor);
    });
    let mut started = None;
    simulation::wait_until(|| {
        started = slot.take();
        started.is_some()
    });
    let (key, remote) = started.unwrap();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| start_client(number, &book))
        .collect();
    let stops_early = random(2) == 0;
    if stops_early {
        sleep(Duration::from_micros(random(1 << random(26))));
    } else {
        if !is_calm {
            server.stop(Duration::from_secs(random(100)));
        }
        clients.into_iter().for_each(Handle::join);
    }
    // The bytes of clients that have ended may be on their way.
    let grace = match stops_early {
        true => Duration::from_micros(random(1 << random(30))),
        false => 3 * PATIENCE,
    };
    let _ = remote.post(move |cx| key.stop(cx.registry, grace));
    server.join();
    // With their ends, also those of clients that are still at work.
    book.check(is_calm && !stops_early);
    assert!(!has_failed(), "a task has failed, see above");
}

#[test]
fn no_end_of_a_future_makes_a_part_look_whole() {
    Seeds::new(0..4)
        .faults(Faults::none())
        .check(|| conversations(true));
    Seeds::new(0..4).check(|| conversations(false));
    Seeds::new(0..4)
        .faults(Faults::all())
        .check(|| conversations(false));
}
