//! Links between the pages: files that exist, headings that exist, and paths in code spans.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::prose::{code_spans, doc_comments, numbered, without_code};
use crate::{Result, assert_none, root, texts};

/// Folders at the root. A code span that begins with one of them names a file or a folder.
const FOLDERS: [&str; 5] = ["benches/", "crates/", "docs/", "examples/", "tests/"];

/// Returns the target of every link of a page, with its line.
fn targets(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in without_code(&numbered(page)) {
        for (index, part) in line.split("](").enumerate() {
            if let Some((target, _)) = part.split_once(')').filter(|_| index > 0) {
                found.push((number, target.to_owned()));
            }
        }
        if let Some((_, target)) = line.split_once("]: ").filter(|_| line.starts_with('[')) {
            found.push((number, target.trim().to_owned()));
        }
    }
    found
}

/// Returns the anchors of the headings of a page, made as GitHub makes them.
fn anchors(page: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (_, line) in without_code(&numbered(page)) {
        let level = line.len() - line.trim_start_matches('#').len();
        if level == 0 || !line.trim_start_matches('#').starts_with(' ') {
            continue;
        }
        let shown = line.get(level..).unwrap_or_default().trim().to_lowercase();
        let is_kept = |letter: &char| letter.is_alphanumeric() || " -_".contains(*letter);
        let anchor = shown
            .chars()
            .filter(is_kept)
            .collect::<String>()
            .replace(' ', "-");
        let count = seen.entry(anchor.clone()).or_default();
        found.push(if *count == 0 {
            anchor
        } else {
            format!("{anchor}-{count}")
        });
        *count += 1;
    }
    found
}

/// Lists the links of a page whose file or heading does not exist.
/// `read` returns the text of a file, empty for a folder, or `None` if there is nothing.
fn broken(path: &str, page: &str, read: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let is_broken = |target: &str| {
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let file = if file.is_empty() {
            PathBuf::from(path)
        } else {
            folder.join(file)
        };
        let Some(text) = read(&file) else { return true };
        let line = anchor
            .strip_prefix('L')
            .and_then(|line| line.parse::<usize>().ok());
        match line {
            _ if anchor.is_empty() => false,
            Some(line) => line > text.lines().count(),
            None => !anchors(&text).iter().any(|known| known == anchor),
        }
    };
    let outside = |target: &str| target.contains("://") || target.starts_with("mailto:");
    let links = targets(page).into_iter();
    let broken = links.filter(|(_, target)| !outside(target) && is_broken(target));
    broken
        .map(|(line, target)| format!("{path}:{line}: {target}"))
        .collect()
}

/// Lists the code spans that name a path of the tree, if there is none. `*` and `<` are patterns.
fn missing_paths(
    path: &str,
    lines: &[(usize, &str)],
    exists: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in without_code(lines) {
        for span in code_spans(line) {
            let is_path = FOLDERS.iter().any(|folder| span.starts_with(folder));
            let is_plain = !span.contains([' ', '*', '<', '{', '…']);
            if is_path && is_plain && !exists(span) {
                faults.push(format!("{path}:{number}: `{span}`"));
            }
        }
    }
    faults
}

fn read(path: &Path) -> Option<String> {
    let path = root().join(path);
    if path.is_dir() {
        Some(String::new())
    } else {
        fs::read_to_string(path).ok()
    }
}

#[test]
fn links_between_pages_lead_somewhere() -> Result {
    let pages = texts(root(), &["."], &["md"])?;
    let faults: Vec<_> = pages
        .iter()
        .flat_map(|(path, page)| broken(path, page, read))
        .collect();
    assert_none(&faults, "a link leads to a file and a heading that exist");
    Ok(())
}

#[test]
fn paths_that_pages_and_docs_name_exist() -> Result {
    let exists = |path: &str| root().join(path).exists();
    let mut faults = Vec::new();
    for (path, page) in texts(root(), &["."], &["md"])? {
        // The changelog names what there was.
        if !path.ends_with("CHANGELOG.md") {
            faults.extend(missing_paths(&path, &numbered(&page), exists));
        }
    }
    for (path, source) in texts(root(), &["crates", "examples"], &["rs"])? {
        // Docs of a crate may name a path within the crate.
        let of_crate = path.split("/src/").next().unwrap_or_default();
        let in_crate = |path: &str| exists(path) || exists(&format!("{of_crate}/{path}"));
        for comment in doc_comments(&source) {
            faults.extend(missing_paths(&path, &comment, in_crate));
        }
    }
    assert_none(&faults, "a path in a code span exists");
    Ok(())
}

#[test]
fn a_broken_link_is_found_and_a_whole_one_is_not() {
    let page = "# A b, `c`!\n## Twice\n## Twice\n[x](#a-b-c) [x](#twice-1) [x](o.md#head)\n\
        [x](gone.md) [x](o.md#gone) [x](#gone)\n[x](https://a/gone) [x](d)\n```\n[x](gone)\n```\n[x]: gone";
    let read = |path: &Path| match path.to_str() {
        Some("docs/o.md") => Some("# Head\n".to_owned()),
        Some("docs/p.md") => Some(page.to_owned()),
        Some("docs/d") => Some(String::new()),
        _ => None,
    };
    assert_eq!(
        broken("docs/p.md", page, read),
        [
            "docs/p.md:5: gone.md",
            "docs/p.md:5: o.md#gone",
            "docs/p.md:5: #gone",
            "docs/p.md:10: gone"
        ]
    );
}

#[test]
fn a_path_that_is_gone_is_found_and_a_pattern_is_not() {
    let page = "`docs/a.md` and `tests/gone.rs`, `docs/*.md`, `other/gone`, `cargo run docs/`";
    let exists = |path: &str| path == "docs/a.md";
    assert_eq!(
        missing_paths("p.md", &numbered(page), exists),
        ["p.md:1: `tests/gone.rs`"]
    );
}
