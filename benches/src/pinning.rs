//! Pins a measured program and the processes that it starts to one core.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use workloads::Result;

/// A core, of those that this process may run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Core {
    First,
    /// The last core, which has the fewest interrupts.
    Last,
}

/// Calls a function on one core. The processes that it starts run on the same core.
pub(crate) fn on_core<T>(core: Core, action: impl FnOnce() -> Result<T>) -> Result<T> {
    let all = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| all.is_set(core));
    let chosen = match core {
        Core::First => cores.next(),
        Core::Last => cores.next_back(),
    };
    let mut one = CpuSet::new();
    one.set(chosen.ok_or("no core to run on")?);
    sched_setaffinity(None, &one)?;
    let result = action();
    sched_setaffinity(None, &all)?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_on_one_core_leaves_all_cores_to_the_next() {
        let cores = || {
            sched_getaffinity(None).map(|set| {
                (0..CpuSet::MAX_CPU)
                    .filter(|&core| set.is_set(core))
                    .count()
            })
        };
        let before = cores().unwrap();
        assert_eq!(on_core(Core::First, || Ok(cores()?)).unwrap(), 1);
        assert_eq!(cores().unwrap(), before);
        assert!(on_core(Core::Last, || -> Result { Err("it fails".into()) }).is_err());
        assert_eq!(cores().unwrap(), before);
    }
}
