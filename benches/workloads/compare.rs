//! Ours and the peers in turn, round by round, so that a noisy machine is noisy for all of them; on one core, but for what takes two.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Result;

/// A program and its arguments.
type Runner = (&'static str, PathBuf, Vec<&'static str>);

/// What each of the programs prints.
const NS_PER_OP: &str = "ns_per_op";

pub(crate) fn run(rounds: usize) -> Result {
    let ours = std::env::current_exe()?;
    compare_threads(rounds, &ours)?;

    let mut one_core = CpuSet::new();
    one_core.set(std::thread::available_parallelism()?.get() - 1);
    sched_setaffinity(None, &one_core)?;

    let (chain_c, turn_c) = (compile("chain", &[])?, compile("turn", &[])?);
    for (title, arguments) in [
        ("chain, 1000 pipes, 100 active: ns an event", ["--n", "1000", "--a", "100"]),
        ("chain, 1000 pipes, 1 active: ns an event", ["--n", "1000", "--a", "1"]),
    ] {
        let with = |peer| [&["chain", "--peer", peer], &arguments[..]].concat();
        compare(
            title,
            NS_PER_OP,
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
        NS_PER_OP,
        rounds,
        &[
            ("epoll loop in C", turn_c.clone(), vec!["empty"]),
            ("mio", ours.clone(), vec!["turn", "--peer", "mio", "empty"]),
            ("reactor", ours.clone(), vec!["turn", "empty"]),
        ],
    )?;
    compare(
        "a deferred callback, 1000 a turn: ns",
        NS_PER_OP,
        rounds,
        &[("epoll loop in C", turn_c, vec!["deferred"]), ("reactor", ours.clone(), vec!["turn", "deferred"])],
    )?;
    compare_registrations(rounds, &ours)?;
    compare_timers(rounds, &ours)?;
    for (title, n) in [("a wait for any of 8 events: ns", "8"), ("a wait for any of 64 events: ns", "64")] {
        let by = |name, form| (name, ours.clone(), vec!["waits", form, "--n", n]);
        compare(title, NS_PER_OP, rounds, &[by("poll", "poll"), by("reactor", "event")])?;
    }
    let lateness_c = compile("lateness", &[])?;
    let runners = [("timerfd in C", lateness_c, vec![]), ("reactor", ours, vec!["lateness"])];
    for (title, figure) in [("99th percentile", NS_PER_OP), ("median", "ns_median")] {
        compare(&format!("how late a timer runs in high resolution, {title}: ns"), figure, rounds, &runners)?;
    }
    Ok(())
}

fn compare_registrations(rounds: usize, ours: &Path) -> Result {
    let by_hand = compile("registration", &[])?;
    for n in ["100", "18000"] {
        compare(
            &format!("a source registered, {n} in all: ns"),
            NS_PER_OP,
            rounds,
            &[
                ("FIONBIO and epoll_ctl in C", by_hand.clone(), vec![n]),
                ("epoll_ctl in C", by_hand.clone(), vec![n, "bare"]),
                ("mio", ours.to_owned(), vec!["registration", "--sources", n, "--mio"]),
                ("reactor", ours.to_owned(), vec!["registration", "--sources", n]),
            ],
        )?;
    }
    Ok(())
}

/// What takes two cores.
fn compare_threads(rounds: usize, ours: &Path) -> Result {
    let (spike_c, ping_pong_c) = (compile("spike", &["-pthread"])?, compile("ping_pong", &["-pthread"])?);
    let of_ours = |name, arguments: &[&'static str]| (name, ours.to_owned(), arguments.to_vec());
    compare(
        "a value to the loop of another thread, 1 000 000 at once: ns",
        NS_PER_OP,
        rounds,
        &[
            ("vector in C", spike_c, vec![]),
            of_ours("queue", &["spike", "value"]),
            of_ours("closures", &["spike", "closure"]),
        ],
    )?;
    compare(
        "to and fro between the loops of two threads, median: ns",
        NS_PER_OP,
        rounds,
        &[
            ("epoll loop in C", ping_pong_c, vec![]),
            of_ours("reactor", &["ping-pong"]),
            of_ours("reactor, spinning", &["ping-pong", "--spin"]),
        ],
    )
}

fn compare_timers(rounds: usize, ours: &Path) -> Result {
    let libev = match compile("timers", &["-lev"]) {
        Ok(program) => Some(program),
        Err(error) => {
            println!("\nlibev is missing from the comparison, install libev-dev: {error}");
            None
        }
    };
    for (title, op, figure) in [
        ("a timer armed, one of 1 000 000: ns", "cancel", "ns_arm"),
        ("a timer cancelled: ns", "cancel", NS_PER_OP),
        ("a timer run, 1 000 000 due at once: ns", "fire", NS_PER_OP),
        ("a timer put off, one of 100 000: ns", "put-off", NS_PER_OP),
    ] {
        let mut runners: Vec<Runner> = libev.iter().map(|libev| ("libev", libev.clone(), vec![op])).collect();
        if op != "fire" {
            runners.push(("tokio", ours.to_owned(), vec!["timers", "--peer", "tokio", op]));
        }
        runners.push(("reactor", ours.to_owned(), vec!["timers", op]));
        compare(title, figure, rounds, &runners)?;
    }
    Ok(())
}

/// Builds a peer that is written in C.
fn compile(name: &str, libraries: &[&str]) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(name).with_extension("c");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut cc = Command::new("cc");
    let status = cc.args(["-O2", "-Wall", "-o"]).arg(&program).arg(source).args(libraries).status()?;
    if status.success() { Ok(program) } else { Err(format!("cc: {status}").into()) }
}

/// Prints the median of each, with its spread, and the median of its ratios to the first.
fn compare(title: &str, figure: &str, rounds: usize, runners: &[Runner]) -> Result {
    let mut figures = vec![Vec::new(); runners.len()];
    for _ in 0..rounds {
        for ((_, program, arguments), figures) in runners.iter().zip(&mut figures) {
            figures.push(measure(program, arguments, figure)?);
        }
    }
    println!("\n{title}");
    for ((name, ..), own) in runners.iter().zip(&figures) {
        let ratios = own.iter().zip(&figures[0]).map(|(own, first)| own / first).collect();
        let (least, middle, most) = spread(own.clone());
        println!("  {name:17} {middle:8.1} ({least:.1} to {most:.1})   x {:.2}", spread(ratios).1);
    }
    Ok(())
}

/// Runs a program, which prints one line of JSON, and gives one figure of it.
fn measure(program: &Path, arguments: &[&str], figure: &str) -> Result<f64> {
    let output = Command::new(program).args(arguments).output()?;
    let text = String::from_utf8(output.stdout)?;
    let figure = text.split(&format!("\"{figure}\": ")).nth(1).and_then(|rest| rest.split([',', '}']).next());
    Ok(figure.ok_or_else(|| format!("{program:?}: {text} {}", String::from_utf8_lossy(&output.stderr)))?.parse()?)
}

/// Least, middle and greatest.
fn spread(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[0], figures[figures.len() / 2], figures[figures.len() - 1])
}
