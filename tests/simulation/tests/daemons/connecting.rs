//! Connecting to the first of several addresses that answers: RFC 8305.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use handlers::{CloseReason, Connection, ConnectionHandler, ConnectionOptions, Timeout};
use reactor::{Context, Reactor};
use simulation::{Faults, PeerListener, Seeds};

use crate::laws::Book;
use crate::trial::{SLACK, patiently};

/// The delay between two attempts.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The outcome of an attempt.
#[derive(Debug, Default)]
struct Outcome {
    opened: usize,
    closed: Vec<String>,
    is_timed_out: bool,
}

struct Session {
    outcome: Rc<RefCell<Outcome>>,
}

impl ConnectionHandler<()> for Session {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, ()>,
        _cx: &mut Context<'_, ()>,
    ) -> io::Result<()> {
        self.outcome.borrow_mut().opened += 1;
        connection.close();
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _connection: &mut Connection<'_, ()>,
        _cx: &mut Context<'_, ()>,
    ) -> io::Result<usize> {
        Ok(data.len())
    }

    fn on_close(&mut self, reason: CloseReason, _cx: &mut Context<'_, ()>) {
        let mut outcome = self.outcome.borrow_mut();
        outcome.is_timed_out = matches!(reason, CloseReason::TimedOut(Timeout::Connect));
        outcome.closed.push(reason.to_string());
    }
}

/// Half of all attempts hang. At some addresses nothing listens.
#[test]
fn an_attempt_that_hangs_delays_the_next_one_and_the_first_answer_wins() {
    let mut faults = Faults::none();
    faults.hangs = 2;
    Seeds::new(0..200).faults(faults).check(|| {
        let book = Book::default();
        let mut listeners = Vec::new();
        let addresses: Vec<SocketAddr> = (0..simulation::random(6))
            .map(|number| {
                let address = if number % 2 == 0 {
                    format!("127.0.0.1:{}", 1000 + number)
                } else {
                    format!("[::1]:{}", 1000 + number)
                };
                let address = address.parse().unwrap();
                if simulation::random(3) > 0 {
                    listeners.push(patiently(|| PeerListener::bind(address)));
                }
                address
            })
            .collect();
        let limit = Duration::from_millis(simulation::random(120_000));
        let outcome = Rc::new(RefCell::new(Outcome::default()));
        let mut reactor = Reactor::<()>::new().unwrap();
        let began = simulation::now();
        let attempt = Connection::connect(
            &mut reactor,
            addresses.clone(),
            &ConnectionOptions::new().connect_timeout(limit),
            Session {
                outcome: Rc::clone(&outcome),
            },
        );
        reactor.run(&mut ()).unwrap();
        let took = simulation::now() - began;
        book.expect(!attempt.is_pending(), || "it is still pending".to_owned());
        book.expect_nothing_left(&reactor);
        let outcome = outcome.borrow();
        book.expect(outcome.closed.len() == 1 && outcome.opened <= 1, || {
            format!("{outcome:?}")
        });
        let last = ATTEMPT_DELAY * addresses.len().saturating_sub(1) as u32;
        let has_answer = outcome.opened == 1;
        book.expect(!has_answer || took <= last.min(limit) + SLACK, || {
            format!(
                "an answer after {took:?} from {} addresses",
                addresses.len()
            )
        });
        let (least, most) = (limit.saturating_sub(SLACK), limit + SLACK);
        book.expect(
            !outcome.is_timed_out || (least..=most).contains(&took),
            || format!("timed out after {took:?} instead of {limit:?}"),
        );
        // With nothing that listens, each attempt is refused or hangs.
        let may_open = !listeners.is_empty();
        book.expect(may_open || !has_answer, || {
            "nothing has answered".to_owned()
        });
        drop(listeners);
        book.check(false);
    });
}
