//! Names of tests: those that the docs quote exist, and none is too long to read.

use std::collections::HashSet;

use crate::prose::code_spans;
use crate::{Result, assert_none, root, texts};

/// The longest name of a test, in characters.
const LONGEST: usize = 70;

/// A name with this many underscores, or more, is quoted as that of a test.
const UNDERSCORES: usize = 3;

/// Returns the names that a source declares by `fn`, with their lines.
fn functions(source: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(source.lines())
        .filter_map(|(number, line)| Some((number, function(line)?)))
}

/// Returns the name of the function that a line declares.
fn function(line: &str) -> Option<&str> {
    let line = line.trim_start();
    if line.starts_with("//") {
        return None;
    }
    let (before, after) = line.split_once("fn ")?;
    let is_start = before.is_empty() || before.ends_with(' ');
    let name = after
        .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .next()?;
    (is_start && !name.is_empty()).then_some(name)
}

/// Returns the last part of a path in a code span, if it is the name of a test.
fn quoted(span: &str) -> Option<&str> {
    let name = span.rsplit("::").next()?;
    let is_name = name
        .chars()
        .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    let underscores = name.trim_matches('_').matches('_').count();
    (is_name && underscores >= UNDERSCORES && !name.ends_with('_')).then_some(name)
}

/// Lists the names of tests that a page or the comments of a source quote and that do not exist.
fn unknown(path: &str, text: &str, known: &HashSet<&str>) -> Vec<String> {
    let mut faults = Vec::new();
    let is_page = !path.ends_with(".rs");
    for (number, line) in (1..).zip(text.lines()) {
        if is_page || line.trim_start().starts_with("//") {
            let names = code_spans(line)
                .filter_map(quoted)
                .filter(|name| !known.contains(name));
            faults.extend(names.map(|name| format!("{path}:{number}: `{name}`")));
        }
    }
    faults
}

/// Lists the tests whose names are too long: functions below an attribute that ends with `test]`.
fn long_names(path: &str, source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut is_test = false;
    for (number, line) in (1..).zip(source.lines()) {
        let line = line.trim();
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]");
        } else if let Some(name) = function(line) {
            if is_test && name.len() > LONGEST {
                faults.push(format!(
                    "{path}:{number}: {} characters: {name}",
                    name.len()
                ));
            }
            is_test = false;
        }
    }
    faults
}

#[test]
fn tests_that_docs_and_comments_quote_exist() -> Result {
    let sources = texts(root(), &["."], &["rs"])?;
    let known: HashSet<_> = sources
        .iter()
        .flat_map(|(_, source)| functions(source))
        .map(|(_, name)| name)
        .collect();
    let mut faults = Vec::new();
    for (path, text) in sources.iter().chain(&texts(root(), &["."], &["md"])?) {
        // The changelog names what there was.
        if !path.ends_with("CHANGELOG.md") {
            faults.extend(unknown(path, text, &known));
        }
    }
    assert_none(&faults, "a test that is quoted exists as a function");
    Ok(())
}

#[test]
fn names_of_tests_can_be_read() -> Result {
    let sources = texts(root(), &["."], &["rs"])?;
    let faults: Vec<_> = sources
        .iter()
        .flat_map(|(path, text)| long_names(path, text))
        .collect();
    assert_none(&faults, "the name of a test has at most 70 characters");
    Ok(())
}

#[test]
fn a_quoted_test_that_is_gone_is_found_in_pages_and_comments() {
    let known = HashSet::from(["a_test_that_exists"]);
    let page = "| `it::a_test_that_exists`, `it::a_test_that_went` | `two_words` `A_B_C_D` |";
    assert_eq!(
        unknown("p.md", page, &known),
        ["p.md:1: `a_test_that_went`"]
    );
    let source = "// Held by `a_test_that_went`.\nlet a = \"`not_in_a_comment`\";";
    assert_eq!(
        unknown("x.rs", source, &known),
        ["x.rs:1: `a_test_that_went`"]
    );
}

#[test]
fn a_long_name_is_found_below_its_attribute_and_nowhere_else() {
    let name = "x".repeat(LONGEST + 1);
    let source =
        format!("#[test]\n#[ignore]\npub fn {name}() {{}}\nfn {name}() {{}}\n// fn {name}()");
    assert_eq!(
        long_names("x.rs", &source),
        [format!("x.rs:3: 71 characters: {name}")]
    );
    let source = format!("#[test]\nfn {}() {{}}", "x".repeat(LONGEST));
    assert_eq!(long_names("x.rs", &source), [""; 0]);
}
