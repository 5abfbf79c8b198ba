//! The tools that count, and the formats of their reports.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use workloads::Result;

/// Counts by name. A system call has its own name.
pub(super) type Counts = BTreeMap<String, f64>;

pub(super) const INSTRUCTIONS: &str = "instructions";
pub(super) const ALLOCATIONS: &str = "allocations";

/// A tool that counts over a whole run of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    /// Counts instructions in user space.
    Callgrind,
    /// Counts allocations.
    Memcheck,
    /// Counts the system calls of all threads.
    Strace,
}

impl Tool {
    pub(super) const ALL: [Self; 3] = [Self::Callgrind, Self::Memcheck, Self::Strace];

    /// Returns the name of the program, which is also the name of its package.
    pub(super) const fn program(self) -> &'static str {
        match self {
            Self::Callgrind | Self::Memcheck => "valgrind",
            Self::Strace => "strace",
        }
    }

    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::Callgrind => &["--tool=callgrind", "--callgrind-out-file=/dev/null"],
            Self::Memcheck => &[
                "--tool=memcheck",
                "--leak-check=no",
                "--undef-value-errors=no",
            ],
            // With `-I2`, strace passes on the SIGTERM that ends a server.
            Self::Strace => &["-I2", "-f", "-qq", "-c", "-U", "calls,name"],
        }
    }

    /// Returns the option that the path of the report is appended to.
    const fn report_option(self) -> &'static str {
        match self {
            Self::Callgrind | Self::Memcheck => "--log-file=",
            Self::Strace => "--output=",
        }
    }

    pub(super) fn is_installed(self) -> bool {
        Command::new(self.program())
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_ok()
    }

    /// Returns the names of the programs that are not installed. Each is also the name of its
    /// package.
    pub(super) fn missing() -> Vec<&'static str> {
        let mut programs: Vec<_> = Self::ALL
            .into_iter()
            .filter(|tool| !tool.is_installed())
            .map(Self::program)
            .collect();
        programs.dedup();
        programs
    }

    /// Returns a command that runs `command` under this tool, and writes the report to this file.
    pub(super) fn over(self, command: &Command, report: &Path) -> Command {
        let mut counted = Command::new(self.program());
        counted
            .args(self.options())
            .arg(format!("{}{}", self.report_option(), report.display()));
        counted.arg(command.get_program()).args(command.get_args());
        counted
    }

    /// Parses a report of this tool.
    ///
    /// # Errors
    /// The text is not a report of this tool, or its run was cut short.
    pub(super) fn parse(self, report: &str) -> Result<Counts> {
        let counts = match self {
            Self::Callgrind => {
                number_after(report, "Collected :").map(|count| (INSTRUCTIONS.to_owned(), count))
            }
            Self::Memcheck => number_after(report, "total heap usage:")
                .map(|count| (ALLOCATIONS.to_owned(), count)),
            Self::Strace => return system_calls(report),
        };
        Ok(Counts::from([counts.ok_or_else(|| {
            format!("{self:?} has not counted: {report}")
        })?]))
    }
}

/// Returns the number after a label. The number may have commas between its thousands.
fn number_after(report: &str, label: &str) -> Option<f64> {
    let (_, rest) = report.split_once(label)?;
    rest.split_whitespace()
        .next()?
        .replace(',', "")
        .parse()
        .ok()
}

/// Returns the lines of the table, without its head, its rulers and its sum.
fn system_calls(report: &str) -> Result<Counts> {
    let mut counts = Counts::new();
    for line in report.lines() {
        if let Some((count, name)) = line.trim().split_once(' ')
            && let Ok(count) = count.parse()
            && name.trim() != "total"
        {
            counts.insert(name.trim().to_owned(), count);
        }
    }
    if counts.is_empty() {
        Err(format!("strace has not counted: {report}").into())
    } else {
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callgrind_counts_the_instructions_of_a_run() {
        let report = "==7== Events    : Ir\n==7== Collected : 8456012\n==7== \n==7== I   refs:      8,456,012\n";
        assert_eq!(
            Tool::Callgrind.parse(report).unwrap(),
            Counts::from([(INSTRUCTIONS.to_owned(), 8_456_012.0)])
        );
        assert!(Tool::Callgrind.parse("==7== Command: true\n").is_err());
    }

    #[test]
    fn memcheck_counts_the_allocations_of_a_run() {
        let report = "==7== HEAP SUMMARY:\n==7==     in use at exit: 544 bytes in 1 blocks\n\
                      ==7==   total heap usage: 3,064 allocs, 3,063 frees, 130,124 bytes allocated\n";
        assert_eq!(
            Tool::Memcheck.parse(report).unwrap(),
            Counts::from([(ALLOCATIONS.to_owned(), 3064.0)])
        );
        assert!(Tool::Memcheck.parse("").is_err());
    }

    #[test]
    fn strace_counts_every_system_call_by_its_name() {
        let report = "    calls syscall\n--------- ------------------\n    30000 write\n      300 epoll_wait\n\
                      --------- ------------------\n    30300 total\n";
        let counts = Counts::from([
            ("write".to_owned(), 30_000.0),
            ("epoll_wait".to_owned(), 300.0),
        ]);
        assert_eq!(Tool::Strace.parse(report).unwrap(), counts);
        assert!(Tool::Strace.parse("").is_err());
    }
}
