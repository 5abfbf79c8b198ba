//! calloop: a `Generic` source and a closure for each fd, level-triggered, as in its documentation.

mod tasks;

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use calloop::channel::{self, channel};
use calloop::generic::{Generic, NoIoDrop};
use calloop::ping::make_ping;
use calloop::timer::{TimeoutAction, Timer};
use calloop::{
    Dispatcher, EventLoop, EventSource, Interest, LoopHandle, Mode, Poll, PostAction, Readiness,
    Token, TokenFactory,
};
use workloads::chain::{self, Chain};
use workloads::deferred::{self, CALLBACKS_A_TURN, Op as LoopOp};
use workloads::echo::{self, Await, Echo, READ_MAX, listen};
use workloads::pingpong::{self, Rally, Side};
use workloads::registration;
use workloads::spike::{self, Form, Job, Tally, Task};
use workloads::timers::{self, Op, PUT_OFF_A_TURN, PUT_OFF_BY, Trial};
use workloads::{Result, Workload};

pub(crate) fn run(workload: &Workload) -> Result {
    match workload {
        Workload::Chain(options) => chain(options),
        Workload::Registration(options) => registration(options),
        Workload::Spike(options) if options.form == Form::Value => spike::<u64>(options),
        Workload::Spike(options) => spike::<Job>(options),
        Workload::Pingpong(options) => pingpong(options),
        Workload::Timers(options) => timers(options),
        Workload::Echo(options) if options.form == echo::Form::Task => tasks::echo(),
        Workload::Echo(_) => echo(),
        Workload::Deferred(options) => deferred(options),
        Workload::Tasks(options) => tasks::run(options),
        _ => crate::absent(),
    }
}

/// Returns the text of an error. The error itself may hold the source that was not inserted, which
/// is not needed here.
fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn chain(options: &chain::Options) -> Result {
    let (readers, chain) = Chain::new(options)?;
    let mut event_loop = EventLoop::<Chain>::try_new()?;
    for (place, reader) in readers.into_iter().enumerate() {
        let next = chain.after(place);
        let source = Generic::new(reader, Interest::READ, Mode::Level);
        let pass_on = move |_, reader: &mut NoIoDrop<_>, chain: &mut Chain| {
            chain.pass_on(&mut &**reader, next)?;
            Ok(PostAction::Continue)
        };
        event_loop
            .handle()
            .insert_source(source, pass_on)
            .map_err(told)?;
    }
    chain.measure(options, |chain| -> calloop::Result<()> {
        while !chain.is_done() {
            event_loop.dispatch(None, chain)?;
        }
        Ok(())
    })
}

fn registration(options: &registration::Options) -> Result {
    let event_loop = EventLoop::<u64>::try_new()?;
    registration::measure(options, |sources| {
        let step = 1;
        for source in sources {
            let source = Generic::new(source, Interest::READ, Mode::Level);
            let add = move |_, _: &mut _, sum: &mut u64| {
                *sum += step;
                Ok(PostAction::Continue)
            };
            event_loop
                .handle()
                .insert_source(source, add)
                .map_err(told)?;
        }
        Ok(event_loop)
    })
}

fn spike<T: Task>(options: &spike::Options) -> Result {
    let mut event_loop = EventLoop::<Tally>::try_new()?;
    let (sender, receiver) = channel();
    let run_task = |event, _: &mut (), tally: &mut Tally| {
        if let channel::Event::Msg(task) = event {
            T::run(task, tally);
        }
    };
    event_loop
        .handle()
        .insert_source(receiver, run_task)
        .map_err(told)?;
    let send = move |value| sender.send(T::new(value)).expect("the receiver exists");
    spike::measure(options, send, |tally| {
        while !tally.is_done() {
            event_loop.dispatch(None, tally)?;
        }
        Ok(None)
    })
}

