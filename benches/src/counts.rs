//! Counts of system calls, instructions and allocations for one operation. They are the same on
//! every run.
//!
//! Each count is the difference of two run lengths, so it leaves out start and end.

mod guard;
mod tool;

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::NamedTempFile;
use workloads::Result;

use self::guard::{Book, Difference, differences};
use self::tool::{ALLOCATIONS, Counts, INSTRUCTIONS, Tool};
use crate::absence::{Absence, nobody_failed};
use crate::catalogue::{Case, Cores, Counted, with_option};
use crate::certificate::Certificate;
use crate::choice::Choice;
use crate::contestant::{Contestant, Origin};
use crate::measure::measure;
use crate::pinning::{Core, on_core};
use crate::process::succeed;
use crate::progress::progress;
use crate::server::Server;
use crate::workshop::Workshop;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    choice: Choice,
    /// Count our own programs, and fail if the counts differ from this file
    #[arg(long, value_name = "FILE", conflicts_with = "only")]
    check: Option<PathBuf>,
    /// Count our own programs, and write the counts to this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["workloads", "only", "check"])]
    write: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result {
    let mut cases = options.choice.cases();
    cases.retain(|case| case.counted.is_some());
    if let Some(file) = &options.check {
        let mut written = read(file)?;
        let cases = guarded(cases);
        if !options.choice.workloads.is_empty() {
            written.retain(|title, _| cases.iter().any(|case| case.title == title));
        }
        return check(&written, &book(&cases)?, file);
    }
    if let Some(file) = &options.write {
        return Ok(std::fs::write(
            file,
            serde_json::to_string_pretty(&book(&guarded(cases))?)? + "\n",
        )?);
    }
    let tools = Tool::ALL
        .into_iter()
        .filter(|tool| tool.is_installed())
        .collect();
    Tool::missing()
        .iter()
        .for_each(|program| eprintln!("{program} is not installed (Debian package: {program})"));
    let tables = count(&cases, tools)?;
    tables.iter().for_each(|table| print!("{table}"));
    nobody_failed(tables.iter().map(|table| (table.title, &*table.missing)))
}

/// Returns the cases that are checked, with our own programs alone. Cases with several threads are
/// left out, since their counts vary from run to run.
fn guarded(mut cases: Vec<Case>) -> Vec<Case> {
    for case in &mut cases {
        // The first contestant is the base of the ratios, even if this program implements it.
        case.contestants = case.contestants.split_off(1);
        case.contestants
            .retain(|contestant| contestant.origin == Origin::Ours);
    }
    cases.retain(|case| case.cores != Cores::All && !case.contestants.is_empty());
    cases
}

/// Returns `true` for a figure that is not checked, since it may differ from run to run.
fn is_by_chance(case: &Case, figure: &str) -> bool {
    // The memory of a process grows in steps that depend on its place in the address space. The
    // allocations show how much memory it uses.
    let grows = ["brk", "madvise", "mmap", "mremap", "munmap"].contains(&figure);
    // With several connections, the timing of client and server decides how many of them are ready
    // at a wait, and how often the listener finds no further one. TLS shows the latter, since each
    // handshake takes a while.
    let is_timing = matches!(case.cores, Cores::Server(load) if load.connections > 1)
        && (figure.starts_with("epoll_") || figure == "accept4");
    grows || is_timing
}

/// Returns the counts that are checked.
fn book(cases: &[Case]) -> Result<Book> {
    let missing = Tool::missing();
    if !missing.is_empty() {
        return Err(format!("not installed (Debian packages): {}", missing.join(" ")).into());
    }
    let tables = count(cases, Tool::ALL.to_vec())?;
    if let Some((case, (name, why))) = tables
        .iter()
        .find_map(|table| Some((table.title, table.missing.first()?)))
    {
        return Err(format!("{case}, {name}: {why}").into());
    }
    let books = tables.into_iter().zip(cases).map(|(table, case)| {
        let rows = table.rows.into_iter().map(|mut row| {
            row.counts.retain(|figure, _| !is_by_chance(case, figure));
            (row.name.to_owned(), row.counts)
        });
        (case.title.to_owned(), rows.collect())
    });
    Ok(books.collect())
}

