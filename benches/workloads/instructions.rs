//! The chain in user-space instructions: the same on every run and every machine of one architecture.
//!
//! The difference of two run lengths, so that start and end do not count.

use std::process::Command;

use crate::Result;

const SHORT: u64 = 10_000;
const LONG: u64 = 30_000;

/// What is active at once, and the instructions that an event, and its share of a turn, may take.
const LIMITS: [(u64, f64); 2] = [(100, 165.0), (1, 240.0)];

pub(crate) fn run() -> Result {
    let mut over = Vec::new();
    for (active, limit) in LIMITS {
        let mut figures = Vec::new();
        for peer in ["mio", "reactor"] {
            let count = (instructions(peer, active, LONG)? - instructions(peer, active, SHORT)?) as f64;
            let figure = count / (LONG - SHORT) as f64;
            println!("{active} active, {peer}: {figure:.1} instructions an event");
            figures.push(figure);
        }
        if figures[1] > limit {
            over.push(format!("{active} active: {:.1} instead of {limit}", figures[1]));
        }
    }
    if over.is_empty() { Ok(()) } else { Err(over.join("; ").into()) }
}

fn instructions(peer: &str, active: u64, events: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["chain", "--peer", peer, "--a", &active.to_string(), "--w", &events.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    let count = report.split("Collected : ").nth(1).and_then(|rest| rest.split_whitespace().next());
    Ok(count.ok_or_else(|| format!("no count in {report}"))?.parse()?)
}