fn pingpong(options: &pingpong::Options) -> Result {
    let (to_far, at_far) = make_ping()?;
    let (to_near, at_near) = make_ping()?;
    let mut rally = Rally::new(options)?;
    let round_trips = options.round_trips;
    let far = thread::spawn(move || -> std::result::Result<(), String> {
        Side::Far.pin().map_err(told)?;
        let mut event_loop = EventLoop::<usize>::try_new().map_err(told)?;
        let answer = move |(), _: &mut (), answered: &mut usize| {
            *answered += 1;
            to_near.ping();
        };
        event_loop
            .handle()
            .insert_source(at_far, answer)
            .map_err(told)?;
        let mut answered = 0;
        while answered < round_trips {
            event_loop.dispatch(None, &mut answered).map_err(told)?;
        }
        Ok(())
    });
    let mut event_loop = EventLoop::<Rally>::try_new()?;
    let first = to_far.clone();
    let again = move |(), _: &mut (), rally: &mut Rally| {
        if rally.returned() {
            rally.serve();
            to_far.ping();
        }
    };
    event_loop
        .handle()
        .insert_source(at_near, again)
        .map_err(told)?;
    rally.serve();
    first.ping();
    while !rally.is_done() {
        event_loop.dispatch(None, &mut rally)?;
    }
    far.join().map_err(|_| "the far side panicked")??;
    rally.report();
    Ok(())
}

fn timers(options: &timers::Options) -> Result {
    let mut event_loop = EventLoop::<usize>::try_new()?;
    let handle = event_loop.handle();
    let mut trial = Trial::begin(options)?;
    let (mut ran, now) = (0, Instant::now());
    let callback = |_, _: &mut (), ran: &mut usize| {
        *ran += 1;
        TimeoutAction::Drop
    };
    // Only timers that are re-armed must stay accessible.
    let (mut dispatchers, mut tokens) = (Vec::new(), Vec::with_capacity(trial.timers));
    for _ in 0..trial.timers {
        let timer = Timer::from_deadline(now + trial.delay());
        if trial.op == Op::PutOff {
            let dispatcher = Dispatcher::new(timer, callback);
            tokens.push(handle.register_dispatcher(dispatcher.clone())?);
            dispatchers.push(dispatcher);
        } else {
            tokens.push(handle.insert_source(timer, callback).map_err(told)?);
        }
    }
    trial.armed()?;
    match trial.op {
        Op::Cancel => tokens
            .into_iter()
            .take(trial.operations)
            .for_each(|token| handle.remove(token)),
        Op::Anew => {
            tokens.drain(..).for_each(|token| handle.remove(token));
            trial.cancelled();
            let now = Instant::now();
            for _ in 0..trial.timers {
                let timer = Timer::from_deadline(now + trial.delay());
                tokens.push(handle.insert_source(timer, callback).map_err(told)?);
            }
        }
        Op::Fire => {
            while ran < trial.timers {
                event_loop.dispatch(Duration::ZERO, &mut ran)?;
            }
        }
        Op::PutOff => {
            for _ in 0..trial.operations / PUT_OFF_A_TURN {
                let now = Instant::now();
                for place in trial.places() {
                    dispatchers[place]
                        .as_source_mut()
                        .set_deadline(now + PUT_OFF_BY);
                    handle.update(&tokens[place])?;
                }
                event_loop.dispatch(Duration::ZERO, &mut ran)?;
            }
        }
    }
    trial.report();
    Ok(())
}

/// A connection: a source that wraps another source and sets its interest.
struct Connection {
    socket: Generic<TcpStream>,
    echo: Echo,
    /// The read buffer of all connections.
    scratch: Rc<RefCell<Vec<u8>>>,
}

impl EventSource for Connection {
    type Event = ();
    type Metadata = ();
    type Ret = ();
    type Error = io::Error;

