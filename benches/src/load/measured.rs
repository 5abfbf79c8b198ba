//! The messages that came back in a slice, and the processor time of the server.

use std::time::Duration;

use workloads::Result;

/// The measurement of a slice, which begins and ends with a sleeping server.
pub(super) struct Measured<'a> {
    pub(super) elapsed: Duration,
    /// The processor time of the server.
    pub(super) processor: Duration,
    /// The round-trip time of each message, in nanoseconds.
    pub(super) took: &'a mut [u64],
}

impl Measured<'_> {
    pub(super) fn figures(self) -> Result<[(&'static str, f64); 4]> {
        let [median, late] = percentiles(self.took, [50, 99])?;
        let count = self.took.len() as f64;
        Ok([
            ("messages_per_s", count / self.elapsed.as_secs_f64()),
            ("us_median", median),
            ("us_99th", late),
            ("cpu_us", self.processor.as_secs_f64() * 1e6 / count),
        ])
    }
}

/// Sorts times in nanoseconds. Returns these percentiles of them in microseconds. Percentile 100 is
/// the longest time.
///
/// # Errors
/// There are no times.
pub(super) fn percentiles<const N: usize>(took: &mut [u64], at: [usize; N]) -> Result<[f64; N]> {
    took.sort_unstable();
    let last = took.len().checked_sub(1).ok_or("no message came back")?;
    Ok(at.map(|percent| took[(took.len() * percent / 100).min(last)] as f64 / 1e3))
}

/// Returns the processor time that a process has used, over all of its threads.
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    let mut ns = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(schedstat) = std::fs::read_to_string(thread?.path().join("schedstat")) else {
            return processor_ticks(pid);
        };
        ns += field(&schedstat, 0)?;
    }
    Ok(Duration::from_nanos(ns))
}

/// Returns the same time in ticks of the kernel, for kernels without statistics of the scheduler.
fn processor_ticks(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program, in brackets, may contain anything. After it, user time is the
    // twelfth field and system time the thirteenth.
    let (_, fields) = stat.rsplit_once(')').ok_or("/proc/PID/stat")?;
    let ticks = field(fields, 11)? + field(fields, 12)?;
    Ok(Duration::from_secs(1) * u32::try_from(ticks)?
        / u32::try_from(rustix::param::clock_ticks_per_second())?)
}

/// Returns one of the numbers of a line.
fn field(line: &str, place: usize) -> Result<u64> {
    Ok(line
        .split_whitespace()
        .nth(place)
        .ok_or("a field is missing in /proc")?
        .parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_count_all_messages_of_a_slice_in_any_order_of_return() {
        let mut took: Vec<_> = (1..=200).rev().map(|us| us * 1000).collect();
        let (elapsed, processor) = (Duration::from_millis(100), Duration::from_millis(1));
        let figures = Measured {
            elapsed,
            processor,
            took: &mut took,
        }
        .figures()
        .unwrap();
        let expected = [
            ("messages_per_s", 2000.0),
            ("us_median", 101.0),
            ("us_99th", 199.0),
            ("cpu_us", 5.0),
        ];
        assert_eq!(figures, expected);
        assert!(
            Measured {
                elapsed,
                processor,
                took: &mut []
            }
            .figures()
            .is_err()
        );
    }

    #[test]
    fn percentiles_of_one_time_few_times_and_a_hundred_are_times() {
        let of = |times: &[u64]| percentiles(&mut times.to_vec(), [0, 50, 99, 100]).unwrap();
        assert_eq!(of(&[7000]), [7.0; 4]);
        assert_eq!(of(&[9000, 1000]), [1.0, 9.0, 9.0, 9.0]);
        let hundreds: Vec<_> = (1..=200).map(|us| us * 1000).collect();
        assert_eq!(of(&hundreds), [1.0, 101.0, 199.0, 200.0]);
        assert!(percentiles(&mut [], [50]).is_err());
    }

    #[test]
    fn processor_time_is_read_and_is_an_error_without_a_process() {
        let own = std::process::id();
        let before = processor_ticks(own).unwrap();
        while processor_ticks(own).unwrap() == before {}
        assert!(processor_time(own).unwrap() >= Duration::from_millis(1));
        assert!(processor_time(u32::MAX).is_err());
    }
}
