//! Figures of the docs and of the code, to compare with those of other projects and of yesterday.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::api::{Item, Kind, before_tests, function_lengths, items};
use crate::language::OPENINGS;
use crate::prose::{
    Block, Kind as BlockKind, Lines, blocks, doc_comments, first_word, numbered, plain, sentences,
};
use crate::{Result, WIDTH, root, texts};

/// Words that are counted for each thousand words of a text, with the heading of their column.
const COUNTED: [(&str, &[&str]); 6] = [
    (
        "who/nobody",
        &["who", "whoever", "whom", "whose", "nobody", "somebody"],
    ),
    ("what", &["what", "whatever"]),
    ("returns", &["return", "returns"]),
    ("gives", &["give", "gives"]),
    ("you/your", &["you", "your", "yours"]),
    ("must/should/may/can", &["must", "should", "may", "can"]),
];

/// First words that end in -s and are no verbs.
const NO_VERBS: [&str; 10] = [
    "always",
    "as",
    "its",
    "otherwise",
    "perhaps",
    "these",
    "this",
    "those",
    "unless",
    "whose",
];

/// Counts of a text.
#[derive(Default)]
struct Text {
    words: usize,
    counted: [usize; COUNTED.len()],
    semicolons: usize,
    sentence_lengths: Vec<usize>,
    openings: usize,
}

impl Text {
    fn of(blocks: impl IntoIterator<Item = Block>) -> Self {
        let mut counts = Self::default();
        for block in blocks {
            for (_, sentence) in sentences(&block) {
                counts.add(sentence, block.kind == BlockKind::Text);
            }
        }
        counts.sentence_lengths.sort_unstable();
        counts
    }

    /// Adds a sentence. Cells and headings are words of the text, but not sentences of it.
    fn add(&mut self, sentence: &str, is_sentence: bool) {
        let text = plain(sentence).to_lowercase();
        let words = text
            .split_whitespace()
            .filter(|word| word.contains(char::is_alphanumeric));
        let mut length = 0;
        for word in words {
            length += 1;
            let letters = word.trim_matches(|letter: char| !letter.is_alphanumeric());
            for (count, (_, counted)) in self.counted.iter_mut().zip(COUNTED) {
                *count += letters
                    .split('/')
                    .filter(|part| counted.contains(part))
                    .count();
            }
        }
        self.words += length;
        self.semicolons += text.matches(';').count();
        if is_sentence && length > 0 {
            self.sentence_lengths.push(length);
            let opens = first_word(sentence).is_some_and(|word| OPENINGS.contains(&&*word));
            self.openings += usize::from(opens);
        }
    }

    fn per_thousand(&self, count: usize) -> String {
        format!("{:.1}", 1000.0 * count as f64 / self.words.max(1) as f64)
    }

    /// Returns the cells of a row: each column of [`COUNTED`], and semicolons.
    fn cells(&self) -> Vec<String> {
        let counted = self.counted.iter().chain([&self.semicolons]);
        counted.map(|count| self.per_thousand(*count)).collect()
    }
}

fn percent(part: usize, of: usize) -> String {
    format!("{:.0} %", 100.0 * part as f64 / of.max(1) as f64)
}

/// Returns the value below which this share of a sorted list lies.
fn quantile(sorted: &[usize], share: f64) -> usize {
    let at = (share * sorted.len() as f64) as usize;
    sorted
        .get(at.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0)
}

fn row(name: &str, cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<_> = cells.into_iter().collect();
    format!("| {name} | {} |", cells.join(" | "))
}

fn heading(columns: &[&str]) -> String {
    format!(
        "| {} |\n|{}",
        columns.join(" | "),
        "---|".repeat(columns.len())
    )
}

/// Returns the heading of a table whose last columns are those of [`Text::cells`].
fn counted_heading(columns: &[&str]) -> String {
    let counted = COUNTED.iter().map(|(name, _)| *name).chain(["semicolons"]);
    heading(&columns.iter().copied().chain(counted).collect::<Vec<_>>())
}

/// Returns whether the docs of an item begin with a verb in the third person.
fn begins_with_verb(item: &Item<'_>) -> bool {
    let first = item.doc.iter().find_map(|(_, line)| first_word(line));
    first.is_some_and(|word| {
        word.ends_with('s') && !word.ends_with("ss") && !NO_VERBS.contains(&&*word)
    })
}

