//! Other threads of a daemon: queues with and without bounds, and closures for the loop.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Capacity, Context, Next, Reactor, Remote, SendTimeoutError, Sender};

use crate::laws::Book;
use crate::trial::{World, in_every_world, patiently};

/// The numbers of one thread, in the order in which the queue has taken them.
type Taken = Rc<RefCell<Vec<u64>>>;

/// The values that the loop has received.
#[derive(Default)]
struct Received {
    numbers: Vec<u64>,
    posted: Vec<u64>,
    has_end: bool,
}

/// Returns the numbers of thread `of`.
fn of_thread(numbers: &[u64], of: u64) -> Vec<u64> {
    let of_it = numbers.iter().filter(|number| **number >> 32 == of);
    of_it.copied().collect()
}

/// Sends numbers within a time. Each is taken, or given back.
fn send(queue: &Sender<u64>, thread: u64, taken: &Taken, book: &Book) {
    for number in 0..simulation::random(30) {
        let number = thread << 32 | number;
        let timeout = Duration::from_micros(simulation::random(20_000));
        let before = simulation::now();
        match queue.send_within(number, timeout) {
            Ok(()) => taken.borrow_mut().push(number),
            Err(SendTimeoutError::Timeout(back)) => {
                book.expect(back == number, || format!("{back} is not {number}"));
                let passed = simulation::now() - before;
                book.expect(passed >= timeout, || format!("full after {passed:?}"));
            }
            Err(other) => book.fault(format!("{other:?} while the loop runs")),
        }
        if simulation::random(3) == 0 {
            simulation::sleep(Duration::from_micros(simulation::random(5000)));
        }
    }
}

/// Sends the numbers up to `end` as fast as the queue has room for them.
fn send_on_room(
    queue: Sender<u64>,
    mut next: u64,
    end: u64,
    cx: &mut Context<'_, ()>,
    taken: fn(u64),
) {
    while next < end && queue.try_send(next).is_ok() {
        taken(next);
        next += 1;
    }
    if next < end && !queue.is_disconnected() {
        let remote = cx.registry.remote().unwrap();
        let again = queue.clone();
        let asked = queue.on_room(&remote, move |cx| send_on_room(again, next, end, cx, taken));
        asked.unwrap();
    }
}

/// Runs a loop that sends by `on_room`.
fn loop_with_room(queue: Sender<u64>, thread: u64, end: u64) {
    let mut reactor = patiently(|| Ok(Reactor::<()>::new()?));
    patiently(|| Ok(reactor.remote().map(drop)?));
    let first = thread << 32;
    reactor.defer(move |cx| send_on_room(queue, first, first + end, cx, |_| {}));
    reactor.run(&mut ()).unwrap();
}

/// Posts closures, wakes and calls. Each closure runs once, each call is answered.
fn post(remote: &Remote<Received>, thread: u64, posted: &Taken, book: &Book) {
    for number in 0..simulation::random(30) {
        let number = thread << 32 | number;
        match simulation::random(4) {
            0 => remote.wake(),
            1 => {
                let called = remote.call(move |cx| {
                    cx.state.posted.push(number);
                    number
                });
                posted.borrow_mut().push(number);
                book.expect(called == Ok(number), || format!("called: {called:?}"));
            }
            _ => {
                posted.borrow_mut().push(number);
                let sent = remote.post(move |cx| cx.state.posted.push(number));
                book.expect(sent.is_ok(), || "the loop is gone".to_owned());
            }
        }
        if simulation::random(3) == 0 {
            simulation::sleep(Duration::from_micros(simulation::random(5000)));
        }
    }
}

/// Runs the loop that receives until every sender is gone.
fn receive(
    started: &RefCell<Option<(Sender<u64>, Remote<Received>)>>,
    capacity: Capacity,
    book: &Book,
) -> Received {
    let mut reactor = patiently(|| Ok(Reactor::<Received>::new()?));
    let (sender, receiver) = reactor::notification_queue(capacity);
    let consumed = reactor.consume(receiver, |number: Option<u64>, cx| {
        if simulation::random(20) == 0 {
            simulation::compute(Duration::from_micros(simulation::random(20_000)));
        }
        cx.state.has_end |= number.is_none();
        cx.state.numbers.extend(number);
        Ok(Next::Keep)
    });
    let _ = consumed.unwrap();
    let remote = patiently(|| Ok(reactor.remote()?));
    started.replace(Some((sender, remote)));
    let mut received = Received::default();
    let ended = reactor.run(&mut received);
    book.expect(ended.is_ok(), || format!("run returned {ended:?}"));
    book.expect_nothing_left(&reactor);
    received
}

in_every_world!(
    what_other_threads_send_arrives_once_and_in_order,
    60,
    |_world| {
        let book = Book::default();
        let bound = simulation::random(5) as usize;
        let capacity = match simulation::random(3) {
            0 => Capacity::Unbounded,
            _ => Capacity::Bounded(1 + bound),
        };
        let started = Rc::new(RefCell::new(None));
        let (ready, faults) = (Rc::clone(&started), book.clone());
        let receiver = simulation::thread("receiver", move || receive(&ready, capacity, &faults));
        simulation::wait_until(|| started.borrow().is_some());
        let (sender, remote) = started.take().unwrap();
        let alive = remote.keep_alive();
        let mut threads = Vec::new();
        let taken: Vec<Taken> = (0..3).map(|_| Taken::default()).collect();
        let posted: Vec<Taken> = (0..3).map(|_| Taken::default()).collect();
        for thread in 0..3 {
            let (sender, remote) = (sender.clone(), remote.clone());
            let (taken, posted) = (&taken[thread as usize], &posted[thread as usize]);
            let (taken, posted, book) = (Rc::clone(taken), Rc::clone(posted), book.clone());
            threads.push(simulation::thread(&format!("thread {thread}"), move || {
                if simulation::random(2) == 0 {
                    send(&sender, thread, &taken, &book);
                    drop(sender);
                    post(&remote, thread, &posted, &book);
                } else {
                    post(&remote, thread, &posted, &book);
                    send(&sender, thread, &taken, &book);
                }
            }));
        }
        let end = simulation::random(50);
        let with_room = sender.clone();
        threads.push(simulation::thread("on room", move || {
            loop_with_room(with_room, 3, end)
        }));
        drop(sender);
        threads.into_iter().for_each(simulation::Handle::join);
        drop(alive);
        let received = receiver.join();
        book.expect(received.has_end, || "the end was not told".to_owned());
        for thread in 0..3 {
            let of_queue = of_thread(&received.numbers, thread as u64);
            book.expect(of_queue == *taken[thread].borrow(), || {
                format!(
                    "thread {thread}: received {of_queue:?}, taken {:?}",
                    taken[thread]
                )
            });
            let ran = of_thread(&received.posted, thread as u64);
            book.expect(ran == *posted[thread].borrow(), || {
                format!("thread {thread}: ran {ran:?}, posted {:?}", posted[thread])
            });
        }
        let on_room: Vec<u64> = (0..end).map(|number| 3 << 32 | number).collect();
        let of_room = of_thread(&received.numbers, 3);
        book.expect(of_room == on_room, || {
            format!("{of_room:?} with room for {end}")
        });
        book.check(false);
    }
);
