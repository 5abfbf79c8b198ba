//! Ours and the peers in turn, round by round on one core, so that a noisy machine is noisy for all of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Result;

/// A program and its arguments.
type Runner = (&'static str, PathBuf, Vec<&'static str>);

pub(crate) fn run(rounds: usize) -> Result {
    let mut one_core = CpuSet::new();
    one_core.set(std::thread::available_parallelism()?.get() - 1);
    sched_setaffinity(None, &one_core)?;

    let ours = std::env::current_exe()?;
    let (chain_c, turn_c) = (compile("chain")?, compile("turn")?);
    for (title, arguments) in [
        ("chain, 1000 pipes, 100 active: ns an event", ["--n", "1000", "--a", "100"]),
        ("chain, 1000 pipes, 1 active: ns an event", ["--n", "1000", "--a", "1"]),
    ] {
        let with = |peer| [&["chain", "--peer", peer], &arguments[..]].concat();
        compare(
            title,
            rounds,
            &[
                ("epoll loop in C", chain_c.clone(), arguments.to_vec()),
                ("mio", ours.clone(), with("mio")),
                ("reactor", ours.clone(), with("reactor")),
            ],
        )?;
    }
    compare(
        "a turn without events: ns",
        rounds,
        &[
            ("epoll loop in C", turn_c.clone(), vec!["empty"]),
            ("mio", ours.clone(), vec!["turn", "--peer", "mio", "empty"]),
            ("reactor", ours.clone(), vec!["turn", "empty"]),
        ],
    )?;
    compare(
        "a deferred callback, 1000 a turn: ns",
        rounds,
        &[("epoll loop in C", turn_c, vec!["deferred"]), ("reactor", ours, vec!["turn", "deferred"])],
    )
}

/// Builds a peer that is written in C.
fn compile(name: &str) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(name).with_extension("c");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let status = Command::new("cc").args(["-O2", "-Wall", "-o"]).arg(&program).arg(source).status()?;
    if status.success() { Ok(program) } else { Err(format!("cc: {status}").into()) }
}

/// Prints the median of each, with its spread, and the median of its ratios to the first.
fn compare(title: &str, rounds: usize, runners: &[Runner]) -> Result {
    let mut figures = vec![Vec::new(); runners.len()];
    for _ in 0..rounds {
        for ((_, program, arguments), figures) in runners.iter().zip(&mut figures) {
            figures.push(measure(program, arguments)?);
        }
    }
    println!("\n{title}");
    for ((name, ..), own) in runners.iter().zip(&figures) {
        let ratios = own.iter().zip(&figures[0]).map(|(own, first)| own / first).collect();
        let (least, middle, most) = spread(own.clone());
        println!("  {name:16} {middle:8.1} ({least:.1} to {most:.1})   x {:.2}", spread(ratios).1);
    }
    Ok(())
}

/// Runs a program, which prints one line of JSON, and gives its `ns_per_op`.
fn measure(program: &Path, arguments: &[&str]) -> Result<f64> {
    let output = Command::new(program).args(arguments).output()?;
    let text = String::from_utf8(output.stdout)?;
    let figure = text.split("\"ns_per_op\": ").nth(1).and_then(|rest| rest.split([',', '}']).next());
    Ok(figure.ok_or_else(|| format!("{program:?}: {text} {}", String::from_utf8_lossy(&output.stderr)))?.parse()?)
}

/// Least, middle and greatest.
fn spread(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[0], figures[figures.len() / 2], figures[figures.len() - 1])
}