/// Returns the row of a crate: its public items and the text of their docs.
fn items_row(name: &str, items: &[Item<'_>]) -> String {
    let documented = |kind| {
        items
            .iter()
            .filter(move |item| item.kind == kind && !item.doc.is_empty())
    };
    let functions: Vec<_> = documented(Kind::Function).collect();
    let types: Vec<_> = documented(Kind::Type).collect();
    let with_example = |items: &[&Item<'_>]| {
        percent(
            items.iter().filter(|item| item.has_example()).count(),
            items.len(),
        )
    };
    let results: Vec<_> = functions
        .iter()
        .filter(|item| item.returns_result())
        .collect();
    let errors = results
        .iter()
        .filter(|item| item.has_heading("Errors"))
        .count();
    let verbs = functions
        .iter()
        .filter(|item| begins_with_verb(item))
        .count();
    let text = Text::of(items.iter().flat_map(|item| blocks(&item.doc)));
    let cells = [
        text.words.to_string(),
        functions.len().to_string(),
        with_example(&functions),
        types.len().to_string(),
        with_example(&types),
        format!("{errors}/{}", results.len()),
        percent(verbs, functions.len()),
    ];
    row(name, cells.into_iter().chain(text.cells()))
}

/// Returns the row of a text: pages, or comments of modules.
fn text_row(name: &str, texts: &[Lines<'_>]) -> String {
    let text = Text::of(texts.iter().flat_map(|lines| blocks(lines)));
    let lengths = &text.sentence_lengths;
    let cells = [
        text.words.to_string(),
        format!("{} / {}", quantile(lengths, 0.5), quantile(lengths, 0.9)),
        format!(
            "{:.1} %",
            100.0 * text.openings as f64 / lengths.len().max(1) as f64
        ),
    ];
    row(name, cells.into_iter().chain(text.cells()))
}

/// Returns the row of sources: functions, comments and the width of lines.
fn code_row(name: &str, sources: &[(String, String)]) -> String {
    let mut lengths: Vec<_> = sources
        .iter()
        .flat_map(|(_, text)| function_lengths(text))
        .collect();
    lengths.sort_unstable();
    let lines: Vec<_> = sources
        .iter()
        .flat_map(|(_, text)| before_tests(text))
        .collect();
    let is_comment = |line: &&&str| line.trim_start().starts_with("//");
    let is_doc = |line: &&&str| {
        ["///", "//!"]
            .iter()
            .any(|mark| line.trim_start().starts_with(mark))
    };
    let comments = lines
        .iter()
        .filter(is_comment)
        .filter(|line| !is_doc(line))
        .count();
    let code = lines
        .iter()
        .filter(|line| !line.trim().is_empty() && !is_comment(line))
        .count();
    let wide = lines
        .iter()
        .filter(|line| line.chars().count() > WIDTH)
        .count();
    let cells = [
        code.to_string(),
        lengths.len().to_string(),
        format!("{} / {}", quantile(&lengths, 0.5), quantile(&lengths, 0.9)),
        format!("{:.1}", 100.0 * comments as f64 / code.max(1) as f64),
        format!("{:.1} %", 100.0 * wide as f64 / lines.len().max(1) as f64),
    ];
    row(name, cells)
}

/// Returns the row that a page belongs to. The measurements are written by a program.
fn page_group(path: &str) -> Option<&'static str> {
    match path.trim_start_matches("./") {
        "README.md" => Some("README.md, docs/*.md"),
        "benches/README.md" => Some("benches/README.md"),
        "CHANGELOG.md" => Some("CHANGELOG.md"),
        "docs/measurements.md" => None,
        path if path.starts_with("docs/decisions/") => Some("docs/decisions"),
        path if path.starts_with("docs/") => Some("README.md, docs/*.md"),
        _ => None,
    }
}

/// Sources by the name of their row: the crates without files of tests, and the examples.
type Sources = BTreeMap<&'static str, Vec<(String, String)>>;

const CRATES: [&str; 2] = ["reactor", "handlers"];

fn sources(tree: &Path) -> Result<Sources> {
    let mut sources = BTreeMap::new();
    for name in CRATES {
        let mut of_crate = texts(tree, &[&format!("crates/{name}/src")], &["rs"])?;
        of_crate.retain(|(path, _)| !path.ends_with("/tests.rs") && !path.contains("/tests/"));
        sources.insert(name, of_crate);
    }
    sources.insert("examples", texts(tree, &["examples"], &["rs"])?);
    Ok(sources)
}

fn items_table(sources: &Sources) -> Vec<String> {
    let mut rows = vec![counted_heading(&[
        "crate",
        "words",
        "functions",
        "with example",
        "types",
        "with example",
        "`# Errors` / returning `Result`",
        "verb first",
    ])];
    for name in CRATES {
        let of_crate = sources.get(name).into_iter().flatten();
        let items: Vec<_> = of_crate.flat_map(|(_, text)| items(text)).collect();
        rows.push(items_row(name, &items));
    }
    rows
}

fn texts_table(sources: &Sources, pages: &[(String, String)]) -> Vec<String> {
    let columns = [
        "text",
        "words",
        "p50 / p90",
        "opens with Who, What, That, ...",
    ];
    let mut rows = vec![counted_heading(&columns)];
    for (name, sources) in sources {
        let comments: Vec<_> = sources
            .iter()
            .flat_map(|(_, text)| module_comments(text))
            .collect();
        rows.push(text_row(&format!("{name}, `//!`"), &comments));
    }
    for group in [
        "README.md, docs/*.md",
        "docs/decisions",
        "benches/README.md",
        "CHANGELOG.md",
    ] {
        let of_group = pages
            .iter()
            .filter(|(path, _)| page_group(path) == Some(group));
        let texts: Vec<_> = of_group.map(|(_, text)| numbered(text)).collect();
        rows.push(text_row(group, &texts));
    }
    rows
}

/// Returns the `//!` comments of a source. `doc_comments` leaves out the markers.
fn module_comments(source: &str) -> Vec<Lines<'_>> {
    let lines: Vec<_> = source.lines().collect();
    let mut comments = doc_comments(source);
    comments.retain(|comment| {
        let line = comment
            .first()
            .and_then(|(number, _)| lines.get(number - 1));
        line.is_some_and(|line| line.trim_start().starts_with("//!"))
    });
    comments
}

