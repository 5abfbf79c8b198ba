//! The cost of a request context: instructions and allocations for each way of handing work on.
//!
//! Run: `cargo run --release -p benches --features request-context --bin contexts`. Without the
//! feature it prints the counts of a loop that carries no context.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use reactor::{Capacity, Context, Interest, Next, Reactor, Registry, Then, notification_queue};
use tempfile::NamedTempFile;
use workloads::Result;

#[path = "../counts/tool.rs"]
#[expect(dead_code, reason = "the other program counts system calls too")]
mod tool;

use tool::{ALLOCATIONS, INSTRUCTIONS, Tool};

/// The numbers of operations of the two runs. Their difference leaves out start and end.
const LENGTHS: [u32; 2] = [2000, 10_000];

/// The operations in a turn.
const AT_A_TIME: u32 = 100;

#[derive(Parser)]
struct Options {
    /// Run this operation alone; if missing, count all
    operation: Option<Operation>,
    #[arg(long, default_value = "none")]
    context: Kind,
    #[arg(long, default_value_t = 1000)]
    operations: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Operation {
    /// A readable event, and the byte that causes it
    Event,
    /// A timer that is armed and runs once
    Timer,
    /// A timer that runs again
    Tick,
    /// A deferred callback
    Deferred,
    /// A posted closure
    Post,
    /// A value of a queue
    Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// No context
    None,
    /// A context with a value
    Value,
    /// A context with a span, and a subscriber that keeps its spans
    Span,
}

fn main() -> Result {
    let options = Options::parse();
    match options.operation {
        Some(operation) => in_context(options.context, || operate(operation, options.operations)),
        None => count_all(),
    }
}

#[cfg(feature = "request-context")]
fn in_context(kind: Kind, operate: impl FnOnce() -> Result) -> Result {
    use reactor::RequestContext;
    use tracing::info_span;

    match kind {
        Kind::None => operate(),
        Kind::Value => RequestContext::NONE.with(7_u64).scope(operate),
        Kind::Span => {
            tracing::subscriber::set_global_default(tracing_subscriber::registry())?;
            RequestContext::NONE
                .with_span(info_span!("request"))
                .scope(operate)
        }
    }
}

#[cfg(not(feature = "request-context"))]
fn in_context(_: Kind, operate: impl FnOnce() -> Result) -> Result {
    operate()
}

/// The callbacks that have run.
type State = u32;

fn operate(operation: Operation, operations: u32) -> Result {
    let mut reactor = Reactor::<State>::new()?;
    let mut ran = 0;
    match operation {
        Operation::Event => {
            let (reader, mut writer) = io::pipe()?;
            writer.write_all(b"x")?;
            reactor.add(reader, Interest::READABLE, move |reader, cx| {
                reader.read_exact(&mut [0])?;
                *cx.state += 1;
                writer.write_all(b"x")?;
                Ok(Next::Keep)
            })?;
            turn_until(&mut reactor, &mut ran, operations)
        }
        Operation::Timer => {
            (0..AT_A_TIME).for_each(|_| arm(&mut reactor));
            turn_until(&mut reactor, &mut ran, operations)
        }
        Operation::Tick => {
            for _ in 0..AT_A_TIME {
                reactor.after(Duration::ZERO, |cx| {
                    *cx.state += 1;
                    Ok(Then::After(Duration::ZERO))
                });
            }
            turn_until(&mut reactor, &mut ran, operations)
        }
        Operation::Deferred => {
            (0..AT_A_TIME).for_each(|_| _ = reactor.defer(again));
            turn_until(&mut reactor, &mut ran, operations)
        }
        Operation::Post => {
            let remote = reactor.remote()?;
            while ran < operations {
                for _ in 0..AT_A_TIME {
                    remote.post(|cx| *cx.state += 1)?;
                }
                reactor.turn(&mut ran, Some(Duration::ZERO))?;
            }
            Ok(())
        }
        Operation::Value => {
            let (sender, receiver) = notification_queue(Capacity::Unbounded);
            let key = reactor.consume(receiver, |value: Option<u32>, cx| {
                *cx.state += value.unwrap_or_default();
                Ok(Next::Keep)
            })?;
            forget_context(&mut reactor, key)?;
            while ran < operations {
                (0..AT_A_TIME).try_for_each(|_| sender.try_send(1))?;
                reactor.turn(&mut ran, Some(Duration::ZERO))?;
            }
            Ok(())
        }
    }
}

/// The values bring their contexts, and the queue has none.
#[cfg(feature = "request-context")]
fn forget_context(reactor: &mut Registry<State>, key: reactor::Key) -> Result {
    Ok(reactor.set_context(key, reactor::RequestContext::NONE)?)
}

#[cfg(not(feature = "request-context"))]
fn forget_context(_: &mut Registry<State>, _: reactor::Key) -> Result {
    Ok(())
}

fn turn_until(reactor: &mut Reactor<State>, ran: &mut State, operations: u32) -> Result {
    while *ran < operations {
        reactor.turn(ran, Some(Duration::ZERO))?;
    }
    Ok(())
}

fn arm(registry: &mut Registry<State>) {
    registry.after(Duration::ZERO, |cx| {
        *cx.state += 1;
        arm(cx.registry);
        Ok(Then::Done)
    });
}

fn again(cx: &mut Context<'_, State>) {
    *cx.state += 1;
    cx.registry.defer(again);
}

/// Prints a table of all operations.
fn count_all() -> Result {
    let mut table =
        String::from("| handed on | none set | a value | a span |\n| --- | --- | --- | --- |\n");
    for operation in Operation::value_variants() {
        write!(table, "| {operation:?} |")?;
        for kind in Kind::value_variants() {
            let instructions = per_operation(Tool::Callgrind, INSTRUCTIONS, *operation, *kind)?;
            let allocations = per_operation(Tool::Memcheck, ALLOCATIONS, *operation, *kind)?;
            write!(table, " {instructions:.1}, {allocations:.1} |")?;
        }
        table.push('\n');
    }
    println!("{table}");
    Ok(())
}

fn per_operation(tool: Tool, figure: &str, operation: Operation, kind: Kind) -> Result<f64> {
    let [short, long] = LENGTHS.map(|length| whole(tool, figure, operation, kind, length));
    Ok((long? - short?) / f64::from(LENGTHS[1] - LENGTHS[0]))
}

fn whole(tool: Tool, figure: &str, operation: Operation, kind: Kind, length: u32) -> Result<f64> {
    let report = NamedTempFile::new()?;
    let mut program = Command::new(std::env::current_exe()?);
    let name = |value: Option<clap::builder::PossibleValue>| {
        value
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    };
    program.args([name(operation.to_possible_value()), "--context".to_owned()]);
    program.args([
        name(kind.to_possible_value()),
        format!("--operations={length}"),
    ]);
    let mut counted = tool.over(&program, report.path());
    if !counted.status()?.success() {
        return Err(format!("{counted:?} failed").into());
    }
    count(tool, report.path(), figure)
}

fn count(tool: Tool, report: &Path, figure: &str) -> Result<f64> {
    let counts = tool.parse(&std::fs::read_to_string(report)?)?;
    Ok(counts.get(figure).copied().unwrap_or_default())
}
