//! Signals by number and by name.

use std::fmt;
use std::io::{self, ErrorKind};

use signal_hook::consts;
use signal_hook::low_level::signal_name;

/// A signal, identified by its number. Displays as `SIGHUP` or `SIGRTMIN+3`, for example, or as
/// `signal 16` if the signal has no known name.
///
/// ```
/// use handlers::signal::Signal;
///
/// assert_eq!(Signal::TERM.as_raw(), 15);
/// assert_eq!(Signal::from_raw(15), Signal::TERM);
/// assert_eq!(Signal::TERM.to_string(), "SIGTERM");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

impl Signal {
    /// The terminal was closed. By convention, a daemon re-reads its configuration at this signal.
    pub const HUP: Self = Self(consts::SIGHUP);
    /// Ctrl-C was typed at the terminal.
    pub const INT: Self = Self(consts::SIGINT);
    /// Ctrl-\ was typed at the terminal.
    pub const QUIT: Self = Self(consts::SIGQUIT);
    /// A request to end. `kill` and service managers send this signal.
    pub const TERM: Self = Self(consts::SIGTERM);
    /// A signal for the program's own use.
    pub const USR1: Self = Self(consts::SIGUSR1);
    /// A signal for the program's own use.
    pub const USR2: Self = Self(consts::SIGUSR2);
    /// A child has ended, stopped or continued.
    pub const CHLD: Self = Self(consts::SIGCHLD);
    /// The terminal was resized.
    pub const WINCH: Self = Self(consts::SIGWINCH);
    /// Ctrl-Z was typed at the terminal.
    pub const TSTP: Self = Self(consts::SIGTSTP);
    /// The process continues after it was stopped.
    pub const CONT: Self = Self(consts::SIGCONT);
    /// The timer of `alarm(2)` or `setitimer(2)` has expired.
    pub const ALRM: Self = Self(consts::SIGALRM);
    /// The process has written to a pipe or socket that has no reader. Before `main`, Rust's
    /// runtime sets this signal to be ignored, so that the write fails with `EPIPE` instead.
    pub const PIPE: Self = Self(consts::SIGPIPE);
    /// Kills a process. It cannot be watched.
    pub const KILL: Self = Self(consts::SIGKILL);
    /// Stops a process. It cannot be watched.
    pub const STOP: Self = Self(consts::SIGSTOP);

    /// Returns the signal with this number, without a check. [`watch`](super::watch) reports an
    /// error if the signal cannot be watched.
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// Returns the number, as in `signal(7)`.
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// Returns the real-time signal `SIGRTMIN + offset`. Returns `None` if this number is greater
    /// than `SIGRTMAX`. With glibc, `SIGRTMAX` is `SIGRTMIN + 30`.
    ///
    /// ```
    /// use handlers::signal::Signal;
    ///
    /// let reload = Signal::real_time(3).expect("in range");
    /// assert_eq!(reload.to_string(), "SIGRTMIN+3");
    /// assert_eq!(Signal::real_time(200), None);
    /// ```
    pub fn real_time(offset: u8) -> Option<Self> {
        let number = libc::SIGRTMIN() + i32::from(offset);
        (number <= libc::SIGRTMAX()).then_some(Self(number))
    }

    /// Returns the index of the signal in a table of [`SIGNALS`] entries.
    pub(super) fn index(self) -> usize {
        usize::try_from(self.0).map_or(0, |number| number.min(SIGNALS - 1))
    }

    /// Checks if the signal can be watched, as far as this is known without asking the kernel.
    pub(super) fn check(self) -> io::Result<()> {
        let why = match self.0 {
            consts::SIGKILL | consts::SIGSTOP => "the kernel does not allow catching it",
            consts::SIGILL | consts::SIGFPE | consts::SIGSEGV => {
                "it reports a fault of the running thread, which would recur for ever"
            }
            1..=SIGNAL_MAX => return Ok(()),
            _ => "not a signal number: expected 1 to 64",
        };
        Err(io::Error::new(
            ErrorKind::InvalidInput,
            format!("{self} cannot be watched: {why}"),
        ))
    }
}

/// The highest signal number of Linux: `_NSIG` of the kernel.
const SIGNAL_MAX: i32 = 64;

/// The length of a table of all signals. Signal numbers start at 1.
pub(super) const SIGNALS: usize = SIGNAL_MAX as usize + 1;

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let real_time = self.0 - libc::SIGRTMIN();
        match signal_name(self.0) {
            Some(name) => f.write_str(name),
            None if real_time == 0 => f.write_str("SIGRTMIN"),
            None if real_time > 0 && self.0 <= libc::SIGRTMAX() => {
                write!(f, "SIGRTMIN+{real_time}")
            }
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_displayed_by_the_names_that_users_know() {
        let names = [
            Signal::HUP,
            Signal::KILL,
            Signal::real_time(0).unwrap(),
            Signal::real_time(3).unwrap(),
        ];
        assert_eq!(
            names.map(|signal| signal.to_string()),
            ["SIGHUP", "SIGKILL", "SIGRTMIN", "SIGRTMIN+3"]
        );
        assert_eq!(Signal::from_raw(-1).to_string(), "signal -1");
        assert_eq!(Signal::real_time(200), None);
    }
}