fn code_table(sources: &Sources) -> Vec<String> {
    let mut rows = vec![heading(&[
        "sources",
        "lines of code",
        "functions",
        "lines, p50 / p90",
        "comment lines for 100 of code",
        "lines over 100 columns",
    ])];
    rows.extend(
        sources
            .iter()
            .map(|(name, sources)| code_row(name, sources)),
    );
    rows
}

/// Returns the tables of everything below a root.
fn report(tree: &Path) -> Result<String> {
    let sources = sources(tree)?;
    let tables = [
        (
            "Public items (words for each 1000, without code blocks):",
            items_table(&sources),
        ),
        (
            "Texts (p50 / p90: words a sentence, without tables and headings):",
            texts_table(&sources, &texts(tree, &["."], &["md"])?),
        ),
        ("Code (without tests):", code_table(&sources)),
    ];
    let tables = tables.map(|(title, rows)| format!("{title}\n\n{}\n", rows.join("\n")));
    Ok(tables.join("\n"))
}

#[test]
#[ignore = "prints figures, and checks nothing"]
fn measures() -> Result {
    let tree = std::env::var_os("TREE").map_or_else(|| root().to_owned(), PathBuf::from);
    println!("{}", report(&tree)?);
    Ok(())
}

#[test]
fn words_sentences_and_semicolons_are_counted() {
    let page = "Who gives? Nobody returns `what;`; you may.\n\n| What is it |\n";
    let text = Text::of(blocks(&numbered(page)));
    assert_eq!(text.words, 2 + 5 + 3);
    assert_eq!(text.sentence_lengths, [2, 5]);
    assert_eq!(text.openings, 2);
    assert_eq!(text.counted, [2, 1, 1, 1, 1, 1]);
    assert_eq!(text.semicolons, 1);
    assert_eq!(text.per_thousand(1), "100.0");
}

#[test]
fn a_quantile_is_a_value_of_the_list() {
    assert_eq!(quantile(&[], 0.5), 0);
    assert_eq!(quantile(&[1, 2, 3, 4], 0.5), 3);
    assert_eq!(quantile(&[1, 2, 3, 4], 1.0), 4);
}
