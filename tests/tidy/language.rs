//! The language of docs and comments: how a sentence opens, how wide a line is, and words that are
//! left over from work in progress.

use crate::prose::{Kind, blocks, doc_comments, doc_line, first_word, sentences};
use crate::{Result, WIDTH, assert_none, root, texts};

/// A sentence that opens with one of these has a clause for its subject instead of a noun.
pub(crate) const OPENINGS: [&str; 8] = [
    "who", "whoever", "what", "whatever", "nobody", "somebody", "of", "that",
];

/// Marks of unfinished work.
const LEFTOVERS: [&str; 6] = ["TODO", "FIXME", "XXX", "WIP", "todo!", "dbg!"];

/// Lists the sentences of doc comments that open with one of the [`OPENINGS`].
/// A cell of a table may be a question.
fn openings(path: &str, source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for comment in doc_comments(source) {
        for block in blocks(&comment) {
            for (line, sentence) in sentences(&block) {
                let is_question = block.kind == Kind::Cell && sentence.ends_with('?');
                let opens = first_word(sentence).is_some_and(|word| OPENINGS.contains(&&*word));
                if opens && !is_question {
                    faults.push(format!("{path}:{line}: {}", sentence.replace('\n', " ")));
                }
            }
        }
    }
    faults
}

/// Does the same as [`openings`] for a source in C, whose comments are lines that begin with `//`.
fn openings_in_c(path: &str, source: &str) -> Vec<String> {
    let as_docs = |line: &str| {
        if line.trim_start().starts_with("// ") {
            line.replacen("//", "///", 1)
        } else {
            line.to_owned()
        }
    };
    let docs: Vec<_> = source.lines().map(as_docs).collect();
    openings(path, &docs.join("\n"))
}

/// Lists the comment lines that are too wide. URLs and tables cannot be wrapped.
fn wide_comments(path: &str, source: &str) -> Vec<String> {
    let is_wide = |line: &str| line.chars().count() > WIDTH && line.trim_start().starts_with("//");
    let may_be = |line: &str| {
        line.contains("://") || doc_line(line).is_some_and(|(_, text)| text.starts_with('|'))
    };
    let lines = (1..)
        .zip(source.lines())
        .filter(|(_, line)| is_wide(line) && !may_be(line));
    lines
        .map(|(number, line)| {
            format!(
                "{path}:{number}: {} columns: {}",
                line.chars().count(),
                line.trim()
            )
        })
        .collect()
}

/// Lists the lines that hold a mark of unfinished work as a word of its own.
fn leftovers(path: &str, text: &str) -> Vec<String> {
    let is_left = |line: &str| {
        let of_a_word = |character: char| character.is_alphanumeric() || character == '_';
        LEFTOVERS.iter().any(|word| {
            line.match_indices(word).any(|(at, _)| {
                let (before, after) = line.split_at(at);
                let after = after.strip_prefix(word).unwrap_or_default();
                // `todo!` and `dbg!` end with a mark, after which anything may follow.
                !before.ends_with(of_a_word)
                    && (word.ends_with('!') || !after.starts_with(of_a_word))
            })
        })
    };
    let lines = (1..).zip(text.lines()).filter(|(_, line)| is_left(line));
    lines
        .map(|(number, line)| format!("{path}:{number}: {}", line.trim()))
        .collect()
}

#[test]
fn no_sentence_of_the_docs_opens_with_a_clause_for_a_noun() -> Result {
    let sources = texts(root(), &["."], &["rs"])?;
    let in_c = texts(root(), &["benches"], &["c", "h"])?;
    let faults: Vec<_> = sources
        .iter()
        // The samples of this check have faults.
        .filter(|(path, _)| !path.starts_with("tests/tidy/"))
        .flat_map(|(path, text)| openings(path, text))
        .chain(
            in_c.iter()
                .flat_map(|(path, text)| openings_in_c(path, text)),
        )
        .collect();
    assert_none(
        &faults,
        "name the thing: no doc sentence opens with Who, What, Nobody, Of, That",
    );
    Ok(())
}

#[test]
fn no_comment_is_wider_than_code_may_be() -> Result {
    let sources = texts(root(), &["."], &["rs"])?;
    let faults: Vec<_> = sources
        .iter()
        .flat_map(|(path, text)| wide_comments(path, text))
        .collect();
    assert_none(&faults, "a comment line has at most 100 columns");
    Ok(())
}

#[test]
fn no_mark_of_unfinished_work_is_left() -> Result {
    let all = texts(root(), &["."], &["rs", "md", "toml", "c", "h", "sh"])?;
    // This file names the marks.
    let others = all
        .iter()
        .filter(|(path, _)| !path.ends_with("tests/tidy/language.rs"));
    let faults: Vec<_> = others
        .flat_map(|(path, text)| leftovers(path, text))
        .collect();
    assert_none(&faults, "finish it, or write it down outside of the tree");
    Ok(())
}

#[test]
fn an_opening_is_found_at_any_sentence_of_a_doc_comment() {
    let source = "//! Whoever comes. A peer\n//! goes. *What* is it?\n\n// Who may comment.\n\
        /// # Of headings\n/// - That item\n/// | Who? | Somebody else |\nfn nobody() {}";
    assert_eq!(
        openings("x.rs", source),
        [
            "x.rs:1: Whoever comes.",
            "x.rs:2: *What* is it?",
            "x.rs:5: Of headings",
            "x.rs:6: That item",
            "x.rs:7: Somebody else"
        ]
    );
}

#[test]
fn a_clean_doc_comment_opens_with_nouns_and_verbs() {
    let source = "/// Returns what is left. `What` is a type. Offers 1.5 MiB. Nothing is lost.\n\
        /// ```\n/// // Who knows.\n/// ```\nfn that() {}";
    assert_eq!(openings("x.rs", source), [""; 0]);
}

#[test]
fn an_opening_is_found_at_any_sentence_of_a_comment_in_c() {
    let source =
        "#pragma once\n// Whoever comes. A peer\n// goes. What is it?\n\n    // That item.\n";
    assert_eq!(
        openings_in_c("x.c", source),
        [
            "x.c:2: Whoever comes.",
            "x.c:3: What is it?",
            "x.c:5: That item."
        ]
    );
}

#[test]
fn a_clean_comment_in_c_opens_with_nouns_and_verbs() {
    let source = "// Returns what is left.\nint who; // Of a line with code.\nputs(\"// That\");\n";
    assert_eq!(openings_in_c("x.c", source), [""; 0]);
}

#[test]
fn only_wide_comments_without_a_url_or_a_table_are_found() {
    let wide = "x".repeat(WIDTH);
    let source = format!(
        "//! {wide}\n    // {wide}\nlet a = \"{wide}\";\n/// https://{wide}\n/// | {wide} |\n// é{}",
        "é".repeat(WIDTH - 4)
    );
    let lines: Vec<_> = wide_comments("x.rs", &source)
        .iter()
        .filter_map(|fault| fault.split(": ").next().map(str::to_owned))
        .collect();
    assert_eq!(lines, ["x.rs:1", "x.rs:2"]);
}

#[test]
fn marks_are_found_as_words_and_not_within_others() {
    let [first, .., last] = LEFTOVERS;
    let text = format!("// {first}: later\nlet {first}_LIST = 1;\n{last}(value);\nfine");
    let lines: Vec<_> = leftovers("x.rs", &text)
        .iter()
        .filter_map(|fault| fault.split(": ").next().map(str::to_owned))
        .collect();
    assert_eq!(lines, ["x.rs:1", "x.rs:3"]);
}