    fn process_events<F: FnMut((), &mut ())>(
        &mut self,
        readiness: Readiness,
        token: Token,
        _callback: F,
    ) -> io::Result<PostAction> {
        let Self {
            socket,
            echo,
            scratch,
        } = self;
        let mut next = Await::Nothing;
        socket.process_events(readiness, token, |_, stream| {
            // A connection that fails just ends.
            next = echo
                .exchange(&mut &**stream, &mut scratch.borrow_mut())
                .map_or(Await::Nothing, |(next, _)| next);
            Ok(PostAction::Continue)
        })?;
        let interest = match next {
            Await::Readable => Interest::READ,
            Await::Writable => Interest::WRITE,
            Await::Nothing => return Ok(PostAction::Remove),
        };
        if socket.interest.readable == interest.readable {
            return Ok(PostAction::Continue);
        }
        socket.interest = interest;
        Ok(PostAction::Reregister)
    }

    fn register(&mut self, poll: &mut Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.socket.register(poll, factory)
    }

    fn reregister(&mut self, poll: &mut Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.socket.reregister(poll, factory)
    }

    fn unregister(&mut self, poll: &mut Poll) -> calloop::Result<()> {
        self.socket.unregister(poll)
    }
}

fn echo() -> Result {
    let mut event_loop = EventLoop::<'static, ()>::try_new()?;
    let listener = Generic::new(listen()?, Interest::READ, Mode::Level);
    let (handle, scratch) = (
        event_loop.handle(),
        Rc::new(RefCell::new(vec![0; READ_MAX])),
    );
    let accept = move |_, listener: &mut NoIoDrop<TcpListener>, (): &mut ()| {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _peer)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(PostAction::Continue);
                }
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let socket = Generic::new(stream, Interest::READ, Mode::Level);
            let connection = Connection {
                socket,
                echo: Echo::default(),
                scratch: scratch.clone(),
            };
            handle
                .insert_source(connection, |(), _, (): &mut ()| ())
                .map_err(|error| io::Error::other(told(error)))?;
        }
    };
    event_loop
        .handle()
        .insert_source(listener, accept)
        .map_err(told)?;
    loop {
        event_loop.dispatch(None, &mut ())?;
    }
}

/// The number of callbacks that ran, and the number at which they end.
struct Callbacks {
    handle: LoopHandle<'static, Self>,
    ran: u64,
    goal: u64,
}

fn deferred(options: &deferred::Options) -> Result {
    let mut event_loop = EventLoop::<'static, Callbacks>::try_new()?;
    let goal = options.operations();
    let mut callbacks = Callbacks {
        handle: event_loop.handle(),
        ran: 0,
        goal,
    };
    match options.op {
        LoopOp::Deferred => {
            (0..CALLBACKS_A_TURN).for_each(|_| drop(callbacks.handle.insert_idle(again)))
        }
        LoopOp::Captured => {
            (0..CALLBACKS_A_TURN).for_each(|_| defer_adding(&callbacks.handle, 1, goal))
        }
        LoopOp::Empty => {}
    }
    deferred::measure(|| match options.op {
        LoopOp::Deferred | LoopOp::Captured => {
            while callbacks.ran < goal {
                event_loop.dispatch(Duration::ZERO, &mut callbacks)?;
            }
            Ok(callbacks.ran)
        }
        LoopOp::Empty => {
            for _ in 0..goal {
                event_loop.dispatch(Duration::ZERO, &mut callbacks)?;
            }
            Ok(goal)
        }
    })
}

fn again(callbacks: &mut Callbacks) {
    callbacks.ran += 1;
    if callbacks.ran < callbacks.goal {
        callbacks.handle.insert_idle(again);
    }
}

fn defer_adding(handle: &LoopHandle<'static, Callbacks>, step: u64, goal: u64) {
    handle.insert_idle(move |callbacks| {
        callbacks.ran += step;
        if callbacks.ran < goal {
            defer_adding(&callbacks.handle, step, goal);
        }
    });
}
