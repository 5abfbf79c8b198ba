//! Channels to a thread without a loop: the cost of passing values alone.

use std::sync::mpsc;
use std::thread;

use workloads::pingpong::{self, Rally, Side};
use workloads::spike::{self, Form, Job, Task};
use workloads::{Result, Workload};

/// A library of channels.
pub(crate) trait Channels {
    /// Opens a channel. Returns a function that sends, and a function that receives. The latter
    /// returns `None` when the sender has been dropped.
    fn open<T: Send + 'static>() -> (
        impl Fn(T) + Send + 'static,
        impl FnMut() -> Option<T> + Send + 'static,
    );
}

/// The channels of the standard library.
pub(crate) struct Std;

impl Channels for Std {
    fn open<T: Send + 'static>() -> (
        impl Fn(T) + Send + 'static,
        impl FnMut() -> Option<T> + Send + 'static,
    ) {
        let (sender, receiver) = mpsc::channel();
        (
            move |value| sender.send(value).expect("the receiver exists"),
            move || receiver.recv().ok(),
        )
    }
}

/// The channels of the crate crossbeam-channel.
pub(crate) struct Crossbeam;

impl Channels for Crossbeam {
    fn open<T: Send + 'static>() -> (
        impl Fn(T) + Send + 'static,
        impl FnMut() -> Option<T> + Send + 'static,
    ) {
        let (sender, receiver) = crossbeam_channel::unbounded();
        (
            move |value| sender.send(value).expect("the receiver exists"),
            move || receiver.recv().ok(),
        )
    }
}

pub(crate) fn run<C: Channels>(workload: &Workload) -> Result {
    match workload {
        Workload::Spike(options) if options.form == Form::Value => spike::<C, u64>(options),
        Workload::Spike(options) => spike::<C, Job>(options),
        Workload::Pingpong(options) => pingpong::<C>(options),
        _ => crate::absent(),
    }
}

fn spike<C: Channels, T: Task>(options: &spike::Options) -> Result {
    let (send, mut receive) = C::open::<T>();
    spike::measure(
        options,
        move |value| send(T::new(value)),
        |tally| {
            while let Some(task) = receive() {
                task.run(tally);
            }
            Ok(None)
        },
    )
}

fn pingpong<C: Channels>(options: &pingpong::Options) -> Result {
    let ((to_far, mut at_far), (to_near, mut at_near)) = (C::open::<()>(), C::open::<()>());
    let mut rally = Rally::new(options)?;
    let far = thread::spawn(move || {
        Side::Far.pin().expect("there is such a core");
        while let Some(ball) = at_far() {
            to_near(ball);
        }
    });
    loop {
        rally.serve();
        to_far(());
        at_near().ok_or("the far side has ended")?;
        if !rally.returned() {
            break;
        }
    }
    drop(to_far);
    far.join().map_err(|_| "the far side panicked")?;
    rally.report();
    Ok(())
}
