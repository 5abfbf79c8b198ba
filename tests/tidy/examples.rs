//! The head of an example: what it shows, how to run it, and what to try.

use crate::{Result, assert_none, root, texts};

/// Lists what the head of an example lacks. The head is its `//!` lines. A module needs none.
fn lacks(path: &str, source: &str) -> Vec<String> {
    let Some(name) = name(path) else {
        return Vec::new();
    };
    let head: String = source
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect();
    let run = format!("--example {name}");
    let parts = ["Shows", "Run:", &run, "Try:"];
    let lacking = parts.iter().filter(|part| !head.contains(**part));
    lacking
        .map(|part| format!("{path}:1: no \"{part}\""))
        .collect()
}

/// Returns the name that cargo gives to an example, or `None` for a module of one.
fn name(path: &str) -> Option<&str> {
    let path = path.strip_prefix("examples/")?.strip_suffix(".rs")?;
    let name = path.strip_suffix("/main").unwrap_or(path);
    (!name.contains('/')).then_some(name)
}

#[test]
fn every_example_says_what_it_shows_and_how_to_run_it() -> Result {
    let sources = texts(root(), &["examples"], &["rs"])?;
    assert!(sources.len() > 5, "{}", sources.len());
    let faults: Vec<_> = sources
        .iter()
        .flat_map(|(path, source)| lacks(path, source))
        .collect();
    assert_none(&faults, "the head of an example has Shows, Run and Try");
    Ok(())
}

/// Returns the examples that a simulation includes as modules.
fn simulated(simulation: &str) -> impl Iterator<Item = &str> {
    let paths = simulation.split("#[path = \"").skip(1);
    let paths = paths.filter_map(|rest| rest.split('"').next());
    paths.filter_map(|path| path.find("examples/").map(|at| &path[at..]))
}

#[test]
fn the_head_of_a_simulated_example_names_its_simulation() -> Result {
    let examples = texts(root(), &["examples"], &["rs"])?;
    let mut pairs = Vec::new();
    for (simulation, source) in texts(root(), &["tests/simulation"], &["rs"])? {
        pairs.extend(simulated(&source).map(|example| (simulation.clone(), example.to_owned())));
    }
    assert!(pairs.len() >= 4, "{pairs:?}");
    let is_named = |(simulation, example): &&(String, String)| {
        let head = format!("//! Simulated: {simulation}");
        examples
            .iter()
            .any(|(path, source)| path == example && source.contains(&head))
    };
    let unnamed = pairs.iter().filter(|pair| !is_named(pair));
    let faults: Vec<_> = unnamed
        .map(|(simulation, example)| format!("{example}:1: no \"Simulated: {simulation}\""))
        .collect();
    assert_none(&faults, "a reader of an example sees where it is simulated");
    Ok(())
}

#[test]
fn a_whole_head_lacks_nothing_and_an_empty_one_everything() {
    let head = "//! Echo. Shows: sockets.\n//!\n//! Run: cargo run --example echo     Try: nc\n";
    assert_eq!(lacks("examples/echo.rs", head), [""; 0]);
    assert_eq!(
        lacks("examples/other/main.rs", head),
        ["examples/other/main.rs:1: no \"--example other\""]
    );
    assert_eq!(lacks("examples/echo.rs", "use std::io;\n").len(), 4);
}

#[test]
fn modules_of_an_example_need_no_head() {
    assert_eq!(name("examples/echo.rs"), Some("echo"));
    assert_eq!(name("examples/echo/main.rs"), Some("echo"));
    assert_eq!(name("examples/echo/part.rs"), None);
    assert_eq!(lacks("examples/echo/part.rs", "use std::io;\n"), [""; 0]);
}