fn read(file: &Path) -> Result<Book> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?)
}

fn check(written: &Book, measured: &Book, file: &Path) -> Result {
    let found = differences(written, measured);
    if found.is_empty() {
        println!(
            "the counts of {} cases agree with {}",
            measured.len(),
            file.display()
        );
        return Ok(());
    }
    found.iter().for_each(|difference| println!("{difference}"));
    let which = if found.iter().all(Difference::is_improvement) {
        "The counts are lower"
    } else {
        "If the change is intended"
    };
    Err(format!(
        "{which}: record them by `peers counts --write {}`",
        file.display()
    )
    .into())
}

/// The counts of one operation, for each contestant of a case.
struct Table {
    title: &'static str,
    rows: Vec<Row>,
    /// The contestants that did not take part, with the reasons.
    missing: Vec<(&'static str, Absence)>,
}

struct Row {
    name: &'static str,
    counts: Counts,
    /// The resident bytes of one handler, timer or connection, as the program reports them.
    bytes: Option<f64>,
}

fn count(cases: &[Case], tools: Vec<Tool>) -> Result<Vec<Table>> {
    let contestants: usize = cases.iter().map(|case| case.contestants.len()).sum();
    let progress = progress(contestants as u64)?;
    let mut counter = Counter {
        workshop: Workshop::open(Certificate::new()?)?,
        tools,
    };
    let mut tables = Vec::new();
    for case in cases {
        let mut table = Table {
            title: case.title,
            rows: Vec::new(),
            missing: Vec::new(),
        };
        for contestant in &case.contestants {
            progress.set_message(format!("{}, {}", case.title, contestant.name));
            match counter.row(case, contestant) {
                Ok(row) => table.rows.push(row),
                Err(why) => table.missing.push((contestant.name, why)),
            }
            progress.inc(1);
        }
        tables.push(table);
    }
    progress.finish_and_clear();
    Ok(tables)
}

/// Counts by the installed tools.
struct Counter {
    workshop: Workshop,
    tools: Vec<Tool>,
}

impl Counter {
    /// Returns the counts of one operation of a contestant.
    ///
    /// # Errors
    /// The program or library that is missing, or the failure.
    fn row(&mut self, case: &Case, contestant: &Contestant) -> std::result::Result<Row, Absence> {
        if let Some(Counted { option, .. }) = case.counted
            && contestant.extra.contains(&option)
        {
            return Err(Absence::Missing(format!(
                "not counted, since it sets {option} itself"
            )));
        }
        let command = self.workshop.command(contestant, case.arguments)?;
        self.counted(command, case, contestant)
            .map_err(|error| Absence::failed("failed", &error))
    }

    fn counted(
        &mut self,
        mut command: Command,
        case: &Case,
        contestant: &Contestant,
    ) -> Result<Row> {
        let mut row = Row {
            name: contestant.name,
            counts: Counts::new(),
            bytes: None,
        };
        if let Some(counted) = case.counted {
            for tool in self.tools.clone() {
                // valgrind runs one thread at a time. So the threads of two loops would meet in an
                // order that never occurs without valgrind.
                if case.cores != Cores::All || tool == Tool::Strace {
                    row.counts
                        .extend(self.per_operation(tool, case, contestant, counted)?);
                }
            }
        }
        if case.figures.iter().any(|figure| figure.name == "bytes") {
            row.bytes = measure(&mut command, case.cores)?.get("bytes").copied();
        }
        Ok(row)
    }

