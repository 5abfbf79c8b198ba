//! Our programs: each workload by this library.

mod chain;
mod deferred;
mod echo;
mod lateness;
mod pingpong;
mod registration;
mod spike;
mod tasks;
mod timers;
mod tls;
mod waits;
mod web;

use workloads::{Result, Workload};

pub(crate) fn run(workload: &Workload) -> Result {
    match workload {
        Workload::Chain(options) => chain::run(options),
        Workload::Registration(options) => registration::run(options),
        Workload::Spike(options) => spike::run(options),
        Workload::Pingpong(options) => pingpong::run(options),
        Workload::Timers(options) => timers::run(options),
        Workload::Lateness(options) => lateness::run(options),
        Workload::Echo(options) => echo::run(options),
        Workload::Tls(options) => tls::run(options),
        Workload::Waits(options) => waits::run(options),
        Workload::Deferred(options) => deferred::run(options),
        Workload::Tasks(options) => tasks::run(options),
        Workload::Web(options) => web::run(options),
    }
}