    fn per_operation(
        &mut self,
        tool: Tool,
        case: &Case,
        contestant: &Contestant,
        counted: Counted,
    ) -> Result<Counts> {
        let mut whole = |length: u32| -> Result<Counts> {
            let length = length.to_string();
            let arguments = match case.cores {
                // The client sets the number of messages.
                Cores::Server(_) => case.arguments.to_vec(),
                Cores::One | Cores::All => with_option(case.arguments, counted.option, &length),
            };
            let program = self
                .workshop
                .command(contestant, &arguments)
                .map_err(|why| why.to_string())?;
            let report = NamedTempFile::new()?;
            let mut command = tool.over(&program, report.path());
            run_whole(&mut command, case.cores, &length)
                .and_then(|()| tool.parse(&std::fs::read_to_string(report.path())?))
                .map_err(|error| format!("{command:?}: {error}").into())
        };
        let (short, long) = (whole(counted.short)?, whole(counted.long)?);
        Ok(difference(&short, &long, counted.long - counted.short))
    }
}

/// Runs a program to its end. A server gets a client that exchanges this number of messages, and is
/// then stopped.
fn run_whole(command: &mut Command, cores: Cores, messages: &str) -> Result {
    match cores {
        Cores::One => on_core(Core::Last, || succeed(command)).map(drop),
        Cores::All => succeed(command).map(drop),
        Cores::Server(load) => {
            let mut server = Server::start(command)?;
            server.exchange(load, messages)?;
            server.stop()
        }
    }
}

/// Returns the counts of one operation: the difference of the two runs, divided by the number of
/// operations. System calls of start and end vanish.
fn difference(short: &Counts, long: &Counts, operations: u32) -> Counts {
    let names = short.keys().chain(long.keys());
    let counts = names.map(|name| {
        let [short, long] = [short, long].map(|counts| counts.get(name).copied().unwrap_or(0.0));
        let digits = if name == INSTRUCTIONS { 10.0 } else { 1000.0 };
        (
            name.clone(),
            rounded((long - short) / f64::from(operations), digits),
        )
    });
    counts
        .filter(|(name, count)| {
            *count != 0.0 || [INSTRUCTIONS, ALLOCATIONS].contains(&name.as_str())
        })
        .collect()
}

/// Rounds a count. Adding 0 turns -0 into 0.
fn rounded(count: f64, digits: f64) -> f64 {
    (count * digits).round() / digits + 0.0
}

impl Display for Table {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "\n{}: counts of an operation", self.title)?;
        writeln!(
            out,
            "  {:22} {INSTRUCTIONS:>12} {ALLOCATIONS:>11} {:>6}  system calls",
            "", "bytes"
        )?;
        for Row {
            name,
            counts,
            bytes,
        } in &self.rows
        {
            let tell = |count: Option<&f64>, digits| {
                count.map_or_else(|| "-".to_owned(), |count| format!("{count:.digits$}"))
            };
            let (instructions, allocations) = (counts.get(INSTRUCTIONS), counts.get(ALLOCATIONS));
            write!(
                out,
                "  {name:22} {:>12} {:>11}",
                tell(instructions, 1),
                tell(allocations, 3)
            )?;
            write!(out, " {:>6} ", tell(bytes.as_ref(), 0))?;
            let calls = counts
                .iter()
                .filter(|(name, _)| ![INSTRUCTIONS, ALLOCATIONS].contains(&name.as_str()));
            for (place, (call, count)) in calls.enumerate() {
                write!(out, "{} {call} {count}", if place == 0 { "" } else { "," })?;
            }
            writeln!(out)?;
        }
        self.missing
            .iter()
            .try_for_each(|(name, why)| writeln!(out, "  {name:22} missing: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_that_both_run_lengths_have_do_not_count() {
        let counts = |figures: &[(&str, f64)]| -> Counts {
            figures
                .iter()
                .map(|&(name, count)| (name.to_owned(), count))
                .collect()
        };
        let short = counts(&[
            (INSTRUCTIONS, 5000.0),
            (ALLOCATIONS, 70.0),
            ("execve", 1.0),
            ("read", 10.0),
            ("brk", 3.0),
        ]);
        let long = counts(&[
            (INSTRUCTIONS, 6574.0),
            (ALLOCATIONS, 70.0),
            ("execve", 1.0),
            ("read", 20.0),
        ]);
        let expected = counts(&[
            (INSTRUCTIONS, 157.4),
            (ALLOCATIONS, 0.0),
            ("read", 1.0),
            ("brk", -0.3),
        ]);
        assert_eq!(difference(&short, &long, 10), expected);
    }
}
